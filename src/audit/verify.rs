//! Whether a trail is whole: every record that was signed is there, in its order, unchanged.
//!
//! The trail is read once from its beginning, the tree is built anew, and its root is compared
//! with each checkpoint on the way, those that were kept elsewhere too. What the folder says of
//! itself (the manifest, the rows of checkpoints and segments, the last record) must agree with
//! that to the byte.

mod altered;
pub(super) mod deletion;
mod ends;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use self::walk::Walk;
use super::checkpoint::Checkpoint;
use super::folder;
use super::line::{Head, Time};
use super::note::Keys;
use super::tree::{Edge, Hash};

/// What is verified, and against what.
#[derive(Debug, Clone, Copy)]
pub struct Trail<'a> {
    /// Its folder.
    pub directory: &'a Path,
    /// Whose signatures count.
    pub keys: &'a Keys,
    /// Checkpoints that were kept elsewhere, in the order of their sizes.
    pub outside: &'a [Outside],
}

/// A checkpoint that was kept elsewhere, and in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "it says so")]
pub struct Outside {
    pub checkpoint: Checkpoint,
    pub name: String,
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
    /// The time of the last record that it covers.
    pub signed_until: Option<Time>,
    /// How many of the checkpoints that were kept elsewhere were compared; the others are of
    /// records that were deleted.
    pub compared: usize,
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

/// Tries again what failed because retention deleted the trail's beginning meanwhile.
///
/// # Errors
///
/// As the attempt.
pub fn steadily<T, E>(directory: &Path, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    const TRIES: usize = 8;
    let beginning = || folder::segments(directory).ok()?.first().map(|segment| segment.first);
    let mut before = beginning();
    let mut result = attempt();
    for _ in 1..TRIES {
        if result.is_ok() || beginning() == before {
            break;
        }
        before = beginning();
        result = attempt();
    }
    result
}

/// The edge from which a trail can be read: empty, or that of the records which were deleted.
///
/// # Errors
///
/// When the folder says nothing of its beginning.
pub fn beginning(trail: Trail<'_>) -> Result<Edge, NotWhole> {
    Ok(Walk::begin(trail)?.log.edge().clone())
}

fn fault(place: &str, what: impl fmt::Display) -> Fault {
    Fault { place: place.to_owned(), what: what.to_string() }
}
