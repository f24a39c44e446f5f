//! The proven identity of a caller.

use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

use super::Refusal;
use super::binding::Confirmation;
use super::claims::{Claims, RULES, Times};
use super::keys::Key;
use crate::config::Issuer;

/// What a token proves at any time: its issuer signed it, and it keeps every rule that does not
/// depend on when and how it is used. No right to anything; see [`Principal`].
#[derive(Debug)]
pub struct Verified {
    issuer: String,
    subject: Option<String>,
    client_id: Option<String>,
    token_id: Option<String>,
    roles: Vec<String>,
    times: Times,
    confirmation: Confirmation,
    /// The key that verified it; none where its issuer was asked.
    key: Option<Arc<Key>>,
    claims: Claims,
}

/// Who asks, as an issuer that is trusted has signed it, proved for this very request. Only this
/// module's parent makes one.
#[derive(Debug, Clone)]
pub struct Principal(Arc<Verified>);

impl Verified {
    /// Applies every rule that needs neither key nor time.
    ///
    /// The caller answers for the claims' issuer and signature.
    pub(super) fn new(
        claims: Claims,
        issuer: &Issuer,
        key: Option<Arc<Key>>,
    ) -> Result<Self, Refusal> {
        RULES.iter().try_for_each(|rule| (rule.check)(&claims, issuer))?;
        let owned = |name| claims.text(name).map(str::to_owned);
        Ok(Self {
            issuer: issuer.issuer.clone(),
            subject: owned("sub"),
            client_id: claims.client_id().map(str::to_owned),
            token_id: owned("jti"),
            roles: claims.roles(issuer)?,
            times: claims.times()?,
            confirmation: claims.confirmation()?,
            key,
            claims,
        })
    }

    /// To whom it is bound.
    pub(super) fn confirmation(&self) -> &Confirmation {
        &self.confirmation
    }

    /// Whether it takes a proof to use it (RFC 9449).
    #[must_use]
    pub fn is_bound_to_a_key(&self) -> bool {
        self.confirmation.key.is_some()
    }

    /// Whether each request must prove that it comes from the token's sender.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.confirmation.is_none()
    }

    pub(super) fn key(&self) -> Option<&Arc<Key>> {
        self.key.as_ref()
    }

    /// The app's other name: providers write `client_id`, `azp`, or both.
    pub(super) fn other_client_id(&self) -> Option<&str> {
        self.claims.text("azp").filter(|name| self.client_id() != Some(name))
    }

    pub(super) fn times(&self) -> Times {
        self.times
    }

    /// The caller answers for every rule that depends on the time and the way of use.
    pub(super) fn admitted(self: Arc<Self>) -> Principal {
        Principal(self)
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

    /// The roles that the token gives, known here or not.
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

    /// The caller, and for whom it acts.
    #[must_use]
    pub fn person(&self) -> String {
        format!("{} {}", self.caller(), self.subject().unwrap_or_default())
    }

    /// The caller as rate limits know it: the app, or else the subject, of this issuer.
    #[must_use]
    pub fn caller(&self) -> String {
        let name = self.client_id().or(self.subject()).unwrap_or_default();
        format!("{} {name}", self.issuer)
    }
}

// === impl Principal ===

impl Principal {
    /// What its token proves.
    #[must_use]
    pub fn verified(&self) -> &Arc<Verified> {
        &self.0
    }
}

impl Deref for Principal {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0
    }
}
