//! Whether the folder is as it was left: every file that must be there is, and no other process
//! took the lock's place.
//!
//! Looked at after every flush, so that nothing is answered for a trail that somebody takes apart.
//! That costs one system call, since a folder's own time says whether a name in it changed.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::audit::append::{AppendFile, is_same};
use crate::audit::folder::{self, segment_name};

/// How old a folder's time must be before another change can't have the same: file systems count
/// it in ticks of the clock.
const TICK: Duration = Duration::from_millis(100);

/// The folder as it was left.
#[derive(Debug)]
pub(super) struct Watch {
    directory: PathBuf,
    lock: (u64, u64),
    /// The first records of the closed segments that are there.
    pub(super) closed: BTreeSet<u64>,
    /// What the folder's own entry said when all was in its place.
    seen: Option<Stamp>,
}

/// Device, inode, and when it was last changed, which nobody can set: seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl Watch {
    pub(super) fn new(directory: PathBuf, lock: &File, closed: BTreeSet<u64>) -> io::Result<Self> {
        let lock = lock.metadata()?;
        Ok(Self { directory, lock: (lock.dev(), lock.ino()), closed, seen: None })
    }

    /// Whether all is in its place, the open segment's checkpoints too.
    pub(super) fn check(&mut self, checkpoints: &AppendFile) -> io::Result<()> {
        let metadata = fs::metadata(&self.directory)?;
        let stamp = stamp(&metadata);
        if self.seen == Some(stamp) {
            return Ok(());
        }
        is_same(&self.directory.join(folder::LOCK), self.lock)?;
        checkpoints.is_in_place()?;
        if !self.directory.join(folder::KEYS).exists() {
            return Err(io::Error::other(format!("{} is gone", folder::KEYS)));
        }
        let is_gone = |first: &&u64| folder::find(&self.directory, **first).is_none();
        if let Some(first) = self.closed.iter().find(is_gone) {
            return Err(io::Error::other(format!("{} is gone", segment_name(*first))));
        }
        // A clock that was set back makes this look anew each time, which is slow and right.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(stamp.2.unsigned_abs()) + nanoseconds(stamp.3);
        self.seen = now.checked_sub(changed).is_some_and(|age| age > TICK).then_some(stamp);
        Ok(())
    }
}

fn nanoseconds(number: i64) -> Duration {
    Duration::from_nanos(number.unsigned_abs())
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}
