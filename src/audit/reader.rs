//! Reading segments: blocks of whole lines, a few at a time in memory, worked on by all cores.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::folder::{self, SegmentFile};

/// How much is read at a time, in bytes.
const BLOCK: usize = 8 << 20;
/// The longest line that is taken for one, in bytes.
const LONGEST_LINE: usize = 64 << 20;

/// Why a trail can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Whoever asks what is in it should not be told: nothing.
    #[error("{} holds no segment of a trail", .0.display())]
    NoTrail(PathBuf),
    /// A file or the folder.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl ReadError {
    /// With the path that it is about.
    pub fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }

    /// Whether what was to be read is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The segments of a trail in their order.
///
/// # Errors
///
/// When there is none, or the folder can't be read.
pub fn segments(directory: &Path) -> Result<Vec<SegmentFile>, ReadError> {
    let segments = folder::segments(directory).map_err(ReadError::io(directory))?;
    if segments.is_empty() { Err(ReadError::NoTrail(directory.to_owned())) } else { Ok(segments) }
}

/// A segment in blocks of whole lines.
pub(crate) struct Blocks {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// How much of the buffer was given out.
    given: usize,
}

impl Blocks {
    /// Opens a segment, compressed or not.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub(crate) fn open(segment: &SegmentFile) -> io::Result<Self> {
        let source: Box<dyn Read + Send> = match folder::open(&segment.path) {
            Ok(file) if segment.is_compressed => Box::new(zstd::Decoder::new(file)?),
            // It may have been compressed since its folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !segment.is_compressed => {
                let compressed = segment.path.with_extension("jsonl.zst");
                Box::new(zstd::Decoder::new(folder::open(&compressed)?)?)
            }
            plain => Box::new(plain?),
        };
        Ok(Self { source, buffer: Vec::new(), given: 0 })
    }

    /// The next whole lines, each with its line feed; nothing at the end, until more is written.
    ///
    /// # Errors
    ///
    /// When it can't be read or decoded, or a line has no end.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.buffer.drain(..self.given);
        self.given = 0;
        loop {
            let known = self.buffer.len();
            let read = self.source.by_ref().take(BLOCK as u64).read_to_end(&mut self.buffer)?;
            let new = self.buffer.get(known..).unwrap_or_default();
            if let Some(end) = memchr::memrchr(b'\n', new) {
                self.given = known + end + 1;
                return Ok(self.buffer.get(..self.given));
            }
            if read == 0 {
                return Ok(None);
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line has no end"));
            }
        }
    }

    /// What stands behind the last line feed, once there is no block any more.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.get(self.given..).unwrap_or_default()
    }
}

/// Does the same to each line of a block, without its line feed, on all cores; the results are in
/// the order of the lines, with the lines.
pub(super) fn map_lines<'a, T: Send>(
    block: &'a [u8],
    map: impl Fn(&'a [u8]) -> T + Sync,
) -> impl Iterator<Item = (&'a [u8], T)> {
    let parts =
        map_parts(block, |part| lines(part).map(|line| (line, map(line))).collect::<Vec<_>>());
    parts.into_iter().flatten()
}

/// The whole lines of a part, each without its line feed.
pub(super) fn lines(part: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', part);
    ends.filter_map(move |end| part.get(std::mem::replace(&mut start, end + 1)..end))
}

/// Does the same to each part of a block, one of whole lines for each core.
pub(super) fn map_parts<'a, T: Send>(
    block: &'a [u8],
    map: impl Fn(&'a [u8]) -> T + Sync,
) -> Vec<T> {
    on_all_cores(&parts(block), |range| map(block.get(range.clone()).unwrap_or_default()))
}

/// Does the same to each of some things on all cores; the results are in their order.
pub(super) fn on_all_cores<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < 2 {
        return items.iter().map(map).collect();
    }
    let each = |items: &[T]| items.iter().map(&map).collect::<Vec<R>>();
    std::thread::scope(|scope| {
        let each = &each;
        let mut chunks = items.chunks(items.len().div_ceil(cores()));
        let last = chunks.next_back();
        let running: Vec<_> = chunks.map(|chunk| scope.spawn(move || each(chunk))).collect();
        let last = last.map(each).unwrap_or_default();
        // A thread ends with its chunk: nothing in it can panic.
        let others = running.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
        others.chain(last).collect()
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A block in as many parts of whole lines as there are cores, where that is worth it.
fn parts(block: &[u8]) -> Vec<Range<usize>> {
    let size = (block.len() / cores()).max(64 << 10);
    let (mut parts, mut start) = (Vec::new(), 0);
    while start < block.len() {
        let after = (start + size).min(block.len());
        let rest = block.get(after..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).map_or(block.len(), |end| after + end + 1);
        parts.push(start..end);
        start = end;
    }
    parts
}
