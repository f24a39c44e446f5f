//! What is done with closed segments: compressed, and deleted when their time is over.
//!
//! Both begin when a segment's checkpoint and its line in the manifest are on disk. A deletion is
//! on record, under a checkpoint of its own, before the first file goes; the manifest keeps the
//! tree's edge after each segment, so what is left still verifies.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::append::sync_folder;
use super::folder::{self, SegmentFile};
use super::log::{Closed, manifest, segments};
use crate::config::Retention;

/// Whoever puts a compressed file in a segment's place, or deletes both, holds this meanwhile, so
/// that what was deleted does not come back.
pub(super) type Replacing = Arc<Mutex<()>>;

/// The segments whose time is over: all records up to one.
#[derive(Debug)]
pub(super) struct Expired {
    /// The last record of them.
    pub(super) last: u64,
    segments: Vec<SegmentFile>,
    reason: &'static str,
}

impl Expired {
    /// Which of the closed segments are to be deleted, if any.
    pub(super) fn find(
        directory: &Path,
        closed: &[Closed],
        retention: Retention,
    ) -> io::Result<Option<Self>> {
        let segments = segments(directory, closed)?;
        let length = |path: &Path| fs::metadata(path).map_or(0, |it| taken(&it));
        let with_the_rest = |segment: &SegmentFile| {
            let beside = [
                folder::checkpoints(directory, segment.first),
                folder::leaves(directory, segment.first),
            ];
            length(&segment.path) + beside.iter().map(|path| length(path)).sum::<u64>()
        };
        let open = closed.last().map_or(1, |closed| closed.last + 1);
        let line = |segment: &SegmentFile| closed.iter().find(|it| it.first == segment.first);
        // Each once, since one may be compressed meanwhile; and not what somebody else put there.
        let sizes: Vec<(SegmentFile, u64)> = segments
            .into_iter()
            .filter(|segment| segment.first == open || line(segment).is_some())
            .map(|segment| (segment.clone(), with_the_rest(&segment)))
            .collect();
        let mut total: u64 = sizes.iter().map(|(_, size)| size).sum();
        let oldest = retention.age.and_then(|age| SystemTime::now().checked_sub(age));
        let oldest = oldest.map(|oldest| humantime::format_rfc3339_micros(oldest).to_string());
        let mut expired = Self { last: 0, segments: Vec::new(), reason: "" };
        for (segment, size) in sizes {
            let Some(closed) = line(&segment) else { break };
            let is_old = oldest.as_ref().is_some_and(|oldest| {
                closed.to.is_none_or(|newest| newest.as_str() < oldest.as_str())
            });
            let is_too_much = retention.size.is_some_and(|most| total > most);
            expired.reason = match (is_old, is_too_much) {
                (true, _) => "age",
                (false, true) => "size",
                (false, false) => break,
            };
            total -= size;
            expired.last = closed.last;
            expired.segments.push(segment);
        }
        Ok((!expired.segments.is_empty()).then_some(expired))
    }

    /// What the record of it says.
    pub(super) fn detail(&self) -> String {
        let (number, last, reason) = (self.segments.len(), self.last, self.reason);
        let first = self.segments.first().map_or(0, |segment| segment.first);
        format!("records {first} to {last} in {number} segments, by {reason}")
    }

    /// Deletes them, the oldest first.
    pub(super) fn delete(&self, directory: &Path, replacing: &Replacing) -> io::Result<()> {
        let _held = replacing.lock().unwrap_or_else(PoisonError::into_inner);
        for segment in &self.segments {
            let plain = folder::segment(directory, segment.first);
            let files = [
                folder::compressed(directory, segment.first),
                plain,
                folder::checkpoints(directory, segment.first),
                folder::leaves(directory, segment.first),
                unfinished(directory, segment.first),
            ];
            for file in &files {
                match fs::remove_file(file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        sync_folder(directory)
    }
}

/// What the disk gave for what is in a file: the file may be longer than that where it has holes, and
/// more may be set aside for it.
fn taken(file: &Metadata) -> u64 {
    let whole = file.len().checked_next_multiple_of(file.blksize());
    whole.unwrap_or(file.len()).min(file.blocks().saturating_mul(512))
}

/// Compresses closed segments in the background, one run at a time.
#[derive(Debug, Clone)]
pub(super) struct Compressor {
    directory: PathBuf,
    replacing: Replacing,
    is_running: Arc<AtomicBool>,
    /// Whether there may be more than the run that is under way has seen.
    is_wanted: Arc<AtomicBool>,
}

impl Compressor {
    pub(super) fn new(directory: PathBuf, replacing: Replacing) -> Self {
        Self { directory, replacing, is_running: Arc::default(), is_wanted: Arc::default() }
    }

    /// Compresses what there is to compress, soon.
    pub(super) fn start(&self) {
        self.is_wanted.store(true, Ordering::SeqCst);
        if self.is_running.swap(true, Ordering::SeqCst) {
            return;
        }
        let this = self.clone();
        let work = move || this.run();
        if let Err(error) = std::thread::Builder::new().name("audit-zstd".to_owned()).spawn(work) {
            tracing::warn!(%error, "the audit trail's compression can't be started");
            self.is_running.store(false, Ordering::SeqCst);
        }
    }

    fn run(&self) {
        loop {
            while self.is_wanted.swap(false, Ordering::SeqCst) {
                if let Err(error) = self.compress_closed() {
                    tracing::warn!(%error, "the audit trail's closed segments can't be compressed");
                }
            }
            self.is_running.store(false, Ordering::SeqCst);
            // What was asked for since the last look is this run's, unless another has begun.
            let is_wanted = self.is_wanted.load(Ordering::SeqCst);
            if !is_wanted || self.is_running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    fn compress_closed(&self) -> io::Result<()> {
        let (closed, _) = manifest(&self.directory)?;
        let last = closed.last().map_or(0, |closed| closed.last);
        for segment in segments(&self.directory, &closed)? {
            if segment.first <= last
                && !segment.is_compressed
                && let Err(error) = compress(&self.directory, &segment, &self.replacing)
            {
                // The others can be, perhaps.
                let segment = folder::segment_name(segment.first);
                tracing::warn!(segment, %error, "can't be compressed");
            }
        }
        Ok(())
    }
}

fn unfinished(directory: &Path, first: u64) -> PathBuf {
    folder::compressed(directory, first).with_extension("zst.new")
}

/// Puts a compressed file in a segment's place, once that has been read back and is the same.
fn compress(directory: &Path, segment: &SegmentFile, replacing: &Replacing) -> io::Result<()> {
    /// zstd's own default.
    const LEVEL: i32 = 3;
    let compressed = folder::compressed(directory, segment.first);
    let unfinished = unfinished(directory, segment.first);
    let mut source = folder::open(&segment.path)?;
    // What a crash left, or somebody put there.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = folder::open_to_write(OpenOptions::new().create_new(true).write(true), &unfinished)?;
    let mut encoder = zstd::Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(&mut source, &mut encoder)?;
    let mut file = encoder.finish()?;
    file.flush()?;
    file.sync_all()?;
    let decoder = zstd::Decoder::new(folder::open(&unfinished)?)?;
    if !is_same(folder::open(&segment.path)?, decoder)? {
        return Err(io::Error::other(format!("{} read back otherwise", unfinished.display())));
    }
    let _held = replacing.lock().unwrap_or_else(PoisonError::into_inner);
    if !segment.path.exists() {
        return fs::remove_file(&unfinished);
    }
    fs::rename(&unfinished, &compressed)?;
    sync_folder(directory)?;
    fs::remove_file(&segment.path)?;
    sync_folder(directory)
}

fn is_same(one: impl Read, other: impl Read) -> io::Result<bool> {
    let (mut one, mut other) = (io::BufReader::new(one).bytes(), io::BufReader::new(other).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, other) if one != other => return Ok(false),
            _ => {}
        }
    }
}
