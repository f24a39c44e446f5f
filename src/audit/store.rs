//! The files that are being written: the open segment, its checkpoints and the manifest.
//!
//! [`Store::open`] reads what is there from the last closed segment on, checks it against the last
//! checkpoint and, when this process wrote before, against what it knows it wrote. So whatever
//! happened to the folder, what goes on is the same log, or it is said that it is not.

pub(super) mod opening;
mod watch;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use self::opening::Opening;
use self::watch::Watch;
use super::append::{AppendError, AppendFile, sync_folder};
use super::checkpoint::Checkpoint;
use super::folder;
use super::log::{Closed, Digest, Log};
use super::note::{Keys, Signer};
use super::record::Event;
use super::tree::Hash;
use crate::config::Durability;

/// What the lock's file says once the writer has signed everything and ended.
pub(super) const STOPPED: &str = "stopped\n";

/// The files that are being written.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    origin: String,
    signer: Signer,
    durability: Durability,
    segment_size: u64,
    segment: AppendFile,
    checkpoints: AppendFile,
    /// For finding an altered line: no part of the proof, so nothing fails without it.
    leaves: Option<File>,
    /// The leaves since the last checkpoint, which are of no use before the next.
    new_leaves: Vec<u8>,
    checkpointed: Option<(u64, String)>,
    manifest: Digest,
    watch: Watch,
    /// Held so that no other process writes to the folder.
    lock: File,
}

/// Where a trail is and who writes it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) origin: String,
    pub(super) signing_key: PathBuf,
    pub(super) durability: Durability,
    /// From which size on a segment is closed, in bytes.
    pub(super) segment_size: u64,
}

/// What was left of a store that was let go.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The newest checkpoint, and what it covers.
    pub(super) checkpointed: Option<(u64, String)>,
    /// The first records of the closed segments that were there.
    pub(super) closed: BTreeSet<u64>,
    /// The manifest.
    pub(super) manifest: Digest,
}

/// What a process that wrote before knows.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// The log up to the last record that was promised.
    pub(super) log: &'a Log,
    pub(super) left: &'a Left,
    /// Whether the segment is not to be written again, since a sync of it failed.
    pub(super) is_unsynced: bool,
    /// What went wrong.
    pub(super) reason: &'a str,
}

impl Store {
    /// Opens a trail, or begins one, and tells in events what was found.
    pub(super) fn open(
        place: &Place,
        known: Option<&Known<'_>>,
        events: &mut Vec<Event>,
    ) -> io::Result<(Self, Log)> {
        let directory = &place.directory;
        // A folder that vanishes later is not made again: what was in it would be forgotten.
        if known.is_none() && !directory.exists() {
            let made = DirBuilder::new().mode(0o700).create(directory);
            made.map_err(folder::about(directory))?;
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_folder(parent.unwrap_or(Path::new(".")))?;
        }
        let (mut lock, was_stopped) = lock(directory)?;
        let signer = Signer::load_or_make(&place.signing_key, &place.origin)
            .map_err(|error| io::Error::other(format!("audit.signing_key: {error}")))?;
        let keys = publish_key(directory, &signer, events)?;
        let mut opening = Opening::new(place, &signer, &keys);
        opening.was_stopped = was_stopped && known.is_none();
        let read = opening.read(known, events);
        let (mut log, was_lost) = match (read, known) {
            (Ok(log), None) => (log, false),
            (Err(error), None) => return Err(error),
            // What can't be read now may be whole.
            (Err(error), _) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            (Ok(log), Some(known)) if log.edge() == known.log.edge() => (log, false),
            // Nothing was in the segment that is open.
            (_, Some(known)) if known.log.bytes() == 0 => {
                opening.checkpointed = known.left.checkpointed.clone();
                opening.manifest = known.left.manifest.clone();
                (known.log.clone(), false)
            }
            (read, Some(known)) => {
                let found = match read {
                    Ok(log) => format!("it ends at record {}", log.size()),
                    Err(error) => error.to_string(),
                };
                let mut log = known.log.clone();
                let (name, size) = (folder::segment_name(log.segment()), log.size());
                opening.checkpointed = known.left.checkpointed.clone();
                opening.manifest = known.left.manifest.clone();
                prepare(directory, size + 1)?;
                let closing = opening.sign(&log);
                opening.checkpointed = Some((size, closing.clone()));
                let mut closed = log.close(closing);
                closed.lost = Some(known.reason.to_owned());
                opening.add_to_manifest(&closed)?;
                events.push(Event::new("segment_lost").detail(format!(
                    "{name}: records up to {size} are not there as they were written: {}; {found}",
                    known.reason,
                )));
                (log, true)
            }
        };
        if let Some(newest) = known.and_then(|known| known.left.checkpointed.as_ref())
            && opening.checkpointed.as_ref().is_none_or(|(size, _)| *size < newest.0)
        {
            let detail = format!("that at record {} is not there as it was written", newest.0);
            events.push(Event::new("checkpoints_lost").detail(detail));
            opening.checkpointed = Some(newest.clone());
        }
        // Not before it is sure that something will be written.
        lock.set_len(0)?;
        lock.rewind()?;
        lock.sync_data()?;
        let is_unsynced = known.is_some_and(|known| known.is_unsynced);
        if is_unsynced && !was_lost && log.bytes() > 0 {
            opening.finish(&mut log)?;
        }
        let Opening { checkpointed, leaves, closed, manifest, .. } = opening;
        let leaves = if log.bytes() > 0 { leaves } else { Vec::new() };
        let segment = folder::segment(directory, log.segment());
        let checkpoints = folder::checkpoints(directory, log.segment());
        let length = fs::metadata(&checkpoints).map_or(0, |metadata| metadata.len());
        let store = Self {
            directory: directory.clone(),
            origin: place.origin.clone(),
            durability: place.durability,
            segment_size: place.segment_size,
            segment: AppendFile::open(segment, log.bytes())?.with_room(place.segment_size),
            checkpoints: AppendFile::open(checkpoints, length)?,
            leaves: begin_leaves(directory, log.segment(), &leaves).ok(),
            new_leaves: Vec::new(),
            checkpointed,
            manifest,
            watch: Watch::new(directory.clone(), &lock, closed)?,
            signer,
            lock,
        };
        sync_folder(directory)?;
        Ok((store, log))
    }

    /// Appends whole records to the open segment, with their leaves.
    pub(super) fn append(
        &mut self,
        lines: &[u8],
        leaves: impl Iterator<Item = Hash>,
    ) -> Result<(), AppendError> {
        // Before it, since another process may write there; after it, since what is answered must
        // be where it was put.
        self.watch.check(&self.checkpoints).map_err(AppendError::Lost)?;
        self.segment.append(lines, self.durability)?;
        self.watch.check(&self.checkpoints).map_err(AppendError::Lost)?;
        leaves.for_each(|leaf| self.new_leaves.extend_from_slice(leaf.as_bytes()));
        Ok(())
    }

    /// Writes the checkpoint of what is in the log, unless the last one is of the same.
    pub(super) fn checkpoint(&mut self, log: &Log) -> io::Result<&str> {
        if self.checkpointed.as_ref().is_none_or(|(size, _)| *size != log.size()) {
            let note = sign(&self.origin, &self.signer, log, self.checkpointed.as_ref());
            self.checkpoints.append(note.as_bytes(), self.durability)?;
            self.checkpointed = Some((log.size(), note));
            if let Some(mut file) = self.leaves.take()
                && file.write_all(&self.new_leaves).is_ok()
            {
                self.leaves = Some(file);
            }
            self.new_leaves.clear();
        }
        Ok(self.newest().unwrap_or_default())
    }

    /// The newest checkpoint.
    pub(super) fn newest(&self) -> Option<&str> {
        self.checkpointed.as_ref().map(|(_, note)| note.as_str())
    }

    /// Makes the next segment's file, before the open one's last record says that there is one.
    /// What stood in its place is none of the log's, and moved to where the result says.
    pub(super) fn prepare(&self, first: u64) -> io::Result<Vec<PathBuf>> {
        prepare(&self.directory, first)
    }

    /// Closes the open segment, whose last record says so, and goes on in the next.
    pub(super) fn rotate(&mut self, log: &mut Log) -> io::Result<()> {
        // Before what may fail: then it is closed by reading it, and not through this file.
        self.segment.finish();
        let closing = self.checkpoint(log)?.to_owned();
        let closed = log.close(closing);
        let directory = &self.directory;
        add_to_manifest(directory, &mut self.manifest, &closed, &self.origin, &self.signer)?;
        let segment = AppendFile::open(folder::segment(&self.directory, log.segment()), 0)?;
        self.segment = segment.with_room(self.segment_size);
        self.checkpoints =
            AppendFile::open(folder::checkpoints(&self.directory, log.segment()), 0)?;
        self.leaves = begin_leaves(&self.directory, log.segment(), &[]).ok();
        self.watch.closed.insert(closed.first);
        sync_folder(&self.directory)
    }

    /// Looks no longer for the closed segments up to a record: they are about to be deleted.
    pub(super) fn forget_up_to(&mut self, last: u64) {
        self.watch.closed.retain(|first| *first > last);
    }

    /// Says in the folder that everything is signed and nothing more comes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.segment.finish();
        self.lock.write_all(STOPPED.as_bytes())?;
        self.lock.sync_data()
    }

    /// What the next opening has to know.
    pub(super) fn left(self) -> Left {
        let Self { checkpointed, manifest, watch, .. } = self;
        Left { checkpointed, closed: watch.closed, manifest }
    }

    /// Whether these lines are what the manifest should have.
    pub(super) fn is_manifest(&self, lines: &[Closed]) -> bool {
        Digest::of(lines) == self.manifest
    }
}

/// Adds a line to the manifest and signs it with all those before.
fn add_to_manifest(
    directory: &Path,
    manifest: &mut Digest,
    closed: &Closed,
    origin: &str,
    signer: &Signer,
) -> io::Result<()> {
    append_to(&directory.join(folder::MANIFEST), &closed.encode())?;
    let mut added = manifest.clone();
    added.push(closed);
    sign_manifest(directory, &added, origin, signer)?;
    *manifest = added;
    Ok(())
}

/// Writes the manifest's signature, unless it is there: Ed25519 has one for each text.
fn sign_manifest(
    directory: &Path,
    manifest: &Digest,
    origin: &str,
    signer: &Signer,
) -> io::Result<()> {
    let path = directory.join(folder::MANIFEST_SIGNATURE);
    let note = signer.sign(&manifest.statement(origin));
    if folder::read(&path).is_ok_and(|there| there == note.as_bytes()) {
        return Ok(());
    }
    replace(&path, note.as_bytes())
}

/// Puts a whole file in another's place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let whole = PathBuf::from(name);
    let options = OpenOptions::new().create(true).truncate(true).write(true).clone();
    let mut file = folder::open_to_write(&options, &whole)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&whole, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn prepare(directory: &Path, first: u64) -> io::Result<Vec<PathBuf>> {
    let mut moved = Vec::new();
    for path in [folder::segment(directory, first), folder::checkpoints(directory, first)] {
        if fs::symlink_metadata(&path).is_ok_and(|it| !it.is_file() || it.len() > 0) {
            let aside = path.with_extension(format!("foreign-{}", uuid::Uuid::now_v7().simple()));
            fs::rename(&path, &aside)?;
            moved.push(aside);
        }
    }
    AppendFile::open(folder::segment(directory, first), 0)?;
    sync_folder(directory)?;
    Ok(moved)
}

/// Makes the file of a segment's leaves anew, with those that it has.
fn begin_leaves(directory: &Path, first: u64, leaves: &[u8]) -> io::Result<File> {
    let options = OpenOptions::new().create(true).truncate(true).write(true).clone();
    let mut file = folder::open_to_write(&options, &folder::leaves(directory, first))?;
    file.write_all(leaves)?;
    Ok(file)
}

fn sign(origin: &str, signer: &Signer, log: &Log, previous: Option<&(u64, String)>) -> String {
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size: log.size(),
        root: log.edge().root(),
        previous: previous.map_or(0, |(size, _)| *size),
    };
    checkpoint.sign(signer)
}

/// The lock, and whether who held it before has signed everything and ended.
fn lock(directory: &Path) -> io::Result<(File, bool)> {
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
    let path = directory.join(folder::LOCK);
    let mut lock = folder::open_to_write(&options, &path).map_err(folder::about(&path))?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another process writes to {}", directory.display()),
        ),
        fs::TryLockError::Error(error) => error,
    })?;
    let mut said = Vec::new();
    Read::by_ref(&mut lock).take(64).read_to_end(&mut said)?;
    Ok((lock, said == STOPPED.as_bytes()))
}

/// The folder's public keys, with this one as the last.
fn publish_key(directory: &Path, signer: &Signer, events: &mut Vec<Event>) -> io::Result<Keys> {
    let path = directory.join(folder::KEYS);
    let bytes = match folder::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result?,
    };
    let text = String::from_utf8_lossy(&bytes);
    // What a crash tore is no key.
    let mut lines: Vec<&str> = text.lines().filter(|line| Keys::parse(line).is_some()).collect();
    let own = signer.public().to_string();
    if lines.last() != Some(&own.as_str()) || !text.ends_with('\n') {
        let before = match lines.last() {
            None if folder::segments(directory)?.is_empty() => None,
            None => Some("one that is not known"),
            Some(before) => Some(*before).filter(|before| *before != own),
        };
        if let Some(before) = before {
            let detail = format!("from {before} to {own}");
            events.push(Event::new("signing_key_changed").detail(detail));
        }
        lines.retain(|line| *line != own);
        lines.push(&own);
        replace(&path, (lines.join("\n") + "\n").as_bytes())?;
    }
    let mut keys = Keys::parse(&lines.join("\n")).unwrap_or_default();
    keys.add(signer.public());
    Ok(keys)
}

/// Appends to a file that is seldom written, and makes it durable.
fn append_to(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(AppendFile::open(path.to_owned(), length)?.append(bytes, Durability::Fsync)?)
}
