//! The `Authorization` header (RFC 9110, section 11.6.2; RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Refusal;
use super::binding::Scheme;

/// A token of a size and an alphabet that can be looked at; nothing about it is verified.
#[derive(Clone, Copy)]
pub(super) struct PresentedToken<'a> {
    pub(super) scheme: Scheme,
    pub(super) token: &'a str,
}

/// The longest token, in bytes. Providers' own limits are below it, and a longer one is a way to
/// make this gateway work.
const LONGEST: usize = 8 << 10;

impl<'a> PresentedToken<'a> {
    /// The token of the one `Authorization` header.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::NoToken)?;
        if values.next().is_some() {
            return Err(Refusal::TwoHeaders);
        }
        let value = str::from_utf8(value.as_bytes()).map_err(|_| Refusal::Characters)?;
        if !value.is_ascii() {
            return Err(Refusal::Characters);
        }
        let (name, token) = value.split_once(' ').unwrap_or((value, ""));
        let scheme = if name.eq_ignore_ascii_case("Bearer") {
            Scheme::Bearer
        } else if name.eq_ignore_ascii_case("DPoP") {
            Scheme::Dpop
        } else {
            return Err(Refusal::NoToken);
        };
        let token = token.trim_matches(' ');
        if token.is_empty() {
            return Err(Refusal::NoToken);
        }
        check(token)?;
        Ok(Self { scheme, token })
    }
}

/// The size and the alphabet of a token: `b64token` of RFC 6750, section 2.1.
pub(super) fn check(token: &str) -> Result<(), Refusal> {
    if token.len() > LONGEST {
        return Err(Refusal::TooLarge);
    }
    let body = token.trim_end_matches('=').as_bytes();
    // To the end in any case, as then many bytes are looked at with one instruction.
    let are_of_tokens = body.iter().fold(true, |are, byte| are & is_of_tokens(*byte));
    if are_of_tokens && !body.is_empty() { Ok(()) } else { Err(Refusal::Characters) }
}

fn is_of_tokens(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}
