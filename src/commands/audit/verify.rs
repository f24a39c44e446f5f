//! `audit verify`: whether a trail is whole, and up to where that is proved.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::{TrailArguments, Trust, not_whole};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::folder;
use crate::audit::verify::{Outside, Report, Trail, verify};
use crate::commands::{WRONG_USE, refuse, say};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    #[command(flatten)]
    trail: TrailArguments,
    /// A checkpoint that was kept elsewhere: what it covers must still be there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = arguments.trail.directory.as_path();
    let trust = match Trust::read(&arguments.trail) {
        Ok(trust) => trust,
        Err(status) => return status,
    };
    let outside = match arguments.checkpoint.as_ref().map(|path| (path, fs::read_to_string(path))) {
        None => None,
        Some((path, Ok(note))) => Some((note, path.display().to_string())),
        Some((path, Err(error))) => {
            return refuse(format_args!("{}: {error}", path.display()), WRONG_USE);
        }
    };
    let outside = outside.map(|(note, name)| {
        let checkpoint = Checkpoint::verify(&note, &trust.keys);
        checkpoint.map(|checkpoint| Outside { checkpoint, name })
    });
    let outside: Vec<Outside> = match outside.transpose() {
        Ok(outside) => outside.into_iter().collect(),
        Err(error) => return refuse(format_args!("the checkpoint {error}"), WRONG_USE),
    };
    let bar = progress(directory, 1);
    let trail = Trail { directory, keys: &trust.keys, outside: &outside };
    let result = verify(trail, &mut |_| {}, &mut |read| bar.inc(read as u64));
    bar.finish_and_clear();
    match result {
        Ok(report) => {
            tell(&report, &trust, outside.first().map(|it| it.name.as_str()));
            ExitCode::SUCCESS
        }
        Err(error) => not_whole(&error),
    }
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

fn tell(report: &Report, trust: &Trust, outside: Option<&str>) {
    let Report { first, last, segments, checkpoints, .. } = report;
    say(format_args!("whole: records {first} to {last}, in {segments} segments"));
    if let Some((from, to)) = report.times {
        say(format_args!("times: {from} to {to}"));
    }
    if *first > 1 {
        let before = first - 1;
        say(format_args!("records 1 to {before} were deleted, as a later record says"));
    }
    match &report.newest {
        Some((newest, _)) => {
            let (size, origin) = (newest.size, &newest.origin);
            say(format_args!(
                "signed: up to record {size}, by {origin}, {checkpoints} checkpoints"
            ));
            if size < *last {
                let unsigned = size + 1;
                say(format_args!("not signed yet: records {unsigned} to {last}"));
            }
        }
        None => say("not signed yet: there is no checkpoint"),
    }
    if let Some(name) = outside {
        say(format_args!("consistent with the checkpoint in {name}"));
    }
    if report.pending > 0 {
        say(format_args!("{} changes have no outcome on record yet", report.pending));
    }
    if report.torn > 0 {
        say(format_args!("{} bytes behind the last record are no whole line", report.torn));
    }
    if trust.is_folder {
        say("keys: the folder's own, which trusts whoever can write it; name yours with --key");
    }
}
