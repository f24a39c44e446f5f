//! Whether a trail is whole: every record that was signed is there, in its order, unchanged.
//!
//! The trail is read once from its beginning, the tree is built anew, and its root is compared
//! with each checkpoint on the way. What the folder says of itself (the manifest, the rows of
//! checkpoints and segments, the last record) must agree with that to the byte.

mod altered;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::Deserialize;
use serde::de::IgnoredAny;

use self::altered::{Altered, Since};
use super::checkpoint::{Checkpoint, UNSIGNED, notes};
use super::folder::{self, SegmentFile, segment_name};
use super::line::{Head, Time};
use super::log::{Closed, Log, hash_of_lines, manifest};
use super::note::{Keys, NoteError};
use super::reader::{Blocks, map_lines, on_all_cores};
use super::record::Kind;
use super::store::STOPPED;
use super::tree::{Edge, Hash};

/// What is verified, and against what.
#[derive(Debug, Clone, Copy)]
pub struct Trail<'a> {
    /// Its folder.
    pub directory: &'a Path,
    /// Whose signatures count.
    pub keys: &'a Keys,
    /// A checkpoint that was kept elsewhere, and the name of its file.
    pub outside: Option<(&'a str, &'a str)>,
}

/// What was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The first record that is there; those before it were deleted by the retention.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The earliest and the latest time of a record.
    pub times: Option<(Time, Time)>,
    /// How many segments there are.
    pub segments: usize,
    /// How many checkpoints were checked.
    pub checkpoints: u64,
    /// The newest one; the records after it are in order, and not signed yet.
    pub newest: Option<(Checkpoint, String)>,
    /// How many changes have an intent and no outcome.
    pub pending: usize,
    /// Bytes behind the last whole line, which a crash left.
    pub torn: usize,
}

/// The first bad place, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Fault {
    /// The file, with line and record where there is one.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// Why a trail can't be called whole.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// It is not.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It can't be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A record on the way.
#[derive(Debug, Clone, Copy)]
pub struct Visited<'a> {
    /// The beginning of its line.
    pub head: Head,
    /// Its line, without its line feed.
    pub line: &'a [u8],
    /// Its leaf in the tree.
    pub leaf: Hash,
}

/// Verifies a trail. Each record is shown to `visit` on the way, and the number of bytes that were
/// read to `progress`; what they see is proved only when the whole is.
///
/// # Errors
///
/// The first bad place.
pub fn verify(
    trail: Trail<'_>,
    visit: &mut dyn FnMut(Visited<'_>),
    progress: &mut dyn FnMut(usize),
) -> Result<Report, NotWhole> {
    let mut walk = Walk::begin(trail)?;
    match walk.walk_on(visit, progress) {
        Ok(()) => Ok(walk.report()),
        Err(NotWhole::Fault(fault)) => Err(walk.known(fault, walk.log.segment()).into()),
        Err(error) => Err(error),
    }
}

/// The edge from which a trail can be read: empty, or that of the records which were deleted.
///
/// # Errors
///
/// When the folder says nothing of its beginning.
pub fn beginning(trail: Trail<'_>) -> Result<Edge, NotWhole> {
    Ok(Walk::begin(trail)?.log.edge().clone())
}

struct Walk<'a> {
    trail: Trail<'a>,
    manifest: Vec<Closed>,
    /// The last record that the manifest told of at the beginning.
    told: u64,
    log: Log,
    first: u64,
    times: Option<(Time, Time)>,
    segments: usize,
    checkpoints: u64,
    newest: Option<(Checkpoint, String)>,
    outside: Option<Checkpoint>,
    /// What retention says that it deleted.
    deletions: Vec<Deletion>,
    last: Option<(Time, Option<Event>)>,
    /// Whether a gateway ended and none began since.
    is_stopped: bool,
    /// The time of the first record that no checkpoint covers.
    unsigned_since: Option<Time>,
    torn: usize,
    /// Bytes behind the last whole checkpoint.
    torn_checkpoint: usize,
}

#[derive(Debug, Deserialize)]
struct Event {
    name: Option<String>,
    detail: Option<String>,
    count: Option<u64>,
}

/// What a record says of segments that retention deleted.
#[derive(Debug, Clone, Copy)]
struct Deletion {
    /// The record.
    sequence: u64,
    /// The last record that was deleted.
    last: u64,
    /// Of the manifest's lines up to that one.
    lines: Hash,
}

impl<'a> Walk<'a> {
    fn begin(trail: Trail<'a>) -> Result<Self, NotWhole> {
        let mut walk = Self {
            trail,
            manifest: Vec::new(),
            told: 0,
            log: Log::empty(),
            first: 1,
            times: None,
            segments: 0,
            checkpoints: 0,
            newest: None,
            outside: None,
            deletions: Vec::new(),
            last: None,
            is_stopped: false,
            unsigned_since: None,
            torn: 0,
            torn_checkpoint: 0,
        };
        if let Some((note, name)) = trail.outside {
            let checkpoint = Checkpoint::verify(note, trail.keys);
            walk.outside = Some(checkpoint.map_err(|error| fault(name, error))?);
        }
        walk.manifest = walk.read_manifest()?;
        walk.told = walk.manifest.last().map_or(0, |closed| closed.last);
        let segments = walk.list()?;
        let Some(first) = segments.first() else {
            let name = trail.directory.display().to_string();
            return Err(fault(&name, "holds no segment of a trail").into());
        };
        if first.first > 1 {
            walk.skip_deleted(first.first)?;
        }
        Ok(walk)
    }

    /// Takes the manifest's word for the records that retention deleted, as far as it is signed.
    fn skip_deleted(&mut self, first: u64) -> Result<(), NotWhole> {
        let deleted: Vec<Closed> =
            self.manifest.iter().filter(|closed| closed.last < first).cloned().collect();
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

    fn walk_on(
        &mut self,
        visit: &mut dyn FnMut(Visited<'_>),
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), NotWhole> {
        // A trail that is being written goes on meanwhile: this is what there is now.
        let segments = self.list()?;
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
                Some((first, false)) => {
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
                    self.checkpoints += 1;
                    self.newest = Some((checkpoint, note));
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
        let event = (head.kind == Kind::Event).then(|| event(line)).flatten();
        match event.as_ref().and_then(|event| event.name.as_deref()) {
            Some("stop") => self.is_stopped = true,
            Some("start") => self.is_stopped = false,
            None if self.is_stopped => return false,
            _ => {}
        }
        if let Some(event) = &event {
            self.deletions.extend(event.deletion(head.sequence));
        }
        self.log.push(&head, leaf, line.len() + 1);
        let (from, to) = self.times.unwrap_or((head.time, head.time));
        self.times = Some((from.min(head.time), to.max(head.time)));
        self.unsigned_since.get_or_insert(head.time);
        self.last = Some((head.time, event));
        true
    }

    fn compare_outside(&self) -> Result<(), Fault> {
        let Some(outside) = &self.outside else { return Ok(()) };
        if outside.size != self.log.size() || outside.root == self.log.edge().root() {
            return Ok(());
        }
        let name = self.trail.outside.map_or("", |(_, name)| name);
        let what = format!(
            "records 1 to {} are not those that this checkpoint was made of: the trail was \
             rewritten",
            outside.size
        );
        Err(fault(name, what))
    }

    /// The checkpoints of a segment in their row.
    fn checkpoints_of(
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

    /// Compares a closed segment with its line in the manifest.
    fn close(&mut self, segment: &SegmentFile, is_line_due: bool) -> Result<(), NotWhole> {
        let name = file_name(segment);
        self.expect_no_torn_end(segment.first)?;
        let Some((_, note)) = self.newest.clone().filter(|(it, _)| it.size == self.log.size())
        else {
            return Err(fault(&name, "is closed, and its last checkpoint is missing").into());
        };
        let computed = self.log.close(note);
        if !self.manifest.iter().any(|closed| closed.first == segment.first) {
            self.manifest = self.read_manifest()?;
        }
        let what = match self.manifest.iter().find(|closed| closed.first == segment.first) {
            Some(closed) if *closed == computed => return Ok(()),
            Some(_) => format!("its line for {} is not what the segment says", computed.segment),
            None if is_line_due => format!("has no line for {}, which is closed", computed.segment),
            None => return Ok(()),
        };
        Err(fault(folder::MANIFEST, what).into())
    }

    /// Whether anything was written to a segment or its checkpoints.
    fn is_begun(&self, segment: &SegmentFile) -> bool {
        let checkpoints = folder::checkpoints(self.trail.directory, segment.first);
        !is_empty(&segment.path) || (checkpoints.exists() && !is_empty(&checkpoints))
    }

    /// The last record of a segment says that there is a next one.
    fn expect_next(&self, segment: &SegmentFile) -> Result<(), NotWhole> {
        let wanted = self.log.size() + 1;
        if self.list()?.iter().any(|segment| segment.first == wanted) {
            return Ok(());
        }
        let name = file_name(segment);
        let what = format!("is missing: the last record of {name} says that it is the next");
        Err(fault(&segment_name(wanted), what).into())
    }

    fn conclude(&self) -> Result<(), NotWhole> {
        let (size, newest) = (self.log.size(), segment_name(self.log.segment()));
        if self.told > size {
            let what =
                format!("tells of records up to the last one's segment, which ends at {size}");
            return Err(fault(folder::MANIFEST, what).into());
        }
        let is_signed = self.signed() == size;
        // It says so when it has signed everything, and not when it was killed before.
        let lock = folder::read(&self.trail.directory.join(folder::LOCK));
        let says_so = lock.is_ok_and(|lock| lock == STOPPED.as_bytes());
        if says_so && self.ends_with("stop") {
            self.expect_no_torn_end(self.log.segment())?;
            if !is_signed {
                let what = "ends with a stop, and the checkpoint after it is missing";
                return Err(fault(&newest, what).into());
            }
        }
        if let (Some(since), Some((last, _))) = (self.unsigned_since, &self.last)
            && last.since(since) > UNSIGNED
        {
            let what = format!(
                "has no checkpoint after record {}, though one is made every second",
                self.signed()
            );
            return Err(fault(&newest, what).into());
        }
        self.account_for_deleted()?;
        if let (Some(outside), Some((_, name))) = (&self.outside, self.trail.outside) {
            if outside.size > size {
                let what = format!(
                    "was made of {} records, and the trail has {size}: it was cut",
                    outside.size
                );
                return Err(fault(name, what).into());
            }
            if outside.size + 1 < self.first {
                let what = format!(
                    "was made of records 1 to {}, and those before {} were deleted: it can't be \
                     checked",
                    outside.size, self.first
                );
                return Err(fault(name, what).into());
            }
        }
        Ok(())
    }

    /// What a crash left at a segment's end, the next start sets aside.
    fn expect_no_torn_end(&self, first: u64) -> Result<(), Fault> {
        let checkpoints = folder::checkpoints(self.trail.directory, first);
        let checkpoints = checkpoints.file_name().unwrap_or_default().to_string_lossy();
        for (place, what, torn) in [
            (segment_name(first).as_str(), "line", self.torn),
            (checkpoints.as_ref(), "checkpoint", self.torn_checkpoint),
        ] {
            if torn > 0 {
                return Err(fault(
                    place,
                    format_args!("ends with {torn} bytes that are no whole {what}"),
                ));
            }
        }
        Ok(())
    }

    /// What is not there must be what retention says, in a signed record, that it deleted; and the
    /// manifest must say of it what it said then.
    fn account_for_deleted(&self) -> Result<(), Fault> {
        let signed = self.signed();
        let signed = self.deletions.iter().filter(|deletion| deletion.sequence <= signed);
        let newest = signed.max_by_key(|deletion| deletion.last);
        let deleted = newest.map_or(0, |deletion| deletion.last);
        if deleted < self.first - 1 {
            let missing = deleted + 1;
            let is_its = |closed: &&Closed| (closed.first..=closed.last).contains(&missing);
            let name = self.manifest.iter().find(is_its).map_or("", |closed| &closed.segment);
            let fault = fault(name, "is missing, and no record says that retention deleted it");
            return Err(self.known(fault, missing));
        }
        if let Some(Deletion { sequence, last, lines }) = newest.copied()
            && hash_of_lines(self.manifest.iter().filter(|closed| closed.last <= last)) != lines
        {
            let what = format!(
                "says of the records up to {last} something else than when they were deleted, as \
                 record {sequence} tells"
            );
            return Err(fault(folder::MANIFEST, what));
        }
        Ok(())
    }

    fn report(self) -> Report {
        Report {
            first: self.first,
            last: self.log.size(),
            times: self.times,
            segments: self.segments,
            checkpoints: self.checkpoints,
            pending: self.log.pending().len(),
            newest: self.newest,
            torn: self.torn,
        }
    }

    /// A fault at a record, with what the gateway itself knows of it.
    fn known(&self, fault: Fault, record: u64) -> Fault {
        let its = self.manifest.iter().find(|it| (it.first..=it.last).contains(&record));
        match its.and_then(|closed| closed.lost.as_ref()) {
            None => fault,
            Some(lost) => {
                Fault { what: format!("{}; the gateway noticed then: {lost}", fault.what), ..fault }
            }
        }
    }

    fn ends_with(&self, name: &str) -> bool {
        let event = self.last.as_ref().and_then(|(_, event)| event.as_ref()?.name.as_deref());
        event == Some(name)
    }

    fn signed(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size)
    }

    fn list(&self) -> Result<Vec<SegmentFile>, NotWhole> {
        let path = self.trail.directory.to_owned();
        folder::segments(&path).map_err(|error| NotWhole::Io { path, error })
    }

    fn read_manifest(&self) -> Result<Vec<Closed>, NotWhole> {
        let path = self.trail.directory.join(folder::MANIFEST);
        match manifest(self.trail.directory) {
            Ok((closed, _)) => Ok(closed),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(fault(folder::MANIFEST, error).into())
            }
            Err(error) => Err(NotWhole::Io { path, error }),
        }
    }
}

fn fault(place: &str, what: impl fmt::Display) -> Fault {
    Fault { place: place.to_owned(), what: what.to_string() }
}

fn file_name(segment: &SegmentFile) -> String {
    segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0)
}

impl Event {
    fn deletion(&self, sequence: u64) -> Option<Deletion> {
        let is_deletion = self.name.as_deref() == Some("segments_deleted");
        let lines = Hash::parse(self.detail.as_ref().filter(|_| is_deletion)?.rsplit(' ').next()?)?;
        Some(Deletion { sequence, last: self.count?, lines })
    }
}

fn event(line: &[u8]) -> Option<Event> {
    #[derive(Deserialize)]
    struct Record {
        event: Event,
    }
    serde_json::from_slice::<Record>(line).ok().map(|record| record.event)
}
