//! What a request's head must be like before anything else is looked at.
//!
//! hyper has parsed it. What it leaves to us: exactly one Host (RFC 9112, section 3.2), the
//! origin-form of the target, no upgrade, and the limits, which hyper's own are a little above of
//! so that the usual excess gets an answer in the gateway's shape.

use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Request, Version};

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
    /// HTTP/1.1 without a Host header, or with several.
    #[error("the request needs exactly one Host header")]
    Host,
    /// The Host header and `:authority` differ.
    #[error("the Host header and :authority name different hosts")]
    Authority,
    /// A target with a scheme or host in it, in HTTP/1.1.
    #[error("the request's target must be a path, not a whole URL")]
    AbsoluteForm,
    /// A question mark in the target.
    #[error("this operation takes no query")]
    Query,
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
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::Host);
    }
    if request.version() == Version::HTTP_2 {
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        if host.is_some_and(|host| authority.is_some_and(|it| it != host.as_bytes())) {
            return Err(HeadError::Authority);
        }
    } else {
        if host.is_none() && request.version() == Version::HTTP_11 {
            return Err(HeadError::Host);
        }
        if request.uri().scheme().is_some() {
            return Err(HeadError::AbsoluteForm);
        }
    }
    let asks_for_upgrade = headers.contains_key(UPGRADE)
        || headers.get_all(CONNECTION).iter().any(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        });
    if asks_for_upgrade { Err(HeadError::Upgrade) } else { Ok(()) }
}

/// Checks what holds for a request whose operation is known.
pub(super) fn check_target<B>(request: &Request<B>) -> Result<(), HeadError> {
    if request.uri().query().is_some() { Err(HeadError::Query) } else { Ok(()) }
}
