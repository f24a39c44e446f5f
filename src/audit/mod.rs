//! The audit trail: who asked for what, what was decided, and what the CMS said.
//!
//! No authority without a record: [`Audit::intent`] takes the proof that a change is permitted and
//! gives the proof that it is on disk, [`Recorded`], without which nothing is sent to the CMS.
//!
//! Writing: `record` and [`line`](mod@line) are a record's form; the journal is the queue, the
//! writer numbers, hashes and signs, the store has the files, the archive compresses and deletes.
//! Proving: [`tree`], [`note`], [`checkpoint`], [`log`]. Reading, by commands alone: [`verify`],
//! [`proof`], [`query`], [`export`]; [`folder`] says which files there are.
//!
//! The witnesses can't be made by hand. This does not compile:
//!
//! ```compile_fail
//! use cms_gateway::audit::Recorded;
//! use cms_gateway::policy::Permitted;
//!
//! fn skip_the_record(permitted: Permitted) -> Recorded {
//!     Recorded { permitted }
//! }
//! ```
//!
//! nor does this, which would send what was permitted and is on no record:
//!
//! ```compile_fail
//! # use cms_gateway::{context::Context, credential::Credentials, policy::Permitted, upstream::Upstream};
//! async fn forward(cms: &Upstream, permitted: Permitted, with: &Credentials, context: &Context) {
//!     let _ = cms.forward(&permitted, with, context).await;
//! }
//! ```
//!
//! while this does:
//!
//! ```
//! # use cms_gateway::{audit::Recorded, context::Context, credential::Credentials, upstream::Upstream};
//! async fn forward(cms: &Upstream, recorded: Recorded, with: &Credentials, context: &Context) {
//!     let _ = cms.forward(&recorded, with, context).await;
//! }
//! ```

mod append;
mod archive;
pub mod checkpoint;
pub mod entry;
pub mod export;
pub mod folder;
mod journal;
pub mod line;
pub mod log;
mod mirror;
pub mod note;
pub mod proof;
pub mod query;
mod reader;
mod record;
mod store;
pub mod tree;
pub mod verify;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::journal::{OpenError, Unavailable};
pub use self::record::{Event, Outcome};

use self::journal::Journal;
pub use self::record::Kind;
use self::record::{Decision, Draft, Gateway, Record};
use self::writer::Entry;
use crate::config;
use crate::context::Context;
use crate::disk::{self, Disk};
use crate::identity::{Refusal, Verified};
use crate::operation::Facts;
use crate::policy::Permitted;
use crate::telemetry::{Logs, Metrics};
use crate::version::VERSION;

/// How long the file system may take to say what is free.
const LOOK: Duration = Duration::from_millis(500);

/// The trail as the gateway writes to it.
#[derive(Debug)]
pub struct Audit {
    journal: Journal,
    gateway: Gateway,
    origin: Arc<str>,
    space: Space,
    metrics: Arc<Metrics>,
    anonymous: Vec<(Refusal, AtomicU64)>,
}

/// The room of the file system that the trail is on.
#[derive(Debug)]
struct Space {
    directory: PathBuf,
    /// Fewer bytes than these are too few.
    low: u64,
    is_low: AtomicBool,
    disk: Disk,
}

impl Space {
    /// Nothing where the file system can't be asked, or does not answer soon.
    async fn free(&self) -> Option<u64> {
        let directory = self.directory.clone();
        let asked = self.disk.ask(LOOK, move || rustix::fs::statvfs(&directory));
        let found = asked.await?.ok()?;
        Some(disk::free(&found))
    }
}

/// The proof that a permitted change is on record, as durable as the configuration asks for.
#[derive(Debug)]
pub struct Recorded {
    permitted: Permitted,
    receipt: Receipt,
    intent: Draft,
}

/// Which record of which log tells of a request: `<origin> <sequence> <leaf hash>`.
#[derive(Debug, Clone)]
pub struct Receipt {
    origin: Arc<str>,
    entry: Entry,
}

impl Recorded {
    /// What was permitted and recorded.
    #[must_use]
    pub fn permitted(&self) -> &Permitted {
        &self.permitted
    }

    /// The intent's record.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl From<&Receipt> for String {
    fn from(receipt: &Receipt) -> Self {
        let Entry { sequence, leaf } = receipt.entry;
        let mut number = itoa::Buffer::new();
        [&receipt.origin, " ", number.format(sequence), " ", &leaf.to_base64()].concat()
    }
}

/// Where events are written that nobody waits for.
#[derive(Debug, Clone, Default)]
pub struct Events {
    audit: Option<Arc<Audit>>,
    /// Those that wait for [`Events::release`].
    held: Arc<Mutex<Option<Vec<Event>>>>,
}

impl Events {
    /// Records an event, soon.
    pub fn record(&self, event: Event) {
        match &mut *self.waiting() {
            Some(held) => held.push(event),
            None => self.write(event),
        }
    }

    /// Into the same trail, but only once they are released. What is made for a configuration that
    /// may yet be refused must not be said to have been loaded.
    #[must_use]
    pub(crate) fn held(&self) -> Self {
        let held = Arc::new(Mutex::new(Some(Vec::new())));
        Self { audit: self.audit.clone(), held }
    }

    /// Records those that were held, and from now on each one at once.
    pub(crate) fn release(&self) {
        let mut held = self.waiting();
        held.take().into_iter().flatten().for_each(|event| self.write(event));
    }

    fn write(&self, event: Event) {
        if let Some(audit) = &self.audit {
            audit.journal.leave(Record::of_event(&audit.gateway, event).draft());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audit {
    /// Opens the trail. What is durable is copied for a collector, if there is one.
    ///
    /// # Errors
    ///
    /// When another process writes to it. Whatever else is wrong with the folder shows in
    /// [`Audit::failure`], and is tried again.
    ///
    /// # Panics
    ///
    /// Outside a runtime of tokio.
    pub fn open(
        settings: &config::Audit,
        copy: Option<Logs>,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, OpenError> {
        let gateway = Gateway { instance: settings.instance.clone(), version: VERSION };
        let origin = format!("cms-gateway/{}", settings.instance);
        let counted = Arc::clone(metrics);
        let journal = Journal::open(settings, gateway.clone(), &origin, copy, counted)?;
        let anonymous = Refusal::all().map(|reason| (reason, AtomicU64::new(0))).collect();
        let space = Space {
            directory: settings.directory.clone(),
            low: settings.low_space,
            is_low: false.into(),
            disk: Disk::default(),
        };
        let (origin, metrics) = (origin.into(), Arc::clone(metrics));
        Ok(Arc::new(Self { journal, gateway, origin, space, metrics, anonymous }))
    }

    /// A handle for those who have events to tell.
    #[must_use]
    pub fn events(self: &Arc<Self>) -> Events {
        Events { audit: Some(Arc::clone(self)), held: Arc::default() }
    }

    /// Why nothing can be recorded at the moment, if nothing can.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<String>> {
        self.journal.failure()
    }

    /// Looks at the disk, once a second: whether it answers, and whether there is room. Too little
    /// is recorded.
    pub async fn watch_disk(self: &Arc<Self>) {
        self.journal.release_if_stalled();
        let Some(free) = self.space.free().await else { return };
        self.metrics.audit_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        let is_low = free < self.space.low;
        if self.space.is_low.swap(is_low, Ordering::Relaxed) != is_low {
            let name = if is_low { "space_low" } else { "space_enough" };
            let show = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
            let detail = format!("{} free, {} wanted", show(free), show(self.space.low));
            if is_low {
                tracing::warn!(detail, "the audit trail's file system is filling up");
            }
            self.events().record(Event::new(name).detail(detail));
        }
    }

    /// What is about to be wrong, if anything is.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let low = bytesize::ByteSize(self.space.low).display().iec().to_string();
        let is_low = self.space.is_low.load(Ordering::Relaxed);
        is_low.then(|| format!("less than {low} are free where the trail is written"))
    }

    /// The newest checkpoint, as it is signed.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Arc<String>> {
        self.journal.checkpoint()
    }

    /// Records what is about to be done.
    ///
    /// # Errors
    ///
    /// When it can't be written; then nothing may be done.
    pub async fn intent(
        &self,
        context: &Context,
        permitted: Permitted,
    ) -> Result<Recorded, Unavailable> {
        let (entry, intent) = self.journal.append(self.intended(context, &permitted)).await?;
        Ok(Recorded { permitted, receipt: self.receipt(entry), intent })
    }

    fn intended(&self, context: &Context, permitted: &Permitted) -> Draft {
        let change = permitted.change();
        let (principal, operation) = (permitted.principal(), change.operation());
        Record::of_change(&self.gateway, Kind::Intent, context, principal, operation)
            .facts(change.facts())
            .decision(Decision::allow(permitted.grants()))
            .draft()
    }

    /// The line of an intent but for what the journal puts before it, its time and its sequence.
    #[must_use]
    pub fn intent_line(&self, context: &Context, permitted: &Permitted) -> Vec<u8> {
        self.intended(context, permitted).line
    }

    /// Records what became of it. When it can't be written now it is kept and written later: the
    /// change has had its effect, and the caller is told so, with the intent's record as receipt.
    pub async fn outcome(&self, recorded: Recorded, outcome: Outcome<'_>) -> Receipt {
        match self.journal.append(recorded.intent.outcome(&self.gateway, outcome)).await {
            Ok((entry, _)) => self.receipt(entry),
            // The journal keeps it and has said so in the log and in /readyz.
            Err(_) => recorded.receipt,
        }
    }

    fn receipt(&self, entry: Entry) -> Receipt {
        Receipt { origin: Arc::clone(&self.origin), entry }
    }

    /// Records that a caller was refused whose token is good.
    ///
    /// # Errors
    ///
    /// When it can't be written; then the caller is told that instead, and learns nothing.
    pub async fn denied(
        &self,
        context: &Context,
        holder: &Verified,
        operation: &'static crate::operation::Operation,
        facts: Option<Facts<'_>>,
        code: &'static str,
        reason: &str,
    ) -> Result<Receipt, Unavailable> {
        let mut record = Record::of_change(&self.gateway, Kind::Denied, context, holder, operation)
            .decision(Decision::deny(code, reason));
        if let Some(facts) = facts {
            record = record.facts(facts);
        }
        self.journal.append(record.draft()).await.map(|(entry, _)| self.receipt(entry))
    }

    /// Counts a refusal of a caller that nobody knows. Anyone can cause these without end, so
    /// they share one record a second for each reason.
    pub fn count_anonymous(&self, refusal: Refusal) {
        if let Some((_, count)) =
            self.anonymous.iter().find(|(known, _)| known.label() == refusal.label())
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records the refusals that were counted since the last time.
    pub fn record_anonymous(&self) {
        if self.failure().is_some() {
            return;
        }
        for (refusal, count) in &self.anonymous {
            let count = count.swap(0, Ordering::Relaxed);
            if count > 0 {
                let event = Event::new("anonymous_refusals").detail(refusal.label()).count(count);
                let reason = refusal.to_string();
                tracing::info!(reason = refusal.label(), count, "requests without a principal");
                let code = crate::reply::Problem::from(refusal).code.as_str();
                let record = Record::of_event(&self.gateway, event)
                    .kind(Kind::Denied)
                    .decision(Decision::deny(code, &reason));
                self.journal.leave(record.draft());
            }
        }
    }

    /// Writes out what is left, records the stop as the last and ends.
    pub async fn close(&self) {
        self.record_anonymous();
        self.journal.close(Record::of_event(&self.gateway, Event::new("stop")).draft()).await;
    }
}
