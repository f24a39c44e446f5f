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

use std::convert::Infallible;
use std::fmt::{self, Debug, Display};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use moka::future::Cache;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};
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
    /// One for each request that may wait for an answer.
    waiting: Arc<Semaphore>,
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
        waiting: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        for result in ["active", "inactive", "failure"] {
            let _ = metrics.introspection.with_label_values(&[issuer, result]);
        }
        let _ = metrics.introspection_cache_hits.with_label_values(&[issuer]);
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
            waiting: Arc::new(Semaphore::new(waiting)),
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
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let waiting = waiting.map_err(|_| IntrospectionFault::Busy)?;
        let (_wanted, unwanted) = oneshot::channel();
        let token = Zeroizing::new(token.to_owned());
        let asked = Arc::clone(self).ask_apart(digest, token, now, unwanted, waiting);
        match tokio::spawn(asked).await {
            Ok(answer) => answer.map(|answer| answer.claims),
            Err(_) => Err(IntrospectionFault::Unavailable(Unavailable::Broken)),
        }
    }

    /// What was last wrong with an answer.
    pub(super) fn trouble(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.as_ref().map(|(why, _)| why.to_string())
    }

    /// Asks, or waits with who asks already. When nobody wants to know any more, a question that
    /// is on its way comes to its end all the same, so that there are never more of them than
    /// places; what still waits is given up.
    async fn ask_apart(
        self: Arc<Self>,
        digest: TokenDigest,
        token: Zeroizing<String>,
        now: SystemTime,
        unwanted: oneshot::Receiver<Infallible>,
        waiting: OwnedSemaphorePermit,
    ) -> Result<Answer, IntrospectionFault> {
        let is_on_its_way = AtomicBool::new(false);
        // Whoever waits for one who is given up, asks in its stead.
        let asked = self.answers.try_get_with(digest, self.ask(&token, now, &is_on_its_way));
        let mut asked = pin!(asked);
        let answer = tokio::select! {
            biased;
            answer = &mut asked => answer,
            _ = unwanted => {
                if !is_on_its_way.load(Ordering::Relaxed) {
                    return Err(IntrospectionFault::Busy);
                }
                drop(waiting);
                asked.await
            }
        };
        answer.map_err(|fault| *fault)
    }

    async fn ask(
        &self,
        token: &str,
        now: SystemTime,
        is_on_its_way: &AtomicBool,
    ) -> Result<Answer, IntrospectionFault> {
        let (_place, waited) = self.place().await?;
        is_on_its_way.store(true, Ordering::Relaxed);
        let (now, asked) = (now + waited, Instant::now());
        let told = self.exchange(token).await;
        let result = match told {
            Ok(_) => "active",
            Err(IntrospectionFault::Inactive) => "inactive",
            Err(_) => "failure",
        };
        self.metrics.introspection.with_label_values(&[self.issuer.as_str(), result]).inc();
        if result != "failure" {
            self.recovered();
        }
        Ok(Answer::new(told?, now, asked.elapsed(), self.settings.max_age))
    }

    /// A place among the questions on their way, for which not many may wait, and not for long; and
    /// how long that was.
    async fn place(&self) -> Result<(SemaphorePermit<'_>, Duration), IntrospectionFault> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok((place, Duration::ZERO));
        }
        let came = Instant::now();
        let _waiting = self.queue.try_acquire().map_err(|_| IntrospectionFault::Busy)?;
        match timeout(self.settings.timeout, self.places.acquire()).await {
            Ok(Ok(place)) => Ok((place, came.elapsed())),
            _ => Err(IntrospectionFault::Busy),
        }
    }

    async fn exchange(&self, token: &str) -> Result<Map<String, Value>, IntrospectionFault> {
        let limit = self.settings.timeout;
        let asked = async {
            let secret = self.secret().await?;
            let send = async || {
                let request = question::request(&self.settings, &secret, token)
                    .map_err(|error| self.failed(Unavailable::Secret, error))?;
                Ok::<_, IntrospectionFault>(self.client.exchange(request, limit, LARGEST).await)
            };
            let mut sent = send().await?;
            // As when the provider closed a connection just before; asking again changes nothing.
            if matches!(sent, Err(ExchangeError::Broken(_))) {
                sent = send().await?;
            }
            sent.map_err(|error| {
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

    fn recovered(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.take().is_some() {
            tracing::info!(issuer = self.issuer, "the issuer can be asked about tokens again");
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
