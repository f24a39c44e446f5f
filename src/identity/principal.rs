//! The proven identity of a caller.

use std::time::SystemTime;

use serde_json::Value;

use super::Refusal;
use super::token::Claims;
use crate::config::Issuer;

/// Who asks, as an issuer that is trusted has signed it. Only this module's parent makes one.
#[derive(Debug, Clone)]
pub struct Principal {
    issuer: String,
    subject: Option<String>,
    client_id: Option<String>,
    token_id: Option<String>,
    roles: Vec<String>,
    claims: Claims,
}

impl Principal {
    /// Applies the rules that need no key: audience, times, actor, roles.
    pub(super) fn new(claims: Claims, issuer: &Issuer, now: SystemTime) -> Result<Self, Refusal> {
        if !claims.is_meant_for(&issuer.audiences) {
            return Err(Refusal::Audience);
        }
        claims.are_valid_at(now, issuer.leeway)?;
        let owned = |name| claims.text(name).map(str::to_owned);
        // RFC 9068 has client_id; OpenID Connect providers often write azp for the same.
        let (subject, client_id) = (owned("sub"), owned("client_id").or_else(|| owned("azp")));
        if subject.is_none() && client_id.is_none() {
            return Err(Refusal::NoActor);
        }
        let roles = claims.at(&issuer.roles_claim).map(words).unwrap_or_default();
        let token_id = owned("jti");
        Ok(Self { issuer: issuer.issuer.clone(), subject, client_id, token_id, roles, claims })
    }

    /// Who signed for it (`iss`).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// On whose behalf it acts (`sub`).
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The app that asks (`client_id`, or `azp`).
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The token's own name (`jti`).
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// The roles that the token names, known here or not.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// The campaigns in a claim: a list of numbers, or a number.
    pub fn campaigns(&self, claim: &str) -> impl Iterator<Item = i32> {
        let value = self.claims.at(claim);
        let list = match value {
            Some(Value::Array(list)) => list.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        list.iter().filter_map(|item| item.as_i64().and_then(|id| i32::try_from(id).ok()))
    }

    /// The caller as rate limits know it: the app, or else the subject, of this issuer.
    #[must_use]
    pub fn caller(&self) -> String {
        let name = self.client_id().or(self.subject()).unwrap_or_default();
        format!("{} {name}", self.issuer)
    }
}

/// A list of strings, or one string of words (as `scope` is, RFC 6749, section 3.3). A list with
/// anything else in it is no list of roles.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect()
        }
        Value::Array(list) => {
            let words: Option<Vec<String>> =
                list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            words.unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
