//! `audit prove`, `audit check-proof`, `audit check-receipt`: evidence for one request.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use uuid::Uuid;

use super::verify::progress;
use super::{TrailArguments, Trust, not_whole};
use crate::audit::entry::Record;
use crate::audit::proof::{ProveError, Receipt, check, find_receipt, prove};
use crate::audit::verify::Trail;
use crate::commands::{NO, WRONG_USE, refuse, say};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    #[command(flatten)]
    trail: TrailArguments,
    /// The request's id, as in the answer's X-Request-Id
    #[arg(long, value_name = "ID")]
    request: Uuid,
}

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct CheckProof {
    /// The evidence
    evidence: PathBuf,
    /// The public key that must have signed
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct CheckReceipt {
    #[command(flatten)]
    trail: TrailArguments,
    /// The value of the answer's Audit-Record
    #[arg(required = true, num_args = 1..=3)]
    receipt: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = arguments.trail.directory.as_path();
    let trust = match Trust::read(&arguments.trail) {
        Ok(trust) => trust,
        Err(status) => return status,
    };
    let bar = progress(directory, 2);
    let trail = Trail { directory, keys: &trust.keys, outside: &[] };
    let proved = prove(trail, arguments.request, &mut |read| bar.inc(read as u64));
    bar.finish_and_clear();
    match proved {
        Ok(evidence) => {
            say(serde_json::to_string_pretty(&evidence).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(ProveError::NotWhole(error)) => not_whole(&error),
        Err(error) => refuse(error, NO),
    }
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
    match check(&evidence, &trust.keys) {
        Ok((evidence, checkpoint)) => {
            let (size, origin) = (checkpoint.size, &checkpoint.origin);
            say(format_args!("proved: request {} in the log {origin}", evidence.request_id));
            for record in &evidence.records {
                tell(&record.line);
            }
            say(format_args!("signed: the checkpoint at record {size}"));
            ExitCode::SUCCESS
        }
        Err(error) => refuse(format_args!("refused: {name}: {error}"), NO),
    }
}

pub(super) fn check_receipt(arguments: &CheckReceipt) -> ExitCode {
    let directory = arguments.trail.directory.as_path();
    let text = arguments.receipt.join(" ");
    let Some(receipt) = Receipt::parse(&text) else {
        let form = "<origin> <sequence> <leaf hash>";
        return refuse(format_args!("{text:?} is no receipt; write {form}"), WRONG_USE);
    };
    let trust = match Trust::read(&arguments.trail) {
        Ok(trust) => trust,
        Err(status) => return status,
    };
    let bar = progress(directory, 1);
    let trail = Trail { directory, keys: &trust.keys, outside: &[] };
    let found = find_receipt(trail, &receipt, &mut |read| bar.inc(read as u64));
    bar.finish_and_clear();
    match found {
        Ok(Some((line, signed))) => {
            tell(&line);
            let is_signed = receipt.sequence <= signed;
            let not = if is_signed { "" } else { ", and under no checkpoint yet" };
            say(format_args!("found: record {} is in the trail{not}", receipt.sequence));
            ExitCode::SUCCESS
        }
        Ok(None) => {
            let Receipt { origin, sequence, .. } = receipt;
            refuse(format_args!("missing: {origin} has no such record {sequence} here"), NO)
        }
        Err(error) => not_whole(&error),
    }
}

fn tell(line: &str) {
    let Some(record) = Record::parse(line.as_bytes()) else { return };
    let list = |sign: &str, users: &[String]| {
        users.iter().map(|user| format!(" {sign}{user}")).collect::<String>()
    };
    let Record { sequence, time, kind, .. } = &record;
    let target = match (record.target.campaign, record.target.lead) {
        (Some(campaign), Some(lead)) => format!(", campaign {campaign} lead {lead}:"),
        _ => String::new(),
    };
    let (who, assigned) = (record.who(), list("+", record.assigned()));
    let unassigned = list("-", record.unassigned());
    say(format_args!("record {sequence}: {time} {kind} by {who}{target}{assigned}{unassigned}"));
}
