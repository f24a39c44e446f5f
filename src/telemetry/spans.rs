//! The spans of a request: what it went through, when, and whether it went well.
//!
//! A request that nobody records has none of this, and costs one look at an `Option` a stage. The
//! spans are sent when the last one who works on the request has let go of them, so that they tell
//! of a change to its end even if its client has hung up.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use http::{Method, Request, StatusCode, Version};

use super::otlp::Queue;
use crate::context::{Context, TraceContext, new_span_id};

/// How many bytes of a path that is no operation's are kept.
const LONGEST_PATH: usize = 256;
/// How many spans of one request are kept. Its stages are fewer, save where the CMS is tried often.
const MOST: usize = 32;

/// Begins the spans of requests.
#[derive(Debug)]
pub struct Tracer {
    pub(super) queue: Arc<Queue<Trace>>,
    /// The share of the traces that begin here which is recorded.
    pub(super) sample_ratio: f64,
    /// Of the URLs by which the API is called.
    pub(super) scheme: &'static str,
}

/// The spans of a request that is worked on.
#[derive(Debug)]
pub struct Spans {
    queue: Arc<Queue<Trace>>,
    id: NonZeroU64,
    so_far: Mutex<Option<Trace>>,
}

/// All that is recorded of a request.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) context: TraceContext,
    /// The span of the request as a whole.
    pub(super) id: NonZeroU64,
    pub(super) request: Received,
    /// By both clocks: the one that is told, and the one that never goes back.
    pub(super) began: (SystemTime, Instant),
    /// Nothing where there was nobody to answer.
    pub(super) ended: Option<(Ended, Instant)>,
    pub(super) stages: Vec<Recorded>,
}

/// What came.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) request_id: uuid::Uuid,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) version: Version,
    pub(super) scheme: &'static str,
    pub(super) source: std::net::SocketAddr,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// The answer's status.
    pub(crate) status: StatusCode,
    /// The operation that was asked for; "none" where there is none.
    pub(crate) operation: &'static str,
    /// allow, deny or none.
    pub(crate) decision: &'static str,
    /// The gateway's own code for what went wrong.
    pub(crate) code: Option<&'static str>,
}

/// A span within the request's.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) name: &'static str,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) is_done: bool,
    pub(super) call: Option<Box<Call>>,
}

/// A request to the CMS.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: NonZeroU64,
    pub(super) method: Method,
    /// Scheme and authority.
    pub(super) server: Arc<str>,
    pub(super) status: Option<u16>,
    /// What went wrong, in one word.
    pub(super) fault: Option<&'static str>,
}

/// A stage that is under way. It has failed unless it is told that it is done.
#[derive(Debug)]
#[must_use]
pub(crate) struct Stage<'a>(Option<Open<'a>>);

#[derive(Debug)]
struct Open<'a> {
    spans: &'a Spans,
    name: &'static str,
    began: Instant,
    is_done: bool,
    call: Option<Box<Call>>,
}

impl Tracer {
    /// Begins the spans of a request, if its trace is recorded.
    pub fn begin<B>(&self, context: &mut Context, request: &Request<B>, now: Instant) {
        let trace = context.trace.get_or_insert_with(|| TraceContext::begin(self.sample_ratio));
        if !trace.is_sampled() {
            return;
        }
        let path = request.uri().path();
        let kept = path.floor_char_boundary(LONGEST_PATH);
        let id = new_span_id();
        let trace = Trace {
            context: trace.clone(),
            id,
            request: Received {
                request_id: context.request_id,
                method: request.method().clone(),
                path: path.get(..kept).unwrap_or_default().to_owned(),
                version: request.version(),
                scheme: self.scheme,
                source: context.source,
            },
            began: (SystemTime::now(), now),
            ended: None,
            stages: Vec::with_capacity(8),
        };
        let queue = Arc::clone(&self.queue);
        context.spans = Some(Arc::new(Spans { queue, id, so_far: Mutex::new(Some(trace)) }));
    }
}

impl Context {
    /// Begins a stage of the request.
    pub(crate) fn stage(&self, name: &'static str) -> Stage<'_> {
        Stage(self.spans.as_deref().map(|spans| Open {
            spans,
            name,
            began: Instant::now(),
            is_done: false,
            call: None,
        }))
    }

    /// Begins a request to a server of the CMS, whose span has this id.
    pub(crate) fn call(
        &self,
        id: Option<NonZeroU64>,
        method: &Method,
        server: &Arc<str>,
    ) -> Stage<'_> {
        let Stage(mut open) = self.stage("");
        if let (Some(open), Some(id)) = (&mut open, id) {
            let (method, server) = (method.clone(), Arc::clone(server));
            open.call =
                Some(Box::new(Call { id, method, server, status: None, fault: Some("cancelled") }));
        }
        Stage(open)
    }
}

impl Stage<'_> {
    /// It went well.
    pub(crate) fn done(mut self) {
        if let Some(open) = &mut self.0 {
            open.is_done = true;
        }
    }

    /// What came of a request to the CMS.
    pub(crate) fn ended(mut self, (status, fault): (Option<StatusCode>, Option<&'static str>)) {
        if let Some(Open { is_done, call: Some(call), .. }) = &mut self.0 {
            *is_done = fault.is_none() && status.is_some_and(|status| status.as_u16() < 400);
            (call.status, call.fault) = (status.map(|status| status.as_u16()), fault);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let Self { spans, name, began, is_done, ref mut call } = *self;
        let ended = Instant::now();
        spans.add(Recorded { name, began, ended, is_done, call: call.take() });
    }
}

impl Spans {
    /// The id of the request's own span.
    #[must_use]
    pub fn id(&self) -> NonZeroU64 {
        self.id
    }

    /// Notes how the request is answered.
    pub(crate) fn ended(&self, ended: Ended) {
        if let Some(trace) = &mut *self.so_far.lock().unwrap_or_else(PoisonError::into_inner) {
            trace.ended = Some((ended, Instant::now()));
        }
    }

    fn add(&self, recorded: Recorded) {
        if let Some(trace) = &mut *self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
            && trace.stages.len() < MOST
        {
            trace.stages.push(recorded);
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        let trace = self.so_far.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(trace) = trace {
            self.queue.push(trace);
        }
    }
}
