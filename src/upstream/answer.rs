//! The CMS's answer: what of it may be relayed, and what it means where it may not.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::Failure;
use super::exchange::Exchanged;
use crate::credential::Credential;
use crate::operation::{Change, Echo};

/// The longest error code of the CMS's, in bytes.
pub(crate) const LONGEST_CODE: usize = 64;
/// The statuses with which its answers are relayed.
pub(crate) const RELAYED: &[StatusCode] = &[
    StatusCode::OK,
    StatusCode::NO_CONTENT,
    StatusCode::BAD_REQUEST,
    StatusCode::NOT_FOUND,
    StatusCode::INTERNAL_SERVER_ERROR,
];
/// The most bytes of the CMS's words that are kept.
const LONGEST_WORDS: usize = 1024;
/// For how long the CMS can ask to be left alone.
const LONGEST_REST: u64 = 60;

/// What the CMS said, in words that the caller may hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status, one of `RELAYED`.
    pub status: StatusCode,
    /// Its body, JSON; empty with a 204.
    pub body: Bytes,
    /// The error code in the body, if it is an error.
    pub code: Option<String>,
}

/// The CMS's own shape of an error, as far as it must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CmsError {
    status_code: u16,
    error_code: String,
    #[serde(rename = "errorMessage")]
    _error_message: String,
}

/// What an answer comes to.
pub(super) fn translate(
    change: &dyn Change,
    exchanged: Exchanged,
    credential: &Credential,
) -> Result<Answer, Failure> {
    let Exchanged { status, headers, body } = exchanged;
    let unintelligible = |why: &str| Err(Failure::Unintelligible(format!("{status}, {why}")));
    match status {
        StatusCode::UNAUTHORIZED => return Err(Failure::Unauthorized),
        StatusCode::FORBIDDEN => return Err(Failure::Forbidden),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            return Err(Failure::Busy { status, retry_after: retry_after(&headers) });
        }
        StatusCode::NO_CONTENT => return Ok(Answer { status, body: Bytes::new(), code: None }),
        status if RELAYED.contains(&status) => {}
        _ => return unintelligible("which this operation does not have"),
    }
    if !is_json(&headers) {
        return unintelligible("whose body is not application/json");
    }
    if credential.is_in(&body) {
        return unintelligible("whose body repeats the gateway's credential");
    }
    if status == StatusCode::OK {
        return match change.echo(&body) {
            Echo::Agrees => Ok(Answer { status, body, code: None }),
            Echo::Contradicts(what) => Err(Failure::Contradicting(what)),
            Echo::Missing => unintelligible("whose body is no answer to this change"),
        };
    }
    match serde_json::from_slice::<CmsError>(&body) {
        Ok(error)
            if error.status_code == status.as_u16() && error.error_code.len() <= LONGEST_CODE =>
        {
            Ok(Answer { status, body, code: Some(error.error_code) })
        }
        _ => unintelligible("whose body has not the CMS's shape of an error"),
    }
}

/// Whether the CMS has let the gateway in, whatever it thinks of the change.
pub(super) fn lets_in(status: StatusCode) -> bool {
    status.is_success()
        || matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
}

/// The beginning of a body, for the record of an answer that is not relayed.
pub(super) fn words(body: &[u8], credential: &Credential) -> String {
    if credential.is_in(body) {
        return "(withheld: it repeats the gateway's credential)".to_owned();
    }
    let kept = body.get(..LONGEST_WORDS).unwrap_or(body);
    String::from_utf8_lossy(kept).into_owned()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

/// Seconds or a date (RFC 9110, section 10.2.3), of which no more than a minute counts.
pub(crate) fn retry_after(headers: &HeaderMap) -> Duration {
    let value = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let seconds = value.trim().parse::<u64>().ok().or_else(|| {
        let until = httpdate::parse_http_date(value.trim()).ok()?;
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        Some(left.as_secs_f64().ceil() as u64)
    });
    Duration::from_secs(seconds.unwrap_or_default().clamp(1, LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_cms_may_ask_for_a_minute_at_the_most() {
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers).as_secs()
        };
        assert_eq!(retry_after(&HeaderMap::new()).as_secs(), 1);
        for (value, seconds) in [
            ("7", 7),
            ("0", 1),
            ("61", 60),
            ("99999999999999999999", 1),
            ("-1", 1),
            ("soon", 1),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 60),
        ] {
            assert_eq!(asked(value), seconds, "{value}");
        }
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        assert!((29..=30).contains(&asked(&soon)), "{soon}");
    }
}
