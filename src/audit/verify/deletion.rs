//! What records say of segments that retention deleted.

use serde::Deserialize;

use crate::audit::tree::Hash;

/// What an event says.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) name: Option<String>,
    detail: Option<String>,
    count: Option<u64>,
}

/// What a record says of segments that retention deleted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletion {
    /// The record.
    pub(super) sequence: u64,
    /// The last record that was deleted.
    pub(super) last: u64,
    /// Of the manifest's lines up to that one.
    pub(super) lines: Hash,
}

impl Event {
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            event: Event,
        }
        serde_json::from_slice::<Record>(line).ok().map(|record| record.event)
    }

    pub(super) fn deletion(&self, sequence: u64) -> Option<Deletion> {
        let is_deletion = self.name.as_deref() == Some("segments_deleted");
        let lines = Hash::parse(self.detail.as_ref().filter(|_| is_deletion)?.rsplit(' ').next()?)?;
        Some(Deletion { sequence, last: self.count?, lines })
    }
}
