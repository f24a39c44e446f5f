//! TLS settings that are made of files, and made again when the files change.
//!
//! What is in force is whole at any time: a certificate whose key has not come yet changes nothing,
//! and is told. Each change makes new settings with a number of their own, by which what was done
//! under others is known.

mod files;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

pub(crate) use self::files::Files;
use self::files::Seen;
use crate::disk::Disk;

/// The time between two looks at the files.
const EVERY: Duration = Duration::from_millis(500);
/// How long a look may take before the files count as ones that can't be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong with one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFault {
    /// The configuration's key that names the file, without its section.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) message: String,
}

/// Why there are no TLS settings.
#[derive(Debug, thiserror::Error)]
#[error("[{section}]: {faults}")]
pub struct TlsError {
    section: &'static str,
    faults: String,
}

/// What is to be made of files.
pub(crate) trait Source: Send + Sync + 'static {
    /// What they make.
    type Made: Send + Sync;
    /// The configuration's section that names the files.
    const SECTION: &'static str;

    /// The files.
    fn paths(&self) -> Vec<PathBuf>;

    /// Makes it, or notes with the files what is wrong with them.
    fn make(&self, files: &mut Files) -> Option<Self::Made>;

    /// The files were loaded, as they are for the first time or have changed; or why they can't be.
    fn tell(&self, news: Result<&Self::Made, &str>);
}

/// What is made of files, as it is in force.
pub(crate) struct Kept<S: Source> {
    source: S,
    current: ArcSwap<Current<S::Made>>,
    seen: Mutex<Seen>,
    /// Whether the last look was said to hang.
    hangs: AtomicBool,
    trouble: Mutex<Option<String>>,
}

/// What is in force.
pub(crate) struct Current<T> {
    /// Its number.
    pub(crate) generation: u64,
    pub(crate) made: T,
}

/// All that is wrong with the files that something is made of.
pub(crate) fn faults<T>(make: impl FnOnce(&mut Files) -> Option<T>) -> Vec<TlsFault> {
    files::read(make).err().unwrap_or_default()
}

impl<S: Source> Kept<S> {
    /// Reads the files.
    pub(crate) fn new(source: S) -> Result<Self, TlsError> {
        let mut seen = Seen::of(&source.paths());
        let (made, digest) = files::read(|files| source.make(files))
            .map_err(|faults| TlsError { section: S::SECTION, faults: joined(&faults) })?;
        seen.accept(digest);
        source.tell(Ok(&made));
        Ok(Self {
            source,
            current: ArcSwap::from_pointee(Current { generation: 0, made }),
            seen: Mutex::new(seen),
            hangs: AtomicBool::new(false),
            trouble: Mutex::default(),
        })
    }

    /// Reads the files again when they change; for ever. A change that can't be used leaves the last
    /// good settings in force.
    pub(crate) async fn watch(self: &Arc<Self>) {
        if self.source.paths().is_empty() {
            return std::future::pending().await;
        }
        let disk = Disk::default();
        loop {
            tokio::time::sleep(EVERY).await;
            let kept = Arc::clone(self);
            if disk.ask(PATIENCE, move || kept.look()).await.is_none() {
                self.hangs.store(true, Ordering::Relaxed);
                self.fail("the files can't be read: no answer from the disk".to_owned());
            }
        }
    }

    /// Why the files' newest state is not in force.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble_now().clone()
    }

    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Current<S::Made>>> {
        self.current.load()
    }

    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_news = seen.may_have_changed(&self.source.paths());
        // What they say after a hang is news in any case, as they were said to be unreadable.
        if !self.hangs.swap(false, Ordering::Relaxed) && !has_news {
            return;
        }
        match files::read(|files| self.source.make(files)) {
            Err(faults) => self.fail(joined(&faults)),
            Ok((_, digest)) if seen.is_in_force(digest) => *self.trouble_now() = None,
            Ok((made, digest)) => {
                seen.accept(digest);
                let generation = self.current.load().generation + 1;
                let current = Arc::new(Current { generation, made });
                self.current.store(Arc::clone(&current));
                *self.trouble_now() = None;
                self.source.tell(Ok(&current.made));
            }
        }
    }

    fn fail(&self, why: String) {
        let mut trouble = self.trouble_now();
        if trouble.as_ref() != Some(&why) {
            self.source.tell(Err(&why));
        }
        *trouble = Some(why);
    }

    fn trouble_now(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn joined(faults: &[TlsFault]) -> String {
    let faults = faults.iter().map(|fault| format!("{}: {}", fault.key, fault.message));
    faults.collect::<Vec<_>>().join("; ")
}
