//! What is known of a request before anything about it is decided: its id, its trace, its source.

mod trace;

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) use self::trace::new_span_id;
pub use self::trace::{SpanContext, TRACEPARENT, TRACESTATE, TraceContext};
use crate::telemetry::Spans;

/// The header of a request's id, in requests to the CMS and in answers.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a caller's that is kept, in bytes.
const LONGEST_CLAIM: usize = 128;

/// What is known of a request before anything about it is decided.
#[derive(Debug, Clone)]
pub struct Context {
    /// Made here, a UUIDv7 (RFC 9562, section 5.7): unique, and in the order of time.
    pub request_id: Uuid,
    /// The caller's own `X-Request-Id`: a claim, kept in the audit trail and used for nothing.
    pub claimed_request_id: Option<String>,
    /// The trace that it belongs to: the caller's or, where traces are recorded, a new one.
    pub trace: Option<TraceContext>,
    /// The spans that are recorded of it; nothing where none are.
    pub(crate) spans: Option<Arc<Spans>>,
    /// Where the connection comes from.
    pub source: SocketAddr,
    /// The certificate of the connection's client (see [`Peer::certificate`]).
    pub certificate: Option<[u8; 32]>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// SHA-256 of the certificate, in DER, that it showed in the TLS handshake, and whose key it
    /// proved to have (RFC 8705, section 3.1).
    pub certificate: Option<[u8; 32]>,
}

/// A request's id as its header's value.
///
/// # Errors
///
/// Never: it is digits, letters and hyphens.
pub(crate) fn id_value(id: Uuid) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

impl Context {
    /// Reads the headers; what is malformed in them is not there.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: Peer) -> Self {
        let claimed =
            single(headers, &REQUEST_ID).filter(|id| (1..=LONGEST_CLAIM).contains(&id.len()));
        Self {
            request_id: Uuid::now_v7(),
            claimed_request_id: claimed.map(str::to_owned),
            trace: TraceContext::of(headers),
            spans: None,
            source: peer.address,
            certificate: peer.certificate,
        }
    }

    /// Its place in its trace.
    #[must_use]
    pub fn span(&self) -> Option<SpanContext> {
        let own = self.spans.as_ref().map(|spans| spans.id());
        self.trace.as_ref().map(|trace| trace.at(own))
    }
}

/// The text of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_some() { None } else { first }
}

impl From<SocketAddr> for Peer {
    /// Without a certificate.
    fn from(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }
}
