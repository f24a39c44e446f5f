//! Checkpoints (C2SP `tlog-checkpoint`): the tree's size and root, as a signed note.
//!
//! One extension line says after which size the one before was made, so that none can be taken out
//! of their row unnoticed, and none put in.

use super::note::{Keys, Note, NoteError, Signer};
use super::tree::Hash;

const PREVIOUS: &str = "previous-size ";

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
        let text = Note::parse(note)?.verify(keys)?;
        Self::parse(text).ok_or(NoteError::Malformed)
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

/// The notes in a file of them, one after the other, each with one signature. What is no note is
/// one that can't be read.
pub(super) fn notes(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let signature = rest.find("\n\n").map_or(rest.len(), |end| end + 2);
        let end = rest.get(signature..)?.find('\n').map_or(rest.len(), |end| signature + end + 1);
        let (note, after) = rest.split_at_checked(end).filter(|(note, _)| !note.is_empty())?;
        rest = after;
        Some(note)
    })
}
