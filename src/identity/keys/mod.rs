//! An issuer's keys, kept fresh.
//!
//! A known key never waits for a refresh, and stays when one fails, until the keys are older than
//! `max_stale`. An unknown one causes a refresh, at most one in `cool_down` whoever asks; those who
//! ask while it runs wait for it, a bounded number of them. Refreshes run in the background, so
//! that no caller who hangs up ends one.

mod set;
mod source;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use jsonwebtoken::Algorithm;
use tokio::sync::{Notify, Semaphore, watch};

pub use self::set::{Key, KeySet, KeySetError};

use self::set::Found;
use self::source::{FetchError, Fetched, Remote, Source};
use super::Refusal;
use crate::audit::{Event, Events};
use crate::client::ClientError;
use crate::config;
use crate::random;
use crate::telemetry::Metrics;
use crate::watch::Watched;

/// The time before the first try anew after a failure; it doubles up to the cool-down.
const RETRY: Duration = Duration::from_millis(500);
/// How many requests may wait for one refresh.
const WAITING: usize = 256;

/// One issuer's keys.
#[derive(Debug)]
pub(super) struct KeyStore {
    issuer: String,
    source: Source,
    settings: config::Freshness,
    current: ArcSwapOption<Held>,
    /// Whether they are what a watched file says.
    is_watched: AtomicBool,
    asked: Mutex<Asked>,
    /// Held by the one who refreshes: of two configurations that share these keys, one does, and the
    /// other goes on where it ends.
    refreshing: tokio::sync::Mutex<()>,
    /// Wakes the one who refreshes.
    wanted: Notify,
    /// Tells those who wait that a refresh has ended.
    ended: watch::Sender<()>,
    waiting: Semaphore,
    algorithms: Vec<Algorithm>,
    progress: Mutex<Progress>,
    events: Events,
    metrics: Arc<Metrics>,
}

/// The keys as they were last fetched.
#[derive(Debug, Clone)]
struct Held {
    keys: Arc<KeySet>,
    /// Another number for every other set of keys.
    generation: u64,
    fetched: Instant,
}

/// A key that verifies, and the generation of the keys that it is of.
#[derive(Debug)]
pub(super) struct CurrentKey {
    pub(super) key: Arc<Key>,
    pub(super) generation: u64,
}

/// The refreshes that unknown keys asked for.
#[derive(Debug)]
struct Asked {
    last: Option<Instant>,
    /// Whether one is to come or running.
    is_pending: bool,
}

/// A fetch went wrong; why is in the log and in the status.
#[derive(Debug)]
struct Failed;

/// What is told of the refreshes.
#[derive(Debug, Default, Clone)]
struct Progress {
    last: Option<SystemTime>,
    next: Option<SystemTime>,
    error: Option<(SystemTime, String)>,
}

/// An issuer's keys, as operators see them.
#[derive(Debug)]
pub struct KeyStatus {
    /// The keys that are held.
    pub keys: Vec<Arc<Key>>,
    /// How long ago they were last fetched; nothing when they never were.
    pub age: Option<Duration>,
    /// Whether tokens can be verified with them: they are there and not too old.
    pub are_usable: bool,
    /// When they were last fetched.
    pub last_refresh: Option<SystemTime>,
    /// When they will be fetched next, if nobody asks before.
    pub next_refresh: Option<SystemTime>,
    /// What the last fetch failed for, and when; nothing when it went well.
    pub last_error: Option<(SystemTime, String)>,
}

impl KeyStore {
    pub(super) fn new(
        issuer: &str,
        settings: &config::Keys,
        events: Events,
        waiting: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        // What appears with its first failure has not increased by it, for an alert.
        for result in ["success", "failure"] {
            let _ = metrics.jwks_refresh.with_label_values(&[issuer, result]);
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            source: Source::new(issuer, &settings.source)?,
            settings: settings.freshness,
            current: ArcSwapOption::empty(),
            is_watched: AtomicBool::new(false),
            // The first refresh is to come.
            asked: Mutex::new(Asked { last: None, is_pending: true }),
            refreshing: tokio::sync::Mutex::default(),
            wanted: Notify::new(),
            ended: watch::Sender::new(()),
            waiting: Semaphore::new(waiting.min(WAITING)),
            algorithms: settings.algorithms.clone(),
            progress: Mutex::default(),
            events,
            metrics,
        })
    }

    /// The key of that name for that algorithm; without a name, the only one that fits.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<CurrentKey, Refusal> {
        match self.find(id, algorithm) {
            Err(Refusal::UnknownKey | Refusal::KeysUnavailable | Refusal::KeysStale) => {}
            found => return found,
        }
        let mut ended = self.ended.subscribe();
        if !self.ask() {
            // A refresh may have ended between the two questions, and have brought the key.
            return self.find(id, algorithm);
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(Refusal::KeysBusy) };
        loop {
            // It lives as long as this store.
            let _ = ended.changed().await;
            let is_over = !self.asked().is_pending;
            match self.find(id, algorithm) {
                Ok(key) => return Ok(key),
                Err(refused) if is_over => return Err(refused),
                Err(_) => {}
            }
        }
    }

    /// Waits until they have been looked for once.
    pub(super) async fn settle(&self) {
        let mut ended = self.ended.subscribe();
        while self.current.load().is_none() && self.asked().is_pending {
            // It lives as long as this store.
            let _ = ended.changed().await;
        }
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<CurrentKey, Refusal> {
        let current = self.usable()?;
        let Some(held) = current.as_ref() else { return Err(Refusal::KeysUnavailable) };
        match held.keys.find(id, algorithm) {
            Found::One(key) => Ok(CurrentKey { key, generation: held.generation }),
            Found::None => Err(Refusal::UnknownKey),
            Found::Several => Err(Refusal::AmbiguousKey),
        }
    }

    /// Whether a key of that generation still verifies.
    pub(super) fn is_current(&self, generation: u64) -> Result<bool, Refusal> {
        let current = self.usable().inspect_err(|_| {
            // Those who come later may find fresher ones.
            self.ask();
        })?;
        Ok(current.as_ref().is_some_and(|held| held.generation == generation))
    }

    /// Whether a key that verified is one of them still.
    pub(super) fn hold_still(&self, key: &Arc<Key>) -> Result<bool, Refusal> {
        let current = self.usable()?;
        let keys = current.as_ref().map(|held| held.keys.keys()).unwrap_or_default();
        Ok(keys.iter().any(|own| own.is_named_like(key)))
    }

    fn usable(&self) -> Result<Guard<Option<Arc<Held>>>, Refusal> {
        let current = self.current.load();
        match current.as_ref() {
            Some(held) if self.age_of(held) > self.settings.max_stale => Err(Refusal::KeysStale),
            Some(_) => Ok(current),
            None => Err(Refusal::KeysUnavailable),
        }
    }

    fn age_of(&self, held: &Held) -> Duration {
        if self.is_watched.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            held.fetched.elapsed()
        }
    }

    /// Whether a refresh comes or runs that one may wait for; asks for one when it is time.
    fn ask(&self) -> bool {
        let mut asked = self.asked();
        let is_due = asked.last.is_none_or(|at| at.elapsed() >= self.settings.cool_down);
        let is_remote = matches!(self.source, Source::Remote(_));
        if !asked.is_pending && is_due && is_remote {
            *asked = Asked { last: Some(Instant::now()), is_pending: true };
            self.wanted.notify_one();
        }
        asked.is_pending
    }

    /// Loads the keys at once and then again and again.
    pub(super) async fn refresh_for_ever(self: Arc<Self>) {
        let _alone = self.refreshing.lock().await;
        match &self.source {
            Source::File(path) => self.watch(path).await,
            Source::Remote(remote) => self.fetch(remote).await,
        }
    }

    async fn watch(&self, path: &Path) {
        let mut file = Watched::new(path.to_owned(), KeySet::LARGEST);
        loop {
            let loaded = self.take(source::read(path, file.next().await));
            // What the file said is what it says, until it is seen to say something else.
            self.is_watched.store(loaded.is_ok(), Ordering::Relaxed);
            self.asked().is_pending = false;
            self.ended.send_replace(());
        }
    }

    async fn fetch(&self, remote: &Remote) {
        let mut retry = RETRY;
        let mut was_asked = true;
        loop {
            // In time for another try before they are too old.
            let most = self.settings.refresh.min(self.settings.max_stale / 2);
            let least = self.settings.cool_down.min(most);
            let pause = match self.take(remote.fetch().await) {
                Ok(fresh_for) => {
                    retry = RETRY;
                    random::jittered(fresh_for.map_or(most, |it| it.min(most))).max(least)
                }
                Err(_) => {
                    let pause = random::jittered(retry);
                    retry = (retry * 2).min(self.settings.cool_down.max(RETRY));
                    pause
                }
            };
            self.progress().next = SystemTime::now().checked_add(pause);
            if was_asked {
                self.asked().is_pending = false;
            }
            self.ended.send_replace(());
            was_asked = tokio::select! {
                () = tokio::time::sleep(pause) => false,
                () = self.wanted.notified() => true,
            };
        }
    }

    /// Takes what was fetched, and says for how long it is fresh; what there was stays when the
    /// fetch has failed.
    fn take(&self, fetched: Result<Fetched, FetchError>) -> Result<Option<Duration>, Failed> {
        let fetched = fetched.and_then(|fetched| {
            let fits = fetched.keys.fits_any(&self.algorithms);
            if fits { Ok(fetched) } else { Err(FetchError::NothingFits) }
        });
        let result = if fetched.is_ok() { "success" } else { "failure" };
        self.metrics.jwks_refresh.with_label_values(&[self.issuer.as_str(), result]).inc();
        match fetched {
            Ok(Fetched { keys, fresh_for }) => {
                self.hold(keys);
                let now = SystemTime::now();
                let mut progress = self.progress();
                if progress.error.take().is_some() {
                    tracing::info!(issuer = self.issuer, "the issuer's keys are refreshed again");
                }
                progress.last = Some(now);
                Ok(fresh_for)
            }
            Err(error) => {
                let error = short(&error.to_string());
                tracing::warn!(issuer = self.issuer, error, "the issuer's keys can't be refreshed");
                self.progress().error = Some((SystemTime::now(), error));
                if self.is_watched.load(Ordering::Relaxed) {
                    self.age_from_now_on();
                }
                Err(Failed)
            }
        }
    }

    /// Keys of a file do not age while it stays as it is; now it does not.
    fn age_from_now_on(&self) {
        self.current.rcu(|held| {
            held.as_ref().map(|held| Arc::new(Held { fetched: Instant::now(), ..(**held).clone() }))
        });
    }

    fn hold(&self, keys: KeySet) {
        let before = self.current.load_full();
        let is_same = before.as_ref().is_some_and(|before| before.keys.is_same(&keys));
        let generation = before.as_ref().map_or(0, |before| before.generation);
        let generation = if is_same { generation } else { generation + 1 };
        let keys = match &before {
            Some(before) => keys.after(&before.keys),
            None => keys,
        };
        if !is_same {
            let ids = keys.keys().iter().map(|key| key.id().unwrap_or("(no kid)"));
            let ids = short(&ids.collect::<Vec<_>>().join(", "));
            self.events
                .record(Event::new("keys_changed").detail(format!("{}: {ids}", self.issuer)));
        }
        let keys = Arc::new(keys);
        self.current.store(Some(Arc::new(Held { keys, generation, fetched: Instant::now() })));
    }

    pub(super) fn status(&self) -> KeyStatus {
        let current = self.current.load();
        let Progress { last, next, error } = self.progress().clone();
        KeyStatus {
            keys: current.as_ref().map(|held| held.keys.keys().to_vec()).unwrap_or_default(),
            age: current.as_ref().map(|held| self.age_of(held)),
            are_usable: self.usable().is_ok(),
            last_refresh: last,
            next_refresh: next,
            last_error: error,
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Words that are in part the provider's, cut to a length that a log and a record can take.
fn short(text: &str) -> String {
    const LONGEST: usize = 1000;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "...",
    }
}
