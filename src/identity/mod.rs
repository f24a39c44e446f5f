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
mod binding;
mod digest;
mod dpop;
mod keys;
mod principal;
mod refusal;
mod revocation;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;

pub use self::keys::{Key, KeySet, KeySetError, KeyStatus};
pub use self::principal::{Principal, Verified};
pub use self::binding::{BindingFault, SenderFault};
pub use self::dpop::ProofFault;
pub use self::refusal::Refusal;
pub use self::revocation::{InForce, RevocationFault, RevocationList, RevocationState};

use self::bearer::{Presented, Scheme};
use self::cache::TokenCache;
use self::claims::Claims;
use self::keys::KeyStore;
use self::revocation::Revocations;
use self::token::UnverifiedToken;
use crate::audit::Events;
use crate::client::ClientError;
use crate::config::{Config, Issuer};
use crate::telemetry::Metrics;

/// The issuers whose tokens are accepted, with their keys.
#[derive(Debug)]
pub struct Identity {
    issuers: Vec<TrustedIssuer>,
    revocations: Option<Arc<Revocations>>,
    cache: TokenCache,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct TrustedIssuer {
    settings: Issuer,
    keys: KeyStore,
}

/// Why a request has no principal.
#[derive(Debug)]
pub struct Unauthenticated {
    /// The precise reason.
    pub refusal: Refusal,
    /// What the token proves, where it is good but must not be used, or not like this: whose it is
    /// belongs on record then.
    pub holder: Option<Arc<Verified>>,
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
        let revocations = config.revocation.as_ref().map(|settings| {
            Arc::new(Revocations::new(settings, events.clone(), Arc::clone(metrics)))
        });
        Ok(Self {
            revocations,
            issuers: issuers.collect::<Result<_, ClientError>>()?,
            cache: TokenCache::new(&config.token_cache).map_err(|_| IdentityError::Randomness)?,
            metrics: Arc::clone(metrics),
        })
    }

    /// Keeps every issuer's keys and the revocation list fresh, for as long as it is polled.
    pub async fn refresh(self: Arc<Self>) {
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(revocations) = &self.revocations {
            tasks.spawn(Arc::clone(revocations).watch_for_ever());
        }
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
    /// The precise reason.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Unauthenticated> {
        let presented = Presented::of(headers)?;
        if presented.scheme != Scheme::Bearer {
            return Err(Refusal::NoToken.into());
        }
        self.principal(presented.token, SystemTime::now()).await
    }

    /// The principal of a token.
    ///
    /// # Errors
    ///
    /// The precise reason.
    pub async fn principal(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Principal, Unauthenticated> {
        let (issuer, verified) = self.verified(token, now).await?;
        match self.admit(issuer, &verified, now) {
            Ok(()) => Ok(verified.admitted()),
            Err(refusal) => {
                let holder = refusal.concerns_the_holder().then_some(verified);
                Err(Unauthenticated { refusal, holder })
            }
        }
    }

    /// Applies the rules that are looked at anew for every request.
    fn admit(
        &self,
        issuer: &TrustedIssuer,
        verified: &Verified,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        verified.times().allow(now, issuer.settings.leeway)?;
        self.is_in_force(verified)
    }

    /// Whether the token is not revoked; fails closed.
    fn is_in_force(&self, verified: &Verified) -> Result<(), Refusal> {
        let Some(revocations) = &self.revocations else { return Ok(()) };
        let is_revoked = revocations.is_revoked(
            verified.issuer(),
            verified.subject(),
            verified.client_id(),
            verified.token_id(),
            verified.times().issued_at,
        );
        match (is_revoked, revocations.state().in_force) {
            (false, _) => Ok(()),
            (true, Some(_)) => Err(Refusal::Revoked),
            (true, None) => Err(Refusal::RevocationUnknown),
        }
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
        let verified = Verified::new(claims, &issuer.settings)?;
        self.admit(issuer, &verified, now)?;
        Ok(Arc::new(verified).admitted())
    }

    /// Whether the revocation list is in force, where there is one.
    #[must_use]
    pub fn revocations(&self) -> Option<RevocationState> {
        self.revocations.as_ref().map(|revocations| revocations.state())
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
}

impl From<Refusal> for Unauthenticated {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, holder: None }
    }
}
