//! Checkpoints (C2SP `tlog-checkpoint`): the tree's size and root, as a signed note.
//!
//! One extension line says after which size the one before was made, so that none can be taken out
//! of their row unnoticed, and none put in.

use std::time::Duration;

use super::note::{Keys, Note, NoteError, Signer};
use super::tree::Hash;

const PREVIOUS: &str = "previous-size ";

/// Longer than this no record is without a checkpoint while the gateway runs.
pub(super) const UNSIGNED: Duration = Duration::from_secs(10);

/// What the head of the tree was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log this is: `cms-gateway/<instance>`.
    pub origin: String,
    /// How many records it has; the last one's sequence.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// The size of the checkpoint before; 0 for the first.
    pub previous: u64,
}

impl Checkpoint {
    /// The signed note.
    #[must_use]
    pub fn sign(&self, signer: &Signer) -> String {
        let Self { origin, size, root, previous } = self;
        signer.sign(&format!("{origin}\n{size}\n{root}\n{PREVIOUS}{previous}\n"))
    }

    /// Reads a signed note that a trusted key has signed.
    ///
    /// # Errors
    ///
    /// When it is not one, or is no checkpoint of this program's.
    pub fn verify(note: &str, keys: &Keys) -> Result<Self, NoteError> {
        let (text, name) = Note::parse(note)?.verify(keys)?;
        Self::parse(text).filter(|it| it.origin == name).ok_or(NoteError::Malformed)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
        let size = number(lines.next()?)?;
        let root = Hash::parse(lines.next()?)?;
        let previous = number(lines.next()?.strip_prefix(PREVIOUS)?)?;
        lines.next().is_none().then_some(Self { origin, size, root, previous })
    }
}

/// A decimal number as the format has it: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The notes in a file of them, one after the other, each with one signature, and how many of its
/// bytes they are: fewer than all when the last one is torn.
pub(super) fn notes(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut notes, mut start) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(start..)
        && let Some(text) = memchr::memmem::find(rest, b"\n\n")
        && let Some(signature) = rest.get(text + 2..)
        && let Some(end) = memchr::memchr(b'\n', signature)
    {
        let length = text + 2 + end + 1;
        notes.extend(rest.get(..length));
        start += length;
    }
    (notes, start)
}
