//! The files that are being written: the open segment, its checkpoints and the manifest.
//!
//! [`Store::open`] reads what is there from the last closed segment on, checks it against the last
//! checkpoint and, when this process wrote before, against what it knows it wrote. So whatever
//! happened to the folder, what goes on is the same log, or it is said that it is not.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::append::{AppendError, AppendFile, set_aside, sync_folder};
use super::checkpoint::{Checkpoint, notes};
use super::folder::{self, SegmentFile};
use super::line::Head;
use super::log::{Log, manifest};
use super::note::{Keys, Signer};
use super::record::Event;
use super::tree::Hash;
use crate::config::Durability;

/// The files that are being written.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    origin: String,
    signer: Signer,
    durability: Durability,
    segment: AppendFile,
    checkpoints: AppendFile,
    /// For finding an altered line: no part of the proof, so nothing fails without it.
    leaves: Option<File>,
    /// The leaves since the last checkpoint, which are of no use before the next.
    new_leaves: Vec<u8>,
    checkpointed: Option<(u64, String)>,
    /// Held so that no other process writes to the folder.
    _lock: File,
}

/// Where a trail is and who writes it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) origin: String,
    pub(super) signing_key: PathBuf,
    pub(super) durability: Durability,
}

/// What a process that wrote before knows.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// The log up to the last record that was promised.
    pub(super) log: &'a Log,
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
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let lock = lock(directory)?;
        let signer = Signer::load_or_make(&place.signing_key, &place.origin)
            .map_err(|error| io::Error::other(format!("audit.signing_key: {error}")))?;
        let keys = publish_key(directory, &signer, events)?;
        let mut opening =
            Opening { place, signer: &signer, keys: &keys, checkpointed: None, leaves: Vec::new() };
        let read = opening.read(known.map(|known| known.log), events);
        let (mut log, was_lost) = match (read, known) {
            (Ok(log), None) => (log, false),
            (Err(error), None) => return Err(error),
            // What can't be read now may be whole.
            (Err(error), _) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            (Ok(log), Some(known)) if log.edge() == known.log.edge() => (log, false),
            (read, Some(known)) => {
                let found = match read {
                    Ok(log) => format!("it ends at record {}", log.size()),
                    Err(error) => error.to_string(),
                };
                events.push(Event::new("segment_lost").detail(format!(
                    "{}: records up to {} are not there as they were written: {}; {found}",
                    folder::segment_name(known.log.segment()),
                    known.log.size(),
                    known.reason,
                )));
                let mut log = known.log.clone();
                let closing = opening.sign(&log);
                opening.checkpointed = Some((log.size(), closing.clone()));
                let mut closed = log.close(closing);
                closed.lost = Some(known.reason.to_owned());
                append_to(&directory.join(folder::MANIFEST), &closed.encode())?;
                (log, true)
            }
        };
        let is_unsynced = known.is_some_and(|known| known.is_unsynced);
        if is_unsynced && !was_lost && log.bytes() > 0 {
            opening.finish(&mut log)?;
        }
        let Opening { checkpointed, leaves, .. } = opening;
        let leaves = if log.bytes() > 0 { leaves } else { Vec::new() };
        let segment = folder::segment(directory, log.segment());
        let checkpoints = folder::checkpoints(directory, log.segment());
        let length = fs::metadata(&checkpoints).map_or(0, |metadata| metadata.len());
        let store = Self {
            directory: directory.clone(),
            origin: place.origin.clone(),
            durability: place.durability,
            segment: AppendFile::open(segment, log.bytes())?,
            checkpoints: AppendFile::open(checkpoints, length)?,
            leaves: begin_leaves(directory, log.segment(), &leaves).ok(),
            new_leaves: Vec::new(),
            checkpointed,
            signer,
            _lock: lock,
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
        self.segment.append(lines, self.durability)?;
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
    pub(super) fn prepare(&self, first: u64) -> io::Result<()> {
        AppendFile::open(folder::segment(&self.directory, first), 0)?;
        sync_folder(&self.directory)
    }

    /// Closes the open segment, whose last record says so, and goes on in the next.
    pub(super) fn rotate(&mut self, log: &mut Log) -> io::Result<()> {
        let closing = self.checkpoint(log)?.to_owned();
        let closed = log.close(closing);
        append_to(&self.directory.join(folder::MANIFEST), &closed.encode())?;
        self.segment = AppendFile::open(folder::segment(&self.directory, log.segment()), 0)?;
        self.checkpoints =
            AppendFile::open(folder::checkpoints(&self.directory, log.segment()), 0)?;
        self.leaves = begin_leaves(&self.directory, log.segment(), &[]).ok();
        sync_folder(&self.directory)
    }
}

/// Makes the file of a segment's leaves anew, with those that it has.
fn begin_leaves(directory: &Path, first: u64, leaves: &[u8]) -> io::Result<File> {
    let path = folder::leaves(directory, first);
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
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

fn lock(directory: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join(folder::LOCK))?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another process writes to {}", directory.display()),
        ),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// The folder's public keys, with this one as the last.
fn publish_key(directory: &Path, signer: &Signer, events: &mut Vec<Event>) -> io::Result<Keys> {
    let path = directory.join(folder::KEYS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result?,
    };
    let own = signer.public().to_string();
    if text.lines().next_back() != Some(&own) {
        if let Some(before) = text.lines().next_back() {
            let detail = format!("from {before} to {own}");
            events.push(Event::new("signing_key_changed").detail(detail));
        }
        let line = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        append_to(&path, format!("{line}{own}\n").as_bytes())?;
    }
    let mut keys = Keys::parse(&text).unwrap_or_default();
    keys.add(signer.public());
    Ok(keys)
}

/// Appends to a file that is seldom written, and makes it durable.
fn append_to(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(AppendFile::open(path.to_owned(), length)?.append(bytes, Durability::Fsync)?)
}

/// A trail that is being opened.
struct Opening<'a> {
    place: &'a Place,
    signer: &'a Signer,
    keys: &'a Keys,
    checkpointed: Option<(u64, String)>,
    /// Of the segment that was read last.
    leaves: Vec<u8>,
}

impl Opening<'_> {
    /// Reads on from the last closed segment, and sets aside what was never promised.
    fn read(&mut self, known: Option<&Log>, events: &mut Vec<Event>) -> io::Result<Log> {
        let directory = &self.place.directory;
        let (closed, length) = manifest(directory)?;
        let path = directory.join(folder::MANIFEST);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > length) {
            set_aside(&path, length)?;
        }
        let mut log = match closed.last() {
            None => Log::empty(),
            Some(last) => {
                self.checkpointed = Some((last.last, last.checkpoint.clone()));
                Log::after(last).ok_or_else(|| damaged("the manifest's last line"))?
            }
        };
        let mut open = folder::segments(directory)?;
        open.retain(|segment| segment.first > log.size());
        let mut open = open.into_iter().peekable();
        while let Some(segment) = open.next() {
            if segment.first != log.size() + 1 || segment.is_compressed {
                let (found, wanted) = (segment.path.display(), log.size() + 1);
                return Err(damaged(&format!("{found} where record {wanted} should be")));
            }
            let good = self.read_segment(&segment, &mut log, known)?;
            let is_next = open.peek().is_some_and(|next| next.first == log.size() + 1);
            if is_next && log.bytes() > 0 {
                self.finish(&mut log)?;
                continue;
            }
            // The next segment's file is made before the last record of this one.
            if let Some(next) = open.next_if(|next| is_empty(&next.path)) {
                fs::remove_file(&next.path)?;
            }
            if fs::metadata(&segment.path)?.len() > good {
                let aside = set_aside(&segment.path, good)?;
                let detail = format!("a torn last line was set aside in {}", aside.display());
                tracing::warn!("audit trail: {detail}");
                events.push(Event::new("torn_line_set_aside").detail(detail));
            }
        }
        Ok(log)
    }

    /// Reads a segment's records into the log, and returns how many of its bytes they are.
    fn read_segment(
        &mut self,
        segment: &SegmentFile,
        log: &mut Log,
        known: Option<&Log>,
    ) -> io::Result<u64> {
        let newest = self.newest_checkpoint(segment)?;
        let promised = newest.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size);
        let most = known.map_or(u64::MAX, Log::size);
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&segment.path)?);
        let (mut line, mut number) = (Vec::new(), 0_u64);
        self.leaves.clear();
        while log.size() < most {
            line.clear();
            number += 1;
            reader.read_until(b'\n', &mut line)?;
            let head = line.strip_suffix(b"\n").and_then(|record| {
                let head = Head::parse(record)?;
                // What a checkpoint covers is proved by it.
                let is_whole = head.sequence <= promised
                    || serde_json::from_slice::<IgnoredAny>(record).is_ok();
                (is_whole && head.sequence == log.size() + 1).then(|| (head, Hash::of_leaf(record)))
            });
            let Some((head, leaf)) = head else { break };
            log.push(&head, leaf, line.len());
            self.leaves.extend_from_slice(leaf.as_bytes());
            if let Some((checkpoint, _)) = &newest
                && checkpoint.size == log.size()
                && checkpoint.root != log.edge().root()
            {
                let name = segment.path.display();
                return Err(damaged(&format!(
                    "{name} up to line {number} is not what the checkpoint at record {promised} \
                     says"
                )));
            }
        }
        if log.size() < promised {
            let (name, next) = (segment.path.display(), log.size() + 1);
            return Err(damaged(&format!(
                "{name} line {number} should be record {next} and is not, though a checkpoint \
                 covers records up to {promised}"
            )));
        }
        if let Some((checkpoint, note)) = newest {
            self.checkpointed = Some((checkpoint.size, note));
        }
        Ok(log.bytes())
    }

    /// The last whole checkpoint of a segment; what a crash left behind it is cut off.
    fn newest_checkpoint(&self, segment: &SegmentFile) -> io::Result<Option<(Checkpoint, String)>> {
        let path = folder::checkpoints(&self.place.directory, segment.first);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let (mut good, mut newest) = (0, None);
        for note in notes(&text) {
            if note.contains("\n\n") && note.ends_with('\n') {
                good += note.len() as u64;
                newest = Some(note);
            }
        }
        if good < text.len() as u64 {
            set_aside(&path, good)?;
        }
        let Some(note) = newest else { return Ok(None) };
        let checkpoint = Checkpoint::verify(note, self.keys).map_err(|error| {
            damaged(&format!("the last checkpoint in {}: it {error}", path.display()))
        })?;
        Ok(Some((checkpoint, note.to_owned())))
    }

    fn sign(&self, log: &Log) -> String {
        sign(&self.place.origin, self.signer, log, self.checkpointed.as_ref())
    }

    /// Closes a segment that was left without its last checkpoint or its line in the manifest.
    fn finish(&mut self, log: &mut Log) -> io::Result<()> {
        let directory = &self.place.directory;
        let closing = match self.checkpointed.take() {
            Some((size, note)) if size == log.size() => note,
            before => {
                self.checkpointed = before;
                let note = self.sign(log);
                append_to(&folder::checkpoints(directory, log.segment()), note.as_bytes())?;
                note
            }
        };
        self.checkpointed = Some((log.size(), closing.clone()));
        let closed = log.close(closing);
        append_to(&directory.join(folder::MANIFEST), &closed.encode())
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the trail is damaged: {what}; move its folder away and keep it, and a new trail begins"
        ),
    )
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0)
}
