//! The reading of a request's body, bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

use crate::config::Limits;

/// Why a body can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not `application/json`.
    #[error("the body must be application/json, and one Content-Type must say so")]
    MediaType,
    /// Compressed.
    #[error("the body must not be encoded; send it without Content-Encoding")]
    Encoded,
    /// Too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Too slow.
    #[error("the body did not arrive within {}", humantime::format_duration(*.0))]
    TooSlow(Duration),
    /// Cut off, or not framed as HTTP frames bodies.
    #[error("the body was cut off or is not framed as it should be")]
    Broken,
}

/// Reads all of a body that says it is JSON.
pub(super) async fn read(request: Request<Incoming>, limits: &Limits) -> Result<Bytes, BodyError> {
    let (head, body) = request.into_parts();
    is_json(&head.headers)?;
    // What announces itself as too large is not read at all.
    if body.size_hint().lower() > limits.body as u64 {
        return Err(BodyError::TooLarge(limits.body));
    }
    let reading = Limited::new(body, limits.body).collect();
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Err(_) => Err(BodyError::TooSlow(limits.body_timeout)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limits.body)),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

/// JSON has no charset but UTF-8 (RFC 8259, section 8.1), so one may be named and must be that.
fn is_json(headers: &HeaderMap) -> Result<(), BodyError> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(BodyError::Encoded);
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else {
        return Err(BodyError::MediaType);
    };
    let media_type = media_type.to_str().map_err(|_| BodyError::MediaType)?;
    let mut parts = media_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|it| it.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if is_json && is_utf8 { Ok(()) } else { Err(BodyError::MediaType) }
}
