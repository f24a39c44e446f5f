//! The folder of a trail: which files it has and what they are called.
//!
//! ```text
//! audit-00000000000000000001.jsonl         a segment, named by its first record's sequence
//! audit-00000000000000000001.jsonl.zst     the same, closed and compressed
//! audit-00000000000000000001.checkpoints   the signed heads that were made while it was written
//! audit-00000000000000000001.leaves        its records' hashes, to find an altered one by
//! manifest                                 a line of JSON for each closed segment
//! manifest.signed                          a signed hash of those lines
//! keys.pub                                 the public keys that have signed, the newest last
//! lock                                     held by the one process that writes
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The signed heads' public keys.
pub const KEYS: &str = "keys.pub";
/// A line for each closed segment.
pub const MANIFEST: &str = "manifest";
/// The signature of what the manifest says.
pub(super) const MANIFEST_SIGNATURE: &str = "manifest.signed";
pub(super) const LOCK: &str = "lock";

const PREFIX: &str = "audit-";
const PLAIN: &str = ".jsonl";
const COMPRESSED: &str = ".jsonl.zst";

/// A segment's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// The sequence of its first record.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is compressed with zstd.
    pub is_compressed: bool,
}

/// The segments of a folder in their order. One that was being compressed when the process ended
/// counts once, as what it was before.
///
/// # Errors
///
/// When the folder can't be read.
pub fn segments(directory: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.strip_prefix(PREFIX).unwrap_or_default();
        let (number, is_compressed) = match stem.strip_suffix(COMPRESSED) {
            Some(number) => (number, true),
            None => (stem.strip_suffix(PLAIN).unwrap_or_default(), false),
        };
        if number.len() == 20
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(first) = number.parse()
        {
            segments.push(SegmentFile { first, path, is_compressed });
        }
    }
    segments.sort_by_key(|segment| (segment.first, segment.is_compressed));
    segments.dedup_by_key(|segment| segment.first);
    Ok(segments)
}

/// Opens a file of a trail to read it. What is no regular file is none of a trail: a pipe in its
/// place would have no end.
///
/// # Errors
///
/// When it can't be opened, or is something else.
pub fn open(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(path)?)
}

/// Opens a file of a trail to write it: never by way of a link, behind which is another one.
///
/// # Errors
///
/// When it can't be opened, or is something else than a regular file.
pub(super) fn open_to_write(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let mut options = options.clone();
    options.mode(0o600).custom_flags(flags(OFlags::NONBLOCK | OFlags::NOFOLLOW));
    regular(options.open(path)?)
}

#[expect(clippy::cast_possible_wrap, reason = "the C library takes flags as a signed number")]
const fn flags(flags: OFlags) -> i32 {
    flags.bits() as i32
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"))
    }
}

/// Says what an error is about, where the system does not.
pub(super) fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// All of a file of a trail.
///
/// # Errors
///
/// As [`open`], or when it can't be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The name of the segment that begins with this record.
#[must_use]
pub fn segment_name(first: u64) -> String {
    format!("{PREFIX}{first:020}{PLAIN}")
}

/// The segment that begins with this record, if it is there, compressed or not. A compressed one is
/// put there before the other goes, so this order misses none.
pub(super) fn find(directory: &Path, first: u64) -> Option<SegmentFile> {
    let candidates = [(segment(directory, first), false), (compressed(directory, first), true)];
    let found = candidates.into_iter().find(|(path, _)| path.exists());
    found.map(|(path, is_compressed)| SegmentFile { first, path, is_compressed })
}

pub(super) fn segment(directory: &Path, first: u64) -> PathBuf {
    directory.join(segment_name(first))
}

pub(super) fn leaves(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{first:020}.leaves"))
}

pub(super) fn compressed(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{first:020}{COMPRESSED}"))
}

/// The checkpoints that were made while the segment was written.
#[must_use]
pub fn checkpoints(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{first:020}.checkpoints"))
}
