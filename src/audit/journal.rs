//! The durable writer: one thread that owns the folder, and a queue before it.
//!
//! Group commit: whatever waits in the queue is written and synced together, at once. While one
//! flush runs the next ones gather, so many callers share a flush and a single one never waits for
//! a timer. When writing fails, whoever waits is told; the writer then tries again whenever a
//! record comes, and by itself every [`PROBE`], so that service resumes without a hand.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use super::record::{Event, Gateway, Kind, Record};
use super::segment::{AppendError, Opened, Segment};
use crate::config::{self, Durability};
use crate::telemetry::Metrics;

/// How often a writer that fails tries by itself.
const PROBE: Duration = Duration::from_millis(250);
/// The most records of one flush.
const LARGEST_BATCH: usize = 1024;
/// The most records that are kept while nothing can be written. Since nothing is forwarded then,
/// they are the outcomes of what was in flight, and a few events.
const MOST_OWED: usize = 16 << 10;

/// The way to the writer.
#[derive(Debug)]
pub(super) struct Journal {
    queue: SyncSender<Entry>,
    failure: Arc<ArcSwapOption<String>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

/// The trail can't be written at the moment.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit trail can't be written: {0}")]
pub struct Unavailable(Arc<String>);

/// Why a trail can't be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder has a writer.
    #[error("audit.directory: {0}")]
    Busy(io::Error),
    /// The writer's thread can't be started.
    #[error("the audit trail's writer can't be started: {0}")]
    Thread(io::Error),
}

enum Entry {
    Record { kind: Kind, line: Vec<u8>, done: Option<oneshot::Sender<Result<(), Unavailable>>> },
    Close,
}

impl Journal {
    pub(super) fn open(
        settings: &config::Audit,
        gateway: Gateway,
        most: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let failure = Arc::new(ArcSwapOption::empty());
        let mut writer = Writer {
            directory: settings.directory.clone(),
            durability: settings.durability,
            gateway,
            segment: None,
            sequence: 1,
            owed: VecDeque::new(),
            buffer: Vec::new(),
            failure: Arc::clone(&failure),
            metrics: Arc::clone(&metrics),
        };
        match writer.open_segment(true) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(OpenError::Busy(error));
            }
            Err(error) => writer.fail(&error),
            Ok(()) => {}
        }
        let (queue, entries) = sync_channel(most);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let handle = thread.spawn(move || writer.run(&entries)).map_err(OpenError::Thread)?;
        Ok(Self { queue, failure, writer: Mutex::new(Some(handle)), metrics })
    }

    pub(super) fn failure(&self) -> Option<Arc<String>> {
        self.failure.load_full()
    }

    /// Writes a line and waits until it is durable.
    pub(super) async fn append(&self, kind: Kind, line: Vec<u8>) -> Result<(), Unavailable> {
        let (done, waiting) = oneshot::channel();
        self.push(Entry::Record { kind, line, done: Some(done) })?;
        waiting.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Writes a line, soon.
    pub(super) fn leave(&self, kind: Kind, line: Vec<u8>) {
        if self.push(Entry::Record { kind, line, done: None }).is_err() {
            self.metrics.audit_failures.inc();
        }
    }

    fn push(&self, entry: Entry) -> Result<(), Unavailable> {
        self.metrics.audit_queue_depth.inc();
        self.queue.try_send(entry).map_err(|_| {
            self.metrics.audit_queue_depth.dec();
            Unavailable(Arc::new("its queue is full".to_owned()))
        })
    }

    /// Writes what is in the queue and ends the writer.
    pub(super) async fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let queue = self.queue.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let _ = queue.send(Entry::Close);
            writer.map(JoinHandle::join)
        });
        if !matches!(joined.await, Ok(Some(Ok(())))) {
            tracing::error!("the audit trail's writer did not end as it should");
        }
    }
}

fn gone() -> Unavailable {
    Unavailable(Arc::new("its writer has ended".to_owned()))
}

struct Writer {
    directory: PathBuf,
    durability: Durability,
    gateway: Gateway,
    segment: Option<Segment>,
    /// Of the next record.
    sequence: u64,
    /// Lines that could not be written and must not be lost.
    owed: VecDeque<(Kind, Vec<u8>)>,
    buffer: Vec<u8>,
    failure: Arc<ArcSwapOption<String>>,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        let mut batch = Vec::new();
        let mut is_open = true;
        while is_open {
            let first = if self.failure.load().is_some() {
                entries.recv_timeout(PROBE)
            } else {
                entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut next = match first {
                Ok(entry) => Some(entry),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            while let Some(entry) = next {
                self.metrics.audit_queue_depth.dec();
                match entry {
                    Entry::Record { kind, line, done } => batch.push((kind, line, done)),
                    Entry::Close => is_open = false,
                }
                next = if batch.len() < LARGEST_BATCH { entries.try_recv().ok() } else { None };
            }
            let written = self.commit(&batch);
            for (kind, line, done) in batch.drain(..) {
                if written.is_err() && matches!(kind, Kind::Outcome | Kind::Event) {
                    self.owe(kind, line);
                }
                if let Some(done) = done {
                    // Whoever has stopped waiting needs no answer.
                    let _ = done.send(written.clone());
                }
            }
        }
    }

    /// Writes all of the batch or, with the reason noted, none of it.
    fn commit(&mut self, batch: &[Pending]) -> Result<(), Unavailable> {
        let started = Instant::now();
        let result = self.write(batch);
        match result {
            Ok(()) => {
                self.metrics.audit_flush_duration.observe(started.elapsed().as_secs_f64());
                if self.failure.swap(None).is_some() {
                    tracing::info!("the audit trail is written again");
                }
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(Unavailable(Arc::new(error.to_string())))
            }
        }
    }

    fn write(&mut self, batch: &[Pending]) -> io::Result<()> {
        if self.segment.is_none() {
            self.open_segment(false)?;
        }
        if self.failure.load().is_some() && self.owed.len() < MOST_OWED {
            let reason = self.failure.load_full().map_or_else(String::new, |it| it.to_string());
            let event = Event::new("audit_resumed").detail(reason);
            let line = Record::of_event(&self.gateway, event).encode();
            self.owed.push_front((Kind::Event, line));
        }
        let owed = mem::take(&mut self.owed);
        let lines = || {
            let owed = owed.iter().map(|(kind, line)| (*kind, line));
            owed.chain(batch.iter().map(|(kind, line, _)| (*kind, line)))
        };
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        let mut sequence = self.sequence;
        for (_, line) in lines() {
            let time = humantime::format_rfc3339_micros(SystemTime::now());
            let members = line.get(1..).unwrap_or_default();
            write!(buffer, "{{\"time\":\"{time}\",\"sequence\":{sequence},")?;
            buffer.extend_from_slice(members);
            sequence += 1;
        }
        let appended = match &mut self.segment {
            None => Err(AppendError::Undone(io::Error::other("no segment is open"))),
            Some(_) if buffer.is_empty() => Ok(()),
            Some(segment) => segment.append(&buffer, self.durability),
        };
        buffer.shrink_to(1 << 20);
        self.buffer = buffer;
        match appended {
            Ok(()) => {
                for (kind, _) in lines() {
                    self.metrics.audit_records.with_label_values(&[kind.name()]).inc();
                }
                self.sequence = sequence;
                Ok(())
            }
            Err(error) => {
                self.owed = owed;
                // The note of resuming was premature; the next try makes its own.
                if self.failure.load().is_some() {
                    self.owed.pop_front();
                }
                Err(match error {
                    AppendError::Undone(error) => error,
                    AppendError::Lost(error) => {
                        self.segment = None;
                        // Numbers that may be on disk are not given twice.
                        self.sequence = sequence;
                        error
                    }
                })
            }
        }
    }

    fn open_segment(&mut self, may_make: bool) -> io::Result<()> {
        let Opened { segment, sequence, torn } =
            Segment::open(&self.directory, may_make, self.sequence)?;
        self.segment = Some(segment);
        self.sequence = sequence;
        if let Some(aside) = torn {
            let detail = format!("a torn last line was set aside in {}", aside.display());
            tracing::warn!("audit trail: {detail}");
            let event = Event::new("torn_line_set_aside").detail(detail);
            self.owe(Kind::Event, Record::of_event(&self.gateway, event).encode());
        }
        Ok(())
    }

    fn owe(&mut self, kind: Kind, line: Vec<u8>) {
        if self.owed.len() < MOST_OWED {
            self.owed.push_back((kind, line));
        } else {
            tracing::error!("an audit record is lost: too many could not be written");
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.metrics.audit_failures.inc();
        let reason = error.to_string();
        if self.failure.load().as_deref() != Some(&reason) {
            tracing::error!(reason, "the audit trail can't be written; nothing is forwarded");
            self.failure.store(Some(Arc::new(reason)));
        }
    }
}

type Pending = (Kind, Vec<u8>, Option<oneshot::Sender<Result<(), Unavailable>>>);
