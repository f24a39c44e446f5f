//! `token check`: a token rule by rule, for the developer whose token is refused.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Subcommand;
use zeroize::Zeroizing;

use super::output::Output;
use super::{DONE, NO, WRONG_USE, refuse};
use crate::audit::Events;
use crate::config;
use crate::identity::{Finding, Identity};
use crate::reply::Problem;
use crate::telemetry::Metrics;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Apply each rule to a token on standard input, and say whether it is kept
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// More than any token; what is longer is refused as such.
const LONGEST: u64 = 1 << 20;

pub(super) fn run(command: &Command) -> ExitCode {
    let Command::Check { config } = command;
    let mut output = Output::new();
    match check(config, &mut output) {
        Ok(status) => output.end(status),
        Err(wrong) => refuse(wrong, WRONG_USE),
    }
}

fn check(file: &Path, output: &mut Output) -> Result<u8, String> {
    let config = config::load(file).map_err(|faults| faults.to_string())?;
    let token = read()?;
    let token = bare(token.trim());
    if token.is_empty() {
        return Err("standard input: write the token there, and nothing else".to_owned());
    }
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let identity = Identity::new(&config, &Events::default(), &metrics);
    let identity = Arc::new(identity.map_err(|error| error.to_string())?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let findings = runtime.block_on(async {
        tokio::spawn(Arc::clone(&identity).refresh());
        identity.settle().await;
        identity.inspect(token, SystemTime::now()).await
    });
    Ok(tell(&findings, output))
}

/// The token alone, of what may have been copied with it.
fn bare(text: &str) -> &str {
    let prefixes = ["Authorization:", "Bearer ", "DPoP "];
    prefixes.iter().fold(text, |rest, prefix| match rest.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => {
            rest.get(prefix.len()..).unwrap_or_default().trim_start()
        }
        _ => rest,
    })
}

fn read() -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut input = std::io::stdin().lock().take(LONGEST);
    input.read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "standard input: not text")?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A line for each rule, and the answer that a request with this token would get.
fn tell(findings: &[Finding], output: &mut Output) -> u8 {
    for Finding { rule, kept, detail } in findings {
        match kept {
            Some(Ok(())) => output.say(format_args!("pass  {rule:<13}  {detail}")),
            Some(Err(refusal)) => {
                output.say(format_args!("FAIL  {rule:<13}  {refusal}"));
                output.say(format_args!("      {:<13}  {detail}", ""));
            }
            None => output.say(format_args!("-     {rule:<13}  {detail}")),
        }
    }
    let first = findings.iter().find_map(|finding| finding.kept.and_then(Result::err));
    match first {
        None => {
            output.say("the token is accepted");
            DONE
        }
        Some(refusal) => {
            let code = Problem::from(&refusal).code.as_str();
            output.say(format_args!("the token is refused: {code}, {}", refusal.label()));
            NO
        }
    }
}
