//! `audit prove` and `audit check-proof`: evidence for one request.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use uuid::Uuid;

use super::filter::request;
use super::verify::progress;
use super::{TrailArguments, Trust, not_whole};
use crate::audit::entry::Record;
use crate::audit::proof::{ProveError, check, prove};
use crate::audit::verify::{Trail, steadily};
use crate::commands::output::Output;
use crate::commands::text::{escaped, plain};
use crate::commands::{DONE, NO, WRONG_USE, refuse, warn};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    #[command(flatten)]
    trail: TrailArguments,
    /// The request's id, as in the answer's X-Request-Id
    #[arg(long, value_name = "ID", value_parser = request)]
    request: Uuid,
}

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct CheckProof {
    /// The evidence
    evidence: PathBuf,
    /// The public keys of which one must have signed, as in keys.pub or in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = arguments.trail.directory.as_path();
    let trust = match Trust::read(&arguments.trail) {
        Ok(trust) => trust,
        Err(status) => return status,
    };
    let bar = progress(directory, 2);
    let trail = Trail { directory, keys: &trust.keys, outside: &[] };
    let proved =
        steadily(directory, || prove(trail, arguments.request, &mut |read| bar.inc(read as u64)));
    bar.finish_and_clear();
    let evidence = match proved {
        Ok(evidence) => serde_json::to_string_pretty(&evidence).unwrap_or_default(),
        Err(ProveError::NotWhole(error)) => return not_whole(&error),
        Err(error) => return refuse(error, NO),
    };
    let evidence = escaped(&evidence);
    // Whoever is given it can't ask for it again.
    if let Err(error) = check(evidence.as_bytes(), &trust.keys) {
        return refuse(format_args!("the evidence would be refused: {error}"), NO);
    }
    let mut output = Output::new();
    let _ = writeln!(output, "{evidence}");
    trust.caveat().into_iter().for_each(warn);
    output.end(DONE)
}

pub(super) fn check_proof(arguments: &CheckProof) -> ExitCode {
    let name = arguments.evidence.display();
    let trust = match Trust::of_file(&arguments.key) {
        Ok(trust) => trust,
        Err(status) => return status,
    };
    let evidence = match fs::read(&arguments.evidence) {
        Ok(evidence) => evidence,
        Err(error) => return refuse(format_args!("{name}: {error}"), WRONG_USE),
    };
    let (evidence, checkpoint) = match check(&evidence, &trust.keys) {
        Ok(accepted) => accepted,
        Err(error) => return refuse(format_args!("refused: {name}: {error}"), NO),
    };
    let mut output = Output::new();
    output.say(format_args!("proved: request {}", evidence.request_id));
    output.say(format_args!("in the log {}", checkpoint.origin));
    let mut kinds = Vec::new();
    for record in &evidence.records {
        if let Some(record) = Record::parse(record.line.as_bytes()) {
            tell(&record, &mut output);
            kinds.push(record.kind);
        }
    }
    let has = |kind: &str| kinds.iter().any(|own| own == kind);
    if has("intent") && !has("outcome") {
        output.say("no outcome in this evidence");
    }
    if has("outcome") && !has("intent") {
        output.say("no intent in this evidence");
    }
    output.say(format_args!("signed: the checkpoint at record {}", checkpoint.size));
    output.say("This proves that these records are in the log, not that it has no others of");
    output.say("the request.");
    output.end(DONE)
}

/// What a record says, in lines.
pub(super) fn tell(record: &Record, output: &mut Output) {
    output.say(format_args!("record {}: {}, {}", record.sequence, record.kind, record.time));
    if let Some(name) = &record.event.name {
        let count = record.event.count.map(|count| format!(", {count} in number"));
        let detail = record.event.detail.as_ref().map(|detail| format!(": {detail}"));
        let (count, detail) = (count.unwrap_or_default(), detail.unwrap_or_default());
        output.say_below(&format!("event {name}{count}{detail}"));
    }
    let target = match (record.target.campaign, record.target.lead) {
        (Some(campaign), Some(lead)) => format!(", campaign {campaign}, lead {lead}"),
        _ => String::new(),
    };
    if record.actor.issuer.is_some() {
        output.say_below(&format!("by {}{target}", plain(&record.who())));
    }
    let assigned = record.assigned().iter().map(|user| format!("+{user}"));
    let unassigned = record.unassigned().iter().map(|user| format!("-{user}"));
    output.say_below(&assigned.chain(unassigned).collect::<Vec<_>>().join(" "));
    let decision = &record.decision;
    let text = |text: &Option<String>| text.as_deref().unwrap_or("?").to_owned();
    match decision.allow {
        Some(true) => output.say_below(&format!("allowed by {}", text(&decision.grant))),
        Some(false) => {
            let (code, reason) = (text(&decision.code), text(&decision.reason));
            output.say_below(&format!("denied {code}: {reason}"));
        }
        None => {}
    }
    if record.kind == "outcome" {
        let status = record.upstream.status.map(|status| format!("the CMS answered {status}"));
        let status = status.unwrap_or_else(|| "no answer of the CMS".to_owned());
        let code = record.upstream.code.as_ref().map(|code| format!(", {code}"));
        output.say_below(&format!("result: {status}{}", code.unwrap_or_default()));
    }
}
