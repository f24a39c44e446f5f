//! Reading a trail from its beginning, record by record.

use std::collections::VecDeque;
use std::path::Path;
use std::{fs, io};

use serde::de::IgnoredAny;

use super::altered::{Altered, Since};
use super::deletion::{Deletion, Event};
use super::{Fault, NotWhole, Outside, Report, Trail, Visited, fault};
use crate::audit::checkpoint::{Checkpoint, notes};
use crate::audit::folder::{self, SegmentFile, segment_name};
use crate::audit::line::{Head, Time};
use crate::audit::log::{Closed, Log, manifest, segments, signed_lines};
use crate::audit::note::NoteError;
use crate::audit::reader::{Blocks, map_lines, on_all_cores};
use crate::audit::record::Kind;
use crate::audit::store::STOPPED;
use crate::audit::tree::Hash;

/// A trail that is read from its beginning.
pub(super) struct Walk<'a> {
    pub(super) trail: Trail<'a>,
    pub(super) manifest: Vec<Closed>,
    /// The last record that the manifest told of at the beginning.
    pub(super) told: u64,
    pub(super) log: Log,
    pub(super) first: u64,
    pub(super) times: Option<(Time, Time)>,
    pub(super) segments: usize,
    segments_there: Vec<SegmentFile>,
    pub(super) checkpoints: u64,
    pub(super) newest: Option<(Checkpoint, String)>,
    /// The time of the last record that it covers.
    pub(super) signed_until: Option<Time>,
    /// Those of the checkpoints that were kept elsewhere which are yet to come, and how many were
    /// compared.
    pub(super) outside: VecDeque<&'a Outside>,
    pub(super) compared: usize,
    /// What retention says that it deleted, each under a checkpoint of its own.
    pub(super) deletions: Vec<Deletion>,
    /// What the last record says that it deleted.
    deleting: Option<Deletion>,
    /// How many lines of the manifest are signed.
    pub(super) signed_lines: usize,
    /// Whether the folder said before it was read that all is signed and nothing more comes.
    pub(super) was_stopped: bool,
    pub(super) last: Option<(Time, Option<Event>)>,
    /// Whether a gateway ended and none began since.
    pub(super) is_stopped: bool,
    /// The time of the first record that no checkpoint covers.
    pub(super) unsigned_since: Option<Time>,
    pub(super) torn: usize,
    /// Bytes behind the last whole checkpoint.
    pub(super) torn_checkpoint: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn begin(trail: Trail<'a>) -> Result<Self, NotWhole> {
        let mut walk = Self {
            trail,
            manifest: Vec::new(),
            told: 0,
            log: Log::empty(),
            first: 1,
            times: None,
            segments: 0,
            segments_there: Vec::new(),
            checkpoints: 0,
            newest: None,
            signed_until: None,
            outside: trail.outside.iter().collect(),
            compared: 0,
            deletions: Vec::new(),
            deleting: None,
            signed_lines: 0,
            was_stopped: false,
            last: None,
            is_stopped: false,
            unsigned_since: None,
            torn: 0,
            torn_checkpoint: 0,
        };
        walk.was_stopped = walk.is_stopped_now();
        walk.manifest = walk.read_manifest()?;
        walk.signed_lines = walk.read_signature()?;
        if walk.manifest.len() > walk.signed_lines + 1 {
            return Err(fault(folder::MANIFEST_SIGNATURE, "is missing, or not of all lines").into());
        }
        walk.told = walk.manifest.last().map_or(0, |closed| closed.last);
        let segments = walk.list()?;
        let Some(first) = segments.first() else {
            let name = trail.directory.display().to_string();
            return Err(fault(&name, "holds no segment of a trail").into());
        };
        let first = first.first;
        // A trail that is being written goes on meanwhile: this is what there is now.
        walk.segments_there = segments;
        if first > 1 {
            walk.skip_deleted(first)?;
        }
        Ok(walk)
    }

    /// Takes the manifest's word for the records that retention deleted, as far as it is signed.
    fn skip_deleted(&mut self, first: u64) -> Result<(), NotWhole> {
        let deleted: Vec<Closed> =
            self.manifest.iter().filter(|closed| closed.last < first).cloned().collect();
        if deleted.len() > self.signed_lines {
            let what = "is missing, or does not sign the lines of what was deleted";
            return Err(fault(folder::MANIFEST_SIGNATURE, what).into());
        }
        for closed in &deleted {
            let name = format!("{} ({})", folder::MANIFEST, closed.segment);
            let (log, checkpoint) =
                closed.proved(self.trail.keys).map_err(|what| fault(&name, what))?;
            self.log = log;
            self.newest = Some((checkpoint, closed.checkpoint.clone()));
            self.compare_outside()?;
        }
        let next = self.log.size() + 1;
        if next != first {
            return Err(fault(
                &segment_name(next),
                format_args!(
                    "is missing: the trail begins with record {first}, and the manifest does not \
                 account for records {next} to {}",
                    first - 1
                ),
            )
            .into());
        }
        self.first = first;
        Ok(())
    }

    pub(super) fn walk_on(
        &mut self,
        visit: &mut dyn FnMut(Visited<'_>),
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), NotWhole> {
        let segments = std::mem::take(&mut self.segments_there);
        let mut rest = segments.as_slice();
        while let Some((segment, following)) = rest.split_first() {
            rest = following;
            if segment.first != self.log.size() + 1 {
                let (wanted, name) = (self.log.size() + 1, file_name(segment));
                let what = format!("is missing: {name} comes next, with record {}", segment.first);
                return Err(fault(&segment_name(wanted), what).into());
            }
            // As it was before this one was read, since what is written meanwhile comes later.
            let is_told = self.manifest.iter().any(|closed| closed.first == segment.first);
            let next = following.first().map(|next| (next.first, self.is_begun(next)));
            self.segment(segment, visit, progress)?;
            let end = self.log.size();
            match next {
                Some((_, true)) => self.close(segment, true)?,
                _ if is_told => {
                    self.close(segment, true)?;
                    self.expect_next(segment)?;
                }
                Some((first, false)) if first == end + 1 && self.signed() == end => {
                    self.close(segment, false)?;
                }
                // The gateway goes on to the next segment just now, or it ended when it did: what
                // comes after this is not there yet. Its file is made before the record that says
                // so.
                Some((first, false))
                    if following.len() == 1 && (1..=2).any(|it| end + it == first) =>
                {
                    break;
                }
                // A start has unmade it since, and goes on in the segment before.
                Some((first, _)) if folder::find(self.trail.directory, first).is_none() => break,
                Some((first, _)) => {
                    let what = format!("is empty, and the trail ends with record {end}");
                    return Err(fault(&segment_name(first), what).into());
                }
                None if self.ends_with("segment_closed") => {
                    self.expect_next(segment)?;
                    break;
                }
                None => {}
            }
        }
        self.conclude()
    }

    fn segment(
        &mut self,
        segment: &SegmentFile,
        visit: &mut dyn FnMut(Visited<'_>),
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), NotWhole> {
        let name = file_name(segment);
        let mut checkpoints = self.checkpoints_of(segment)?;
        let signed = checkpoints.back().map_or(0, |(checkpoint, _)| checkpoint.size);
        let io = |error| NotWhole::Io { path: segment.path.clone(), error };
        let mut blocks = Blocks::open(segment).map_err(io)?;
        self.segments += 1;
        let (mut number, mut line_of_first_unsigned) = (0_u64, 1);
        let mut since = Since::new(self.log.edge());
        loop {
            let block = blocks.next().map_err(|error| match error.kind() {
                // What zstd can't decode was not written by zstd.
                io::ErrorKind::InvalidData
                | io::ErrorKind::Other
                | io::ErrorKind::UnexpectedEof => {
                    NotWhole::from(fault(&name, format_args!("can't be read: {error}")))
                }
                _ => io(error),
            })?;
            let Some(block) = block else { break };
            progress(block.len());
            let lines = map_lines(block, |line| {
                let head = Head::parse(line).filter(|head| {
                    // Up to there the signed root says more than the syntax could.
                    head.sequence <= signed || serde_json::from_slice::<IgnoredAny>(line).is_ok()
                });
                head.map(|head| (head, Hash::of_leaf(line)))
            });
            for (line, record) in lines {
                number += 1;
                let wanted = self.log.size() + 1;
                let place = || format!("{name} line {number} (record {wanted})");
                let Some((head, leaf)) = record else {
                    return Err(fault(&place(), "is not a record").into());
                };
                if head.sequence != wanted {
                    let what = format!("has record {} in its place", head.sequence);
                    return Err(fault(&place(), what).into());
                }
                if !self.take(head, leaf, line) {
                    let what = "stands behind a gateway's end, and none began";
                    return Err(fault(&place(), what).into());
                }
                if head.sequence <= signed {
                    since.leaves.push(leaf);
                }
                visit(Visited { head, line, leaf });
                if let Some((checkpoint, note)) =
                    checkpoints.pop_front_if(|(checkpoint, _)| checkpoint.size == head.sequence)
                {
                    if checkpoint.root != self.log.edge().root() {
                        let altered = Altered { since, line: line_of_first_unsigned, checkpoint };
                        return Err(altered.fault(&name, &self.leaves_of(segment)).into());
                    }
                    since = Since::new(self.log.edge());
                    line_of_first_unsigned = number + 1;
                    self.deletions.extend(self.deleting.take());
                    self.checkpoints += 1;
                    self.newest = Some((checkpoint, note));
                    self.signed_until = Some(head.time);
                    self.unsigned_since = None;
                }
                self.compare_outside()?;
            }
        }
        if let Some((checkpoint, _)) = checkpoints.front() {
            let (last, size) = (self.log.size(), checkpoint.size);
            let what = format!("ends with record {last}, and a checkpoint covers {size}");
            return Err(fault(&name, what).into());
        }
        self.torn = blocks.rest().len();
        Ok(())
    }

    /// Takes a record; not one that can't come here.
    fn take(&mut self, head: Head, leaf: Hash, line: &[u8]) -> bool {
        let event = (head.kind == Kind::Event).then(|| Event::of_line(line)).flatten();
        match event.as_ref().and_then(|event| event.name.as_deref()) {
            Some("stop") => self.is_stopped = true,
            Some("start") => self.is_stopped = false,
            None if self.is_stopped => return false,
            _ => {}
        }
        self.deleting = event.as_ref().and_then(|event| event.deletion(head.sequence));
        if let Some(adopted) = event.as_ref().and_then(Event::adopted) {
            // Before that the gateway was down.
            self.unsigned_since = None;
            self.deletions.retain(|deletion| !adopted.contains(&deletion.sequence));
        }
        self.log.push(&head, leaf, line.len() + 1);
        let (from, to) = self.times.unwrap_or((head.time, head.time));
        self.times = Some((from.min(head.time), to.max(head.time)));
        self.unsigned_since.get_or_insert(head.time);
        self.last = Some((head.time, event));
        true
    }

    /// Compares the log with what was kept elsewhere of it at this record.
    fn compare_outside(&mut self) -> Result<(), Fault> {
        let size = self.log.size();
        while let Some(Outside { checkpoint, name }) =
            self.outside.pop_front_if(|it| it.checkpoint.size <= size)
        {
            if checkpoint.size < size {
                continue;
            }
            if checkpoint.root != self.log.edge().root() {
                let what = format!(
                    "records 1 to {size} are not those that this checkpoint was made of: the trail \
                     was rewritten"
                );
                return Err(fault(name, what));
            }
            self.compared += 1;
        }
        Ok(())
    }

    /// The checkpoints of a segment in their row.
    pub(super) fn checkpoints_of(
        &mut self,
        segment: &SegmentFile,
    ) -> Result<VecDeque<(Checkpoint, String)>, NotWhole> {
        let path = folder::checkpoints(self.trail.directory, segment.first);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = match folder::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            result => result.map_err(|error| NotWhole::Io { path, error })?,
        };
        // One that is not whole is being written, or was cut off by a crash; whether it was needed
        // shows later.
        let (all, whole) = notes(&bytes);
        self.torn_checkpoint = bytes.len() - whole;
        let keys = self.trail.keys;
        let verified = on_all_cores(&all, |note| {
            let note = str::from_utf8(note).map_err(|_| NoteError::Malformed)?;
            Ok((Checkpoint::verify(note, keys)?, note.to_owned()))
        });
        let mut previous = self.signed();
        let mut row = VecDeque::with_capacity(all.len());
        for (index, verified) in verified.into_iter().enumerate() {
            let place = || format!("{name} checkpoint {}", index + 1);
            let (checkpoint, note) = verified.map_err(|error: NoteError| fault(&place(), error))?;
            if checkpoint.previous != previous {
                let what = format!(
                    "follows one at record {}, and the one before it here is at record {previous}",
                    checkpoint.previous
                );
                return Err(fault(&place(), what).into());
            }
            if checkpoint.size <= previous || checkpoint.size < segment.first {
                return Err(fault(&place(), "is out of its row").into());
            }
            previous = checkpoint.size;
            row.push_back((checkpoint, note));
        }
        Ok(row)
    }

    /// The leaves that the gateway kept of a segment's records, which nothing vouches for.
    fn leaves_of(&self, segment: &SegmentFile) -> Vec<Hash> {
        let kept = folder::read(&folder::leaves(self.trail.directory, segment.first));
        kept.unwrap_or_default().chunks_exact(32).map(Hash::from_slice).collect()
    }

    /// Whether anything was written to a segment or its checkpoints.
    fn is_begun(&self, segment: &SegmentFile) -> bool {
        let checkpoints = folder::checkpoints(self.trail.directory, segment.first);
        // One that is gone was made early, and unmade.
        is_begun(&segment.path) || is_begun(&checkpoints)
    }

    pub(super) fn report(self) -> Report {
        Report {
            first: self.first,
            last: self.log.size(),
            times: self.times,
            segments: self.segments,
            checkpoints: self.checkpoints,
            pending: self.log.pending().len(),
            newest: self.newest,
            signed_until: self.signed_until,
            compared: self.compared,
            torn: self.torn,
        }
    }

    pub(super) fn signed(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size)
    }

    pub(super) fn list(&self) -> Result<Vec<SegmentFile>, NotWhole> {
        let path = self.trail.directory.to_owned();
        segments(&path, &self.manifest).map_err(|error| NotWhole::Io { path, error })
    }

    pub(super) fn read_manifest(&self) -> Result<Vec<Closed>, NotWhole> {
        let path = self.trail.directory.join(folder::MANIFEST);
        match manifest(self.trail.directory) {
            Ok((closed, _)) => Ok(closed),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(fault(folder::MANIFEST, error).into())
            }
            Err(error) => Err(NotWhole::Io { path, error }),
        }
    }

    fn read_signature(&self) -> Result<usize, NotWhole> {
        let directory = self.trail.directory;
        let mut signed = signed_lines(directory, &self.manifest, self.trail.keys);
        let (mut lines, mut before) = (self.read_manifest()?, self.manifest.len());
        // A line was added since the manifest was read, perhaps, and signed.
        while signed.is_err() && lines.len() > before {
            signed = signed_lines(directory, &lines, self.trail.keys);
            before = lines.len();
            lines = self.read_manifest()?;
        }
        signed.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => fault(folder::MANIFEST, error).into(),
            _ => NotWhole::Io { path: directory.join(folder::MANIFEST_SIGNATURE), error },
        })
    }

    pub(super) fn is_stopped_now(&self) -> bool {
        let lock = folder::read(&self.trail.directory.join(folder::LOCK));
        lock.is_ok_and(|lock| lock == STOPPED.as_bytes())
    }
}

pub(super) fn file_name(segment: &SegmentFile) -> String {
    segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_begun(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}
