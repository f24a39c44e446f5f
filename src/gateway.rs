//! THE JOURNEY of a request, in the order in which it happens.
//!
//! ```text
//! admit         bounded work in flight                            503
//! head          one Host, origin-form, no upgrade                 400 431
//! route         exact method and raw path -> an operation         404 405
//! authenticate  token and its sender -> Principal                 401 503
//! read          bounded body -> the operation's own type          400 408 413 415 429
//! authenticate  once more, since a body may take its time         401 503
//! authorize     principal + change -> Permitted                   403
//! record        the intent, durable -> Recorded                   503
//! forward       a request built afresh, with the CMS's credential 502 503 504
//! record        the outcome
//! answer        the CMS's answer, translated
//! ```
//!
//! Each step takes what the one before proved. From the record on, the work goes on without its
//! client: a change that was sent has its outcome on record, whoever has hung up.

mod answered;
pub mod body;
mod finishing;
pub mod head;
mod line;
pub(crate) mod rates;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answered::Answered;
use self::body::Left;
use self::finishing::Finishing;
pub use self::line::Line;
use self::rates::Rates;
use crate::audit::{Audit, Event, Outcome, Receipt};
use crate::config::{Config, Limits};
use crate::context::{Context, Peer};
use crate::credential::Credentials;
use crate::identity::{Call, Identity, Principal, Unauthenticated, Verified};
use crate::operation::{self, Change, Operation};
use crate::part::Part;
use crate::policy::{Permitted, Roles};
use crate::reply::{self, Code, Problem};
use crate::telemetry::{Ended, Metrics, Tracer};
use crate::upstream::{Answer, Failure, Upstream};

/// All that a request needs on its way.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) identity: Part<Identity>,
    pub(crate) credentials: Part<Credentials>,
    pub(crate) upstream: Part<Upstream>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) metrics: Arc<Metrics>,
    answered: Answered,
    roles: Roles,
    limits: Limits,
    rates: Option<Arc<Rates>>,
    /// How many refusals of one holder are news.
    news: Arc<Rates>,
    slots: Arc<Semaphore>,
    /// Where traces are recorded.
    tracer: Option<Arc<Tracer>>,
}

/// The parts of a gateway that have a life of their own.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) identity: Part<Identity>,
    pub(crate) credentials: Part<Credentials>,
    pub(crate) upstream: Part<Upstream>,
}

/// Why a request goes no further.
enum NotPermitted {
    /// Whose it is is proved, and goes on record with it.
    OnRecord(Refused),
    /// It is one of many that share a record.
    Counted(Problem),
}

/// The refusal of a caller whose token is good, with the change that it concerns if it came so far.
struct Refused {
    problem: Problem,
    holder: Arc<Verified>,
    /// The precise reason, which the caller may not be told.
    reason: Cow<'static, str>,
    change: Option<Box<dyn Change>>,
}

impl Gateway {
    /// Puts the stages together. What is counted of callers, and of requests in flight, goes on being
    /// counted where its limit is as before.
    pub(crate) fn new(
        config: &Config,
        parts: Parts,
        audit: Arc<Audit>,
        metrics: Arc<Metrics>,
        tracer: Option<Arc<Tracer>>,
        before: Option<&Self>,
    ) -> Self {
        let Parts { identity, credentials, upstream } = parts;
        let rate = config.limits.rate;
        let rates = match before {
            Some(before) if before.limits.rate == rate => before.rates.clone(),
            _ => rate.and_then(Rates::new).map(Arc::new),
        };
        let news = before.map_or_else(|| Arc::new(Rates::of_news()), |it| Arc::clone(&it.news));
        let most = config.limits.in_flight;
        let slots = match before {
            Some(before) if before.limits.in_flight == most => Arc::clone(&before.slots),
            _ => Arc::new(Semaphore::new(most)),
        };
        Self {
            identity,
            credentials,
            upstream,
            audit,
            answered: Answered::new(&metrics),
            metrics,
            roles: config.roles.clone(),
            rates,
            news,
            slots,
            limits: config.limits.clone(),
            tracer,
        }
    }

    /// What the next gateway may take over.
    pub(crate) fn parts(&self) -> Parts {
        Parts {
            identity: self.identity.clone(),
            credentials: self.credentials.clone(),
            upstream: self.upstream.clone(),
        }
    }

    /// Answers a request.
    pub async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: Peer,
        line: Arc<Line>,
    ) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let mut context = Context::of(request.headers(), peer);
        if let Some(tracer) = &self.tracer {
            tracer.begin(&mut context, &request, started);
        }
        let mut seen = Seen::default();
        let work = self.clone().journey(&context, &mut request, &line, &mut seen);
        let done = work.await;
        let code = done.as_ref().err().map(|problem| problem.code.as_str());
        let mut response = match done {
            Ok(answer) => reply::json(answer.status, answer.body, context.request_id),
            Err(problem) => {
                self.metrics.errors.with_label_values(&[problem.code.as_str()]).inc();
                problem.response(context.request_id)
            }
        };
        let Seen { operation, decision, caller, receipt, nonce, is_in_line, body } = seen;
        if is_in_line {
            line.join(request.version());
        }
        reply::attach(&mut response, receipt.as_ref(), nonce.as_deref());
        if let (Some(rates), Some(caller)) = (&self.rates, &caller) {
            reply::attach_standing(&mut response, rates.standing(caller));
        }
        let status = response.status();
        let elapsed = started.elapsed();
        self.answered.count(&self.metrics, (operation, decision, status), elapsed);
        if let Some(spans) = context.spans.take() {
            spans.ended(Ended { status, operation, decision, code });
        }
        tracing::debug!(request_id = %context.request_id, operation, decision, %status, ?elapsed, "answered");
        // The last of all, as it may wait, and the client may hang up meanwhile.
        if !body::leaves_connection(&mut request, body, &self.limits).await {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn journey(
        self: Arc<Self>,
        context: &Context,
        request: &mut Request<Incoming>,
        line: &Line,
        seen: &mut Seen,
    ) -> Result<Answer, Problem> {
        let slot = self.admit(line, seen).await?;
        head::check(request, &self.limits).inspect_err(|_| seen.body = Left::Broken)?;
        let operation = operation::route(request.method(), request.uri().path())?;
        seen.operation = operation.name;
        head::check_target(request)?;
        let decided = self.decide(context, operation, request, seen).await;
        seen.decision = match &decided {
            Ok(_) => "allow",
            Err(refused) if refused.problem().code.is_denial() => "deny",
            Err(_) => "none",
        };
        // It comes to its end even if the client hangs up.
        let context = context.clone();
        let work = match decided {
            Ok(permitted) => Finishing::new(self.carry_out(context, permitted, slot)),
            Err(NotPermitted::Counted(problem)) => return Err(problem),
            Err(NotPermitted::OnRecord(refused)) => {
                Finishing::new(self.deny(context, operation, refused, slot))
            }
        };
        let done = work.await;
        let (result, receipt) =
            done.map_err(|_| Problem::new(Code::Internal, "an internal error"))??;
        seen.receipt = Some(receipt);
        result
    }

    /// A place among the requests in flight, at once or for those in line a little later.
    async fn admit(&self, line: &Line, seen: &mut Seen) -> Result<Slot, Problem> {
        let slots = Arc::clone(&self.slots);
        let place = match line.patience() {
            None => slots.try_acquire_owned().ok(),
            Some(patience) => {
                seen.is_in_line = true;
                let place = tokio::time::timeout(patience, slots.acquire_owned()).await;
                place.ok().and_then(Result::ok)
            }
        };
        let permit = place.ok_or_else(|| {
            seen.is_in_line = true;
            self.metrics.shed.with_label_values(&["in_flight"]).inc();
            Problem::new(Code::Overloaded, "too many requests are in flight; try again")
        })?;
        Ok(Slot::new(permit, &self.metrics))
    }

    /// Who asks, for what, and whether that may be.
    async fn decide(
        &self,
        context: &Context,
        operation: &'static Operation,
        request: &mut Request<Incoming>,
        seen: &mut Seen,
    ) -> Result<Permitted, NotPermitted> {
        let refuse = |unauthenticated| self.refuse(context, unauthenticated);
        let call = Call::of(request, context.certificate);
        let stage = context.stage("authenticate");
        let principal = self.identity.authenticate(call).await.map_err(refuse)?;
        stage.done();
        seen.caller = Some(Arc::clone(principal.verified()));
        seen.nonce = self.identity.nonce(&principal);
        let stage = context.stage("read");
        let change = self.read(&principal, operation, request, seen).await?;
        stage.done();
        // The body may have taken its time.
        self.identity.recheck(&principal).map_err(refuse)?;
        let stage = context.stage("authorize");
        let permitted = self.roles.authorize(principal, change).map_err(|denied| {
            let (problem, holder) = (Problem::from(&*denied), denied.principal.verified());
            Refused::new(problem, Arc::clone(holder), Some(denied.change))
        })?;
        stage.done();
        Ok(permitted)
    }

    /// What an authenticated caller asks for.
    async fn read(
        &self,
        principal: &Principal,
        operation: &'static Operation,
        request: &mut Request<Incoming>,
        seen: &mut Seen,
    ) -> Result<Box<dyn Change>, Refused> {
        let refused = |problem| Refused::new(problem, Arc::clone(principal.verified()), None);
        if let Some(rates) = &self.rates {
            rates.admit(principal).map_err(refused)?;
        }
        let (left, body) = body::read(request, &self.limits).await;
        seen.body = left;
        let body = body.map_err(|error| refused(error.into()))?;
        let change = (operation.decode)(&body, self.limits.users);
        change.map_err(|fault| refused(fault.into()))
    }

    /// Counts a refusal. What concerns a good token's holder is more: it goes on record, as long as
    /// it is news.
    fn refuse(&self, context: &Context, unauthenticated: Unauthenticated) -> NotPermitted {
        let Unauthenticated { refusal, holder, nonce } = unauthenticated;
        self.metrics.token_refusals.with_label_values(&[refusal.label()]).inc();
        let mut problem = Problem::from(&refusal);
        if self.identity.takes_dpop() {
            problem = problem.offer_dpop(&refusal, nonce);
        }
        let Some(holder) = holder.filter(|holder| self.news.is_news(holder, refusal.label()))
        else {
            self.audit.count_anonymous(refusal);
            return NotPermitted::Counted(problem);
        };
        let (request_id, reason) = (context.request_id, refusal.label());
        tracing::warn!(%request_id, reason, "a good token was not used as it must be");
        let reason = refusal.to_string().into();
        Refused { problem, holder, reason, change: None }.into()
    }

    /// Records that the holder of a good token was refused. Holds its slot to the end.
    async fn deny(
        self: Arc<Self>,
        context: Context,
        operation: &'static Operation,
        refused: Refused,
        _slot: Slot,
    ) -> Result<(Result<Answer, Problem>, Receipt), Problem> {
        let Refused { problem, holder, reason, change } = refused;
        let facts = change.as_deref().map(Change::facts);
        let code = problem.code.as_str();
        let denied = self.audit.denied(&context, &holder, operation, facts, code, &reason);
        let stage = context.stage("record denial");
        let receipt = denied.await?;
        stage.done();
        Ok((Err(problem), receipt))
    }

    /// Record, credential, forward, record. Holds its slot to the end.
    async fn carry_out(
        self: Arc<Self>,
        context: Context,
        permitted: Permitted,
        _slot: Slot,
    ) -> Result<(Result<Answer, Problem>, Receipt), Problem> {
        let stage = context.stage("record intent");
        let recorded = self.audit.intent(&context, permitted).await?;
        stage.done();
        let started = Instant::now();
        let sent = self.upstream.forward(&recorded, &self.credentials, &context).await;
        let result = self.judge(&context, sent.result);
        let code = match &result {
            Ok(answer) => answer.code.as_deref(),
            Err(problem) => Some(problem.code.as_str()),
        };
        let outcome = Outcome {
            status: sent.status.map(|status| status.as_u16()),
            code,
            attempts: sent.attempts,
            duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            tries: &sent.tries,
            answer: sent.words.as_deref(),
            credential: sent.credential.as_deref(),
        };
        let stage = context.stage("record outcome");
        let receipt = self.audit.outcome(recorded, outcome).await;
        stage.done();
        Ok((result, receipt))
    }

    /// What the caller is told of the CMS's answer. One that contradicts the change is an alarm.
    fn judge(&self, context: &Context, result: Result<Answer, Failure>) -> Result<Answer, Problem> {
        let request_id = context.request_id;
        result.map_err(|failure| {
            tracing::warn!(%request_id, %failure, "upstream");
            match &failure {
                Failure::Contradicting(what) => {
                    self.metrics.upstream_contradictions.inc();
                    let alarm = Event::new("answer_contradicts").request(request_id).detail(what);
                    self.audit.events().record(alarm);
                }
                Failure::Forbidden => self.metrics.credential_forbidden.inc(),
                _ => {}
            }
            Problem::from(&failure)
        })
    }

    /// Waits until nothing is in flight any more.
    pub async fn idle(&self) {
        let all = u32::try_from(self.limits.in_flight).unwrap_or(u32::MAX);
        let _ = self.slots.acquire_many(all).await;
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// What the metrics say of a request, and the record that tells of it.
struct Seen {
    operation: &'static str,
    decision: &'static str,
    caller: Option<Arc<Verified>>,
    receipt: Option<Receipt>,
    /// For the caller's next proof.
    nonce: Option<String>,
    /// Whether it stood in line for a place, or the next one on its connection should.
    is_in_line: bool,
    body: Left,
}

impl Default for Seen {
    fn default() -> Self {
        let (operation, decision) = ("none", "none");
        let (caller, receipt, nonce) = (None, None, None);
        let (is_in_line, body) = (false, Left::Unread);
        Self { operation, decision, caller, receipt, nonce, is_in_line, body }
    }
}

/// A place among the requests in flight.
struct Slot {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Slot {
    fn new(permit: OwnedSemaphorePermit, metrics: &Arc<Metrics>) -> Self {
        metrics.in_flight.inc();
        Self { _permit: permit, metrics: Arc::clone(metrics) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

impl NotPermitted {
    fn problem(&self) -> &Problem {
        match self {
            Self::OnRecord(refused) => &refused.problem,
            Self::Counted(problem) => problem,
        }
    }
}

impl From<Refused> for NotPermitted {
    fn from(refused: Refused) -> Self {
        Self::OnRecord(refused)
    }
}

impl Refused {
    fn new(problem: Problem, holder: Arc<Verified>, change: Option<Box<dyn Change>>) -> Self {
        let problem = if holder.is_bound_to_a_key() { problem.in_dpop() } else { problem };
        let reason = problem.message.clone();
        Self { problem, holder, reason, change }
    }
}
