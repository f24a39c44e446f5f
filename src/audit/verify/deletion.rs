//! What events say of records that are not there, or that nobody had signed.

use std::ops::RangeInclusive;

use serde::Deserialize;

/// What an event says.
#[derive(Debug, Deserialize)]
pub(in crate::audit) struct Event {
    pub(in crate::audit) name: Option<String>,
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
}

impl Event {
    pub(in crate::audit) fn of_line(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            event: Event,
        }
        serde_json::from_slice::<Record>(line).ok().map(|record| record.event)
    }

    pub(super) fn deletion(&self, sequence: u64) -> Option<Deletion> {
        let last = self.count.filter(|_| self.name.as_deref() == Some("segments_deleted"))?;
        Some(Deletion { sequence, last })
    }

    /// The records that a gateway found unsigned when it started: `records 7 to 9 were …`.
    pub(super) fn adopted(&self) -> Option<RangeInclusive<u64>> {
        let detail = self.detail.as_ref();
        let detail = detail.filter(|_| self.name.as_deref() == Some("unsigned_adopted"))?;
        let mut words = detail.split(' ').skip(1).step_by(2);
        Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_adopted_is_read_from_its_words() {
        let detail = "records 7 to 9 were under no checkpoint at the start";
        let event = |name: &str| Event {
            name: Some(name.to_owned()),
            detail: Some(detail.to_owned()),
            count: Some(3),
        };
        assert_eq!(event("unsigned_adopted").adopted(), Some(7..=9));
        assert_eq!(event("start").adopted(), None);
    }
}
