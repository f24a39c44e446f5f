//! An issuer that is asked about its tokens, because they are opaque (RFC 7662).
//!
//! A good answer counts for a few seconds, and never beyond the token's own end. All who ask about
//! one token at the same time wait for the same answer, and only so many questions are on their way
//! at once. Whatever goes wrong, the token is not accepted: nothing but an answer that says
//! `"active": true` makes it so, and nothing but that is remembered.

mod answer;
mod fault;
mod question;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use moka::future::Cache;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use zeroize::Zeroizing;

pub(super) use self::fault::IntrospectionFault;
use self::fault::Unavailable;

use self::answer::{Answer, Lifetime};
use super::digest::{TokenDigest, TokenDigests};
use crate::client::{Client, ClientError, ExchangeError};
use crate::config;
use crate::secret;
use crate::telemetry::Metrics;

/// The most bytes that the remembered answers may take.
const MEMORY: u64 = 4 << 20;
/// The most bytes of an answer.
const LARGEST: usize = 64 << 10;
/// How often the log repeats one and the same trouble.
const REPEAT: Duration = Duration::from_secs(10);

/// An issuer that is asked about its tokens.
pub(super) struct Introspection {
    issuer: String,
    settings: config::Introspection,
    client: Client<Full<Bytes>>,
    digests: Arc<TokenDigests>,
    answers: Cache<TokenDigest, Answer>,
    /// One for each question that may be on its way.
    places: Semaphore,
    /// One for each that may wait for a place.
    queue: Semaphore,
    /// Of all that wait for a provider.
    waiting_anywhere: Arc<Semaphore>,
    /// What the log was told last, and when.
    said: Mutex<Option<(Unavailable, Instant)>>,
    metrics: Arc<Metrics>,
}

impl Introspection {
    /// Knows where to ask and has asked nothing.
    ///
    /// # Errors
    ///
    /// When the client can't be built.
    pub(super) fn new(
        issuer: &str,
        settings: &config::Introspection,
        digests: Arc<TokenDigests>,
        waiting_anywhere: Arc<Semaphore>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        let client = Client::new(settings.url.scheme(), settings.ca.clone(), settings.timeout)?;
        let answers = Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_, answer: &Answer| answer.weight)
            .expire_after(Lifetime)
            .build();
        Ok(Self {
            issuer: issuer.to_owned(),
            client,
            digests,
            answers,
            places: Semaphore::new(settings.concurrency),
            queue: Semaphore::new(settings.waiting),
            waiting_anywhere,
            said: Mutex::default(),
            metrics,
            settings: settings.clone(),
        })
    }

    /// What the issuer says of an active token (RFC 7662, section 2.2), without `active` itself.
    ///
    /// It is not judged here: audience, times and actor are the caller's to check at each use.
    /// Nobody is kept waiting by another who stops asking.
    pub(super) async fn claims(
        self: &Arc<Self>,
        token: &str,
        now: SystemTime,
    ) -> Result<Arc<Map<String, Value>>, IntrospectionFault> {
        let digest = self.digests.of(token);
        if let Some(answer) = self.answers.get(&digest).await {
            if answer.counts_at(now) {
                let hits = &self.metrics.introspection_cache_hits;
                hits.with_label_values(&[self.issuer.as_str()]).inc();
                return Ok(answer.claims);
            }
            // The cache measures time as it passes; the clock was set meanwhile.
            self.answers.invalidate(&digest).await;
        }
        let waiting = self.waiting_anywhere.try_acquire();
        let _waiting = waiting.map_err(|_| IntrospectionFault::Busy)?;
        // Whoever waits for one who then stops asking, asks in its stead.
        match self.answers.try_get_with(digest, self.ask_apart(token, now)).await {
            Ok(answer) => Ok(answer.claims),
            Err(fault) => Err(*fault),
        }
    }

    /// What was last wrong with an answer.
    pub(super) fn trouble(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.as_ref().map(|(why, _)| why.to_string())
    }

    /// A question comes to its end also when nobody waits for it any more, so that there are never
    /// more of them on their way than there are places.
    async fn ask_apart(
        self: &Arc<Self>,
        token: &str,
        now: SystemTime,
    ) -> Result<Answer, IntrospectionFault> {
        let (asking, token) = (Arc::clone(self), Zeroizing::new(token.to_owned()));
        let asked = tokio::spawn(async move { asking.ask(&token, now).await }).await;
        asked.unwrap_or(Err(IntrospectionFault::Unavailable(Unavailable::Broken)))
    }

    async fn ask(&self, token: &str, now: SystemTime) -> Result<Answer, IntrospectionFault> {
        let _place = self.place().await?;
        let asked = Instant::now();
        let told = self.exchange(token).await;
        let result = match told {
            Ok(_) => "active",
            Err(IntrospectionFault::Inactive) => "inactive",
            Err(_) => "failure",
        };
        self.metrics.introspection.with_label_values(&[self.issuer.as_str(), result]).inc();
        Ok(Answer::new(told?, now, asked.elapsed(), self.settings.max_age))
    }

    /// A place among the questions on their way, for which not many may wait, and not for long.
    async fn place(&self) -> Result<SemaphorePermit<'_>, IntrospectionFault> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = self.queue.try_acquire().map_err(|_| IntrospectionFault::Busy)?;
        match timeout(self.settings.timeout, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(IntrospectionFault::Busy),
        }
    }

    async fn exchange(&self, token: &str) -> Result<Map<String, Value>, IntrospectionFault> {
        let limit = self.settings.timeout;
        let asked = async {
            let secret = self.secret().await?;
            let request = question::request(&self.settings, &secret, token)
                .map_err(|error| self.failed(Unavailable::Secret, error))?;
            drop(secret);
            self.client.exchange(request, limit, LARGEST).await.map_err(|error| {
                let why = match error {
                    ExchangeError::Connect(_) => Unavailable::NoConnection,
                    ExchangeError::TimedOut(_) => Unavailable::TooSlow,
                    ExchangeError::TooLarge(_) => Unavailable::TooLarge,
                    ExchangeError::Broken(_) => Unavailable::Broken,
                };
                self.failed(why, error)
            })
        };
        let answer = match timeout(limit, asked).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.failed(Unavailable::TooSlow, Unavailable::TooSlow)),
        };
        answer::claims(&answer).map_err(|fault| match fault {
            IntrospectionFault::Unavailable(why) => self.failed(why, why),
            fault => fault,
        })
    }

    /// Read for each question, so that a rotation needs no restart.
    async fn secret(&self) -> Result<zeroize::Zeroizing<String>, IntrospectionFault> {
        let path = self.settings.client_secret.clone();
        let read = tokio::task::spawn_blocking(move || secret::read(&path)).await;
        match read.map_err(|error| error.to_string()).and_then(|read| read) {
            Ok((text, _)) if text.is_empty() => {
                Err(self.failed(Unavailable::Secret, "its file is empty"))
            }
            Ok((text, _)) => Ok(text),
            Err(error) => Err(self.failed(Unavailable::Secret, error)),
        }
    }

    /// Says so in the log, but not for each of many tokens: anyone can send those without end.
    fn failed(&self, why: Unavailable, detail: impl Display) -> IntrospectionFault {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|(known, at)| known != why || at.elapsed() >= REPEAT) {
            *said = Some((why, Instant::now()));
            tracing::warn!(issuer = self.issuer, %why, %detail, "the issuer can't be asked about tokens");
        }
        IntrospectionFault::Unavailable(why)
    }
}

impl Debug for Introspection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Introspection")
            .field("issuer", &self.issuer)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
