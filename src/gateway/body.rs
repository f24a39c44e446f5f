//! The reading of a request's body, bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tower::BoxError;

use crate::config::Limits;

/// How long is waited for a body that nobody wants.
const PATIENCE: Duration = Duration::from_millis(20);
/// As much for one of HTTP/2, whose client is asked for more in between, and how much of it is read.
const STREAM_PATIENCE: Duration = Duration::from_millis(250);
const MOST: usize = 1 << 20;

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

/// What is left of a body, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It was read to its end.
    Nothing,
    /// Nobody can tell where it ends.
    Broken,
    /// There may be more of it.
    Unread,
}

/// Reads all of a body that says it is JSON, and tells what is left of it.
pub(super) async fn read(
    request: &mut Request<Incoming>,
    limits: &Limits,
) -> (Left, Result<Bytes, BodyError>) {
    let body = collect(request, limits).await;
    let left = match &body {
        Ok(body) if body.trailers().is_none() => Left::Nothing,
        // Where they end, not everybody says alike: hyper forgives bare LF in them.
        Ok(_) | Err(BodyError::Broken) => Left::Broken,
        Err(_) => Left::Unread,
    };
    (left, body.map(Collected::to_bytes))
}

async fn collect(
    request: &mut Request<Incoming>,
    limits: &Limits,
) -> Result<Collected<Bytes>, BodyError> {
    is_json(request.headers())?;
    let body = request.body_mut();
    // What announces itself as too large is not read at all.
    if body.size_hint().lower() > limits.body as u64 {
        return Err(BodyError::TooLarge(limits.body));
    }
    let reading = Limited::new(body, limits.body).collect();
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Err(_) => Err(BodyError::TooSlow(limits.body_timeout)),
        Ok(Ok(collected)) => Ok(collected),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limits.body)),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}

/// Whether the request's connection can be used for another one: it can't as long as there is more of
/// a body. One that nobody wants and that is about to be there is read for that.
///
/// Of HTTP/2 it is read as well: its stream would be reset behind the answer, rightly (RFC 9113,
/// section 8.1), but there are clients that take that for a failure and never show the answer.
pub(super) async fn leaves_connection(
    request: &mut Request<Incoming>,
    left: Left,
    limits: &Limits,
) -> bool {
    if request.version() >= Version::HTTP_2 {
        if left != Left::Nothing {
            discards(request, MOST, STREAM_PATIENCE).await;
        }
        return true;
    }
    // What comes after a CONNECT is no request for everybody.
    if left == Left::Broken || request.method() == Method::CONNECT {
        return false;
    }
    left == Left::Nothing || discards(request, limits.body, PATIENCE).await
}

/// Reads what is left of a body, and tells whether that was all of it.
async fn discards(request: &mut Request<Incoming>, most: usize, patience: Duration) -> bool {
    if request.body().is_end_stream() {
        return true;
    }
    // A client that expects to be asked for its body keeps it until it is.
    let is_held_back = request.headers().contains_key(EXPECT);
    let body = request.body_mut();
    if is_held_back || body.size_hint().lower() > most as u64 {
        return false;
    }
    let mut rest = Limited::new(body, most);
    let discarded = async {
        while let Some(frame) = rest.frame().await {
            if frame?.is_trailers() {
                return Ok(false);
            }
        }
        Ok::<_, BoxError>(true)
    };
    matches!(tokio::time::timeout(patience, discarded).await, Ok(Ok(true)))
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
