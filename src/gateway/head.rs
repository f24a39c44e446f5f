//! What a request's head must be like before anything else is looked at.
//!
//! hyper has parsed it. What it leaves to us: exactly one Host (RFC 9112, section 3.2), the
//! origin-form of the target, chunks as the one coding, no upgrade, and the limits, which hyper's own
//! are a little above of so that the usual excess gets an answer in the gateway's shape.
//!
//! Whoever stands before the gateway may have read such a head in another way, so nothing more is
//! read on its connection.

use std::net::Ipv6Addr;

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Version};

use crate::config::Limits;

/// Why a head is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Too many bytes.
    #[error("the request's line and headers are larger than {0} bytes")]
    TooLarge(usize),
    /// Too many headers.
    #[error("the request has more than {0} headers")]
    TooManyHeaders(usize),
    /// HTTP/1.1 without a Host header, or with several; HTTP/2 without it and `:authority`.
    #[error("the request needs exactly one Host header")]
    Host,
    /// Something else than a host and a port in one of these.
    #[error("the request's host must be a name or an address, and a port or none")]
    HostName,
    /// The Host header and `:authority` differ.
    #[error("the Host header and :authority name different hosts")]
    Authority,
    /// A target with a scheme or host in it, in HTTP/1.1.
    #[error("the request's target must be a path, not a whole URL")]
    AbsoluteForm,
    /// A question mark in the target.
    #[error("this operation takes no query")]
    Query,
    /// A body of which nobody can tell for sure where it ends.
    #[error("the request's Transfer-Encoding must be chunked and nothing else")]
    Coding,
    /// A header that counts, said to be the connection's.
    #[error("the Connection header names a header that is not the connection's")]
    Listed,
    /// An upgrade of the connection.
    #[error("the connection can't be upgraded")]
    Upgrade,
}

/// Checks what holds for every request.
pub(super) fn check<B>(request: &Request<B>, limits: &Limits) -> Result<(), HeadError> {
    let headers = request.headers();
    if headers.len() > limits.headers {
        return Err(HeadError::TooManyHeaders(limits.headers));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    // As HTTP/1.1 writes them: a colon, a space and a line's end with each header.
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if target + fields.sum::<usize>() > limits.head {
        return Err(HeadError::TooLarge(limits.head));
    }
    check_host(request)?;
    check_codings(headers)?;
    check_options(headers)
}

fn check_host<B>(request: &Request<B>) -> Result<(), HeadError> {
    let uri = request.uri();
    let mut hosts = request.headers().get_all(HOST).iter().map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::Host);
    }
    let mut authority = None;
    if request.version() == Version::HTTP_2 {
        authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        if host.is_some() && authority.is_some() && host != authority {
            return Err(HeadError::Authority);
        }
    } else if uri.scheme().is_some() {
        return Err(HeadError::AbsoluteForm);
    }
    match host.or(authority) {
        Some(host) if is_host(host) => Ok(()),
        Some(_) => Err(HeadError::HostName),
        None if request.version() < Version::HTTP_11 => Ok(()),
        None => Err(HeadError::Host),
    }
}

/// A name of letters, digits, hyphens, dots and underscores, or an address, and a port or none
/// (RFC 9110, section 7.2): no user, and none of the marks at which others might cut it.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok());
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    is_port
        && match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(is_of_names),
        }
}

/// hyper takes what ends in `chunked` for chunks.
fn check_codings(headers: &HeaderMap) -> Result<(), HeadError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain =
        codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if is_plain && codings.next().is_none() { Ok(()) } else { Err(HeadError::Coding) }
}

/// Headers on which an answer depends. Who names one in `Connection` says that it is for the next
/// recipient alone (RFC 9110, section 7.6.1): another server would have let it fall.
const DECISIVE: [&str; 8] = [
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "dpop",
    "expect",
    "host",
    "transfer-encoding",
];

fn check_options(headers: &HeaderMap) -> Result<(), HeadError> {
    if headers.contains_key(UPGRADE) {
        return Err(HeadError::Upgrade);
    }
    let values = headers.get_all(CONNECTION).iter();
    for option in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let is = |name: &str| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        if is("upgrade") {
            return Err(HeadError::Upgrade);
        }
        if DECISIVE.into_iter().any(is) {
            return Err(HeadError::Listed);
        }
    }
    Ok(())
}

/// Checks what holds for a request whose operation is known.
pub(super) fn check_target<B>(request: &Request<B>) -> Result<(), HeadError> {
    if request.uri().query().is_some() { Err(HeadError::Query) } else { Ok(()) }
}
