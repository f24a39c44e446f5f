//! The CMS: a request built afresh, sent as often as is safe, its answer translated.
//!
//! Nothing of the client's head or bytes passes through. The request is made from the recorded
//! change: the operation's own method and path, canonical JSON, and an allow-list of headers. Of
//! the answer, status and JSON body are taken and nothing else.
//!
//! A change is sent again when nothing of it was sent before; when a connection that had rested was
//! closed by the CMS at that moment; when the CMS refused the credential and there is another one;
//! and, with `retry.idempotent`, when the CMS was reset or answered 502, 503 or 504. It is the same
//! PUT each time, so that it can't do more than the first.

mod addresses;
mod answer;
mod balance;
mod breaker;
mod connect;
mod ejection;
mod exchange;
mod failure;
mod pool;
mod server;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod tries;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::retry::budget::{Budget, TpsBudget};

pub use self::answer::Answer;
pub(crate) use self::answer::{LONGEST_CODE, RELAYED, retry_after};
use self::balance::{Avoided, Balance, Chosen, NoServer};
use self::exchange::{Connection, ExchangeFault, Exchanged};
pub use self::failure::Failure;
use self::tls::Trust;
use self::tries::Tries;
pub use self::tries::Try;
use crate::audit::Recorded;
use crate::config;
use crate::context::{self, Context, REQUEST_ID, TRACEPARENT, TRACESTATE, new_span_id};
use crate::credential::{Credential, Credentials};
use crate::operation::Change;
use crate::random;
use crate::telemetry::Metrics;
use crate::tls::TlsError;

/// The most bytes of an answer of the CMS.
const LARGEST: usize = 1 << 20;
/// The pause before a server that could not be connected to is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How many exchanges one change may have.
const MOST: usize = 4;
/// The headers of nearly every request, those included that say whom it is for.
const HEADERS: usize = 6;
/// Over which time retries are counted, and how many a second a gateway with little to do has.
const BUDGET: (Duration, u32) = (Duration::from_secs(10), 1);

/// The CMS.
#[derive(Debug)]
pub struct Upstream {
    balance: Balance,
    trust: Arc<Trust>,
    /// As many changes as may be sent at the same time.
    places: Semaphore,
    budget: TpsBudget,
    settings: config::Upstream,
    metrics: Arc<Metrics>,
}

/// What became of a change.
#[derive(Debug)]
pub struct Exchange {
    /// The status of the CMS's last answer, if there was one.
    pub status: Option<StatusCode>,
    /// What it comes to.
    pub result: Result<Answer, Failure>,
    /// How often it was sent.
    pub attempts: u32,
    /// Each try to send it, those included that found no connection.
    pub tries: Vec<Try>,
    /// The credential that was used last.
    pub credential: Option<Arc<Credential>>,
    /// What the CMS said that could not be relayed, cut short.
    pub words: Option<String>,
}

impl Upstream {
    /// Knows the CMS's servers and opens no connection yet.
    ///
    /// # Errors
    ///
    /// When what TLS needs can't be read.
    pub fn new(settings: &config::Upstream, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let needs_tls = settings.targets.iter().any(|target| target.scheme == Scheme::HTTPS);
        let trust = Arc::new(Trust::new(&settings.tls, needs_tls, &metrics)?);
        let (time, at_least) = BUDGET;
        let share = match settings.retry.budget {
            0 => 0.0,
            // One retry costs so many deposits, rounded up: what is left of them is cut off.
            percent => 1.0 / (100_u32.div_ceil(percent) as f32 + 0.5),
        };
        let at_least = if share == 0.0 { 0 } else { at_least };
        Ok(Self {
            balance: Balance::new(settings, &trust, &metrics),
            trust,
            places: Semaphore::new(settings.concurrency),
            budget: TpsBudget::new(time, at_least, share),
            settings: settings.clone(),
            metrics,
        })
    }

    /// Looks after certificates, addresses and servers; for ever.
    pub async fn look_after(&self) {
        tokio::join!(self.trust.watch(), self.balance.look_after(self.settings.probe.as_ref()));
    }

    /// Shows which servers are not asked.
    pub(crate) fn show_circuits(&self) {
        self.balance.show_circuits();
    }

    /// Why the newest certificates are not in force, if they are not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trust.trouble()
    }

    /// Sends a change that is permitted and on record, with the credential that is lent for it.
    pub async fn forward(
        &self,
        recorded: &Recorded,
        credentials: &Credentials,
        context: &Context,
    ) -> Exchange {
        let mut tries = Tries::default();
        let change = recorded.permitted().change();
        let result = self.send(change, credentials, context, &mut tries).await;
        tries.into_exchange(result)
    }

    async fn send(
        &self,
        change: &dyn Change,
        credentials: &Credentials,
        context: &Context,
        tries: &mut Tries,
    ) -> Result<Answer, Failure> {
        let by = Instant::now() + self.settings.response_timeout;
        credentials.check()?;
        let _place = self.place(by).await?;
        let body = change.encode();
        let mut next = Next::default();
        loop {
            let stage = context.stage("connect");
            let (server, connection) = self.connect(&next, by, tries).await?;
            stage.done();
            let stage = context.stage("credential");
            let credential = credentials.lend(by).await?;
            stage.done();
            let span = context.trace.as_ref().map(|_| new_span_id());
            let request = request(change, body.clone(), &credential, context, span)
                .map_err(|error| Failure::Unintelligible(error.to_string()))?;
            if tries.exchanges() == 0 {
                self.budget.deposit();
            }
            let begun = Instant::now();
            let head_by = by.min(begun + self.settings.head_timeout);
            let call = context.call(span, &change.operation().method, server.name());
            let exchanged = connection.exchange(request, head_by, by, LARGEST).await;
            call.ended(match &exchanged {
                Ok(answer) => (Some(answer.status), None),
                Err(fault) => (fault.status(), Some(fault.label())),
            });
            self.metrics.upstream_duration.observe(begun.elapsed().as_secs_f64());
            tries.exchanged(&server, begun, &exchanged, &credential);
            let reason = self.reason_to_repeat(&exchanged, &next);
            let status = exchanged.as_ref().ok().map(|answer| answer.status);
            let result = match exchanged {
                Ok(exchanged) => answer::translate(change, exchanged, &credential),
                Err(fault) => Err(Failure::of(fault, &self.settings)),
            };
            server.observe(&result);
            tries.came_to(&result);
            if result == Err(Failure::Unauthorized) {
                Box::pin(credential.refused(by)).await;
                if !next.has_another_credential && credentials.check().is_ok() {
                    next.has_another_credential = true;
                    continue;
                }
                return result;
            }
            if result.is_ok() || status.is_some_and(answer::lets_in) {
                credential.accepted();
            }
            let Some(reason) = reason else { return result };
            // What was not sent costs the CMS nothing.
            let is_free = reason == Reason::NotSent;
            if tries.exchanges() >= MOST || !is_free && !self.budget.withdraw() {
                return result;
            }
            self.metrics.upstream_retries.with_label_values(&[reason.label()]).inc();
            tracing::info!(request_id = %context.request_id, reason = reason.label(), "sent again");
            next.after(reason, &server);
        }
    }

    /// A place among those that are sent at the same time. Who waits too long is told so while it
    /// is still of use.
    async fn place(&self, by: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let by = by.min(Instant::now() + self.settings.queue_timeout);
        match tokio::time::timeout_at(by.into(), self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => {
                self.metrics.shed.with_label_values(&["queue"]).inc();
                Err(Failure::Shed)
            }
        }
    }

    /// A connection to a server that is well. Where none can be had, nothing is sent, and so it is
    /// tried again for as long as `connect_timeout`: a CMS that is started anew is not noticed.
    async fn connect(
        &self,
        next: &Next,
        by: Instant,
        tries: &mut Tries,
    ) -> Result<(Chosen<'_>, Connection), Failure> {
        let connect_timeout = self.settings.connect_timeout;
        let started = Instant::now();
        let give_up = started + connect_timeout;
        let mut avoided = next.avoided;
        let mut failed = Avoided::default();
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        let failure = loop {
            let now = Instant::now();
            let chosen = match self.balance.choose(avoided) {
                Ok(chosen) => chosen,
                Err(NoServer::AllAvoided) => {
                    let wait = random::jittered(pause);
                    match last {
                        Some(failure) if now + wait >= give_up.min(by) => break failure,
                        Some(_) => tokio::time::sleep(wait).await,
                        // All that is left is what was to be avoided.
                        None => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    avoided = Avoided::default();
                    continue;
                }
                Err(NoServer::CircuitOpen(retry_after)) => {
                    break last.unwrap_or(Failure::CircuitOpen { retry_after });
                }
            };
            // The first try of each server has its whole time; the last one a moment, so that it says
            // what is wrong and not that the time is over.
            let is_again = failed.contains(&chosen);
            let until = if is_again { give_up + LONGEST_PAUSE } else { now + connect_timeout };
            match chosen.connect(next.needs_fresh, by.min(until)).await {
                Ok(connection) => {
                    failed.remove(&chosen);
                    self.balance.observe_unreachable(failed, started);
                    return Ok((chosen, connection));
                }
                Err(error) => {
                    tries.not_connected(&chosen, now, &error);
                    chosen.observe_no_connection();
                    avoided.add(&chosen);
                    failed.add(&chosen);
                    let failure = Failure::Unreachable(error.to_string());
                    // What is wrong with a certificate stays wrong.
                    if !error.may_pass() && self.balance.is_alone() {
                        break failure;
                    }
                    last = Some(failure);
                }
            }
        };
        self.balance.observe_unreachable(failed, started);
        Err(failure)
    }

    fn reason_to_repeat(
        &self,
        exchanged: &Result<Exchanged, ExchangeFault>,
        next: &Next,
    ) -> Option<Reason> {
        let may_repeat = self.settings.retry.idempotent && !next.was_repeated;
        match exchanged {
            Err(ExchangeFault::NotSent(_)) => Some(Reason::NotSent),
            Err(ExchangeFault::Stale(_)) => Some(Reason::Stale),
            Err(ExchangeFault::Broken(_) | ExchangeFault::CutOff(..)) if may_repeat => {
                Some(Reason::Reset)
            }
            Ok(answer) if may_repeat => {
                let is_passing = matches!(
                    answer.status,
                    StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                is_passing.then_some(Reason::Answer)
            }
            _ => None,
        }
    }
}

/// What the next exchange of a change must heed.
#[derive(Debug, Default)]
struct Next {
    avoided: Avoided,
    needs_fresh: bool,
    has_another_credential: bool,
    was_repeated: bool,
}

impl Next {
    fn after(&mut self, reason: Reason, server: &Chosen<'_>) {
        match reason {
            Reason::NotSent | Reason::Stale => self.needs_fresh = true,
            Reason::Reset | Reason::Answer => {
                self.was_repeated = true;
                self.avoided.add(server);
            }
        }
    }
}

/// Why a change is sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Nothing of it was sent.
    NotSent,
    /// A connection that had rested ended before a byte of an answer came.
    Stale,
    /// The connection ended before the answer did.
    Reset,
    /// The CMS's answer says that it will pass.
    Answer,
}

impl Reason {
    const fn label(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Stale => "stale",
            Self::Reset => "reset",
            Self::Answer => "answer",
        }
    }
}

fn request(
    change: &dyn Change,
    body: Bytes,
    credential: &Credential,
    context: &Context,
    span: Option<NonZeroU64>,
) -> Result<Request<Full<Bytes>>, InvalidHeaderValue> {
    let operation = change.operation();
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    headers.insert(&REQUEST_ID, context::id_value(context.request_id)?);
    headers.insert(AUTHORIZATION, credential.authorization()?);
    if let (Some(trace), Some(span)) = (&context.trace, span) {
        headers.insert(&TRACEPARENT, trace.for_upstream(span).try_into()?);
        if let Some(state) = trace.state() {
            headers.insert(&TRACESTATE, state.clone());
        }
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = operation.method.clone();
    *request.uri_mut() = Uri::from_static(operation.path);
    *request.headers_mut() = headers;
    Ok(request)
}
