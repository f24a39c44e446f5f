//! `explain`: what would be decided on a token (or claims) and a body, and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value, json};

use super::output::Output;
use super::{DONE, NO, WRONG_USE, refuse};
use crate::audit::Events;
use crate::config::{self, Config};
use crate::gateway::body::BodyError;
use crate::identity::{Identity, Principal, Refusal};
use crate::operation;
use crate::reply::Problem;
use crate::telemetry::Metrics;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    who: Who,
    /// The request's body
    #[arg(long, value_name = "FILE")]
    body_file: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// A token; its signature is verified
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The claims of a token as JSON; what the issuer, audience and expiry would be is assumed
    /// where they say nothing
    #[arg(long, value_name = "FILE")]
    claims_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut output = Output::new();
    match explain(arguments, &mut output) {
        Ok(status) => output.end(status),
        Err(wrong) => refuse(wrong, WRONG_USE),
    }
}

fn explain(arguments: &Arguments, output: &mut Output) -> Result<u8, String> {
    let config = config::load(&arguments.config).map_err(|faults| faults.to_string())?;
    let body = read(&arguments.body_file)?;
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let identity =
        Identity::new(&config, &Events::default(), &metrics).map_err(|error| error.to_string())?;
    let identity = Arc::new(identity);
    let principal = match (&arguments.who.token_file, &arguments.who.claims_file) {
        (Some(file), _) => by_token(Arc::clone(&identity), &read(file)?)
            .map_err(|what| format!("{}: {what}", file.display()))?,
        (None, Some(file)) => by_claims(&identity, &config, &read(file)?, output)
            .map_err(|what| format!("{}: {what}", file.display()))?,
        (None, None) => return Err("name a token or claims".to_owned()),
    };
    let principal = match principal {
        Ok(principal) => principal,
        Err(refusal) => {
            let code = Problem::from(&refusal).code;
            let name = code.as_str();
            // It is no word on the token that its issuer's keys can't be had from here.
            if code.status().is_server_error() {
                return Err(format!("nothing can be said of the token, {name}: {refusal}"));
            }
            return Ok(denied(output, &format!("{name}: the token is refused: {refusal}")));
        }
    };
    if principal.is_bound() {
        output.say("sender:   the token is bound; each request must prove that it is its sender's");
    }
    let shown = |text: Option<&str>| text.unwrap_or("none").to_owned();
    output.say(format_args!(
        "caller:   subject {}, client {}, issuer {}",
        shown(principal.subject()),
        shown(principal.client_id()),
        principal.issuer()
    ));
    output.say(format_args!("roles:    {}", principal.roles().join(", ")));
    // With a second operation, the caller of this command would name one.
    let Some(operation) = operation::ALL.first() else { return Err("no operation".to_owned()) };
    let most = config.limits.body;
    let change = if body.len() > most {
        Err(Problem::from(BodyError::TooLarge(most)))
    } else {
        (operation.decode)(&body, config.limits.users).map_err(Problem::from)
    };
    let change = match change {
        Ok(change) => change,
        Err(problem) => {
            let why = format!("{}: {}", problem.code.as_str(), problem.message);
            return Ok(denied(output, &why));
        }
    };
    let target = change.facts().target;
    output.say(format_args!("target:   campaign {}, lead {}", target.campaign, target.lead));
    match config.roles.authorize(principal, change) {
        Ok(permitted) => {
            output.say("decision: allowed");
            for grant in permitted.grants() {
                output.say(format_args!("  role {} grants {}", grant.role, grant.permission));
            }
            Ok(DONE)
        }
        Err(refused) => {
            let status = denied(output, Problem::from(&*refused).code.as_str());
            for lack in &refused.lacks {
                output.say(format_args!("  {lack}"));
            }
            Ok(status)
        }
    }
}

fn denied(output: &mut Output, why: &str) -> u8 {
    output.say(format_args!("decision: denied, {why}"));
    NO
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{} can't be read: {error}", file.display()))
}

fn by_token(identity: Arc<Identity>, bytes: &[u8]) -> Result<Result<Principal, Refusal>, String> {
    let token = std::str::from_utf8(bytes).map_err(|_| "not text")?.trim();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    Ok(runtime.block_on(async {
        tokio::spawn(Arc::clone(&identity).refresh());
        identity.rehearse_token(token, SystemTime::now()).await
    }))
}

fn by_claims(
    identity: &Identity,
    config: &Config,
    bytes: &[u8],
    output: &mut Output,
) -> Result<Result<Principal, Refusal>, String> {
    let claims =
        crate::strict_json::parse(bytes).map_err(|error| format!("not strict JSON: {error}"))?;
    let Value::Object(mut claims) = claims else { return Err("not an object".into()) };
    let now = SystemTime::now();
    let soon = now.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(60);
    let named = claims.get("iss").and_then(Value::as_str).map(str::to_owned);
    let issuer = match (&named, config.issuers.as_slice()) {
        (None, [only]) => Some(only),
        (named, issuers) => issuers.iter().find(|issuer| Some(&issuer.issuer) == named.as_ref()),
    };
    if let Some(issuer) = issuer {
        let audience = issuer.audiences.first();
        for (name, value) in [
            ("iss", json!(issuer.issuer)),
            ("aud", json!(audience)),
            ("exp", json!(soon.as_secs())),
        ] {
            if !claims.contains_key(name) {
                output.say(format_args!("assumed:  {name} {value}, which the claims do not have"));
                claims.insert(name.to_owned(), value);
            }
        }
    }
    let claims = serde_json::to_vec(&claims).map_err(|error| error.to_string())?;
    Ok(identity.rehearse(&claims, now))
}
