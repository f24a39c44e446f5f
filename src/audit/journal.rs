//! The way to the durable writer: a queue, and one thread behind it that owns the folder.
//!
//! The queue has no bound of its own, and needs none: whoever waits for a record holds one of the
//! places in flight, and events that nobody waits for are counted. So an outcome always finds room.
//!
//! Group commit: whatever waits in the queue is written and synced together. Who puts in the first
//! record waits for the end of the flush that runs, lets the tasks that are ready put in theirs for
//! as long as some do, and then wakes the writer: so many callers share a flush, and a single one
//! never waits for a timer. The writer in turn wakes one task for all that it has written, which tells
//! those who wait: to wake a task from another thread takes a system call. When writing fails, whoever waits is told; the writer then tries again
//! by itself, so that service resumes without a hand. A disk that does not answer holds nobody for
//! ever: after a while callers are refused, and what is written nevertheless is told apart from
//! what was sent.

mod queue;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{future, io};

use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use self::queue::{Queue, Ringer, Taker, queue};
use super::record::{Draft, Event, Gateway, Kind};
use super::writer::{Entry, Seen, Writer};
use crate::config;
use crate::telemetry::{Logs, Metrics};

/// The most events that wait to be written. They are few, save when nothing can be written.
const MOST_EVENTS: usize = 1024;
/// How long the disk may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the writer.
#[derive(Debug)]
pub(super) struct Journal {
    queue: Arc<Queue<Message>>,
    /// How many events are in the queue.
    events: Arc<AtomicUsize>,
    busy: Arc<Busy>,
    /// Tells those who wait that the disk does not answer.
    released: Notify,
    seen: Arc<Seen>,
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

#[derive(Debug)]
enum Message {
    Write(Draft, Option<Waiting>),
    /// The intent of this request is on disk, and its caller was refused before.
    NotSent(Uuid),
    /// The last record of all.
    Close(Draft),
}

/// Since when the writer writes.
type Busy = Mutex<Option<Instant>>;

type Waiting = oneshot::Sender<Result<Written, Unavailable>>;

/// A record that is durable, and which one it is.
pub(super) type Written = (Entry, Draft);

/// What became of a record, for the one who waits for it.
type Told = (Waiting, Result<Written, Unavailable>);

impl Journal {
    pub(super) fn open(
        settings: &config::Audit,
        gateway: Gateway,
        origin: &str,
        copy: Option<Logs>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let seen = Arc::new(Seen::default());
        let (shared, counted) = (Arc::clone(&seen), Arc::clone(&metrics));
        let writer = Writer::new(settings, origin, gateway, copy, shared, counted);
        let mut writer = writer.map_err(OpenError::Thread)?;
        match writer.open() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(OpenError::Busy(error));
            }
            Err(error) => {
                writer.fail(&error);
            }
            Ok(()) => {}
        }
        let (queue, messages) = queue();
        let events = Arc::new(AtomicUsize::new(0));
        let (thread, counted) = (std::thread::Builder::new(), Arc::clone(&metrics));
        let busy = Arc::new(Busy::default());
        let (taken, begun) = (Arc::clone(&events), Arc::clone(&busy));
        let (told, telling) = mpsc::unbounded_channel();
        tokio::spawn(tell(telling, Arc::downgrade(&queue), Arc::clone(&metrics)));
        let run = move || run(writer, &messages, &told, &taken, &begun, &counted);
        let handle = thread.name("audit".to_owned()).spawn(run).map_err(OpenError::Thread)?;
        Ok(Self {
            queue,
            events,
            busy,
            released: Notify::new(),
            seen,
            writer: Mutex::new(Some(handle)),
            metrics,
        })
    }

    pub(super) fn failure(&self) -> Option<Arc<String>> {
        self.stalled().or_else(|| self.seen.failure.load_full())
    }

    fn stalled(&self) -> Option<Arc<String>> {
        let since = *self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = since?.elapsed();
        let seconds = taken.as_secs();
        (taken > PATIENCE).then(|| Arc::new(format!("the disk has not answered for {seconds} s")))
    }

    pub(super) fn checkpoint(&self) -> Option<Arc<String>> {
        self.seen.checkpoint.load_full()
    }

    /// Writes a record and waits until it is durable, for a while. An outcome is written later all
    /// the same.
    pub(super) async fn append(&self, draft: Draft) -> Result<Written, Unavailable> {
        if let Some(reason) = self.stalled().filter(|_| draft.kind != Kind::Outcome) {
            return Err(Unavailable(reason));
        }
        let (done, mut waiting) = oneshot::channel();
        let ringer = self.push(Message::Write(draft, Some(done)))?;
        let ring = async {
            if let Some(ringer) = ringer {
                ringer.ring().await;
            }
            future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            written = &mut waiting => return written.unwrap_or_else(|_| Err(gone())),
            never = ring => match never {},
            () = self.released.notified() => {}
        }
        // From here on the writer is told that nobody waits.
        waiting.close();
        let silent = || Err(Unavailable(Arc::new("the disk does not answer".to_owned())));
        waiting.try_recv().unwrap_or_else(|_| silent())
    }

    /// Releases whoever waits for a disk that does not answer. One look a second costs less than a
    /// timer for each record.
    pub(super) fn release_if_stalled(&self) {
        if self.stalled().is_some() {
            self.released.notify_waiters();
        }
    }

    /// Writes a record that nobody waits for, soon.
    pub(super) fn leave(&self, draft: Draft) {
        let is_room = self.events.fetch_add(1, Ordering::Relaxed) < MOST_EVENTS;
        if !is_room || self.push(Message::Write(draft, None)).is_err() {
            self.events.fetch_sub(1, Ordering::Relaxed);
            self.metrics.audit_failures.inc();
            tracing::error!("an audit event is lost: too many wait to be written");
        }
    }

    fn push(&self, message: Message) -> Result<Option<Ringer<'_, Message>>, Unavailable> {
        push(&self.queue, &self.metrics, message)
    }

    /// Writes what is in the queue and this record as the last, and ends the writer.
    pub(super) async fn close(&self, last: Draft) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self.push(Message::Close(last)));
        let joined = tokio::task::spawn_blocking(move || writer.map(JoinHandle::join));
        let joined = tokio::time::timeout(PATIENCE, joined).await;
        if !matches!(joined, Ok(Ok(Some(Ok(()))))) {
            tracing::error!("the audit trail's writer did not end as it should");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.end();
    }
}

fn push<'a>(
    queue: &'a Queue<Message>,
    metrics: &Metrics,
    message: Message,
) -> Result<Option<Ringer<'a, Message>>, Unavailable> {
    metrics.audit_queue_depth.inc();
    queue.push(message).map_err(|_| {
        metrics.audit_queue_depth.dec();
        gone()
    })
}

fn gone() -> Unavailable {
    Unavailable(Arc::new("its writer has ended".to_owned()))
}

fn run(
    mut writer: Writer,
    messages: &Taker<Message>,
    told: &mpsc::UnboundedSender<Vec<Told>>,
    events: &AtomicUsize,
    busy: &Busy,
    metrics: &Metrics,
) {
    let set_busy = |since| *busy.lock().unwrap_or_else(PoisonError::into_inner) = since;
    let (mut batch, mut waiting) = (Vec::new(), Vec::new());
    let (mut is_open, mut last) = (true, None);
    while is_open {
        let Some(taken) = messages.take(writer.idle()) else { break };
        for message in taken {
            metrics.audit_queue_depth.dec();
            match message {
                Message::Write(draft, done) => {
                    if done.is_none() {
                        events.fetch_sub(1, Ordering::Relaxed);
                    }
                    batch.push(draft);
                    waiting.push(done);
                }
                Message::NotSent(request_id) => {
                    let event = Event::new("not_sent").request(request_id);
                    writer.owe_event(
                        event.detail("its caller was refused before the disk answered"),
                    );
                }
                // What comes behind it is nobody's any more.
                Message::Close(draft) => {
                    last = Some(draft);
                    is_open = false;
                    break;
                }
            }
        }
        set_busy(Some(Instant::now()));
        let committed = writer.commit(&batch);
        set_busy(None);
        let results: Vec<Told> = match committed {
            Ok(entries) => {
                let written = entries.into_iter().zip(batch.drain(..)).map(Ok);
                let all = waiting.drain(..).zip(written);
                all.filter_map(|(done, written)| Some((done?, written))).collect()
            }
            Err(reason) => {
                // What happened must come on record all the same.
                let kept = |draft: &Draft| matches!(draft.kind, Kind::Outcome | Kind::Event);
                batch.drain(..).filter(kept).for_each(|draft| writer.owe(draft));
                let unavailable = |done| (done, Err(Unavailable(Arc::clone(&reason))));
                waiting.drain(..).flatten().map(unavailable).collect()
            }
        };
        if !results.is_empty() {
            // Without the task that tells them there is nobody who waits.
            let _ = told.send(results);
        }
    }
    // There is no later: what is owed comes before it, and a folder that failed is tried once more.
    set_busy(Some(Instant::now()));
    let last: Vec<Draft> = last.into_iter().collect();
    if writer.commit(&last).is_err() {
        writer.try_at_once();
        let _ = writer.commit(&last);
    }
    // Without that record, as at an end without a drain, nobody may be told to look for it.
    writer.close(!last.is_empty());
}

/// Tells those who wait what became of their records. An intent of which nobody waits to hear any more
/// is not carried out, and that belongs on record.
async fn tell(
    mut told: mpsc::UnboundedReceiver<Vec<Told>>,
    queue: Weak<Queue<Message>>,
    metrics: Arc<Metrics>,
) {
    while let Some(results) = told.recv().await {
        for (done, result) in results {
            let Err(Ok((_, Draft { kind: Kind::Intent, request_id: Some(id), .. }))) =
                done.send(result)
            else {
                continue;
            };
            if let Some(queue) = queue.upgrade() {
                // The bell rings at once, and a writer that has ended needs to know nothing more.
                drop(push(&queue, &metrics, Message::NotSent(id)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::folder::LOCK;
    use super::super::record::Record;
    use super::*;

    /// Whether the folder says that it was ended, after an end with or without a last record.
    fn says_stopped(ends: impl FnOnce(&Journal, Draft)) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let settings = config::Audit::within(folder.path());
        let gateway = Gateway { instance: "test".to_owned(), version: "0" };
        let event = |name| Record::of_event(&gateway, Event::new(name)).draft();
        let metrics = Arc::new(Metrics::new().unwrap());
        let origin = "cms-gateway/test";
        let journal = Journal::open(&settings, gateway.clone(), origin, None, metrics).unwrap();
        journal.leave(event("start"));
        let writer = journal.writer.lock().unwrap().take().unwrap();
        ends(&journal, event("stop"));
        drop(journal);
        writer.join().unwrap();
        let said = fs::read_to_string(settings.directory.join(LOCK)).unwrap();
        assert!(said.is_empty() || said == "stopped\n", "{said:?}");
        !said.is_empty()
    }

    #[tokio::test]
    async fn an_end_without_the_record_of_the_stop_is_no_stop() {
        assert!(says_stopped(|journal, last| drop(journal.push(Message::Close(last)))));
        assert!(!says_stopped(|_, _| {}));
    }
}
