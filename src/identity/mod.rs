//! Who asks: from the `Authorization` header to a [`Principal`].
//!
//! A Bearer token (RFC 6750) is a JWT (RFC 7519), signed by a key of the issuer that it names,
//! meant for this gateway, and valid now. Only [`Identity::authenticate`] makes a [`Principal`]
//! from a request, and it makes one only when all of that holds.

mod bearer;
mod digest;
mod keys;
mod principal;
mod refusal;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;

pub use self::keys::{KeySet, KeySetError, KeyStatus};
pub use self::principal::Principal;
pub use self::refusal::Refusal;

use self::bearer::Bearer;
use self::keys::KeyStore;
use self::token::{Claims, UnverifiedToken};
use crate::audit::Events;
use crate::client::ClientError;
use crate::config::Issuer;
use crate::telemetry::Metrics;

/// The issuers whose tokens are accepted, with their keys.
#[derive(Debug)]
pub struct Identity {
    issuers: Vec<(Issuer, KeyStore)>,
}

impl Identity {
    /// Knows the issuers, and none of their keys yet.
    ///
    /// # Errors
    ///
    /// When a client for one of their URLs can't be built.
    pub fn new(
        issuers: &[Issuer],
        events: Events,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        let issuers = issuers.iter().map(|issuer| {
            let keys = KeyStore::new(issuer, events.clone(), Arc::clone(metrics))?;
            Ok((issuer.clone(), keys))
        });
        Ok(Self { issuers: issuers.collect::<Result<_, _>>()? })
    }

    /// Keeps every issuer's keys fresh, for as long as it is polled.
    pub async fn refresh(self: Arc<Self>) {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..self.issuers.len() {
            let identity = Arc::clone(&self);
            tasks.spawn(async move {
                if let Some((_, keys)) = identity.issuers.get(index) {
                    keys.refresh_for_ever().await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// The principal of a request.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the precise reason.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        self.principal(Bearer::of(headers)?.token(), SystemTime::now()).await
    }

    /// The principal of a token.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the precise reason.
    pub async fn principal(&self, token: &str, now: SystemTime) -> Result<Principal, Refusal> {
        let token = UnverifiedToken::parse(token)?;
        let (issuer, keys) = self
            .issuers
            .iter()
            .find(|(issuer, _)| token.names_issuer(&issuer.issuer))
            .ok_or(Refusal::UnknownIssuer)?;
        if !issuer.algorithms.contains(&token.algorithm()) {
            return Err(Refusal::Algorithm);
        }
        let key = keys.key(token.key_id(), token.algorithm()).await?;
        let claims = token.verify(&key)?;
        Principal::new(claims, issuer, now)
    }

    /// The principal that a token with these claims would give, if its signature were good.
    ///
    /// Made for rehearsal alone: `explain` shows what would be decided.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the precise reason.
    pub fn rehearse(&self, claims: &[u8], now: SystemTime) -> Result<Principal, Refusal> {
        let claims = Claims::parse(claims)?;
        let (issuer, _) = self
            .issuers
            .iter()
            .find(|(issuer, _)| claims.text("iss") == Some(issuer.issuer.as_str()))
            .ok_or(Refusal::UnknownIssuer)?;
        Principal::new(claims, issuer, now)
    }

    /// For each issuer, whether its keys are there.
    pub fn keys(&self) -> impl Iterator<Item = KeyStatus<'_>> {
        self.issuers
            .iter()
            .map(|(issuer, keys)| KeyStatus { issuer: &issuer.issuer, age: keys.age() })
    }
}
