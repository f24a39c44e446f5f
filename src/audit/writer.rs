//! What the journal's thread does with a batch of records: give them their numbers and times,
//! write them, put them into the tree, and sign its head.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use prometheus::IntCounter;

use super::append::AppendError;
use super::archive::{Compressor, Expired, Replacing};
use super::checkpoint::UNSIGNED;
use super::folder::segment_name;
use super::line::{self, Head, Time};
use super::log::{Log, manifest};
use super::mirror::{self, Mirror};
use super::record::{Draft, Event, Gateway, Kind, Record};
use super::store::{Known, Left, Place, Store};
use super::tree::Hash;
use crate::config::{self, Retention};
use crate::telemetry::{Logs, Metrics};

/// How long records may be without a checkpoint.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How long a writer that can't open its folder waits at least before it tries again, and how much
/// longer than the try itself took.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_FACTOR: u32 = 10;
/// The most records that are kept while nothing can be written. Since nothing is forwarded then,
/// they are the outcomes of what was in flight, and a few events.
const MOST_OWED: usize = 16 << 10;

/// Which record it became.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) leaf: Hash,
}

/// What others see of the writer.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why nothing can be written at the moment.
    pub(super) failure: ArcSwapOption<String>,
    /// The newest checkpoint.
    pub(super) checkpoint: ArcSwapOption<String>,
}

/// The one who writes.
pub(super) struct Writer {
    place: Place,
    retention: Option<Retention>,
    compressor: Option<Compressor>,
    replacing: Replacing,
    mirror: Option<Mirror>,
    /// Where records are copied to once they are durable.
    copy: Option<Logs>,
    gateway: Gateway,
    open: Option<Store>,
    /// Nothing until the folder was opened for the first time.
    log: Option<Log>,
    left: Left,
    /// What was found in the folder while it could not be opened.
    found: Vec<Event>,
    is_unsynced: bool,
    /// Whether nothing was written since it was opened.
    is_fresh: bool,
    last_time: Option<Time>,
    /// Records that could not be written and must not be lost.
    owed: VecDeque<Draft>,
    /// The time of the first record that is under no checkpoint.
    unsigned_since: Option<Time>,
    /// When what is not under a checkpoint yet gets one.
    checkpoint_due: Option<Instant>,
    next_try: Option<Instant>,
    buffer: Vec<u8>,
    seen: Arc<Seen>,
    written: Written,
    metrics: Arc<Metrics>,
}

/// How many records of each kind were written.
struct Written([IntCounter; Kind::ALL.len()]);

impl Written {
    fn new(metrics: &Metrics) -> Self {
        Self(Kind::ALL.map(|kind| metrics.audit_records.with_label_values(&[kind.name()])))
    }

    fn of(&self, kind: Kind) -> &IntCounter {
        let Self([intent, outcome, denied, event]) = self;
        match kind {
            Kind::Intent => intent,
            Kind::Outcome => outcome,
            Kind::Denied => denied,
            Kind::Event => event,
        }
    }
}

impl Writer {
    pub(super) fn new(
        settings: &config::Audit,
        origin: &str,
        gateway: Gateway,
        copy: Option<Logs>,
        seen: Arc<Seen>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let directory = settings.directory.clone();
        let lost = metrics.audit_stdout_lost.clone();
        let replacing = Replacing::default();
        let compressor = || Compressor::new(directory.clone(), Replacing::clone(&replacing));
        Ok(Self {
            compressor: settings.compress.then(compressor),
            replacing,
            mirror: settings.also_stdout.then(|| Mirror::start(lost)).transpose()?,
            copy,
            place: Place {
                directory,
                origin: origin.to_owned(),
                signing_key: settings.signing_key.clone(),
                durability: settings.durability,
                segment_size: settings.segment_size,
            },
            retention: settings.retention,
            gateway,
            open: None,
            log: None,
            left: Left::default(),
            found: Vec::new(),
            is_unsynced: false,
            is_fresh: false,
            last_time: None,
            owed: VecDeque::new(),
            unsigned_since: None,
            checkpoint_due: None,
            next_try: None,
            buffer: Vec::new(),
            seen,
            written: Written::new(&metrics),
            metrics,
        })
    }

    /// How long it has nothing to do by itself; no time where there is no end to that.
    pub(super) fn idle(&self) -> Option<Duration> {
        let next = if self.is_failing() {
            Some(self.next_try.unwrap_or_else(|| Instant::now() + PAUSE))
        } else {
            self.checkpoint_due
        };
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Writes all of the records or, with the reason noted, none of them.
    pub(super) fn commit(&mut self, records: &[Draft]) -> Result<Vec<Entry>, Arc<String>> {
        let started = Instant::now();
        let written = self.write(records).map_err(|error| self.fail(&error));
        if written.is_ok() {
            self.metrics.audit_flush_duration.observe(started.elapsed().as_secs_f64());
            // What is written stays written. A checkpoint that fails stops what comes after it.
            match self.checkpoint(false) {
                Err(error) => {
                    self.fail(&error);
                }
                Ok(()) if self.seen.failure.swap(None).is_some() => {
                    tracing::info!("the audit trail is written again");
                }
                Ok(()) => {}
            }
        }
        written
    }

    /// Does not wait before the folder is opened again.
    pub(super) fn try_at_once(&mut self) {
        self.next_try = None;
    }

    /// Keeps a record that could not be written.
    pub(super) fn owe(&mut self, draft: Draft) {
        if self.owed.len() < MOST_OWED {
            self.owed.push_back(draft);
        } else {
            tracing::error!("an audit record is lost: too many could not be written");
        }
    }

    /// Signs the head of what is there. Where the last record is of the stop, nothing comes after it.
    pub(super) fn close(mut self, is_stopped: bool) {
        let is_failing = self.is_failing();
        let ended = self.checkpoint(true).and_then(|()| match &mut self.open {
            Some(store) if is_stopped && !is_failing => store.end(),
            _ => Ok(()),
        });
        if let Err(error) = ended {
            self.fail(&error);
        }
        if let Some(mirror) = self.mirror {
            mirror.end();
        }
    }

    /// Opens the folder, at the start and again after it failed.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let reason = self.seen.failure.load_full();
        let known = self.log.as_ref().map(|log| Known {
            log,
            left: &self.left,
            is_unsynced: self.is_unsynced,
            reason: reason.as_ref().map_or("", |reason| reason.as_str()),
        });
        let mut events = Vec::new();
        let opened = Store::open(&self.place, known.as_ref(), &mut events);
        // What several tries find is said once.
        for event in events {
            if !self.found.contains(&event) {
                self.found.push(event);
            }
        }
        let (store, log) = opened.inspect_err(|_| {
            self.next_try = Some(Instant::now() + PAUSE.max(started.elapsed() * PAUSE_FACTOR));
        })?;
        for event in mem::take(&mut self.found) {
            self.owe_event(event);
        }
        let is_first = self.log.is_none();
        if is_first {
            for request_id in log.pending() {
                let event = Event::new("outcome_unknown").request(*request_id);
                self.owe_event(event.detail("the gateway ended before the outcome was on record"));
            }
        }
        self.seen.checkpoint.store(store.newest().map(|note| Arc::new(note.to_owned())));
        self.last_time = self.last_time.or(log.times().map(|(_, to)| to));
        self.log = Some(log);
        self.open = Some(store);
        self.is_fresh = true;
        self.next_try = None;
        self.is_unsynced = false;
        // What a crash left is signed behind the record that says so, and nothing comes behind a
        // checkpoint that could not be written.
        if is_first && self.log.as_ref().is_some_and(|log| log.size() > 0) {
            self.append_with_owed(&[], Time::now())?;
        }
        self.sign_what_is_not()
    }

    fn sign_what_is_not(&mut self) -> io::Result<()> {
        if self.log.as_ref().is_none_or(|log| log.size() == 0) {
            return Ok(());
        }
        self.checkpoint_due.get_or_insert_with(Instant::now);
        self.checkpoint(true)
    }

    /// Notes why nothing can be written.
    pub(super) fn fail(&self, error: &io::Error) -> Arc<String> {
        self.metrics.audit_failures.inc();
        let reason = Arc::new(error.to_string());
        if self.seen.failure.load().as_ref() != Some(&reason) {
            tracing::error!(%reason, "the audit trail can't be written; nothing is forwarded");
            self.seen.failure.store(Some(Arc::clone(&reason)));
        }
        reason
    }

    fn is_failing(&self) -> bool {
        self.seen.failure.load().is_some()
    }

    pub(super) fn owe_event(&mut self, event: Event) {
        self.owe(self.event(event));
    }

    fn event(&self, event: Event) -> Draft {
        Record::of_event(&self.gateway, event).draft()
    }

    fn write(&mut self, records: &[Draft]) -> io::Result<Vec<Entry>> {
        if self.open.is_none() {
            if self.next_try.is_some_and(|next| Instant::now() < next) {
                let reason = self.seen.failure.load_full();
                return Err(io::Error::other(reason.map_or_else(String::new, |it| it.to_string())));
            }
            self.open()?;
        }
        let now = Time::now();
        if mem::take(&mut self.is_fresh) {
            self.archive(now)?;
        }
        // However the clock jumps, and however long the machine slept.
        if self.unsigned_since.is_some_and(|since| now.since(since) > UNSIGNED / 2) {
            self.sign_what_is_not()?;
        }
        self.rotate_if_due(now)?;
        self.append_with_owed(records, now)
    }

    /// Appends records behind those that are owed and what is to be said before.
    fn append_with_owed(&mut self, records: &[Draft], now: Time) -> io::Result<Vec<Entry>> {
        let mut first = Vec::new();
        if let Some(reason) = self.seen.failure.load_full() {
            first.push(self.event(Event::new("audit_resumed").detail(reason.as_str())));
        }
        if let Some(last) = self.last_time.filter(|last| now < *last) {
            let detail = format!("from {last} to {now}");
            first.push(self.event(Event::new("clock_set_back").detail(detail)));
        }
        let owed = mem::take(&mut self.owed);
        let before = first.len() + owed.len();
        let all = first.iter().chain(&owed).chain(records);
        match self.append(all, now) {
            Ok(mut entries) => Ok(entries.split_off(before.min(entries.len()))),
            Err(error) => {
                self.owed = owed;
                Err(error)
            }
        }
    }

    /// Writes records, all of them or none, and puts them into the log.
    fn append<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Draft> + Clone,
        time: Time,
    ) -> io::Result<Vec<Entry>> {
        let (Some(store), Some(log)) = (&mut self.open, &mut self.log) else {
            return Err(io::Error::other("no segment is open"));
        };
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        let mut entries = Vec::with_capacity(records.size_hint().0);
        for (draft, sequence) in records.clone().zip(log.size() + 1..) {
            let start = buffer.len();
            line::begin(&mut buffer, time, sequence);
            buffer.extend_from_slice(draft.line.get(1..).unwrap_or_default());
            let line = buffer.get(start..).unwrap_or_default();
            let leaf = Hash::of_leaf(line.strip_suffix(b"\n").unwrap_or(line));
            entries.push((Entry { sequence, leaf }, line.len()));
        }
        let leaves = entries.iter().map(|(entry, _)| entry.leaf);
        let appended = if buffer.is_empty() { Ok(()) } else { store.append(&buffer, leaves) };
        if appended.is_ok() {
            if let Some(mirror) = self.mirror.as_ref().filter(|_| !buffer.is_empty()) {
                mirror.give(&buffer);
            }
            if let Some(copy) = &self.copy {
                mirror::copy(copy, records.clone(), &entries, &buffer, time);
            }
            for (draft, (entry, length)) in records.zip(&entries) {
                let Draft { kind, request_id, .. } = *draft;
                let head = Head { time, sequence: entry.sequence, kind, request_id };
                log.push(&head, entry.leaf, *length);
                self.written.of(kind).inc();
            }
            if !entries.is_empty() {
                self.last_time = Some(time);
                self.unsigned_since.get_or_insert(time);
                // The first one at once, the next ones a while after what they cover.
                let wait = if store.newest().is_none() { Duration::ZERO } else { CHECKPOINT };
                self.checkpoint_due.get_or_insert_with(|| Instant::now() + wait);
            }
        }
        buffer.shrink_to(1 << 20);
        self.buffer = buffer;
        match appended {
            Ok(()) => Ok(entries.into_iter().map(|(entry, _)| entry).collect()),
            Err(AppendError::Undone(error)) => Err(error),
            Err(AppendError::Lost(error)) => Err(self.let_go(error)),
            Err(AppendError::Unsynced(error)) => {
                self.is_unsynced = true;
                Err(self.let_go(error))
            }
        }
    }

    /// What is not as it was left is opened anew.
    fn let_go(&mut self, error: io::Error) -> io::Error {
        if let Some(store) = self.open.take() {
            self.left = store.left();
        }
        self.next_try = Some(Instant::now() + PAUSE);
        error
    }

    /// Goes on in a new segment when this one is full or of an earlier day.
    fn rotate_if_due(&mut self, now: Time) -> io::Result<()> {
        let (Some(store), Some(log)) = (&self.open, &self.log) else { return Ok(()) };
        let reason = match log.times() {
            Some((_, to)) if now.day() > to.day() => "day",
            Some(_) if log.bytes() >= self.place.segment_size => "size",
            _ => return Ok(()),
        };
        let next = log.size() + 2;
        for foreign in store.prepare(next)? {
            let detail = format!("it stood in the next segment's place: {}", foreign.display());
            self.owe_event(Event::new("foreign_file_set_aside").detail(detail));
        }
        let detail = format!("by {reason}, next {}", segment_name(next));
        let last = self.event(Event::new("segment_closed").detail(detail));
        self.append(std::iter::once(&last), now)?;
        let (Some(store), Some(log)) = (&mut self.open, &mut self.log) else { return Ok(()) };
        let rotated = store.rotate(log);
        self.seen.checkpoint.store(store.newest().map(|note| Arc::new(note.to_owned())));
        self.checkpoint_due = None;
        self.unsigned_since = None;
        rotated.map_err(|error| self.let_go(error))?;
        self.archive(now)
    }

    /// Compresses what is closed, and deletes what is too old or too much.
    fn archive(&mut self, now: Time) -> io::Result<()> {
        self.expire(now)?;
        if let Some(compressor) = &self.compressor {
            compressor.start();
        }
        Ok(())
    }

    fn expire(&mut self, now: Time) -> io::Result<()> {
        let Some(retention) = self.retention else { return Ok(()) };
        let (closed, _) = manifest(&self.place.directory).map_err(|error| self.let_go(error))?;
        if self.open.as_ref().is_some_and(|store| !store.is_manifest(&closed)) {
            return Err(self.let_go(io::Error::other("the manifest was changed by somebody else")));
        }
        let expired = match Expired::find(&self.place.directory, &closed, retention) {
            Ok(Some(expired)) => expired,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the audit trail's old segments can't be looked at");
                return Ok(());
            }
        };
        let event = Event::new("segments_deleted").detail(expired.detail()).count(expired.last);
        let event = self.event(event);
        self.append(std::iter::once(&event), now)?;
        self.checkpoint(true)?;
        if let Some(store) = &mut self.open {
            store.forget_up_to(expired.last);
        }
        if let Err(error) = expired.delete(&self.place.directory, &self.replacing) {
            tracing::warn!(%error, "the audit trail's old segments can't be deleted");
        }
        Ok(())
    }

    /// Signs the head of the tree when that is due, or at once.
    fn checkpoint(&mut self, at_once: bool) -> io::Result<()> {
        let is_due = self.checkpoint_due.is_some_and(|due| at_once || due <= Instant::now());
        let (true, Some(store), Some(log)) = (is_due, &mut self.open, &self.log) else {
            return Ok(());
        };
        match store.checkpoint(log) {
            Ok(note) => {
                tracing::info!(checkpoint = note, "audit checkpoint");
                self.seen.checkpoint.store(Some(Arc::new(note.to_owned())));
                self.checkpoint_due = None;
                self.unsigned_since = None;
                Ok(())
            }
            Err(error) => Err(self.let_go(error)),
        }
    }
}
