//! The CMS's user name and password: held, kept fresh, and not used again once refused.
//!
//! The CMS locks an account after a few wrong passwords. So when it answers 401, the source is
//! read once for all who wait; only another credential is tried, once. Else the credential is
//! marked as refused and stays unused until the source has another one, but for one try after a
//! pause that grows from one second to sixty.

mod env;
mod file;
pub(crate) mod source;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use zeroize::Zeroizing;

pub use self::source::{Pending, Secret, Source, SourceError};
use crate::audit::{Event, Events};
use crate::random;
use crate::telemetry::Metrics;

/// The pause after which a refused credential is tried for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two such tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A user name and password, as the `Authorization` header that they make (RFC 7617).
///
/// Its memory is zeroed when the last copy is dropped, and it can't be printed.
pub struct Credential {
    authorization: Bytes,
    source: &'static str,
    version: Option<String>,
}

impl Credential {
    fn new(secret: &Secret, source: &'static str) -> Self {
        let Secret { username, password, version } = secret;
        let pair = Zeroizing::new(format!("{}:{}", **username, **password));
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let authorization = Zeroizing::new(format!("Basic {}", *encoded).into_bytes());
        Self { authorization: Bytes::from_owner(authorization), source, version: version.clone() }
    }

    /// The header's value, marked as sensitive.
    ///
    /// # Errors
    ///
    /// Never, since what a source gives holds no control character.
    pub(crate) fn authorization(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let mut value = HeaderValue::from_maybe_shared(self.authorization.clone())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The kind of source that it came from.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The source's own name for this version of it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authorization: _, source, version } = self;
        formatter
            .debug_struct("Credential")
            .field("source", source)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

/// Why no credential is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The source never gave one.
    #[error("the source has given no credential yet")]
    Unavailable,
    /// The CMS has refused it, and it is not yet time to try again.
    #[error("the CMS has refused the credential")]
    Refused {
        /// When it is.
        retry_after: Duration,
    },
}

/// The current credential.
#[derive(Debug)]
pub struct Credentials {
    source: Arc<dyn Source>,
    refresh: Duration,
    current: ArcSwapOption<Credential>,
    last_read: Mutex<Option<Instant>>,
    refused: Mutex<Option<Refused>>,
    /// Held while the source is read.
    reading: tokio::sync::Mutex<()>,
    events: Events,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Refused {
    credential: Arc<Credential>,
    /// When it was used last.
    since: Instant,
    pause: Duration,
    /// When the source was last read because of it.
    read: Instant,
}

impl Credentials {
    /// Knows the source and has read nothing.
    #[must_use]
    pub fn new(
        settings: &crate::config::Credential,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            source: Arc::clone(&settings.source),
            refresh: settings.refresh,
            current: ArcSwapOption::empty(),
            last_read: Mutex::default(),
            refused: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            events,
            metrics,
        }
    }

    /// Reads the source at once and then again and again.
    pub async fn refresh_for_ever(&self) {
        loop {
            {
                let _reading = self.reading.lock().await;
                self.read().await;
            }
            tokio::time::sleep(random::jittered(self.refresh)).await;
        }
    }

    /// The credential for a request.
    ///
    /// # Errors
    ///
    /// When there is none, or the CMS has refused it and it is not yet time to try again.
    pub fn lend(&self) -> Result<Arc<Credential>, CredentialError> {
        let current = self.current.load_full().ok_or(CredentialError::Unavailable)?;
        let mut refused = self.refused();
        let Some(mark) = refused.as_mut() else { return Ok(current) };
        if let Some(left) = mark.pause.checked_sub(mark.since.elapsed()) {
            return Err(CredentialError::Refused { retry_after: left });
        }
        mark.since = Instant::now();
        mark.pause = (mark.pause * 2).min(LONGEST_PAUSE);
        Ok(current)
    }

    /// The CMS has refused this credential: gives another one, if the source has one by now.
    pub async fn refuse(&self, credential: &Arc<Credential>) -> Option<Arc<Credential>> {
        let _reading = self.reading.lock().await;
        let is_current = |store: &Self| {
            store.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, credential))
        };
        let is_known = self.refused().as_ref().is_some_and(|mark| {
            Arc::ptr_eq(&mark.credential, credential) && mark.read.elapsed() < FIRST_PAUSE
        });
        if is_current(self) && !is_known {
            self.read().await;
        }
        if !is_current(self) {
            return self.current.load_full();
        }
        let mut refused = self.refused();
        if let Some(mark) = refused.as_mut() {
            mark.read = if is_known { mark.read } else { Instant::now() };
        } else {
            *refused = Some(Refused {
                credential: Arc::clone(credential),
                since: Instant::now(),
                pause: FIRST_PAUSE,
                read: Instant::now(),
            });
            self.metrics.credential_refused.set(1);
            tracing::error!("the CMS refuses the credential, and the source has no other one");
            self.events.record(Event::new("credential_refused").credential(credential));
        }
        None
    }

    /// The CMS has accepted this credential.
    pub fn accept(&self, credential: &Arc<Credential>) {
        let mut refused = self.refused();
        if refused.as_ref().is_some_and(|mark| Arc::ptr_eq(&mark.credential, credential)) {
            *refused = None;
            self.metrics.credential_refused.set(0);
            self.events.record(Event::new("credential_accepted").credential(credential));
        }
    }

    /// How long ago the source was last read well; nothing when it never was.
    pub fn age(&self) -> Option<Duration> {
        let last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        last_read.map(|at| at.elapsed())
    }

    /// Whether the CMS has refused the current credential.
    pub fn is_refused(&self) -> bool {
        self.refused().is_some()
    }

    async fn read(&self) {
        match self.source.fetch().await {
            Ok(secret) => {
                self.metrics.credential_refresh.with_label_values(&["success"]).inc();
                self.replace(Credential::new(&secret, self.source.name()));
            }
            Err(error) => {
                self.metrics.credential_refresh.with_label_values(&["failure"]).inc();
                tracing::warn!(%error, "the credential can't be read");
            }
        }
    }

    /// Takes what was read. The same credential stays the same one, with its mark if it has one.
    fn replace(&self, credential: Credential) {
        let before = self.current.load_full();
        if before.as_ref().is_none_or(|old| old.authorization != credential.authorization) {
            self.exchange(credential, before.is_none());
        }
        // The last: whoever sees it finds the credential.
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn exchange(&self, credential: Credential, is_first: bool) {
        let name = if is_first { "credential_loaded" } else { "credential_rotated" };
        tracing::info!(version = credential.version, "{name}");
        self.events.record(Event::new(name).credential(&credential));
        self.current.store(Some(Arc::new(credential)));
        *self.refused() = None;
        self.metrics.credential_refused.set(0);
    }

    fn refused(&self) -> MutexGuard<'_, Option<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
