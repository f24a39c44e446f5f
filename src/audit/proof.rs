//! Evidence for one request that stands alone: its records, their inclusion proofs, and the
//! checkpoint that they lead to.
//!
//! Whoever has the public key can check it without this program. For each record: the SHA-256 of a
//! zero byte and the line is the leaf (RFC 6962); the hashes of `inclusion` lead from it to the
//! root (RFC 9162, section 2.1.3.2), the leaf's index being its sequence less one; and that root is
//! the third line of the checkpoint, a signed note (C2SP) whose text is what the key has signed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checkpoint::Checkpoint;
use super::entry::Record;
use super::line::Head;
use super::note::{Keys, NoteError};
use super::tree::{Hash, Path, root_of_proof};
use super::verify::{NotWhole, Trail, Visited, beginning, verify};

/// The evidence's form and its version.
const FORMAT: &str = "cms-gateway/evidence/1";

/// Evidence for one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// `cms-gateway/evidence/1`
    pub format: String,
    /// The request.
    pub request_id: Uuid,
    /// The signed head of the tree that holds its records.
    pub checkpoint: String,
    /// The records, in their order.
    pub records: Vec<Proved>,
}

/// A record and the way from it to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proved {
    /// Its number; the leaf's index is one less.
    pub sequence: u64,
    /// Its line, letter by letter, without its line feed.
    pub line: String,
    /// The hashes from its sibling to the root's child.
    pub inclusion: Vec<Hash>,
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The trail itself is not whole, or can't be read.
    #[error(transparent)]
    NotWhole(#[from] NotWhole),
    /// There is nothing to prove.
    #[error("no record of request {0} is in the trail")]
    NoRecord(Uuid),
    /// It is too new.
    #[error("record {0} is under no checkpoint yet; one is made every second while it runs")]
    Unsigned(u64),
}

/// Why evidence is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvidence {
    /// It is something else.
    #[error("is not evidence of the form {FORMAT}: {0}")]
    Malformed(String),
    /// Its checkpoint is not accepted.
    #[error("its checkpoint {0}")]
    Checkpoint(#[from] NoteError),
    /// A record is not what it says.
    #[error("the line of record {0} is not a record of this request with this sequence")]
    Record(u64),
    /// A record stands there twice, or they are not in their order.
    #[error("record {0} does not come after the one before it")]
    OutOfOrder(u64),
    /// A record is not under the checkpoint.
    #[error("record {0} is not in the tree of the checkpoint")]
    NotIncluded(u64),
}

/// Makes the evidence for a request out of a whole trail.
///
/// # Errors
///
/// When the trail is not whole, or has no signed record of the request.
pub fn prove(
    trail: Trail<'_>,
    request_id: Uuid,
    progress: &mut dyn FnMut(usize),
) -> Result<Evidence, ProveError> {
    // Once to find the records and the newest checkpoint, once for the way from them to it.
    let mut found = Vec::new();
    let mut find = |visited: Visited<'_>| {
        if visited.head.request_id == Some(request_id) {
            found.push((visited.head.sequence, visited.line.to_vec()));
        }
    };
    let report = verify(trail, &mut find, progress)?;
    let newest = report.newest.ok_or(ProveError::Unsigned(1))?;
    let (size, checkpoint) = (newest.0.size, newest.1);
    if found.is_empty() {
        return Err(ProveError::NoRecord(request_id));
    }
    let known = beginning(trail)?;
    let mut paths = Vec::new();
    for (sequence, line) in found {
        let path = Path::new(sequence - 1, size, &known).ok_or(ProveError::Unsigned(sequence))?;
        paths.push((sequence, line, path));
    }
    let mut walk = |visited: Visited<'_>| {
        if visited.head.sequence <= size {
            paths.iter_mut().for_each(|(.., path)| path.push(visited.leaf));
        }
    };
    verify(trail, &mut walk, progress)?;
    let records = paths.into_iter().map(|(sequence, line, path)| Proved {
        sequence,
        line: String::from_utf8_lossy(&line).into_owned(),
        inclusion: path.proof(),
    });
    let records = records.collect();
    Ok(Evidence { format: FORMAT.to_owned(), request_id, checkpoint, records })
}

/// Accepts evidence, and gives the checkpoint that it leads to, or refuses it. It proves of each
/// of its records that it is in the log; not that the log has no other of this request.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(evidence: &[u8], keys: &Keys) -> Result<(Evidence, Checkpoint), BadEvidence> {
    let malformed = |error: serde_json::Error| BadEvidence::Malformed(error.to_string());
    let evidence: Evidence = serde_json::from_slice(evidence).map_err(malformed)?;
    if evidence.format != FORMAT || evidence.records.is_empty() {
        return Err(BadEvidence::Malformed("another form, or no record".to_owned()));
    }
    let checkpoint = Checkpoint::verify(&evidence.checkpoint, keys)?;
    let mut before = 0;
    for Proved { sequence, line, inclusion } in &evidence.records {
        if std::mem::replace(&mut before, *sequence) >= *sequence {
            return Err(BadEvidence::OutOfOrder(*sequence));
        }
        let head = Head::parse(line.as_bytes()).filter(|head| {
            head.sequence == *sequence && head.request_id == Some(evidence.request_id)
        });
        let head = head.ok_or(BadEvidence::Record(*sequence))?;
        let leaf = Hash::of_leaf(line.as_bytes());
        let index = head.sequence.checked_sub(1).ok_or(BadEvidence::Record(0))?;
        if root_of_proof(leaf, index, checkpoint.size, inclusion) != Some(checkpoint.root) {
            return Err(BadEvidence::NotIncluded(*sequence));
        }
    }
    Ok((evidence, checkpoint))
}

/// What an answer's `Audit-Record` says: the log, the record, its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The log.
    pub origin: String,
    /// The record's number.
    pub sequence: u64,
    /// Its leaf.
    pub leaf: Hash,
}

/// What a whole trail has of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The record.
    Record {
        /// Its line.
        line: String,
        /// Whether a checkpoint covers it.
        is_signed: bool,
    },
    /// Another record in its place.
    OtherRecord,
    /// This log, and not the receipt's.
    OtherLog(String),
    /// Its last record, which is before the receipt's.
    EndsAt(u64),
    /// Its first record, which is after the receipt's; those before it were deleted.
    BeginsAt(u64),
}

impl Receipt {
    /// Reads a receipt.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split_whitespace();
        let (origin, sequence, leaf) = (parts.next()?, parts.next()?, parts.next()?);
        let number: u64 = sequence.parse().ok()?;
        let receipt =
            Self { origin: origin.to_owned(), sequence: number, leaf: Hash::parse(leaf)? };
        // As receipts have it: from 1, without a sign or a leading zero.
        let is_plain = number > 0 && number.to_string() == sequence;
        (is_plain && parts.next().is_none()).then_some(receipt)
    }
}

/// What a trail has of a receipt.
///
/// # Errors
///
/// When the trail is not whole.
pub fn find_receipt(
    trail: Trail<'_>,
    receipt: &Receipt,
    progress: &mut dyn FnMut(usize),
) -> Result<Found, NotWhole> {
    let mut found = None;
    let mut visit = |visited: Visited<'_>| {
        if visited.head.sequence == receipt.sequence {
            found = Some((visited.leaf, String::from_utf8_lossy(visited.line).into_owned()));
        }
    };
    let report = verify(trail, &mut visit, progress)?;
    let newest = report.newest.as_ref().map(|(newest, _)| newest);
    // A log has another origin since its gateway was given another name; each record says which
    // name was its gateway's.
    let origin = match found.as_ref().and_then(|(_, line)| Record::parse(line.as_bytes())) {
        Some(record) => Some(format!("cms-gateway/{}", record.gateway.instance)),
        None => newest.map(|newest| newest.origin.clone()),
    };
    if let Some(origin) = origin.filter(|origin| *origin != receipt.origin) {
        return Ok(Found::OtherLog(origin));
    }
    Ok(match found {
        Some((leaf, line)) if leaf == receipt.leaf => {
            let is_signed = newest.is_some_and(|newest| receipt.sequence <= newest.size);
            Found::Record { line, is_signed }
        }
        Some(_) => Found::OtherRecord,
        None if receipt.sequence < report.first => Found::BeginsAt(report.first),
        None => Found::EndsAt(report.last),
    })
}
