//! Who asks: from the `Authorization` header to a [`Principal`].
//!
//! A token is a JWT (RFC 7519), signed by a key of the issuer that it names, or one that its issuer
//! says is active (RFC 7662); it is meant for this gateway, valid now, not revoked, and sent by the
//! one to whom it is bound. Only [`Identity::authenticate`] makes a [`Principal`] from a request,
//! and it makes one only when all of that holds for this very request: what is remembered of a
//! token is what it proves, never that it was let through.

pub mod algorithm;
mod authorization;
mod binding;
mod cache;
mod claims;
mod digest;
mod dpop;
mod inspect;
mod introspection;
mod issuer;
mod jws;
mod keys;
mod principal;
mod refusal;
mod revocation;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::error::Unspecified;
use http::{HeaderMap, Method, Request};

pub use self::binding::{BindingFault, SenderFault};
pub use self::dpop::ProofFault;
pub use self::inspect::Finding;
pub use self::keys::{Key, KeySet, KeySetError, KeyStatus};
pub use self::principal::{Principal, Verified};
pub use self::refusal::Refusal;
pub use self::revocation::{InForce, RevocationFault, RevocationList, RevocationState};

use self::authorization::PresentedToken;
use self::cache::{Entry, TokenCache};
use self::claims::Claims;
use self::digest::{TokenDigest, TokenDigests};
use self::issuer::{Source, TrustedIssuer};
use self::revocation::Revocations;
use self::token::UnverifiedToken;
use crate::audit::Events;
use crate::client::ClientError;
use crate::config::Config;
use crate::telemetry::Metrics;

/// The issuers whose tokens are accepted, and all that decides whether one is.
#[derive(Debug)]
pub struct Identity {
    issuers: Vec<Arc<TrustedIssuer>>,
    revocations: Option<Arc<Revocations>>,
    cache: TokenCache,
    metrics: Arc<Metrics>,
}

/// What a token is, by its form.
enum Form<'identity, 'token> {
    Jwt(UnverifiedToken<'token>),
    Opaque(&'identity TrustedIssuer),
}

/// What of a request proves who asks.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds the token")]
pub struct Call<'a> {
    headers: &'a HeaderMap,
    method: &'a Method,
    /// As it was sent, without a query.
    path: &'a str,
    /// SHA-256 of the client's certificate in DER.
    certificate: Option<[u8; 32]>,
}

/// Why a request has no principal.
#[derive(Debug)]
pub struct Unauthenticated {
    /// The precise reason.
    pub refusal: Refusal,
    /// What the token proves, where it is good but must not be used, or not like this: whose it is
    /// belongs on record then.
    pub holder: Option<Arc<Verified>>,
    /// The nonce that the next proof must hold (RFC 9449, section 8), where proofs need one.
    pub nonce: Option<String>,
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

impl<'a> Call<'a> {
    /// Of a request on a connection whose client showed this certificate, if it showed one.
    #[must_use]
    pub fn of<B>(request: &'a Request<B>, certificate: Option<[u8; 32]>) -> Self {
        let (headers, method, path) = (request.headers(), request.method(), request.uri().path());
        Self { headers, method, path, certificate }
    }
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
        Self::after(None, config, events, metrics)
    }

    /// As [`Identity::new`], but issuers that stay as they are keep their keys, and all of them what
    /// was seen of proofs.
    ///
    /// # Errors
    ///
    /// When a client for one of the other issuers' URLs can't be built.
    pub fn after(
        before: Option<(&Self, &Config)>,
        config: &Config,
        events: &Events,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, IdentityError> {
        let digests = Arc::new(TokenDigests::new()?);
        // Of all requests in flight, half may wait for providers, and for each the same part of
        // them: nobody of them is known yet.
        let waiting = (config.limits.in_flight / 2 / config.issuers.len().max(1)).max(1);
        let issuers = config
            .issuers
            .iter()
            .enumerate()
            .map(|(place, settings)| {
                let same = before.and_then(|(identity, then)| {
                    identity.issuers.get(config.same_issuer(place, then)?)
                });
                if let Some(same) = same {
                    return Ok(Arc::clone(same));
                }
                let issuer = TrustedIssuer::new(settings, &digests, events, waiting, metrics)?;
                let named = before.map(|(identity, _)| identity.issuer(Some(&settings.issuer)));
                Ok(Arc::new(match named {
                    Some(Ok((_, before))) => issuer.after(before),
                    _ => issuer,
                }))
            })
            .collect::<Result<_, IdentityError>>()?;
        let revocations = config.revocation.as_ref().map(|settings| {
            let names = config.issuers.iter().map(|issuer| issuer.issuer.clone()).collect();
            let list = Revocations::new(settings, names, events.clone(), Arc::clone(metrics));
            if let Some((Self { revocations: Some(before), .. }, _)) = before {
                list.go_on_from(before);
            }
            list.load_now();
            Arc::new(list)
        });
        let cache = TokenCache::new(&config.token_cache, digests);
        Ok(Self { issuers, revocations, cache, metrics: Arc::clone(metrics) })
    }

    /// Keeps every issuer's keys and the revocation list fresh, for as long as it is polled.
    pub async fn refresh(self: Arc<Self>) {
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(revocations) = &self.revocations {
            tasks.spawn(Arc::clone(revocations).watch_for_ever());
        }
        for keys in self.issuers.iter().filter_map(|issuer| issuer.keys()) {
            tasks.spawn(Arc::clone(keys).refresh_for_ever());
        }
        while let Some(ended) = tasks.join_next().await {
            // They go on for ever.
            tracing::error!(?ended, "keys or revocations are no longer refreshed");
        }
    }

    /// The principal of a request.
    ///
    /// # Errors
    ///
    /// The precise reason.
    pub async fn authenticate(&self, call: Call<'_>) -> Result<Principal, Unauthenticated> {
        let presented = PresentedToken::of(call.headers)?;
        let (issuer, verified) = self.verified(presented.token, SystemTime::now()).await?;
        // It may have had to wait.
        let now = SystemTime::now();
        let admitted = self
            .admit(issuer, &verified, now)
            .and_then(|()| issuer.is_from_its_sender(&verified, presented, call, now));
        match admitted {
            Ok(()) => Ok(verified.admitted()),
            Err(refusal) => Err(Unauthenticated {
                refusal,
                nonce: issuer.nonce(now),
                holder: refusal.concerns_the_holder().then_some(verified),
            }),
        }
    }

    /// Whether what let a caller in still holds a while later: the times, the key, no revocation.
    /// Its sender is proved once.
    ///
    /// # Errors
    ///
    /// The precise reason.
    pub fn recheck(&self, principal: &Principal) -> Result<(), Unauthenticated> {
        let (_, issuer) = self.issuer(Some(principal.issuer()))?;
        let verified = principal.verified();
        let held = self.admit(issuer, verified, SystemTime::now()).and_then(|()| {
            match (issuer.keys(), verified.key()) {
                (Some(keys), Some(key)) if !keys.hold_still(key)? => Err(Refusal::UnknownKey),
                _ => Ok(()),
            }
        });
        held.map_err(|refusal| Unauthenticated {
            refusal,
            nonce: issuer.nonce(SystemTime::now()),
            holder: refusal.concerns_the_holder().then(|| Arc::clone(verified)),
        })
    }

    /// The nonce that a caller's next proof must hold, where its proofs need one.
    #[must_use]
    pub fn nonce(&self, principal: &Principal) -> Option<String> {
        if !principal.is_bound_to_a_key() {
            return None;
        }
        let (_, issuer) = self.issuer(Some(principal.issuer())).ok()?;
        issuer.nonce(SystemTime::now())
    }

    /// Whether tokens that are bound to a key are accepted (RFC 9449).
    #[must_use]
    pub fn takes_dpop(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.takes_dpop())
    }

    /// What the token proves, remembered or found out now.
    async fn verified(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<(&TrustedIssuer, Arc<Verified>), Refusal> {
        let name = self.cache.name(token);
        match self.remembered(&name)? {
            Some(remembered) => Ok(remembered),
            // Not in this future, which would be many times larger for it and is moved about.
            None => Box::pin(self.find_out(token, name, now)).await,
        }
    }

    /// What a token proves that is seen for the first time.
    async fn find_out(
        &self,
        token: &str,
        name: TokenDigest,
        now: SystemTime,
    ) -> Result<(&TrustedIssuer, Arc<Verified>), Refusal> {
        let form = self.form(token);
        if !matches!(form, Ok(Form::Opaque(_))) {
            self.metrics.token_cache_misses.inc();
        }
        let unverified = match form? {
            Form::Jwt(unverified) => unverified,
            Form::Opaque(issuer) => return Ok((issuer, issuer.introspect(token, now).await?)),
        };
        let (place, issuer) = self.issuer(unverified.issuer())?;
        match &issuer.source {
            Source::Introspection(_) => {
                unverified.is_understood()?;
                unverified.is_of_type(&issuer.settings.types)?;
                Ok((issuer, issuer.introspect(token, now).await?))
            }
            Source::Keys { keys, algorithms } => {
                let (verified, generation) = issuer.verify(unverified, keys, algorithms).await?;
                let valid_for = verified.times().left(now, issuer.settings.leeway);
                self.cache.keep(name, (place, generation), &verified, token.len(), valid_for);
                Ok((issuer, verified))
            }
        }
    }

    /// What a token proved before, if the keys are still the ones that verified it.
    fn remembered(
        &self,
        name: &TokenDigest,
    ) -> Result<Option<(&TrustedIssuer, Arc<Verified>)>, Refusal> {
        let Some(Entry { verified, issuer, generation, .. }) = self.cache.get(name) else {
            return Ok(None);
        };
        let Some(issuer) = self.issuers.get(issuer) else { return Ok(None) };
        let Some(keys) = issuer.keys() else { return Ok(None) };
        if keys.is_current(generation)? {
            self.metrics.token_cache_hits.inc();
            Ok(Some((issuer, verified)))
        } else {
            self.cache.forget(name);
            Ok(None)
        }
    }

    /// A JWT, or what only its issuer can read: where there is one that is asked, whatever has no
    /// header in JSON is its.
    fn form<'token>(&self, token: &'token str) -> Result<Form<'_, 'token>, Refusal> {
        match UnverifiedToken::parse(token) {
            Ok(unverified) => Ok(Form::Jwt(unverified)),
            Err(refusal @ (Refusal::NotCompact | Refusal::NotBase64url | Refusal::Header)) => {
                self.opaque().map(Form::Opaque).ok_or(refusal)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The issuer of tokens that are opaque. They don't say whose they are, so that only one can
    /// have them.
    fn opaque(&self) -> Option<&TrustedIssuer> {
        self.issuers.iter().map(|issuer| &**issuer).find(|issuer| issuer.is_introspected())
    }

    fn issuer(&self, name: Option<&str>) -> Result<(usize, &TrustedIssuer), Refusal> {
        let mut issuers = self.issuers.iter().map(|issuer| &**issuer).enumerate();
        let named = issuers.find(|(_, issuer)| Some(issuer.settings.issuer.as_str()) == name);
        named.ok_or(Refusal::UnknownIssuer)
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
        let is_revoked = |client_id| {
            revocations.is_revoked(
                verified.issuer(),
                verified.subject(),
                client_id,
                verified.token_id(),
                verified.times().issued_at,
            )
        };
        let other = verified.other_client_id();
        if !is_revoked(verified.client_id()) && !other.is_some_and(|name| is_revoked(Some(name))) {
            return Ok(());
        }
        let is_known = revocations.state().in_force.is_some();
        Err(if is_known { Refusal::Revoked } else { Refusal::RevocationUnknown })
    }

    /// Waits until every issuer's keys have been looked for once.
    pub async fn settle(&self) {
        for keys in self.issuers.iter().filter_map(|issuer| issuer.keys()) {
            keys.settle().await;
        }
    }

    /// The principal of a token, whoever sends it: for rehearsal alone, since a bound token proves
    /// nothing by itself.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the precise reason.
    pub async fn rehearse_token(&self, token: &str, now: SystemTime) -> Result<Principal, Refusal> {
        authorization::check(token)?;
        let (issuer, verified) = self.verified(token, now).await?;
        self.admit(issuer, &verified, now)?;
        issuer.takes_binding(&verified)?;
        Ok(verified.admitted())
    }

    /// The principal that a token with these claims would give, if its signature were good: for
    /// rehearsal alone.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the precise reason.
    pub fn rehearse(&self, claims: &[u8], now: SystemTime) -> Result<Principal, Refusal> {
        let claims = Claims::parse(claims)?;
        let (_, issuer) = self.issuer(claims.issuer())?;
        let verified = Verified::new(claims, &issuer.settings, None)?;
        self.admit(issuer, &verified, now)?;
        issuer.takes_binding(&verified)?;
        Ok(Arc::new(verified).admitted())
    }

    /// Whether the revocation list is in force, where there is one.
    #[must_use]
    pub fn revocations(&self) -> Option<RevocationState> {
        self.revocations.as_ref().map(|revocations| revocations.state())
    }

    /// The issuers by name, with how their keys are; nothing where the issuer itself is asked.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, Option<KeyStatus>)> {
        self.issuers.iter().map(|issuer| {
            (issuer.settings.issuer.as_str(), issuer.keys().map(|keys| keys.status()))
        })
    }

    /// The issuers that could not be asked about a token when they last were, and why.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, String)> {
        self.issuers
            .iter()
            .filter_map(|issuer| Some((issuer.settings.issuer.as_str(), issuer.trouble()?)))
    }
}

impl From<Refusal> for Unauthenticated {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, holder: None, nonce: None }
    }
}

impl From<Unspecified> for IdentityError {
    fn from(_: Unspecified) -> Self {
        Self::Randomness
    }
}
