//! The records a second time: on standard output, for the log shippers that everyone runs, and for a
//! collector of telemetry.
//!
//! The files are the trail; these are copies. Whoever reads one too slowly loses lines of it, which
//! are counted, and never holds up a request.

use std::io::{self, Write};

use prometheus::IntCounter;

use super::line::Time;
use super::record::Draft;
use super::writer::Entry;
use crate::telemetry::{Durable, Inlet, Logs, Outlet};

/// How many flushes may wait to be read.
const MOST_WAITING: usize = 64;

/// The way to standard output.
#[derive(Debug)]
pub(super) struct Mirror {
    outlet: Outlet,
    inlet: Inlet,
    lost: IntCounter,
}

impl Mirror {
    pub(super) fn start(lost: IntCounter) -> io::Result<Self> {
        let counter = lost.clone();
        let outlet = Outlet::start("audit-stdout", MOST_WAITING, move |lines| {
            let mut out = io::stdout().lock();
            if out.write_all(lines).and_then(|()| out.flush()).is_err() {
                counter.inc_by(count(lines));
            }
        })?;
        Ok(Self { inlet: outlet.inlet(), outlet, lost })
    }

    /// Gives whole lines.
    pub(super) fn give(&self, lines: &[u8]) {
        if !self.inlet.give(lines) {
            self.lost.inc_by(count(lines));
        }
    }

    /// Waits until all is out, for a while.
    pub(super) fn end(self) {
        self.outlet.end();
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// Gives records, whose lines stand one behind the other, for a collector.
pub(super) fn copy<'a>(
    logs: &Logs,
    records: impl Iterator<Item = &'a Draft>,
    entries: &[(Entry, usize)],
    lines: &[u8],
    time: Time,
) {
    let mut end = 0;
    for (draft, (entry, length)) in records.zip(entries) {
        let line = lines.get(end..end + length).unwrap_or_default();
        end += length;
        logs.give(Durable {
            time,
            sequence: entry.sequence,
            kind: draft.kind,
            request_id: draft.request_id,
            span: draft.span,
            line: String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned(),
        });
    }
}
