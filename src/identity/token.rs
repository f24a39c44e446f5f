//! A JWS in compact form (RFC 7515, section 7.1) and the claims that it carries.
//!
//! `jsonwebtoken` checks the signature. It accepts more in header and claims than RFC 8725 lets a
//! receiver take (any `crit`, any `typ`, an `iss` that is a list, doubled members), so these are
//! read here, strictly, and the crate gets one key with one algorithm.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::Refusal;
use super::keys::Key;
use crate::strict_json;

/// A token that was read, and of which nothing is proved.
pub(super) struct UnverifiedToken<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Claims,
    /// Header and claims as they were signed.
    message: &'a str,
    signature: &'a str,
}

/// The members of a JWT's claims set (RFC 7519, section 4), none of them twice.
#[derive(Debug, Clone)]
pub(super) struct Claims(Map<String, Value>);

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed;
        let (message, signature) = token.rsplit_once('.').ok_or(malformed("not three parts"))?;
        let (header, claims) = message.split_once('.').ok_or(malformed("not three parts"))?;
        if claims.contains('.') {
            return Err(malformed("not three parts"));
        }
        // Refuses padding, other alphabets and bits left over, so that a token has one spelling.
        let decode = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("not base64url without padding"))
        };
        let header = strict_json::parse(&decode(header)?)
            .map_err(|_| malformed("header is not strict JSON"))?;
        let header = header.as_object().ok_or(malformed("header is not an object"))?;
        decode(signature)?;
        let claims = Claims::parse(&decode(claims)?)?;

        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Refusal::Critical);
        }
        if !header.get("typ").is_none_or(is_access_token) {
            return Err(Refusal::Type);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(|name| name.parse().ok()).ok_or(Refusal::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(key_id)) => Some(key_id.clone()),
            Some(_) => return Err(malformed("kid is not a string")),
        };
        Ok(Self { algorithm, key_id, claims, message, signature })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether the token says that it is of this issuer.
    pub(super) fn names_issuer(&self, issuer: &str) -> bool {
        self.claims.text("iss") == Some(issuer)
    }

    /// The claims, which the owner of the key has signed.
    pub(super) fn verify(self, key: &Key) -> Result<Claims, Refusal> {
        let verified = jsonwebtoken::crypto::verify(
            self.signature,
            self.message.as_bytes(),
            key.decoding(),
            self.algorithm,
        );
        match verified {
            Ok(true) => Ok(self.claims),
            Ok(false) | Err(_) => Err(Refusal::Signature),
        }
    }
}

/// RFC 9068 has `at+jwt`; most providers still write `JWT`, or nothing.
fn is_access_token(value: &Value) -> bool {
    value.as_str().is_some_and(|name| {
        let name = name.get(.."application/".len()).map_or(name, |prefix| {
            if prefix.eq_ignore_ascii_case("application/") {
                name.get(prefix.len()..).unwrap_or(name)
            } else {
                name
            }
        });
        name.eq_ignore_ascii_case("at+jwt") || name.eq_ignore_ascii_case("JWT")
    })
}

// === impl Claims ===

impl Claims {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        match strict_json::parse(bytes) {
            Ok(Value::Object(claims)) => Ok(Self(claims)),
            Ok(_) => Err(Refusal::Malformed("claims are not an object")),
            Err(_) => Err(Refusal::Malformed("claims are not strict JSON")),
        }
    }

    /// A claim that is a text and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A claim by its name, by an RFC 6901 pointer, or by a dotted path.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let mut tokens: Box<dyn Iterator<Item = String>> = match path.strip_prefix('/') {
            Some(pointer) => Box::new(
                pointer.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")),
            ),
            None => Box::new(path.split('.').map(str::to_owned)),
        };
        let first = self.0.get(&tokens.next()?)?;
        tokens.try_fold(first, |value, token| value.get(&token))
    }

    /// Whether `aud` names one of these, as a string or in a list (RFC 7519, section 4.1.3).
    pub(super) fn is_meant_for(&self, audiences: &[String]) -> bool {
        let is_one = |value: &Value| {
            value.as_str().is_some_and(|name| audiences.iter().any(|audience| audience == name))
        };
        match self.0.get("aud") {
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string) && list.iter().any(is_one)
            }
            Some(value) => is_one(value),
            None => false,
        }
    }

    /// Whether the token is valid at this time: `exp` must be there and to come, `nbf` and `iat`
    /// must not be to come (RFC 7519, sections 4.1.4 to 4.1.6).
    pub(super) fn are_valid_at(&self, now: SystemTime, leeway: Duration) -> Result<(), Refusal> {
        let expiry = self.time("exp")?.ok_or(Refusal::Malformed("exp is missing"))?;
        if expiry + leeway <= now {
            return Err(Refusal::Expired);
        }
        for name in ["nbf", "iat"] {
            if self.time(name)?.is_some_and(|time| time > now + leeway) {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(())
    }

    fn time(&self, name: &'static str) -> Result<Option<SystemTime>, Refusal> {
        /// The end of the year 9999: what is later is no time but a mistake.
        const LATEST: u64 = 253_402_300_799;
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_u64().filter(|seconds| *seconds <= LATEST);
        let seconds = seconds.ok_or(Refusal::Malformed("a time is not in whole seconds"))?;
        Ok(Some(UNIX_EPOCH + Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        Claims::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_finds_a_claim_by_name_then_by_pointer_then_by_dots() {
        let claims = claims(r#"{"a.b":1,"a":{"b":2,"c/d":3},"https://example.com/r":4}"#);
        for (path, expected) in
            [("a.b", 1), ("/a/b", 2), ("/a/c~1d", 3), ("https://example.com/r", 4)]
        {
            assert_eq!(claims.at(path), Some(&Value::from(expected)), "{path}");
        }
        for path in ["", "/", "a.c", "a.b.c", "/a/x"] {
            assert_eq!(claims.at(path), None, "{path}");
        }
    }

    #[test]
    fn a_time_is_a_plain_number_of_seconds() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let leeway = Duration::from_secs(30);
        for (text, expected) in [
            (r#"{"exp":1001}"#, Ok(())),
            (r#"{"exp":971}"#, Ok(())),
            (r#"{"exp":970}"#, Err(Refusal::Expired)),
            (r#"{"exp":2000,"nbf":1030}"#, Ok(())),
            (r#"{"exp":2000,"nbf":1031}"#, Err(Refusal::NotYetValid)),
            (r#"{"exp":2000,"iat":1031}"#, Err(Refusal::NotYetValid)),
        ] {
            assert_eq!(claims(text).are_valid_at(now, leeway), expected, "{text}");
        }
        for text in [
            "{}",
            r#"{"exp":null}"#,
            r#"{"exp":"2000"}"#,
            r#"{"exp":2000.0}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":18446744073709551615}"#,
            r#"{"exp":2000,"nbf":"1"}"#,
        ] {
            let refused = claims(text).are_valid_at(now, leeway);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn an_audience_is_matched_whole_in_both_of_its_forms() {
        let audiences = ["cms-gateway".to_owned()];
        for (text, expected) in [
            (r#"{"aud":"cms-gateway"}"#, true),
            (r#"{"aud":["x","cms-gateway"]}"#, true),
            (r#"{"aud":["cms-gateway",1]}"#, false),
            (r#"{"aud":"cms-gateway "}"#, false),
            (r#"{"aud":"CMS-gateway"}"#, false),
            (r#"{"aud":[]}"#, false),
            (r#"{"aud":{"cms-gateway":1}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(claims(text).is_meant_for(&audiences), expected, "{text}");
        }
    }
}
