//! A file that is looked at again and again, and told of when it says something else.
//!
//! It is found by its path at each look, through symbolic links, so that a file that is replaced
//! counts as much as one that is written over: Kubernetes swaps the `..data` link of a mounted
//! secret. The system's notifications would miss both that and network file systems, and four looks
//! a second cost nothing.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::OFlags;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The time between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// How long a look may take before the file counts as one that can't be read.
const PATIENCE: Duration = Duration::from_secs(5);
/// How old a change must be before another one can't bear the same time: file systems count it in
/// ticks of a clock, network ones in seconds.
pub(crate) const TICK: Duration = Duration::from_secs(2);

/// A file and what was last seen of it.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    largest: usize,
    /// Taken along by the look that is under way.
    memory: Option<Memory>,
    /// Not given up when nobody waits for it, so that no sight is lost and no second look begins.
    look: Option<JoinHandle<(Memory, Option<Sight>)>>,
    due: Option<Instant>,
    /// Whether the look that is under way was said to hang.
    hangs: bool,
}

/// What a file says, or why it can't be read.
pub(crate) type Sight = Result<Vec<u8>, Unreadable>;

/// Why a file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// What the system says.
    #[error("can't be read: {0}")]
    Io(String),
    /// The disk does not answer.
    #[error("can't be read: no answer within {}", humantime::format_duration(PATIENCE))]
    Hangs,
    /// A folder, a pipe or a device.
    #[error("is not a file")]
    NotAFile,
    /// It is too large.
    #[error("is larger than {0} bytes")]
    TooLarge(usize),
}

/// Reads a file of a bounded size, and waits for no pipe.
pub(crate) fn read(path: &Path, largest: usize) -> Sight {
    read_stamped(path, largest).map(|(bytes, _)| bytes)
}

/// Opens a file, or what is in its place, and waits for nobody: opening a pipe that nobody writes to
/// would wait for ever.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

impl Watched {
    /// Has seen nothing yet, so that the first look is news whatever it sees.
    pub(crate) fn new(path: PathBuf, largest: usize) -> Self {
        Self { path, largest, memory: None, look: None, due: None, hangs: false }
    }

    /// Waits until the file says something else than it last did, or can't be read for another
    /// reason, looking at it off the async threads.
    ///
    /// Nothing is lost when this is dropped before it ends: the next call goes on with it.
    pub(crate) async fn next(&mut self) -> Sight {
        loop {
            let look = match &mut self.look {
                Some(look) => look,
                None => {
                    if let Some(due) = self.due {
                        tokio::time::sleep_until(due).await;
                    }
                    self.due = Some(Instant::now() + EVERY);
                    let (path, largest) = (self.path.clone(), self.largest);
                    let mut memory = self.memory.take().unwrap_or_default();
                    self.look.insert(tokio::task::spawn_blocking(move || {
                        let news = memory.look(&path, largest);
                        (memory, news)
                    }))
                }
            };
            let looked = match timeout(PATIENCE, &mut *look).await {
                Ok(looked) => looked,
                // It goes on: a second look at a disk that hangs would hang as well.
                Err(_) if self.hangs => continue,
                Err(_) => {
                    self.hangs = true;
                    return Err(Unreadable::Hangs);
                }
            };
            self.look = None;
            let hung = std::mem::take(&mut self.hangs);
            // A look fails only at the end of the runtime; without its memory all is news.
            let Ok((memory, news)) = looked else { continue };
            if hung && news.is_none() {
                // What it says is as it was, and news after all: it was said to hang.
                self.memory = None;
                continue;
            }
            self.memory = Some(memory);
            if let Some(sight) = news {
                return sight;
            }
        }
    }
}

/// What was last seen of a file.
#[derive(Debug, Default)]
struct Memory {
    stamp: Option<Stamp>,
    /// Whether another content can't have the same stamp.
    is_settled: bool,
    sight: Option<Result<[u8; 32], Unreadable>>,
}

impl Memory {
    /// What the file says, if that is news.
    fn look(&mut self, path: &Path, largest: usize) -> Option<Sight> {
        if !self.has_changed(path) {
            return None;
        }
        let read = read_stamped(path, largest);
        let sight = match &read {
            Ok((bytes, stamp)) => {
                self.is_settled = stamp.is_older_than(TICK);
                self.stamp = Some(*stamp);
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
                Ok(hash)
            }
            Err(why) => {
                self.stamp = None;
                Err(why.clone())
            }
        };
        let sight = Some(sight);
        if self.sight == sight {
            return None;
        }
        self.sight = sight;
        Some(read.map(|(bytes, _)| bytes))
    }

    /// Whether the file may say something else than it last did.
    fn has_changed(&self, path: &Path) -> bool {
        let found = path.metadata().ok().map(|metadata| Stamp::of(&metadata));
        !self.is_settled || found.is_none() || found != self.stamp
    }
}

/// Which file it is, how long, and when it was last changed. Anyone can set the time of
/// modification, but the time of the change itself nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// A clock that was set back makes this look anew each time, which is slow and right.
    pub(crate) fn is_older_than(self, age: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = Duration::from_secs(seconds.unsigned_abs())
            + Duration::from_nanos(nanoseconds.unsigned_abs());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(changed).is_some_and(|since| since > age)
    }
}

/// The stamp is of before the reading, so that a file that changes meanwhile is read again.
fn read_stamped(path: &Path, largest: usize) -> Result<(Vec<u8>, Stamp), Unreadable> {
    let failed = |error: io::Error| Unreadable::Io(error.to_string());
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let most = largest as u64;
    if metadata.len() > most {
        return Err(Unreadable::TooLarge(largest));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > largest {
        Err(Unreadable::TooLarge(largest))
    } else {
        Ok((bytes, Stamp::of(&metadata)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const LARGEST: usize = 64;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn only_news_is_told() {
        let folder = folder();
        let path = folder.path().join("file");
        let mut memory = Memory::default();
        let missing = memory.look(&path, LARGEST).unwrap().unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
        assert_eq!(memory.look(&path, LARGEST), None, "the same reason is no news");
        fs::write(&path, "one").unwrap();
        assert_eq!(memory.look(&path, LARGEST), Some(Ok(b"one".to_vec())));
        assert_eq!(memory.look(&path, LARGEST), None);
        fs::write(&path, "one").unwrap();
        assert_eq!(memory.look(&path, LARGEST), None, "the same bytes are no news");
        fs::remove_file(&path).unwrap();
        assert!(memory.look(&path, LARGEST).unwrap().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(memory.look(&path, LARGEST), Some(Ok(b"one".to_vec())), "it is back");
    }

    #[test]
    fn a_change_within_one_tick_of_the_clock_is_seen() {
        let folder = folder();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut memory = Memory::default();
        assert!(memory.look(&path, LARGEST).is_some());
        assert!(!memory.is_settled, "what was just written may be written again unnoticed");
        // As if the two writings had the same time.
        fs::write(&path, "two").unwrap();
        memory.stamp = path.metadata().ok().map(|metadata| Stamp::of(&metadata));
        assert_eq!(memory.look(&path, LARGEST), Some(Ok(b"two".to_vec())));
    }

    #[test]
    fn what_is_old_and_unchanged_is_not_read_again() {
        let folder = folder();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut memory = Memory::default();
        assert!(memory.look(&path, LARGEST).is_some());
        memory.is_settled = true;
        assert!(!memory.has_changed(&path));
        fs::write(&path, "three").unwrap();
        assert!(memory.has_changed(&path));
        let stamp = memory.stamp.unwrap();
        let before = |seconds| Stamp { changed: (stamp.changed.0 - seconds, 0), ..stamp };
        assert!(before(10).is_older_than(TICK));
        assert!(!before(-10).is_older_than(TICK), "from the future");
    }

    #[test]
    fn a_link_that_is_swapped_is_seen() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), text).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/file", at("file")).unwrap();
        let mut memory = Memory::default();
        assert_eq!(memory.look(&at("file"), LARGEST), Some(Ok(b"one".to_vec())));
        memory.is_settled = true;
        assert!(!memory.has_changed(&at("file")), "the file counts, not the link");
        symlink("v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(memory.look(&at("file"), LARGEST), Some(Ok(b"two".to_vec())));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_and_nobody_waits_for_it() {
        let folder = folder();
        assert_eq!(read(folder.path(), LARGEST), Err(Unreadable::NotAFile));
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(read(&pipe, LARGEST), Err(Unreadable::NotAFile));
        let path = folder.path().join("file");
        fs::write(&path, [b'x'; LARGEST]).unwrap();
        assert!(read(&path, LARGEST).is_ok());
        fs::write(&path, [b'x'; LARGEST + 1]).unwrap();
        assert_eq!(read(&path, LARGEST), Err(Unreadable::TooLarge(LARGEST)));
        // A size that the system does not tell beforehand.
        assert_eq!(read(Path::new("/proc/self/status"), 10), Err(Unreadable::TooLarge(10)));
    }

    #[tokio::test]
    async fn a_sight_that_nobody_waited_for_is_told_to_who_asks_next() {
        let folder = folder();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(path.clone(), LARGEST);
        // Dropped when the look has begun and before it has ended.
        tokio::select! {
            biased;
            _ = watched.next() => panic!("a look can't have ended at once"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(watched.next().await, Ok(b"one".to_vec()));
        fs::write(&path, "two").unwrap();
        let next = tokio::time::timeout(Duration::from_secs(5), watched.next()).await;
        assert_eq!(next.unwrap(), Ok(b"two".to_vec()));
    }
}
