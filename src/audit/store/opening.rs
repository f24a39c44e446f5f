//! Reading a trail at the start and again after it failed: on from the last closed segment, up to
//! what was promised.
//!
//! What a signature covers must be there as it was signed. Behind the last checkpoint a gateway that
//! was killed leaves what it wrote in its last second, and perhaps a torn line. That is carried on,
//! and it is said on record how much of it there was: the key vouches for it only from then on.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::de::IgnoredAny;

use super::{Known, Place, add_to_manifest, append_to, prepare, sign, sign_manifest};
use crate::audit::append::set_aside;
use crate::audit::checkpoint::{Checkpoint, UNSIGNED, notes};
use crate::audit::folder::{self, SegmentFile, segment_name};
use crate::audit::line::{Head, Time};
use crate::audit::log::{Closed, Digest, Log, manifest, segments, signed_lines};
use crate::audit::note::{Keys, Signer};
use crate::audit::record::{Event, Kind};
use crate::audit::tree::Hash;
use crate::audit::verify::deletion::Event as EventSeen;
use crate::audit::verify::{NotWhole, Trail, verify};

/// A trail that is being opened.
pub(super) struct Opening<'a> {
    pub(super) place: &'a Place,
    pub(super) signer: &'a Signer,
    pub(super) keys: &'a Keys,
    /// The newest checkpoint, and what it covers.
    pub(super) checkpointed: Option<(u64, String)>,
    /// Of the segment that was read last.
    pub(super) leaves: Vec<u8>,
    /// The first records of the closed segments that are there.
    pub(super) closed: BTreeSet<u64>,
    /// The manifest as it is signed.
    pub(super) manifest: Digest,
    /// Whether whoever wrote before has said that all is signed.
    pub(super) was_stopped: bool,
    /// Whether the last thing that was read is a gateway's end.
    is_stopped: bool,
    /// Whether it is a segment's.
    is_closed: bool,
    /// Whether it says what was found unsigned.
    is_adopting: bool,
    /// The times of the first and the last record that no checkpoint covers.
    unsigned: Option<(Time, Time)>,
}

impl<'a> Opening<'a> {
    pub(super) fn new(place: &'a Place, signer: &'a Signer, keys: &'a Keys) -> Self {
        Self {
            place,
            signer,
            keys,
            checkpointed: None,
            leaves: Vec::new(),
            closed: BTreeSet::new(),
            manifest: Digest::empty(),
            was_stopped: false,
            is_stopped: false,
            is_closed: false,
            is_adopting: false,
            unsigned: None,
        }
    }

    /// Reads on from the last closed segment, and sets aside what was never promised.
    pub(super) fn read(
        &mut self,
        known: Option<&Known<'_>>,
        events: &mut Vec<Event>,
    ) -> io::Result<Log> {
        let directory = &self.place.directory;
        let closed = self.read_manifest(known, events)?;
        let mut log = Log::empty();
        if let Some(last) = closed.last() {
            let proved = last.proved(self.keys);
            let what = |what| damaged(&format!("{} ({}): {what}", folder::MANIFEST, last.segment));
            log = proved.map_err(what)?.0;
            self.checkpointed = Some((last.last, last.checkpoint.clone()));
        }
        self.find_closed(&closed, known, events)?;
        let mut open = segments(directory, &closed)?;
        open.retain(|segment| segment.first > log.size());
        let mut open = open.into_iter().peekable();
        if open.peek().is_none() && log.size() > 0 {
            // The next segment's file is made before the manifest says that this one is closed.
            return Err(damaged(&format!("{} is missing", segment_name(log.size() + 1))));
        }
        while let Some(segment) = open.next() {
            if segment.first != log.size() + 1 || segment.is_compressed {
                let (found, wanted) = (segment.path.display(), log.size() + 1);
                return Err(damaged(&format!("{found} where record {wanted} should be")));
            }
            let good = self.read_segment(&segment, &mut log, known.map(|known| known.log))?;
            let is_next = open.peek().is_some_and(|next| next.first == log.size() + 1);
            if is_next && self.is_closed {
                events.extend(self.adopt(&log, known)?);
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
        events.extend(self.adopt(&log, known)?);
        Ok(log)
    }

    /// The manifest's lines, as far as they are signed. A crash may leave one that is not: it is
    /// set aside, and its segment closed again.
    fn read_manifest(
        &mut self,
        known: Option<&Known<'_>>,
        events: &mut Vec<Event>,
    ) -> io::Result<Vec<Closed>> {
        let directory = &self.place.directory;
        let damaged = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(&error.to_string()),
            _ => error,
        };
        let (mut lines, mut length) = match (manifest(directory), known) {
            // What is in memory is better than any signature, and that must come back.
            (Err(error), Some(_)) => return Err(io::Error::other(error.to_string())),
            (result, _) => result.map_err(damaged)?,
        };
        let signed = match known {
            Some(known) => {
                let (mut digest, mut found) = (Digest::empty(), None);
                for (number, line) in (0..).zip(lines.iter().map(Some).chain([None])) {
                    found = if digest == known.left.manifest { Some(number) } else { found };
                    line.into_iter().for_each(|line| digest.push(line));
                }
                found
                    .ok_or_else(|| io::Error::other("the manifest was changed by somebody else"))?
            }
            None => {
                let mut own = Keys::default();
                own.add(self.signer.public());
                match signed_lines(directory, &lines, &own) {
                    // With another key, since this one is new; or by somebody who put that there.
                    // What its lines say is taken from the segments, not from it.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        let signed = signed_lines(directory, &lines, self.keys).map_err(damaged)?;
                        let trail = Trail { directory, keys: self.keys, outside: &[] };
                        verify(trail, &mut |_| {}, &mut |_| {}).map_err(|error| match error {
                            NotWhole::Fault(fault) => self::damaged(&fault.to_string()),
                            NotWhole::Io { .. } => io::Error::other(error.to_string()),
                        })?;
                        let detail = "its signature is not by this key, but by one in keys.pub";
                        events.push(Event::new("manifest_adopted").detail(detail));
                        signed
                    }
                    result => result?,
                }
            }
        };
        if lines.len() > signed + 1 {
            return Err(self::damaged(&format!(
                "{} has lines after the first {} that nobody signed",
                folder::MANIFEST,
                signed
            )));
        }
        for line in lines.drain(signed..) {
            length -= line.encode().len() as u64;
        }
        let path = directory.join(folder::MANIFEST);
        // What is cut off, its segment says again.
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > length) {
            let file = folder::open_to_write(fs::OpenOptions::new().write(true), &path)?;
            file.set_len(length)?;
            file.sync_all()?;
        }
        self.manifest = Digest::of(&lines);
        if !lines.is_empty() {
            // As this key signs it, whoever signed it before.
            sign_manifest(directory, &self.manifest, &self.place.origin, self.signer)?;
        }
        Ok(lines)
    }

    /// Of the closed segments, retention deletes the oldest; after one that is there all must be.
    fn find_closed(
        &mut self,
        closed: &[Closed],
        known: Option<&Known<'_>>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let known = known.map(|known| &known.left.closed);
        for (first, lost) in closed.iter().map(|closed| (closed.first, &closed.lost)) {
            let name = segment_name(first);
            if folder::find(&self.place.directory, first).is_some() {
                self.closed.insert(first);
            } else if known.is_some_and(|known| known.contains(&first)) {
                events.push(Event::new("segment_lost").detail(format!("{name}: it is gone")));
            } else if known.is_none() && !self.closed.is_empty() && lost.is_none() {
                return Err(damaged(&format!("{name} is missing")));
            }
        }
        Ok(())
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
        let mut reader = BufReader::with_capacity(1 << 20, folder::open(&segment.path)?);
        let (mut line, mut number) = (Vec::new(), 0_u64);
        let name = segment.path.display();
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
            if !self.may_follow(&head, &line) {
                return Err(damaged(&format!(
                    "{name} line {number} stands behind a gateway's end, and none began"
                )));
            }
            log.push(&head, leaf, line.len());
            self.leaves.extend_from_slice(leaf.as_bytes());
            if head.sequence > promised {
                // Before that the gateway was down.
                let from = self.unsigned.filter(|_| !self.is_adopting).map(|(from, _)| from);
                self.unsigned = Some((from.unwrap_or(head.time), head.time));
            }
            if let Some((checkpoint, _)) = &newest
                && checkpoint.size == log.size()
                && checkpoint.root != log.edge().root()
            {
                return Err(damaged(&format!(
                    "{name} up to line {number} is not what the checkpoint at record {promised} \
                     says"
                )));
            }
        }
        if log.size() < promised {
            let next = log.size() + 1;
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

    /// Behind a `stop` come the events of the next start, and then anything.
    fn may_follow(&mut self, head: &Head, line: &[u8]) -> bool {
        (self.is_closed, self.is_adopting) = (false, false);
        if head.kind != Kind::Event {
            return !self.is_stopped;
        }
        match EventSeen::of_line(line).and_then(|event| event.name).as_deref() {
            Some("stop") => self.is_stopped = true,
            Some("start") => self.is_stopped = false,
            Some("segment_closed") => self.is_closed = true,
            Some("unsigned_adopted") => self.is_adopting = true,
            _ => {}
        }
        true
    }

    /// What to say of the records that no checkpoint covers. A process that wrote them itself has
    /// nothing to say.
    fn adopt(&mut self, log: &Log, known: Option<&Known<'_>>) -> io::Result<Option<Event>> {
        let signed = self.checkpointed.as_ref().map_or(0, |(size, _)| *size);
        let unsigned = self.unsigned.take().filter(|_| log.size() > signed && known.is_none());
        let Some((from, to)) = unsigned else { return Ok(None) };
        let (first, last) = (signed + 1, log.size());
        if self.was_stopped {
            return Err(damaged(&format!(
                "no checkpoint covers records {first} to {last}, though the gateway that wrote here \
                 has signed everything"
            )));
        }
        if to.since(from) > UNSIGNED {
            return Err(damaged(&format!(
                "records {first} to {last} are from {from} to {to}, and no checkpoint covers them, \
                 though one is made every second"
            )));
        }
        let detail = format!("records {first} to {last} were under no checkpoint at the start");
        Ok(Some(Event::new("unsigned_adopted").detail(detail).count(last - signed)))
    }

    /// The last whole checkpoint of a segment; what a crash left behind it is set aside.
    fn newest_checkpoint(&self, segment: &SegmentFile) -> io::Result<Option<(Checkpoint, String)>> {
        let path = folder::checkpoints(&self.place.directory, segment.first);
        let bytes = match folder::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let (notes, good) = notes(&bytes);
        if good < bytes.len() {
            set_aside(&path, good as u64)?;
        }
        let Some(note) = notes.last() else { return Ok(None) };
        let note = String::from_utf8_lossy(note).into_owned();
        let checkpoint = Checkpoint::verify(&note, self.keys).map_err(|error| {
            damaged(&format!("the last checkpoint in {}: it {error}", path.display()))
        })?;
        Ok(Some((checkpoint, note)))
    }

    pub(super) fn sign(&self, log: &Log) -> String {
        sign(&self.place.origin, self.signer, log, self.checkpointed.as_ref())
    }

    /// Closes a segment that was left without its last checkpoint or its line in the manifest.
    pub(super) fn finish(&mut self, log: &mut Log) -> io::Result<()> {
        let directory = &self.place.directory;
        prepare(directory, log.size() + 1)?;
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
        self.closed.insert(closed.first);
        self.add_to_manifest(&closed)
    }

    pub(super) fn add_to_manifest(&mut self, closed: &Closed) -> io::Result<()> {
        let Place { directory, origin, .. } = self.place;
        add_to_manifest(directory, &mut self.manifest, closed, origin, self.signer)
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
