//! `audit tail`: the records as they are written, across rotation.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::audit::folder::{self, SegmentFile};
use crate::commands::{WRONG_USE, refuse};

/// How often the end is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    /// How many records to begin with, out of the two newest segments
    #[arg(short = 'n', long, default_value_t = 10, value_name = "NUMBER")]
    lines: usize,
    /// End when all that is there was shown
    #[arg(long)]
    no_follow: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match follow(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => refuse(format_args!("{}: {error}", arguments.directory.display()), WRONG_USE),
    }
}

fn follow(arguments: &Arguments) -> io::Result<()> {
    let directory = arguments.directory.as_path();
    let segments = folder::segments(directory)?;
    let newest = segments.len().saturating_sub(2);
    let mut last = VecDeque::new();
    let mut current: Option<Reader> = None;
    for segment in segments.into_iter().skip(newest).filter(|segment| !segment.is_compressed) {
        let mut reader = Reader::open(&segment)?;
        while let Some(line) = reader.next()? {
            if last.len() == arguments.lines {
                last.pop_front();
            }
            last.extend((arguments.lines > 0).then_some(line));
        }
        current = Some(reader);
    }
    let mut out = io::stdout().lock();
    for line in last {
        out.write_all(&line)?;
    }
    out.flush()?;
    if arguments.no_follow {
        return Ok(());
    }
    loop {
        // Looked for before the end is read, so that nothing is written between the two.
        let next = next_segment(directory, current.as_ref().map_or(0, |reader| reader.first))?;
        while let Some(reader) = &mut current
            && let Some(line) = reader.next()?
        {
            out.write_all(&line)?;
        }
        out.flush()?;
        match next {
            Some(next) => current = Some(Reader::open(&next)?),
            None => std::thread::sleep(INTERVAL),
        }
    }
}

/// The segment after one, once it has a record: a file that is made early may yet be unmade.
fn next_segment(directory: &Path, first: u64) -> io::Result<Option<SegmentFile>> {
    let segments = folder::segments(directory)?;
    let is_begun = |segment: &SegmentFile| segment.path.metadata().is_ok_and(|it| it.len() > 0);
    Ok(segments.into_iter().find(|segment| segment.first > first && is_begun(segment)))
}

/// A segment that is being written, line by line.
struct Reader {
    first: u64,
    file: BufReader<File>,
    begun: Vec<u8>,
}

impl Reader {
    fn open(segment: &SegmentFile) -> io::Result<Self> {
        let file = BufReader::with_capacity(256 << 10, File::open(&segment.path)?);
        Ok(Self { first: segment.first, file, begun: Vec::new() })
    }

    /// The next whole line; one that is only begun is kept until it is whole.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.file.read_until(b'\n', &mut self.begun)?;
        let is_whole = self.begun.ends_with(b"\n");
        Ok(is_whole.then(|| std::mem::take(&mut self.begun)))
    }
}
