//! The way to the durable writer: a queue, and one thread behind it that owns the folder.
//!
//! The queue has no bound of its own, and needs none: whoever waits for a record holds one of the
//! places in flight, and events that nobody waits for are counted. So an outcome always finds room.
//!
//! Group commit: whatever waits in the queue is written and synced together. Who puts in the first
//! record waits for the end of the flush that runs, lets the tasks that are ready put in theirs for
//! as long as some do, and then wakes the writer: so many callers share a flush, and a single one
//! never waits for a timer. The writer in turn wakes one task for all that it has written, which
//! tells those who wait: to wake a task from another thread takes a system call. When writing fails,
//! whoever waits is told; the writer then tries again by itself, so that service resumes without a
//! hand. A disk that does not answer holds nobody for ever: after a while callers are refused, and
//! what is written nevertheless is told apart from what was sent.

mod queue;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, ready};
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

/// What those who wait are to be told. Whoever takes something out of it holds it until they are:
/// what the writer does not find there at its end was told, or is in the queue as not sent.
type Telling = Arc<Mutex<mpsc::UnboundedReceiver<Vec<Told>>>>;

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
        let telling = Arc::new(Mutex::new(telling));
        let (untold, weak) = (Arc::clone(&telling), Arc::downgrade(&queue));
        tokio::spawn(tell(telling, weak, Arc::clone(&metrics)));
        let run = move || run(writer, &messages, (&told, &untold), &taken, &begun, &counted);
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
    (told, untold): (&mpsc::UnboundedSender<Vec<Told>>, &Telling),
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
                // What comes behind the last record is nobody's any more.
                Message::Write(..) if !is_open => {}
                Message::Write(draft, done) => {
                    if done.is_none() {
                        events.fetch_sub(1, Ordering::Relaxed);
                    }
                    batch.push(draft);
                    waiting.push(done);
                }
                Message::NotSent(request_id) => writer.owe_event(not_sent(request_id)),
                Message::Close(draft) => {
                    last = Some(draft);
                    is_open = false;
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
    for request_id in end_of_telling(untold, messages) {
        writer.owe_event(not_sent(request_id));
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

fn not_sent(request_id: Uuid) -> Event {
    let event = Event::new("not_sent").request(request_id);
    event.detail("its caller was refused before the disk answered")
}

/// Tells those who wait what became of their records, as soon as the writer says it.
async fn tell(telling: Telling, queue: Weak<Queue<Message>>, metrics: Arc<Metrics>) {
    let tell_next = || {
        future::poll_fn(|context| {
            let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(results) = ready!(telling.poll_recv(context)) else {
                return Poll::Ready(false);
            };
            for request_id in results.into_iter().filter_map(refused) {
                if let Some(queue) = queue.upgrade() {
                    // The bell rings at once, and a writer that has ended needs to know nothing.
                    drop(push(&queue, &metrics, Message::NotSent(request_id)));
                }
            }
            Poll::Ready(true)
        })
    };
    while tell_next().await {}
}

/// Tells one who waits. An intent of which nobody waits to hear any more is not carried out, and that
/// belongs on record: then it says of which request it is.
fn refused((done, result): Told) -> Option<Uuid> {
    match done.send(result) {
        Err(Ok((_, draft))) if draft.kind == Kind::Intent => draft.request_id,
        _ => None,
    }
}

/// Tells those who are not told yet, since no task may be left to do it, and returns the requests
/// of all who were not there any more.
fn end_of_telling(untold: &Telling, messages: &Taker<Message>) -> Vec<Uuid> {
    let mut untold = untold.lock().unwrap_or_else(PoisonError::into_inner);
    let mut requests = Vec::new();
    while let Ok(results) = untold.try_recv() {
        requests.extend(results.into_iter().filter_map(refused));
    }
    requests.extend(messages.rest().into_iter().filter_map(|message| match message {
        Message::NotSent(request_id) => Some(request_id),
        _ => None,
    }));
    requests
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::folder::{self, LOCK};
    use super::super::record::Record;
    use super::*;

    fn event(event: Event) -> Record<'static> {
        static GATEWAY: Gateway = Gateway { instance: String::new(), version: "0" };
        Record::of_event(&GATEWAY, event)
    }

    /// Whether the folder says that it was ended, and the records, after an end with or without a
    /// last one.
    fn left(ends: impl FnOnce(&Journal, Draft)) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let settings = config::Audit::within(folder.path());
        let gateway = Gateway { instance: "test".to_owned(), version: "0" };
        let metrics = Arc::new(Metrics::new().unwrap());
        let origin = "cms-gateway/test";
        let journal = Journal::open(&settings, gateway, origin, None, metrics).unwrap();
        journal.leave(event(Event::new("start")).draft());
        let writer = journal.writer.lock().unwrap().take().unwrap();
        ends(&journal, event(Event::new("stop")).draft());
        drop(journal);
        writer.join().unwrap();
        let said = fs::read_to_string(settings.directory.join(LOCK)).unwrap();
        assert!(said.is_empty() || said == "stopped\n", "{said:?}");
        let records = fs::read_to_string(folder::segment(&settings.directory, 1)).unwrap();
        (!said.is_empty(), records)
    }

    #[tokio::test]
    async fn an_end_without_the_record_of_the_stop_is_no_stop() {
        assert!(left(|journal, last| drop(journal.push(Message::Close(last)))).0);
        assert!(!left(|_, _| {}).0);
    }

    /// On a runtime whose only thread waits for the writer, so that no task tells anybody.
    #[tokio::test]
    async fn an_intent_of_which_nobody_hears_is_told_apart_at_the_end_too() {
        let id = Uuid::now_v7();
        let (_, records) = left(|journal, last| {
            let intent = event(Event::new("it").request(id)).kind(Kind::Intent).draft();
            let ringer = journal.push(Message::Write(intent, Some(oneshot::channel().0)));
            drop((journal.push(Message::Close(last)), ringer));
        });
        let not_sent = |line: &str| line.contains("\"not_sent\"") && line.contains(&id.to_string());
        assert_eq!(records.lines().filter(|line| not_sent(line)).count(), 1, "{records}");
        assert!(records.lines().last().unwrap().contains("\"stop\""), "{records}");
        // As when the task tells somebody once the last record is in the queue.
        let (_, records) = left(|journal, last| {
            let ringer = journal.push(Message::Close(last));
            drop((journal.push(Message::NotSent(id)), ringer));
        });
        assert_eq!(records.lines().filter(|line| not_sent(line)).count(), 1, "{records}");
        assert!(records.lines().last().unwrap().contains("\"stop\""), "{records}");
    }
}
