//! The issuer's answer on a token (RFC 7662, section 2.2), and how long it counts.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use moka::Expiry;
use serde_json::{Map, Value};

use super::super::digest::TokenDigest;
use super::fault::{IntrospectionFault, Unavailable};
use crate::client::Exchanged;
use crate::strict_json;

/// What an issuer said of an active token.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) claims: Arc<Map<String, Value>>,
    /// The bytes that it takes in memory, about.
    pub(super) weight: u32,
    /// By the clock.
    until: SystemTime,
    /// As time passes, from when it came.
    lifetime: Duration,
}

impl Answer {
    /// An answer to a question of `now` that took so long.
    pub(super) fn new(
        claims: Map<String, Value>,
        now: SystemTime,
        took: Duration,
        max_age: Duration,
    ) -> Self {
        let longest = now + max_age;
        let until = longest.min(match claims.get("exp") {
            None => longest,
            // An end that is no time is the caller's to refuse, each time anew.
            Some(exp) => exp.as_u64().map_or(now, |seconds| {
                UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(longest)
            }),
        });
        let lifetime = until.duration_since(now).unwrap_or_default().saturating_sub(took);
        let weight = claims.iter().map(|(name, value)| name.len() + weight(value)).sum::<usize>();
        let weight = u32::try_from(weight + size_of::<Self>()).unwrap_or(u32::MAX);
        Self { claims: Arc::new(claims), weight, until, lifetime }
    }

    pub(super) fn counts_at(&self, now: SystemTime) -> bool {
        now < self.until
    }
}

/// Tells the cache how long an answer counts.
pub(super) struct Lifetime;

impl Expiry<TokenDigest, Answer> for Lifetime {
    fn expire_after_create(
        &self,
        _: &TokenDigest,
        answer: &Answer,
        _: Instant,
    ) -> Option<Duration> {
        Some(answer.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &TokenDigest,
        answer: &Answer,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.lifetime)
    }
}

/// The claims of an answer that says that the token is active.
pub(super) fn claims(answer: &Exchanged) -> Result<Map<String, Value>, IntrospectionFault> {
    let unavailable = |why| Err(IntrospectionFault::Unavailable(why));
    match answer.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return unavailable(Unavailable::Refused(answer.status));
        }
        status => return unavailable(Unavailable::Status(status)),
    }
    if !is_json(&answer.headers) {
        return unavailable(Unavailable::ContentType);
    }
    let Ok(Value::Object(mut claims)) = strict_json::parse(&answer.body) else {
        return unavailable(Unavailable::Malformed);
    };
    match claims.shift_remove("active") {
        Some(Value::Bool(true)) => Ok(claims),
        Some(Value::Bool(false)) => Err(IntrospectionFault::Inactive),
        _ => unavailable(Unavailable::Malformed),
    }
}

/// Whether it has one media type, `application/json`, whatever its parameters. The signed form of
/// RFC 9701 is another one, which nobody asked for.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// The bytes that a value takes in memory, about: a list of small numbers takes many times those
/// that it was sent in.
fn weight(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(name, value)| 64 + name.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inner
}
