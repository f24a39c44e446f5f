//! The CMS's user name and password: held, kept fresh, and not used again once refused.
//!
//! The CMS locks an account after a few wrong passwords, so nobody guesses:
//!
//! - What the CMS has not accepted a moment ago is tried by one request, and of what it has, no more
//!   than it lately took at once; the others wait for the next verdict (see `standing`).
//! - When it answers 401, the source is asked once for all who wait; only another credential is
//!   tried, once. Else the credential is marked as refused and stays unused until the source has
//!   another one, but for one try after a pause that grows from one second to sixty.
//! - With an overlap, the credential before serves meanwhile.

pub(crate) mod aws;
mod basic;
pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod file;
mod json;
pub(crate) mod source;
mod standing;
pub(crate) mod vault;

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use self::basic::Credential;
pub use self::source::{Pending, Secret, Source, SourceError};
use self::standing::{Pass, Standing, Turn};
use crate::audit::{Event, Events};
use crate::config;
use crate::random;
use crate::telemetry::Metrics;

/// The pause after the first failure of a source; doubled with each one, up to `refresh` or
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure: a source that is back must not be waited for as long again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The shortest pause between two readings, however often a source says that it has changed.
const BREATH: Duration = Duration::from_millis(50);

/// Why no credential is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The source never gave one.
    #[error("the source has given no credential yet")]
    Unavailable,
    /// The source has not been read for so long that what it gave counts no more.
    #[error("the source could not be read for longer than max_stale")]
    Stale,
    /// The CMS has refused it, and it is not yet time to try again.
    #[error("the CMS has refused the credential")]
    Refused {
        /// When it is.
        retry_after: Duration,
    },
    /// The request that tries it has no answer yet.
    #[error("the CMS has not said yet whether it takes the credential")]
    OnTrial,
}

/// The current credential.
#[derive(Debug)]
pub struct Credentials {
    source: Arc<dyn Source>,
    refresh: Duration,
    max_stale: Duration,
    overlap: Duration,
    state: Mutex<State>,
    /// Held while the source is asked.
    reading: tokio::sync::Mutex<()>,
    /// Told when a request that waits may look again.
    verdicts: Notify,
    events: Events,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Held>,
    /// The one before it, and until when it may be used.
    previous: Option<(Held, Instant)>,
    /// The last one that the CMS refused before the source had another, until the CMS accepts one.
    /// A source that goes to and fro between wrong ones shall not make them be tried anew each time.
    discarded: Option<Held>,
    /// When the source was last read well.
    read: Option<Instant>,
    /// Why it could not be read since.
    fault: Option<String>,
}

#[derive(Debug)]
struct Held {
    credential: Arc<Credential>,
    standing: Standing,
}

/// A credential for one request to the CMS, whose answer is the verdict on it. Dropped without
/// one, as when no answer came, it leaves the credential as it was.
#[derive(Debug)]
#[must_use]
pub struct Loan<'a> {
    credential: Arc<Credential>,
    /// There until this ends.
    pass: Option<Pass>,
    credentials: &'a Credentials,
}

impl Credentials {
    /// Knows the source and has read nothing.
    #[must_use]
    pub fn new(settings: &config::Credential, events: Events, metrics: Arc<Metrics>) -> Self {
        let config::Credential { source, refresh, max_stale, overlap } = settings;
        Self {
            source: Arc::clone(source),
            // What the source gives shall not get too old between two readings.
            refresh: (*refresh).min(*max_stale / 2),
            max_stale: *max_stale,
            overlap: *overlap,
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            verdicts: Notify::new(),
            events,
            metrics,
        }
    }

    /// Knows what the CMS refused of the one before it, which no reload makes worth a try.
    #[must_use]
    pub(crate) fn after(mut self, before: &Self) -> Self {
        let known = before.state().refused();
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).discarded = known;
        self
    }

    /// Asks the source at once and then again and again.
    pub async fn refresh_for_ever(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let was_read = {
                let _reading = self.reading.lock().await;
                self.read().await
            };
            let wait = if was_read { self.refresh } else { pause.min(self.refresh) };
            pause = if was_read { FIRST_PAUSE } else { (wait * 2).min(LONGEST_PAUSE) };
            tokio::time::sleep(BREATH.min(wait)).await;
            tokio::select! {
                () = tokio::time::sleep(random::jittered(wait)) => {}
                () = self.source.changed() => {}
            }
        }
    }

    /// Whether a request may be sent at all, before anything is done for it.
    ///
    /// # Errors
    ///
    /// As [`Credentials::lend`], which may still say otherwise.
    pub fn check(&self) -> Result<(), CredentialError> {
        self.state().check(self.max_stale)
    }

    /// The credential for one request, by this time at the latest.
    ///
    /// # Errors
    ///
    /// When there is none, or the CMS has refused it and it is not yet time to try again.
    pub async fn lend(&self, by: Instant) -> Result<Loan<'_>, CredentialError> {
        let came = Instant::now();
        loop {
            // From here on no verdict is missed.
            let told = self.verdicts.notified();
            let (credential, turn) = self.state().choose(self.max_stale, came)?;
            let until = match turn {
                Turn::Take(pass) => {
                    return Ok(Loan { credential, pass: Some(pass), credentials: self });
                }
                Turn::Wait(until) => until.map_or(by, |until| until.min(by)),
            };
            let waited = tokio::time::timeout_at(until.into(), told).await;
            if waited.is_err() && Instant::now() >= by {
                return Err(CredentialError::OnTrial);
            }
        }
    }

    /// How long ago the source was last read well; nothing when it never was.
    pub fn age(&self) -> Option<Duration> {
        self.state().read.map(|at| at.elapsed())
    }

    /// Why requests are refused for want of a good credential.
    pub fn trouble(&self) -> Option<CredentialError> {
        self.check().err()
    }

    /// Why the source could not be read the last time.
    pub(crate) fn fault(&self) -> Option<String> {
        self.state().fault.clone()
    }

    /// Whether the CMS has refused the newest one.
    pub(crate) fn is_refused(&self) -> bool {
        self.state().newest.as_ref().is_some_and(|held| held.standing.is_refused())
    }

    /// Asks the source and takes what it gives; whether it gave something.
    async fn read(&self) -> bool {
        match self.source.fetch().await {
            Ok(secret) => {
                self.metrics.credential_refresh.with_label_values(&["success"]).inc();
                self.take(Credential::new(secret, self.source.name()));
                true
            }
            Err(error) => {
                self.metrics.credential_refresh.with_label_values(&["failure"]).inc();
                tracing::warn!(source = self.source.name(), %error, "the credential can't be read");
                self.state().fault = Some(error.to_string());
                false
            }
        }
    }

    /// The same credential keeps its standing, be its version another one.
    fn take(&self, credential: Credential) {
        let credential = Arc::new(credential);
        let mut state = self.state();
        let now = Instant::now();
        (state.read, state.fault) = (Some(now), None);
        state.previous.take_if(|(_, until)| *until <= now);
        let name = match &mut state.newest {
            Some(held) if held.credential.is_same_as(&credential) => {
                held.credential = credential;
                return;
            }
            Some(_) => "credential_rotated",
            None => "credential_loaded",
        };
        tracing::info!(version = credential.version(), "{name}");
        self.events.record(Event::new(name).credential(&credential));
        state.replace(credential, self.overlap);
        drop(state);
        self.verdicts.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, max_stale: Duration) -> Result<(), CredentialError> {
        let Some(held) = &self.newest else { return Err(CredentialError::Unavailable) };
        if self.read.is_none_or(|read| read.elapsed() > max_stale) {
            return Err(CredentialError::Stale);
        }
        match held.standing.pause_left() {
            Some(left) if !left.is_zero() && self.overlapping().is_none() => {
                Err(CredentialError::Refused { retry_after: left })
            }
            _ => Ok(()),
        }
    }

    /// Which credential, and whether it may be taken now.
    fn choose(
        &mut self,
        max_stale: Duration,
        came: Instant,
    ) -> Result<(Arc<Credential>, Turn), CredentialError> {
        self.check(max_stale)?;
        let Some(newest) = &mut self.newest else { return Err(CredentialError::Unavailable) };
        let is_resting = newest.standing.pause_left().is_some_and(|left| !left.is_zero());
        let held = match &mut self.previous {
            Some((previous, _)) if is_resting => previous,
            _ => newest,
        };
        Ok((Arc::clone(&held.credential), held.standing.turn(came)))
    }

    /// What the CMS refused last, as it is known to another configuration.
    fn refused(&self) -> Option<Held> {
        let newest = self.newest.as_ref().filter(|held| held.standing.is_refused());
        let held = newest.or(self.discarded.as_ref())?;
        let standing = held.standing.as_refused();
        Some(Held { credential: Arc::clone(&held.credential), standing })
    }

    /// Holds another one, and what is of use of those before.
    fn replace(&mut self, credential: Arc<Credential>, overlap: Duration) {
        self.previous.take_if(|(held, _)| held.credential.is_same_as(&credential));
        let known = self.discarded.take_if(|held| held.credential.is_same_as(&credential));
        let standing = known.map(|held| held.standing).unwrap_or_default();
        let Some(mut before) = self.newest.replace(Held { credential, standing }) else { return };
        if before.standing.was_accepted() {
            // The CMS had moved on from what was there still earlier.
            self.previous = None;
        }
        if before.standing.is_doubted() {
            before.standing.refuse();
            self.discarded = Some(before);
        } else if !overlap.is_zero() {
            self.previous.get_or_insert((before, Instant::now() + overlap));
        }
    }

    fn overlapping(&self) -> Option<&Held> {
        let (held, until) = self.previous.as_ref()?;
        (Instant::now() < *until).then_some(held)
    }

    /// The standing of a credential that is still of use.
    fn standing(&mut self, credential: &Credential) -> Option<&mut Standing> {
        let previous = self.previous.as_mut().map(|(held, _)| held);
        let mut held = self.newest.as_mut().into_iter().chain(previous);
        held.find(|held| held.credential.is_same_as(credential)).map(|held| &mut held.standing)
    }

    /// The CMS no longer takes the one before. If it did since it refused the newest, it may take that
    /// by now, so that this is tried as if it were new.
    fn end_overlap(&mut self, credential: &Credential) {
        let is_previous = |(held, _): &mut (Held, _)| held.credential.is_same_as(credential);
        let Some((before, _)) = self.previous.take_if(is_previous) else { return };
        if let Some(newest) = &mut self.newest
            && before.standing.was_accepted_since_refusal_of(&newest.standing)
        {
            newest.standing = Standing::default();
        }
    }

    fn is_newest(&self, credential: &Credential) -> bool {
        self.newest.as_ref().is_some_and(|held| held.credential.is_same_as(credential))
    }
}

// === impl Loan ===

impl Deref for Loan<'_> {
    type Target = Arc<Credential>;

    fn deref(&self) -> &Arc<Credential> {
        &self.credential
    }
}

impl Loan<'_> {
    /// The CMS has let the gateway in with it.
    pub fn accepted(self) {
        let Some(pass) = &self.pass else { return };
        let Credentials { events, metrics, .. } = self.credentials;
        if pass.is_probe {
            metrics.credential_probes.with_label_values(&["success"]).inc();
        }
        let mut state = self.credentials.state();
        let Some(standing) = state.standing(&self.credential) else { return };
        let is_news = standing.accept(pass);
        if !standing.is_doubted() && state.is_newest(&self.credential) {
            state.discarded = None;
        }
        if is_news {
            tracing::info!(version = self.credential.version(), "credential_accepted");
            events.record(Event::new("credential_accepted").credential(&self.credential));
        }
    }

    /// The CMS has answered 401. When this ends, [`Credentials::lend`] gives another credential or
    /// says that there is none; a source that has none by this time has none.
    pub async fn refused(self, by: Instant) {
        let Credentials { events, metrics, reading, .. } = self.credentials;
        let is_probe = self.pass.as_ref().is_some_and(|pass| pass.is_probe);
        metrics.credential_refusals.inc();
        if is_probe {
            metrics.credential_probes.with_label_values(&["failure"]).inc();
        }
        if let Some(standing) = self.credentials.state().standing(&self.credential) {
            standing.doubt();
        }
        let read = async {
            let _reading = reading.lock().await;
            if !self.is_settled(is_probe) {
                self.credentials.read().await;
            }
        };
        let _ = tokio::time::timeout_at(by.into(), read).await;
        let mut state = self.credentials.state();
        if !state.is_newest(&self.credential) {
            state.end_overlap(&self.credential);
        } else if let Some(standing) = state.standing(&self.credential)
            && standing.refuse()
        {
            if let Some((previous, _)) = &mut state.previous {
                previous.standing.begin_anew();
            }
            let version = self.credential.version();
            tracing::error!(
                version,
                "the CMS refuses the credential, and the source has no other one"
            );
            events.record(Event::new("credential_refused").credential(&self.credential));
        }
    }

    /// Whether somebody else has asked the source since, so that it is known what comes of a
    /// refusal.
    fn is_settled(&self, is_probe: bool) -> bool {
        let mut state = self.credentials.state();
        if !state.is_newest(&self.credential) {
            return true;
        }
        !is_probe && state.standing(&self.credential).is_some_and(|it| it.is_refused())
    }
}

impl Drop for Loan<'_> {
    /// Those who wait look again, now that it is no longer on its way.
    fn drop(&mut self) {
        self.pass = None;
        self.credentials.verdicts.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
