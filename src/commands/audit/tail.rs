//! `audit tail`: the records as they are written, across rotation and compression.
//!
//! A segment is left when the next one has a record and this one was read to its end after that
//! was seen; the next is opened as it is then, compressed or not. So none is lost, and none comes
//! twice.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::audit::folder::SegmentFile;
use crate::audit::query::{Blocks, ReadError, is_begun, segments};
use crate::commands::output::{Output, is_terminal};
use crate::commands::text::escaped;
use crate::commands::{DONE, WRONG_USE, refuse, warn};

/// How often the end is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    /// How many records to begin with
    #[arg(short = 'n', long, default_value_t = 10, value_name = "NUMBER")]
    lines: usize,
    /// End when all that is there was shown
    #[arg(long)]
    no_follow: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut output = Output::new();
    match follow(arguments, &mut output) {
        Ok(()) => output.end(DONE),
        Err(error) => refuse(error, WRONG_USE),
    }
}

/// Until the output is closed.
fn follow(arguments: &Arguments, output: &mut Output) -> Result<(), ReadError> {
    let directory = arguments.directory.as_path();
    let mut current: Option<Reader> = None;
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    // From the newest back, until there are enough.
    for segment in segments(directory)?.iter().rev().filter(|segment| is_begun(segment)) {
        let mut reader = Reader::open(segment)?;
        let wanted = arguments.lines - last.len();
        let mut own = VecDeque::new();
        reader.read(&mut |line| {
            own.push_back(line.to_vec());
            if own.len() > wanted {
                own.pop_front();
            }
        })?;
        current.get_or_insert(reader);
        own.append(&mut last);
        last = own;
        if last.len() == arguments.lines {
            break;
        }
    }
    let is_shown = is_terminal();
    last.iter().for_each(|line| show(line, is_shown, output));
    let _ = output.flush();
    while output.is_open() && !arguments.no_follow {
        // Looked for before the end is read, so that nothing is written between the two.
        let next = next_segment(directory, current.as_ref())?;
        if let Some(reader) = &mut current {
            reader.read(&mut |line| show(line, is_shown, output))?;
            let _ = output.flush();
        }
        let Some(segment) = next else {
            std::thread::sleep(INTERVAL);
            continue;
        };
        let reader = match Reader::open(&segment) {
            // Deleted by the retention since it was found.
            Err(error) if error.is_not_found() => continue,
            result => result?,
        };
        if let Some(left) = current.filter(|left| left.next < reader.next) {
            let (first, last) = (left.next, reader.next - 1);
            warn(format_args!("records {first} to {last} are not there any more"));
        }
        current = Some(reader);
    }
    Ok(())
}

/// As it is, which is what was signed; on a terminal, which would obey it, escaped.
fn show(line: &[u8], is_shown: bool, output: &mut Output) {
    // The output keeps what goes wrong with it.
    let _ = if is_shown {
        output.write_all(escaped(&String::from_utf8_lossy(line)).as_bytes())
    } else {
        output.write_all(line)
    };
}

/// The segment after one, once it has a record.
fn next_segment(
    directory: &Path,
    current: Option<&Reader>,
) -> Result<Option<SegmentFile>, ReadError> {
    let first = current.map_or(0, |reader| reader.segment.first);
    // A folder that lost its last segment may get another.
    let segments = match segments(directory) {
        Err(ReadError::NoTrail(_)) => Vec::new(),
        result => result?,
    };
    Ok(segments.into_iter().find(|segment| segment.first > first && is_begun(segment)))
}

/// A segment that may still be written.
struct Reader {
    segment: SegmentFile,
    blocks: Blocks,
    /// The sequence of the record that comes next.
    next: u64,
}

impl Reader {
    fn open(segment: &SegmentFile) -> Result<Self, ReadError> {
        let blocks = Blocks::open(segment).map_err(ReadError::io(&segment.path))?;
        Ok(Self { segment: segment.clone(), blocks, next: segment.first })
    }

    /// Gives the whole lines that are there now and were not given yet.
    fn read(&mut self, give: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        let failed = ReadError::io(&self.segment.path);
        while let Some(block) = self.blocks.next().map_err(&failed)? {
            for line in block.split_inclusive(|byte| *byte == b'\n') {
                self.next += 1;
                give(line);
            }
        }
        Ok(())
    }
}
