//! `audit verify`: whether a trail is whole, and up to where that is proved.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::{TrailArguments, Trust, not_whole};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::folder;
use crate::audit::note::Keys;
use crate::audit::verify::{Outside, Report, Trail, steadily, verify};
use crate::commands::output::Output;
use crate::commands::{DONE, WRONG_USE, refuse};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    #[command(flatten)]
    trail: TrailArguments,
    /// Checkpoints that were kept elsewhere: what they cover must still be there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = arguments.trail.directory.as_path();
    let trust = match Trust::read(&arguments.trail) {
        Ok(trust) => trust,
        Err(status) => return status,
    };
    let kept = arguments.checkpoint.as_ref().map(|path| kept(path, &trust.keys));
    let outside = match kept.transpose() {
        Ok(kept) => kept.unwrap_or_default(),
        Err(wrong) => return refuse(wrong, WRONG_USE),
    };
    let bar = progress(directory, 1);
    let trail = Trail { directory, keys: &trust.keys, outside: &outside };
    let result =
        steadily(directory, || verify(trail, &mut |_| {}, &mut |read| bar.inc(read as u64)));
    bar.finish_and_clear();
    let report = match result {
        Ok(report) => report,
        Err(error) => return not_whole(&error),
    };
    let mut output = Output::new();
    tell(&report, &mut output);
    tell_outside(&outside, report.compared, &mut output);
    trust.caveat().into_iter().for_each(|caveat| output.say(caveat));
    output.end(DONE)
}

/// The checkpoints in a file, in the order of their sizes. What it holds must be checkpoints of
/// this log, or nothing can be said of the trail.
fn kept(path: &Path, keys: &Keys) -> Result<Vec<Outside>, String> {
    let name = path.display().to_string();
    let text = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8(text).map_err(|_| format!("{name} is not UTF-8"))?;
    let mut kept = Vec::new();
    for (note, number) in notes(&text).into_iter().zip(1..) {
        let checkpoint = Checkpoint::verify(note, keys)
            .map_err(|error| format!("{name}: checkpoint {number} {error}"))?;
        kept.push(Outside { checkpoint, name: name.clone() });
    }
    if kept.is_empty() {
        return Err(format!("{name} holds no checkpoint"));
    }
    kept.sort_by_key(|outside| outside.checkpoint.size);
    Ok(kept)
}

/// The notes of a file, one after the other: each ends with its signatures.
fn notes(text: &str) -> Vec<&str> {
    let (mut notes, mut note, mut after) = (Vec::new(), text, 0);
    let mut was_signature = false;
    for line in text.split_inclusive('\n') {
        let is_signature = line.starts_with("\u{2014} ");
        if was_signature && !is_signature {
            let (this, rest) = note.split_at_checked(after).unwrap_or((note, ""));
            notes.push(this);
            (note, after) = (rest, 0);
        }
        after += line.len();
        was_signature = is_signature;
    }
    notes.push(note);
    let notes = notes.into_iter().map(|note| note.trim_start_matches('\n'));
    notes.filter(|note| !note.is_empty()).collect()
}

/// On a terminal alone: indicatif draws nothing where standard error is none.
pub(super) fn progress(directory: &Path, times: u64) -> ProgressBar {
    let segments = folder::segments(directory).unwrap_or_default();
    let length =
        |segment: &folder::SegmentFile| fs::metadata(&segment.path).map_or(0, |it| it.len());
    let bar = ProgressBar::new(segments.iter().map(length).sum::<u64>() * times);
    let style = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(report: &Report, output: &mut Output) {
    let Report { first, last, segments, checkpoints, .. } = *report;
    let signed = report.newest.as_ref().map_or(0, |(newest, _)| newest.size);
    let counted = |number: u64, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {what}{plural}")
    };
    let records = |first: u64, last: u64| {
        if first == last { format!("record {last}") } else { format!("records {first} to {last}") }
    };
    let all = records(first, last);
    output.say(format_args!("whole: {all}, in {}", counted(segments as u64, "segment")));
    if let Some((from, to)) = report.times {
        output.say(format_args!("times: {from} to {to}"));
    }
    if first > 1 {
        let deleted = records(1, first - 1);
        output.say(format_args!("deleted by retention, as a later record says: {deleted}"));
    }
    match &report.newest {
        Some((newest, _)) => {
            let until = report.signed_until.map_or_else(String::new, |time| format!(", {time}"));
            let (by, checkpoints) = (&newest.origin, counted(checkpoints, "checkpoint"));
            output.say(format_args!("proved: up to record {signed}{until}"));
            output.say(format_args!("signed: by {by}, in {checkpoints}"));
        }
        None => output.say("not signed yet: there is no checkpoint"),
    }
    if (1..last).contains(&signed) {
        let unsigned = records(signed + 1, last);
        output.say(format_args!("not signed yet, so not proved: {unsigned}"));
    }
    if report.pending > 0 {
        let pending = counted(report.pending as u64, "change");
        output.say(format_args!("without an outcome on record yet: {pending}"));
    }
    if report.torn > 0 {
        let torn = counted(report.torn as u64, "byte");
        output.say(format_args!("behind the last record, no whole line: {torn}"));
    }
}

fn tell_outside(outside: &[Outside], compared: usize, output: &mut Output) {
    let Some(Outside { checkpoint, name }) = outside.last() else { return };
    let size = checkpoint.size;
    match outside.len() {
        1 => output.say(format_args!("consistent with the checkpoint in {name}, at record {size}")),
        all => {
            output.say(format_args!("consistent with {compared} of {all} checkpoints in {name}"));
            if compared < all {
                output.say("the others are of records that were deleted");
            }
        }
    }
}
