//! Who asks: from the `Authorization` header to a [`Principal`].
//!
//! A Bearer token (RFC 6750) is a JWT (RFC 7519), signed by a key of the issuer that it names,
//! meant for this gateway, and valid now. Only [`Identity::authenticate`] makes a [`Principal`]
//! from a request, and it makes one only when all of that holds for this very request: what is
//! remembered of a token is its signature, never that it was let through.

pub mod algorithm;
mod bearer;
mod cache;
mod claims;
mod digest;
mod keys;
mod principal;
mod refusal;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;

pub use self::keys::{Key, KeySet, KeySetError, KeyStatus};
pub use self::principal::Principal;
pub use self::refusal::Refusal;

use self::bearer::{Presented, Scheme};
use self::cache::TokenCache;
use self::claims::Claims;
use self::keys::KeyStore;
use self::principal::Verified;
use self::token::UnverifiedToken;
use crate::audit::Events;
use crate::client::ClientError;
use crate::config::{Config, Issuer};
use crate::telemetry::Metrics;

/// The issuers whose tokens are accepted, with their keys.
#[derive(Debug)]
pub struct Identity {
    issuers: Vec<TrustedIssuer>,
    cache: TokenCache,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct TrustedIssuer {
    settings: Issuer,
    keys: KeyStore,
}

/// Why tokens can't be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A client for one of the issuers' URLs can't be built.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no randomness.
    #[error("the system has no randomness to give")]
    Randomness,
}

impl Identity {
    /// Knows the issuers, and none of their keys yet.
    ///
    /// # Errors
    ///
    /// When a client for one of their URLs can't be built.
    pub fn new(
        config: &Config,
        events: &Events,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, IdentityError> {
        let issuers = config.issuers.iter().map(|issuer| {
            let metrics = Arc::clone(metrics);
            let keys = KeyStore::new(&issuer.issuer, &issuer.keys, events.clone(), metrics)?;
            Ok(TrustedIssuer { settings: issuer.clone(), keys })
        });
        Ok(Self {
            issuers: issuers.collect::<Result<_, ClientError>>()?,
            cache: TokenCache::new(&config.token_cache).map_err(|_| IdentityError::Randomness)?,
            metrics: Arc::clone(metrics),
        })
    }

    /// Keeps every issuer's keys fresh, for as long as it is polled.
    pub async fn refresh(self: Arc<Self>) {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..self.issuers.len() {
            let identity = Arc::clone(&self);
            tasks.spawn(async move {
                if let Some(issuer) = identity.issuers.get(index) {
                    issuer.keys.refresh_for_ever().await;
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
        let presented = Presented::of(headers)?;
        if presented.scheme != Scheme::Bearer {
            return Err(Refusal::NoToken);
        }
        self.principal(presented.token, SystemTime::now()).await
    }

    /// The principal of a token.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the precise reason.
    pub async fn principal(&self, token: &str, now: SystemTime) -> Result<Principal, Refusal> {
        let (issuer, verified) = self.verified(token, now).await?;
        issuer.admit(verified, now)
    }

    /// What the token proves, remembered or found out now.
    async fn verified(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<(&TrustedIssuer, Arc<Verified>), Refusal> {
        let name = self.cache.name(token);
        if let Some(entry) = self.cache.get(&name)
            && let Some(issuer) = self.issuers.get(entry.issuer)
        {
            if issuer.keys.is_current(entry.generation)? {
                self.metrics.token_cache_hits.inc();
                return Ok((issuer, entry.verified));
            }
            self.cache.forget(&name);
        }
        self.metrics.token_cache_misses.inc();
        let unverified = UnverifiedToken::parse(token)?;
        let (place, issuer) = self.issuer(unverified.issuer())?;
        let (verified, generation) = issuer.verify(unverified).await?;
        let verified = Arc::new(verified);
        let valid_for = verified.times().left(now, issuer.settings.leeway);
        self.cache.keep(name, (place, generation), &verified, token.len(), valid_for);
        Ok((issuer, verified))
    }

    fn issuer(&self, name: Option<&str>) -> Result<(usize, &TrustedIssuer), Refusal> {
        let mut issuers = self.issuers.iter().enumerate();
        let named = issuers.find(|(_, issuer)| Some(issuer.settings.issuer.as_str()) == name);
        named.ok_or(Refusal::UnknownIssuer)
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
        let (_, issuer) = self.issuer(claims.issuer())?;
        issuer.admit(Arc::new(Verified::new(claims, &issuer.settings)?), now)
    }

    /// For each issuer, how its keys are.
    pub fn keys(&self) -> impl Iterator<Item = (&str, KeyStatus)> {
        self.issuers.iter().map(|issuer| (issuer.settings.issuer.as_str(), issuer.keys.status()))
    }
}

impl TrustedIssuer {
    /// Checks the token, from its header to its last claim.
    async fn verify(&self, token: UnverifiedToken<'_>) -> Result<(Verified, u64), Refusal> {
        token.is_understood()?;
        token.is_of_type(&self.settings.types)?;
        let algorithm = token.algorithm(&self.settings.keys.algorithms)?;
        let current = self.keys.key(token.key_id()?, algorithm).await?;
        let claims = token.verify(&current.key, algorithm)?;
        Ok((Verified::new(claims, &self.settings)?, current.generation))
    }

    /// Applies the rules that are looked at anew for every request.
    fn admit(&self, verified: Arc<Verified>, now: SystemTime) -> Result<Principal, Refusal> {
        verified.times().allow(now, self.settings.leeway)?;
        Ok(verified.admitted())
    }
}
