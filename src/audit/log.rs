//! The log up to a record, as whoever writes it or reads it from its beginning knows it.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fmt, io};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use super::folder::{self, SegmentFile, segment_name};
use super::line::{Head, Time};
use super::note::{Keys, Note};
use super::record::Kind;
use super::tree::{Edge, Hash};

/// The log up to a record.
#[derive(Clone)]
pub struct Log {
    edge: Edge,
    pending: BTreeSet<Uuid>,
    segment: Extent,
}

/// What the segment has, of which the log's last record is one.
#[derive(Clone)]
struct Extent {
    first: u64,
    bytes: u64,
    times: Option<(Time, Time)>,
}

/// A closed segment: its line in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The name of its file before it was compressed.
    pub segment: String,
    /// Its first record's sequence.
    pub first: u64,
    /// Its last record's.
    pub last: u64,
    /// The earliest time in it.
    pub from: Option<Time>,
    /// The latest.
    pub to: Option<Time>,
    /// Its length before it was compressed.
    pub bytes: u64,
    /// The tree's root after its last record.
    pub root: Hash,
    /// The tree's right edge after its last record, from which the log goes on without it.
    pub edge: Vec<Hash>,
    /// The requests that have an intent and no outcome yet.
    pub pending: Vec<Uuid>,
    /// The checkpoint after its last record.
    pub checkpoint: String,
    /// Why the segment is not what it should be, if the gateway knows that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost: Option<String>,
}

impl Log {
    /// The log before its first record.
    #[must_use]
    pub fn empty() -> Self {
        Self { edge: Edge::default(), pending: BTreeSet::new(), segment: Extent::new(1) }
    }

    /// The tree's right edge; its size is the last record's sequence.
    #[must_use]
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The last record's sequence; 0 when there is none.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The requests that have an intent and no outcome.
    #[must_use]
    pub fn pending(&self) -> &BTreeSet<Uuid> {
        &self.pending
    }

    /// The first record's sequence in the segment that is written or read.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.segment.first
    }

    /// How long that segment is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segment.bytes
    }

    /// The earliest and the latest time in it.
    #[must_use]
    pub fn times(&self) -> Option<(Time, Time)> {
        self.segment.times
    }

    /// Takes the next record, whose line has this length.
    pub fn push(&mut self, head: &Head, leaf: Hash, length: usize) {
        self.edge.push(leaf);
        self.segment.bytes += length as u64;
        let times = self.segment.times.get_or_insert((head.time, head.time));
        *times = (times.0.min(head.time), times.1.max(head.time));
        if let Some(request_id) = head.request_id {
            match head.kind {
                Kind::Intent => {
                    self.pending.insert(request_id);
                }
                Kind::Outcome | Kind::Event => {
                    self.pending.remove(&request_id);
                }
                Kind::Denied => {}
            }
        }
    }

    /// Ends the segment with the checkpoint after its last record, and begins the next.
    pub fn close(&mut self, checkpoint: String) -> Closed {
        let next = Extent::new(self.size() + 1);
        let Extent { first, bytes, times } = std::mem::replace(&mut self.segment, next);
        Closed {
            segment: segment_name(first),
            first,
            last: self.size(),
            from: times.map(|(from, _)| from),
            to: times.map(|(_, to)| to),
            bytes,
            root: self.edge.root(),
            edge: self.edge.roots().to_vec(),
            pending: self.pending.iter().copied().collect(),
            checkpoint,
            lost: None,
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Log")
            .field("size", &self.size())
            .field("segment", &self.segment.first)
            .finish_non_exhaustive()
    }
}

impl Extent {
    fn new(first: u64) -> Self {
        Self { first, bytes: 0, times: None }
    }
}

impl Closed {
    /// The log after this segment and the checkpoint that proves it: the line's own, as far as a
    /// trusted key has signed it and it says of the tree what the line says.
    ///
    /// # Errors
    ///
    /// What is wrong with the line.
    pub fn proved(&self, keys: &Keys) -> Result<(Log, Checkpoint), String> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, keys)
            .map_err(|error| format!("its checkpoint {error}"))?;
        let edge = Edge::of_parts(self.last, self.edge.clone()).filter(|edge| {
            let root = edge.root();
            self.root == root && (checkpoint.size, checkpoint.root) == (self.last, root)
        });
        let log = Log {
            edge: edge.ok_or("is not what its checkpoint says")?,
            pending: self.pending.iter().copied().collect(),
            segment: Extent::new(self.last.saturating_add(1)),
        };
        Ok((log, checkpoint))
    }

    /// Its line.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(2048);
        // Strings, integers and lists of them: nothing that JSON could not hold.
        let _ = serde_json::to_writer(&mut line, self);
        line.push(b'\n');
        line
    }
}

/// The lines of a manifest, and how many of its bytes they are: fewer than all when its last line
/// is torn. No file is an empty manifest. Each line is as this program writes it, to the byte, and
/// its records come after those of the line before.
///
/// # Errors
///
/// When it can't be read, or a whole line is not one of a manifest.
pub fn manifest(directory: &Path) -> io::Result<(Vec<Closed>, u64)> {
    let text = match folder::read(&directory.join(folder::MANIFEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result?,
    };
    let (mut all, mut length, mut next) = (Vec::new(), 0, 1);
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        let fault = |what: &str| {
            let place = format!("{} line {}", folder::MANIFEST, index + 1);
            io::Error::new(io::ErrorKind::InvalidData, format!("{place} {what}"))
        };
        let closed: Closed =
            serde_json::from_slice(line).map_err(|error| fault(&format!("is none: {error}")))?;
        if closed.first != next {
            return Err(fault(&format!("begins with record {} and not {next}", closed.first)));
        }
        let is_its = closed.first <= closed.last && closed.segment == segment_name(closed.first);
        if !is_its || closed.encode() != line {
            return Err(fault("is not what a gateway writes"));
        }
        next = closed.last.checked_add(1).ok_or_else(|| fault("has no end"))?;
        length += line.len() as u64;
        all.push(closed);
    }
    Ok((all, length))
}

/// The segments of a folder in their order. One that was put in its own place compressed while the
/// folder was listed is not missed, as the manifest knows of it.
///
/// # Errors
///
/// When the folder can't be read.
pub fn segments(directory: &Path, closed: &[Closed]) -> io::Result<Vec<SegmentFile>> {
    let mut segments = folder::segments(directory)?;
    let listed: BTreeSet<u64> = segments.iter().map(|segment| segment.first).collect();
    let missed = closed.iter().filter(|closed| !listed.contains(&closed.first));
    segments.extend(missed.filter_map(|closed| folder::find(directory, closed.first)));
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// A hash over the lines of a manifest, and up to which record they are.
#[derive(Clone)]
pub struct Digest {
    hash: Context,
    last: u64,
}

impl Digest {
    /// Of no line.
    #[must_use]
    pub fn empty() -> Self {
        Self { hash: Context::new(&SHA256), last: 0 }
    }

    /// Of these lines.
    #[must_use]
    pub fn of(lines: &[Closed]) -> Self {
        let mut digest = Self::empty();
        lines.iter().for_each(|line| digest.push(line));
        digest
    }

    /// Takes the next line.
    pub fn push(&mut self, line: &Closed) {
        self.hash.update(&line.encode());
        self.last = line.last;
    }

    /// What is signed: what it is, the log, the last record, the hash.
    #[must_use]
    pub fn statement(&self, origin: &str) -> String {
        let hash = Hash::from_slice(self.hash.clone().finish().as_ref());
        format!("{STATEMENT}\n{origin}\n{}\n{hash}\n", self.last)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.statement("") == other.statement("")
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Digest").field("last", &self.last).finish_non_exhaustive()
    }
}

const STATEMENT: &str = "cms-gateway/manifest/1";

/// How many of a manifest's lines a trusted key has signed, all those up to one; none where there is
/// no signature yet.
///
/// # Errors
///
/// What is wrong with the signature.
pub fn signed_lines(directory: &Path, lines: &[Closed], keys: &Keys) -> io::Result<usize> {
    let bytes = match folder::read(&directory.join(folder::MANIFEST_SIGNATURE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        result => result?,
    };
    let fault = |what: &str| {
        let name = folder::MANIFEST_SIGNATURE;
        io::Error::new(io::ErrorKind::InvalidData, format!("{name} {what}"))
    };
    let note = str::from_utf8(&bytes).map_err(|_| fault("is not UTF-8"))?;
    let verified = Note::parse(note).and_then(|note| note.verify(keys));
    let (text, name) = verified.map_err(|error| fault(&error.to_string()))?;
    let last = text.lines().nth(2).and_then(|last| last.parse::<u64>().ok());
    let number = lines.iter().take_while(|line| last.is_some_and(|last| line.last <= last)).count();
    let signed = lines.get(..number).unwrap_or_default();
    if Digest::of(signed).statement(name) != text {
        return Err(fault("is of other lines than the manifest's"));
    }
    Ok(number)
}
