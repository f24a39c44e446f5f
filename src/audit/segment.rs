//! One file of the trail: opened, appended to, and known again.
//!
//! A segment is only ever appended to by the process that made it. What a crash left torn at the
//! end of an older one is set aside, so that it can't merge with what comes after.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Durability;

/// A file of the trail that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Bytes of whole records.
    length: u64,
    device: u64,
    inode: u64,
    /// Held so that no other process writes to the folder.
    _lock: File,
}

/// What an opened folder held already.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) segment: Segment,
    /// The sequence of the next record.
    pub(super) sequence: u64,
    /// The file into which a torn last line was set aside.
    pub(super) torn: Option<PathBuf>,
}

/// How an append went wrong.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing of it is in the file, which is as good as before.
    Undone(io::Error),
    /// Nobody knows what is in the file, which is not to be used again.
    Lost(io::Error),
}

impl Segment {
    /// Makes a new segment in the folder, which is made where only itself is missing.
    ///
    /// `at_least` is the sequence of the next record as far as this process knows.
    pub(super) fn open(directory: &Path, may_make: bool, at_least: u64) -> io::Result<Opened> {
        if may_make && !directory.exists() {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("another process writes to {}", directory.display()),
            ),
            fs::TryLockError::Error(error) => error,
        })?;
        let (sequence, torn) = match newest(directory)? {
            None => (at_least, None),
            Some((first, path)) => {
                let (last, torn) = recover(&path)?;
                (last.map_or(first, |last| last + 1).max(at_least), torn)
            }
        };
        let path = directory.join(format!("audit-{sequence:020}.jsonl"));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        File::open(directory)?.sync_all()?;
        let metadata = file.metadata()?;
        if metadata.len() > 0 {
            let message = format!("{} is there and not empty", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let (device, inode) = (metadata.dev(), metadata.ino());
        let segment = Self { path, file, length: 0, device, inode, _lock: lock };
        Ok(Opened { segment, sequence, torn })
    }

    /// Appends whole records, and returns when they are as durable as they should be and the file
    /// is still the one that its name says.
    pub(super) fn append(
        &mut self,
        records: &[u8],
        durability: Durability,
    ) -> Result<(), AppendError> {
        if let Err(error) = self.file.write_all(records) {
            // A disk without room takes a part of it. What is cut off again was never promised.
            return match self.file.set_len(self.length) {
                Ok(()) => Err(AppendError::Undone(error)),
                Err(_) => Err(AppendError::Lost(error)),
            };
        }
        if durability == Durability::Fsync {
            // After a failed sync the kernel may have dropped the pages: never sync this again.
            self.file.sync_data().map_err(|error| {
                let _ = self.file.set_len(self.length);
                AppendError::Lost(error)
            })?;
        }
        self.length += records.len() as u64;
        self.is_in_place().map_err(AppendError::Lost)
    }

    fn is_in_place(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.path)?;
        if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
            return Err(io::Error::other("the segment was replaced by another file"));
        }
        if metadata.len() != self.length {
            return Err(io::Error::other("the segment was changed by somebody else"));
        }
        Ok(())
    }
}

/// The segment with the highest first sequence.
fn newest(directory: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let first = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok());
        if let Some(first) = first {
            newest = newest.max(Some((first, path)));
        }
    }
    Ok(newest)
}

/// The last sequence of a segment, after its torn last line, if it has one, was set aside.
fn recover(path: &Path) -> io::Result<(Option<u64>, Option<PathBuf>)> {
    #[derive(Deserialize)]
    struct Line {
        sequence: u64,
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut window: u64 = 64 << 10;
    let (start, tail) = loop {
        let start = length.saturating_sub(window);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(&mut file).take(length - start).read_to_end(&mut tail)?;
        let breaks = tail.iter().filter(|byte| **byte == b'\n').count();
        if start == 0 || breaks >= 2 {
            break (start, tail);
        }
        window *= 4;
    };
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (lines, rest) = tail.split_at(whole);
    let torn = if rest.is_empty() {
        None
    } else {
        let aside = path.with_extension(format!("torn-{}", uuid::Uuid::now_v7().simple()));
        let mut copy = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&aside)?;
        copy.write_all(rest)?;
        copy.sync_all()?;
        file.set_len(start + whole as u64)?;
        file.sync_all()?;
        Some(aside)
    };
    let last = lines.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    let last = last.map(|line| {
        serde_json::from_slice::<Line>(line).map(|line| line.sequence).map_err(|error| {
            io::Error::other(format!("the last record of {} is broken: {error}", path.display()))
        })
    });
    Ok((last.transpose()?, torn))
}
