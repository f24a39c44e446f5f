//! One request and its answer on a connection, and what a failure says of the request's fate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use tokio::time::timeout_at;

use super::connect::innermost;
use super::pool::{Http1, Place, Pool};
use super::stream::{Counts, Traffic};
use super::tls::words;

/// How long a request may be on its way for the end of its connection to have crossed it. Whoever
/// has had it for longer has most likely begun to work on it.
const CROSSING: Duration = Duration::from_secs(1);

/// A connection that is ready for one request.
pub(super) struct Connection {
    pub(super) kind: Kind,
    pub(super) base: Arc<Base>,
    pub(super) pool: Arc<Pool>,
}

/// A connection's protocol.
pub(super) enum Kind {
    Http1 { http1: Http1, is_reused: bool },
    Http2(Place),
}

/// Whom a request is for.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// The authority as `Host`.
    pub(super) host: HeaderValue,
}

/// An answer that was read whole.
#[derive(Debug)]
pub(super) struct Exchanged {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is no answer, and what became of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExchangeFault {
    /// No byte of it was written, or the server has said that it did nothing with it (RFC 9113,
    /// section 8.7) or did not accept the gateway's certificate.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// A connection that had served before ended at once, and no byte of an answer had come (RFC
    /// 9112, section 9.3.1): most likely the server closed it as the request was on its way.
    #[error("the connection was at its end: {0}")]
    Stale(String),
    /// The connection broke, or the answer is not HTTP. The request may have had its effect.
    #[error("the answer is broken: {0}")]
    Broken(String),
    /// The same after a head with this status.
    #[error("the answer is broken: {1}")]
    CutOff(StatusCode, String),
    /// The answer's head did not come in time. The request may have had its effect.
    #[error("no answer in time")]
    NoHead,
    /// The answer's head came in time, its end did not. The request may have had its effect.
    #[error("no end of the answer in time")]
    NoEnd(StatusCode),
    /// The answer's body is larger than this many bytes. The request may have had its effect.
    #[error("the answer is larger than {1} bytes")]
    TooLarge(StatusCode, usize),
}

impl ExchangeFault {
    /// The status of the answer, if its head came.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::CutOff(status, _) | Self::NoEnd(status) | Self::TooLarge(status, _) => {
                Some(*status)
            }
            Self::NotSent(_) | Self::Stale(_) | Self::Broken(_) | Self::NoHead => None,
        }
    }

    /// Its name in spans.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Stale(_) => "stale",
            Self::Broken(_) => "broken",
            Self::CutOff(..) => "cut_off",
            Self::NoHead | Self::NoEnd(_) => "timeout",
            Self::TooLarge(..) => "too_large",
        }
    }
}

impl Connection {
    /// Whether it has had an answer before.
    pub(super) fn is_reused(&self) -> bool {
        match &self.kind {
            Kind::Http1 { is_reused, .. } => *is_reused,
            Kind::Http2(place) => place.is_reused,
        }
    }

    /// Sends a request, whose URI is a path alone, and reads the whole answer.
    ///
    /// The connection is used again only after a whole answer; dropping this future closes one of
    /// HTTP/1.1, and resets the request on one of HTTP/2.
    pub(super) async fn exchange(
        self,
        mut request: Request<Full<Bytes>>,
        head_by: Instant,
        whole_by: Instant,
        largest: usize,
    ) -> Result<Exchanged, ExchangeFault> {
        self.base.address(&mut request, matches!(self.kind, Kind::Http2(_)))?;
        let limits = Limits { head_by: head_by.min(whole_by), whole_by, largest };
        let is_reused = self.is_reused();
        match self.kind {
            Kind::Http1 { mut http1, .. } => {
                let attempt = Attempt::begin(&http1.traffic, is_reused);
                let sending = http1.sender.try_send_request(request);
                let exchanged = limits.exchange(sending, attempt).await?;
                self.pool.put_back(http1);
                Ok(exchanged)
            }
            Kind::Http2(place) => {
                let mut sender = place.shared.sender.clone();
                let attempt = Attempt::begin(&place.shared.traffic, is_reused);
                let sending = sender.try_send_request(request);
                let exchanged = limits.exchange(sending, attempt).await;
                match &exchanged {
                    Ok(_) => place.note_answer(),
                    Err(ExchangeFault::TooLarge(..)) => {}
                    // It may be half open: whoever comes next had better have another one.
                    Err(_) => self.pool.retire(&place.shared),
                }
                exchanged
            }
        }
    }
}

impl Base {
    /// Writes whom the request is for as HTTP/1.1 does (RFC 9112, section 3.2), or HTTP/2
    /// (RFC 9113, section 8.3.1).
    fn address(
        &self,
        request: &mut Request<Full<Bytes>>,
        is_http2: bool,
    ) -> Result<(), ExchangeFault> {
        if !is_http2 {
            request.headers_mut().insert(HOST, self.host.clone());
            return Ok(());
        }
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        let whole = Uri::from_parts(parts);
        *request.uri_mut() = whole.map_err(|error| ExchangeFault::NotSent(error.to_string()))?;
        Ok(())
    }
}

struct Limits {
    head_by: Instant,
    whole_by: Instant,
    largest: usize,
}

impl Limits {
    async fn exchange(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>>,
        attempt: Attempt<'_>,
    ) -> Result<Exchanged, ExchangeFault> {
        let answer = match timeout_at(self.head_by.into(), sending).await {
            Err(_) => return Err(ExchangeFault::NoHead),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(attempt.fate(&error)),
        };
        let (head, body) = answer.into_parts();
        if body.size_hint().lower() > self.largest as u64 {
            return Err(ExchangeFault::TooLarge(head.status, self.largest));
        }
        let body = Limited::new(body, self.largest).collect();
        match timeout_at(self.whole_by.into(), body).await {
            Err(_) => Err(ExchangeFault::NoEnd(head.status)),
            Ok(Ok(body)) => {
                let (status, headers) = (head.status, head.headers);
                Ok(Exchanged { status, headers, body: body.to_bytes() })
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(ExchangeFault::TooLarge(head.status, self.largest))
            }
            Ok(Err(error)) => {
                Err(ExchangeFault::CutOff(head.status, told(innermost(error.as_ref()))))
            }
        }
    }
}

/// A request on its way.
struct Attempt<'a> {
    traffic: &'a Traffic,
    before: Counts,
    begun: Instant,
    is_reused: bool,
}

impl<'a> Attempt<'a> {
    /// To be called before hyper has the request, which it may write at once on another thread.
    fn begin(traffic: &'a Traffic, is_reused: bool) -> Self {
        Self { traffic, before: traffic.counts(), begun: Instant::now(), is_reused }
    }

    /// What became of a request that has no answer.
    fn fate<B>(&self, error: &TrySendError<B>) -> ExchangeFault {
        let (before, after) = (self.before, self.traffic.counts());
        let cause = innermost(error.error());
        let is_untouched = error.message().is_some() || before.written == after.written;
        if is_untouched || was_not_taken(cause) {
            return ExchangeFault::NotSent(told(cause));
        }
        if after.read > before.read || error.error().is_timeout() {
            return ExchangeFault::Broken(told(cause));
        }
        if self.is_reused && self.begun.elapsed() < CROSSING {
            return ExchangeFault::Stale(told(cause));
        }
        // In TLS 1.3 a client hears only now that its certificate is refused; the server has read
        // nothing of the request then, since the handshake did not end for it.
        match words::of_refusal(error.error()) {
            Some(refusal) if !self.is_reused => ExchangeFault::NotSent(refusal),
            _ => ExchangeFault::Broken(told(cause)),
        }
    }
}

/// A cause in our words. The debug data of a GOAWAY are the server's: up to a frame of whatever it
/// likes.
fn told(cause: &(dyn std::error::Error + 'static)) -> String {
    let reason = cause.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
    reason.map_or_else(|| cause.to_string(), |reason| format!("HTTP/2: {reason}"))
}

/// Whether the server of HTTP/2 says that it did nothing with the request: it refused the stream, or
/// went away and counted it among those that came too late (RFC 9113, section 8.7).
fn was_not_taken(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (is_refused || error.is_go_away())
    })
}
