//! The claims of a token (RFC 7519, section 4), and the rules that they must keep.
//!
//! [`RULES`] is the list of all rules that need neither a key nor the time of use; a token is
//! checked by each of them before it is accepted for the first time, and `token check` shows them
//! one by one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::Refusal;
use super::binding::{Confirmation, SenderFault};
use super::inspect::shown;
use crate::config::Issuer;
use crate::strict_json;

/// The members of a JWT's claims set, none of them twice.
#[derive(Debug, Clone)]
pub(super) struct Claims(Arc<Map<String, Value>>);

/// A rule, with the name and the words that it has in `token check`.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) check: fn(&Claims, &Issuer) -> Result<(), Refusal>,
    pub(super) describe: fn(&Claims, &Issuer) -> String,
}

/// Every rule that stays kept as long as the configuration is the same.
pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "audience",
        check: |claims, issuer| claims.are_meant_for(&issuer.audiences),
        describe: |claims, issuer| {
            format!("aud {}; configured: {}", claims.shown("aud"), issuer.audiences.join(", "))
        },
    },
    Rule {
        name: "times",
        check: |claims, _| claims.times().map(|_| ()),
        describe: |claims, _| claims.shown_all(&["exp", "nbf", "iat"]),
    },
    Rule {
        name: "max_lifetime",
        check: Claims::have_lifetime,
        describe: |claims, issuer| match issuer.max_lifetime {
            None => "any is accepted".to_owned(),
            Some(longest) => format!(
                "{}; {} at most",
                claims.shown_all(&["iat", "exp"]),
                humantime::format_duration(longest)
            ),
        },
    },
    Rule {
        name: "actor",
        check: |claims, _| claims.name_an_actor(),
        describe: |claims, _| claims.shown_all(&["sub", "client_id", "azp", "jti"]),
    },
    Rule {
        name: "roles",
        check: |claims, issuer| claims.roles(issuer).map(|_| ()),
        describe: |claims, issuer| {
            let (path, given) = (&issuer.roles_claim, claims.roles(issuer).unwrap_or_default());
            let value = shown(claims.at(path));
            format!("{path} {value}; roles: {}", given.join(", "))
        },
    },
    Rule {
        name: "binding",
        check: |claims, _| claims.confirmation().map(|_| ()),
        describe: |claims, _| claims.shown_all(&["cnf"]),
    },
    Rule {
        name: "profile",
        check: Claims::keep_profile,
        describe: |_, issuer| {
            let name = if issuer.is_strict { "rfc9068" } else { "jwt: asks for no more" };
            name.to_owned()
        },
    },
];

/// When a token is valid (RFC 7519, sections 4.1.4 to 4.1.6), in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) expiry: u64,
    pub(super) not_before: Option<u64>,
    pub(super) issued_at: Option<u64>,
}

impl Claims {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        match strict_json::parse(bytes) {
            Ok(Value::Object(claims)) => Ok(Self(Arc::new(claims))),
            _ => Err(Refusal::Claims),
        }
    }

    /// Who says so, of which nothing is proved.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.0.get("iss").and_then(Value::as_str)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn shown(&self, name: &str) -> String {
        shown(self.0.get(name))
    }

    fn shown_all(&self, names: &[&str]) -> String {
        let named = names.iter().map(|name| format!("{name} {}", self.shown(name)));
        named.collect::<Vec<_>>().join(", ")
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
        let is_pointer = path.starts_with('/');
        tokens.try_fold(first, |value, token| match value {
            Value::Array(list) if is_pointer => list.get(index(&token)?),
            value => value.as_object()?.get(&token),
        })
    }

    /// `aud` names one of these, as a string or in a list, exactly (RFC 7519, section 4.1.3).
    fn are_meant_for(&self, audiences: &[String]) -> Result<(), Refusal> {
        let is_one = |value: &Value| {
            value.as_str().is_some_and(|name| audiences.iter().any(|audience| audience == name))
        };
        let is_meant = match self.0.get("aud") {
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string) && list.iter().any(is_one)
            }
            Some(value) => is_one(value),
            None => false,
        };
        if is_meant { Ok(()) } else { Err(Refusal::Audience) }
    }

    pub(super) fn times(&self) -> Result<Times, Refusal> {
        Ok(Times {
            expiry: self.time("exp")?.ok_or(Refusal::NoExpiry)?,
            not_before: self.time("nbf")?,
            issued_at: self.time("iat")?,
        })
    }

    fn time(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        whole_seconds(value).ok_or(Refusal::Time).map(Some)
    }

    fn have_lifetime(&self, issuer: &Issuer) -> Result<(), Refusal> {
        let Some(longest) = issuer.max_lifetime else { return Ok(()) };
        let times = self.times()?;
        let issued_at = times.issued_at.ok_or(Refusal::Lifetime)?;
        let lifetime = times.expiry.saturating_sub(issued_at);
        if lifetime <= longest.as_secs() { Ok(()) } else { Err(Refusal::Lifetime) }
    }

    fn name_an_actor(&self) -> Result<(), Refusal> {
        let names = ["sub", "client_id", "azp", "jti"];
        let is_name = |name: &&str| self.0.get(*name).is_none() || self.text(name).is_some();
        if !names.iter().all(is_name) {
            return Err(Refusal::Name);
        }
        let is_named = self.text("sub").is_some() || self.client_id().is_some();
        if is_named { Ok(()) } else { Err(Refusal::NoActor) }
    }

    /// The type that an introspection response tells, if it does (RFC 7662, section 2.2).
    pub(super) fn are_of_an_access_token(&self) -> Result<(), Refusal> {
        let Some(value) = self.0.get("token_type") else { return Ok(()) };
        let name = value.as_str().unwrap_or_default();
        let is_for_a_key = self.confirmation()?.key.is_some();
        let is_known = name.eq_ignore_ascii_case("Bearer")
            || is_for_a_key && name.eq_ignore_ascii_case("DPoP");
        if is_known { Ok(()) } else { Err(Refusal::Type) }
    }

    /// RFC 9068 has `client_id`; OpenID Connect providers often write `azp` for the same.
    pub(super) fn client_id(&self) -> Option<&str> {
        self.text("client_id").or_else(|| self.text("azp"))
    }

    /// The roles that the token gives: those that it names or, where the issuer has a mapping,
    /// those that its values stand for.
    pub(super) fn roles(&self, issuer: &Issuer) -> Result<Vec<String>, Refusal> {
        let Some(value) = self.at(&issuer.roles_claim) else { return Ok(Vec::new()) };
        let named = words(value).ok_or(Refusal::Roles)?;
        let Some(mapping) = &issuer.roles else {
            return Ok(named.into_iter().map(str::to_owned).collect());
        };
        let mut roles: Vec<String> = Vec::new();
        for role in named.into_iter().filter_map(|name| mapping.get(name)).flatten() {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        Ok(roles)
    }

    /// To whom the token is bound (RFC 7800).
    pub(super) fn confirmation(&self) -> Result<Confirmation, Refusal> {
        Confirmation::parse(self.0.get("cnf"))
            .map_err(|fault| Refusal::Sender(SenderFault::Binding(fault)))
    }

    /// RFC 9068, section 2.2, when the issuer's profile says so; and what only ID tokens have
    /// (OpenID Connect Core 1.0, sections 2 and 3.3.2.11).
    fn keep_profile(&self, issuer: &Issuer) -> Result<(), Refusal> {
        if !issuer.is_strict {
            return Ok(());
        }
        if ["nonce", "at_hash", "c_hash", "s_hash"].iter().any(|name| self.0.contains_key(*name)) {
            return Err(Refusal::IdToken);
        }
        let required = ["iss", "sub", "client_id", "jti"];
        let is_kept = required.iter().all(|name| self.text(name).is_some())
            && self.times()?.issued_at.is_some();
        if is_kept { Ok(()) } else { Err(Refusal::Profile) }
    }
}

/// A time in seconds since 1970. RFC 7519 allows fractions of a second; nobody's tokens need them,
/// and floats are a way to say what another reader would read otherwise.
pub(super) fn whole_seconds(value: &Value) -> Option<u64> {
    /// The end of the year 9999: what is later is no time but a mistake.
    const LATEST: u64 = 253_402_300_799;
    value.as_u64().filter(|seconds| *seconds <= LATEST)
}

/// An array's index as a pointer writes it (RFC 6901, section 4): no sign, no leading zero.
fn index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = token == "0" || !token.starts_with('0');
    (is_plain && is_canonical).then(|| token.parse().ok()).flatten()
}

/// A list of strings, or one string of words (as `scope` is, RFC 6749, section 3.3).
fn words(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(text.split(' ').filter(|word| !word.is_empty()).collect()),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

impl From<Arc<Map<String, Value>>> for Claims {
    /// An introspection response is one, whoever has read it strictly.
    fn from(members: Arc<Map<String, Value>>) -> Self {
        Self(members)
    }
}

// === impl Times ===

impl Times {
    /// Whether the token is valid at this time, for clocks that differ by the leeway at the most.
    pub(super) fn allow(&self, now: SystemTime, leeway: Duration) -> Result<(), Refusal> {
        let now = seconds(now);
        if self.expiry.saturating_add(leeway.as_secs()) <= now {
            return Err(Refusal::Expired);
        }
        let is_to_come = |time: Option<u64>| {
            time.is_some_and(|time| time > now.saturating_add(leeway.as_secs()))
        };
        if is_to_come(self.not_before) || is_to_come(self.issued_at) {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }

    /// For how long the token is still valid.
    pub(super) fn left(&self, now: SystemTime, leeway: Duration) -> Duration {
        let end = self.expiry.saturating_add(leeway.as_secs());
        Duration::from_secs(end.saturating_sub(seconds(now)))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        Claims::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_finds_a_claim_by_name_then_by_pointer_then_by_dots() {
        let claims =
            claims(r#"{"a.b":1,"a":{"b":2,"c/d":3},"https://example.com/r":4,"l":[5,{"x":6}]}"#);
        for (path, expected) in [
            ("a.b", 1),
            ("/a/b", 2),
            ("/a/c~1d", 3),
            ("https://example.com/r", 4),
            ("/l/0", 5),
            ("/l/1/x", 6),
        ] {
            assert_eq!(claims.at(path), Some(&Value::from(expected)), "{path}");
        }
        for path in ["", "/", "a.c", "a.b.c", "/a/x", "/l/2", "/l/00", "/l/+1", "/l/-", "l.0"] {
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
            ("{}", Err(Refusal::NoExpiry)),
            (r#"{"exp":null}"#, Err(Refusal::Time)),
            (r#"{"exp":"2000"}"#, Err(Refusal::Time)),
            (r#"{"exp":2000.0}"#, Err(Refusal::Time)),
            (r#"{"exp":-1}"#, Err(Refusal::Time)),
            (r#"{"exp":1e300}"#, Err(Refusal::Time)),
            (r#"{"exp":253402300800}"#, Err(Refusal::Time)),
            (r#"{"exp":18446744073709551615}"#, Err(Refusal::Time)),
            (r#"{"exp":99999999999999999999999}"#, Err(Refusal::Time)),
            (r#"{"exp":2000,"nbf":"1"}"#, Err(Refusal::Time)),
            (r#"{"exp":2000,"iat":1.5}"#, Err(Refusal::Time)),
        ] {
            let allowed = claims(text).times().and_then(|times| times.allow(now, leeway));
            assert_eq!(allowed, expected, "{text}");
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
            assert_eq!(claims(text).are_meant_for(&audiences).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_actor_is_named_by_texts_alone() {
        for (text, expected) in [
            (r#"{"sub":"a"}"#, Ok(())),
            (r#"{"client_id":"a"}"#, Ok(())),
            (r#"{"azp":"a"}"#, Ok(())),
            (r#"{"jti":"a"}"#, Err(Refusal::NoActor)),
            (r#"{"sub":""}"#, Err(Refusal::Name)),
            (r#"{"sub":1,"client_id":"a"}"#, Err(Refusal::Name)),
            (r#"{"sub":"a","client_id":["b"]}"#, Err(Refusal::Name)),
            (r#"{"sub":"a","jti":1}"#, Err(Refusal::Name)),
            (r#"{"sub":null,"client_id":"a"}"#, Err(Refusal::Name)),
        ] {
            assert_eq!(claims(text).name_an_actor(), expected, "{text}");
        }
    }
}
