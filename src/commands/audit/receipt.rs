//! `audit check-receipt`: the record that an answer's `Audit-Record` tells of.

use std::process::ExitCode;

use super::prove::tell;
use super::verify::progress;
use super::{TrailArguments, Trust, not_whole};
use crate::audit::entry::Record;
use crate::audit::proof::{Found, Receipt, find_receipt};
use crate::audit::verify::{Trail, steadily};
use crate::commands::output::Output;
use crate::commands::{DONE, NO, WRONG_USE, refuse, warn};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    #[command(flatten)]
    trail: TrailArguments,
    /// The value of the answer's Audit-Record
    #[arg(required = true, num_args = 1..=3)]
    receipt: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
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
    let found =
        steadily(directory, || find_receipt(trail, &receipt, &mut |read| bar.inc(read as u64)));
    bar.finish_and_clear();
    let sequence = receipt.sequence;
    let missing = match found {
        Ok(Found::Record { line, is_signed }) => {
            let mut output = Output::new();
            if let Some(record) = Record::parse(line.as_bytes()) {
                tell(&record, &mut output);
            }
            let not = if is_signed { "" } else { ", and under no checkpoint yet" };
            output.say(format_args!("found: record {sequence} is in the trail{not}"));
            trust.caveat().into_iter().for_each(|caveat| output.say(caveat));
            return output.end(DONE);
        }
        Ok(Found::OtherRecord) => format!("record {sequence} has another hash"),
        Ok(Found::OtherLog(origin)) => format!("this folder is the log {origin}"),
        Ok(Found::EndsAt(last)) => format!("the trail ends at {last}"),
        Ok(Found::BeginsAt(first)) => format!("the trail begins at {first} by now"),
        Err(error) => return not_whole(&error),
    };
    let status = refuse(format_args!("missing: {missing}"), NO);
    trust.caveat().into_iter().for_each(warn);
    status
}
