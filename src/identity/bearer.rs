//! The `Authorization` header (RFC 9110, section 11.6.2; RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Refusal;

/// A token of a size and an alphabet that can be looked at; nothing about it is verified.
pub(super) struct Bearer<'a>(&'a str);

/// The longest token, in bytes. Providers' own limits are below it, and a longer one is a way to
/// make this gateway work.
const LONGEST: usize = 8 << 10;

impl<'a> Bearer<'a> {
    /// The token of the one `Authorization` header.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::NoToken)?;
        if values.next().is_some() {
            return Err(Refusal::TwoHeaders);
        }
        let value = value.to_str().map_err(|_| Refusal::Malformed("header is not ASCII"))?;
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return Err(Refusal::NoToken);
        }
        let token = token.trim_matches(' ');
        if token.is_empty() {
            return Err(Refusal::NoToken);
        }
        if token.len() > LONGEST {
            return Err(Refusal::TooLarge);
        }
        Ok(Self(token))
    }

    pub(super) fn token(&self) -> &'a str {
        self.0
    }
}
