//! Going through segments: only the lines that hold a text are decoded, and what is no record, or
//! is not there, is counted on the way.

use std::fmt::{self, Display};

use memchr::memmem::Finder;

use crate::audit::entry::Record;
use crate::audit::folder::{SegmentFile, segment_name};
use crate::audit::line::Head;
use crate::audit::log::Closed;
use crate::audit::reader::{Blocks, ReadError, lines, map_parts};

/// What was noticed to be wrong with a trail while it was searched. That nothing was noticed proves
/// nothing: whoever wants that verifies it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    unreadable: u64,
    /// What is not there, or too much, in words.
    faults: Vec<String>,
}

impl Damage {
    /// The closed segments that are not there. What retention deletes, it deletes from the
    /// beginning.
    pub(super) fn of_row(closed: &[Closed], segments: &[SegmentFile]) -> Self {
        let oldest = segments.first().map_or(0, |segment| segment.first);
        let is_there = |first| segments.binary_search_by_key(&first, |it| it.first).is_ok();
        let missing = closed.iter().filter(|it| it.first > oldest && !is_there(it.first));
        let missing = missing.map(|it| format!("{} is missing", segment_name(it.first)));
        Self { unreadable: 0, faults: missing.collect() }
    }

    /// Whether nothing was noticed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unreadable = match self.unreadable {
            0 => None,
            1 => Some("1 line is no record".to_owned()),
            number => Some(format!("{number} lines are no records")),
        };
        let said: Vec<String> = unreadable.into_iter().chain(self.faults.clone()).collect();
        write!(formatter, "damaged: {}; run audit verify", said.join(", "))
    }
}

/// Looks for records.
pub(super) struct Search<'a> {
    /// A text that the line of every record sought holds.
    pub(super) needle: Option<String>,
    pub(super) fits: &'a (dyn Fn(&Record) -> bool + Sync),
    pub(super) damage: Damage,
}

impl Search<'_> {
    /// Gives the records of a segment that fit, a block's at a time, in their order, until there
    /// are enough. All its lines should be those of the records before `end`, if that is known.
    pub(super) fn read(
        &mut self,
        segment: &SegmentFile,
        end: Option<u64>,
        give: &mut dyn FnMut(Vec<Record>) -> bool,
    ) -> Result<(), ReadError> {
        let failed = ReadError::io(&segment.path);
        let finder = self.needle.as_ref().map(|needle| Finder::new(needle.as_bytes()));
        let mut blocks = Blocks::open(segment).map_err(&failed)?;
        let mut next = segment.first;
        while let Some(block) = blocks.next().map_err(&failed)? {
            let parts = map_parts(block, |part| {
                let (mut found, mut number, mut unreadable) = (Vec::new(), 0, 0);
                for line in lines(part) {
                    let is_sought = finder.as_ref().is_none_or(|it| it.find(line).is_some());
                    let record = if is_sought { Record::parse(line) } else { None };
                    let is_begun = Head::parse(line).is_some() && line.ends_with(b"}");
                    number += 1;
                    unreadable += u64::from(!is_begun || is_sought && record.is_none());
                    found.extend(record.filter(self.fits));
                }
                (found, number, unreadable)
            });
            let mut all = Vec::new();
            for (found, number, unreadable) in parts {
                next += number;
                self.damage.unreadable += unreadable;
                all.extend(found);
            }
            if !give(all) {
                return Ok(());
            }
        }
        let Some(end) = end else { return Ok(()) };
        self.damage.unreadable += u64::from(!blocks.rest().is_empty());
        if next != end {
            let (name, lines, wanted) =
                (segment_name(segment.first), next - segment.first, end - segment.first);
            self.damage.faults.push(format!("{name} has {lines} of {wanted} lines"));
        }
        Ok(())
    }
}
