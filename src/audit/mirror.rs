//! The records a second time: on standard output, for the log shippers that everyone runs, and for a
//! collector of telemetry.
//!
//! The files are the trail; these are copies. Whoever reads one too slowly loses lines of it, which
//! are counted, and never holds up a request.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;

use super::line::Time;
use super::record::Draft;
use super::writer::Entry;
use crate::telemetry::{Durable, Logs};

/// How many flushes may wait to be read.
const MOST_WAITING: usize = 64;
/// How long the last of them may take at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to standard output.
#[derive(Debug)]
pub(super) struct Mirror {
    queue: SyncSender<Vec<u8>>,
    ended: Receiver<()>,
    lost: IntCounter,
}

impl Mirror {
    pub(super) fn start(lost: IntCounter) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel::<Vec<u8>>(MOST_WAITING);
        let (end, ended) = sync_channel(1);
        let counter = lost.clone();
        let copy = move || {
            for lines in lines {
                let mut out = std::io::stdout().lock();
                if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
                    counter.inc_by(count(&lines));
                }
            }
            let _ = end.send(());
        };
        std::thread::Builder::new().name("audit-stdout".to_owned()).spawn(copy)?;
        Ok(Self { queue, ended, lost })
    }

    /// Gives whole lines.
    pub(super) fn give(&self, lines: &[u8]) {
        if self.queue.try_send(lines.to_vec()).is_err() {
            self.lost.inc_by(count(lines));
        }
    }

    /// Waits until all is out, for a while.
    pub(super) fn end(self) {
        drop(self.queue);
        let _ = self.ended.recv_timeout(PATIENCE);
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
