//! What is known of a request before anything about it is decided: its id, its trace, its source.

use std::net::SocketAddr;

use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::random;

/// The header of a request's id, in requests to the CMS and in answers.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The W3C Trace Context header.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest id of a caller's that is kept, in bytes.
const LONGEST_CLAIM: usize = 128;

/// What is known of a request before anything about it is decided.
#[derive(Debug, Clone)]
pub struct Context {
    /// Made here, a UUIDv7 (RFC 9562, section 5.7): unique, and in the order of time.
    pub request_id: Uuid,
    /// The caller's own `X-Request-Id`: a claim, kept in the audit trail and used for nothing.
    pub claimed_request_id: Option<String>,
    /// The caller's `traceparent`, if it sent a good one.
    pub trace: Option<TraceContext>,
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

/// A W3C Trace Context, version 00, without its parent: the CMS's parent is made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    flags: u8,
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
        let single = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            let first = values.next().and_then(|value| value.to_str().ok());
            if values.next().is_some() { None } else { first }
        };
        let claimed = single(&REQUEST_ID).filter(|id| (1..=LONGEST_CLAIM).contains(&id.len()));
        Self {
            request_id: Uuid::now_v7(),
            claimed_request_id: claimed.map(str::to_owned),
            trace: single(&TRACEPARENT).and_then(TraceContext::parse),
            source: peer.address,
            certificate: peer.certificate,
        }
    }
}

impl From<SocketAddr> for Peer {
    /// Without a certificate.
    fn from(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }
}

impl TraceContext {
    /// Section 3.2.2 of the recommendation, letter by letter.
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace_id, parent_id, flags] = parts.as_slice() else { return None };
        let hexadecimal = |part: &str, length| {
            let is_hexadecimal = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (part.len() == length && is_hexadecimal)
                .then(|| u128::from_str_radix(part, 16).ok())
                .flatten()
        };
        if *version != "00" || hexadecimal(parent_id, 16)? == 0 {
            return None;
        }
        let trace_id = hexadecimal(trace_id, 32).filter(|id| *id != 0)?;
        Some(Self { trace_id, flags: u8::try_from(hexadecimal(flags, 2)?).ok()? })
    }

    /// The trace's id in hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The header for the CMS: the same trace, a parent of this gateway's.
    #[must_use]
    pub fn for_upstream(&self) -> String {
        let parent = u64::from_ne_bytes(random::bytes()).max(1);
        format!("00-{:032x}-{parent:016x}-{:02x}", self.trace_id, self.flags & 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_kept_only_when_it_is_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::parse(good).unwrap();
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let sent = trace.for_upstream();
        assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent.ends_with("-01"));
        assert_ne!(sent, good);
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
