//! An issuer that is trusted: how its tokens are proved, and to whom they are bound.

use std::sync::Arc;
use std::time::SystemTime;

use jsonwebtoken::Algorithm;

use super::authorization::PresentedToken;
use super::binding::{self, SenderConstraint};
use super::claims::Claims;
use super::digest::TokenDigests;
use super::dpop::Dpop;
use super::introspection::Introspection;
use super::keys::{CurrentKey, KeyStore};
use super::principal::Verified;
use super::token::UnverifiedToken;
use super::{Call, IdentityError, Refusal, SenderFault};
use crate::audit::Events;
use crate::config::{self, Issuer};
use crate::telemetry::Metrics;

/// An issuer that is trusted.
#[derive(Debug)]
pub(super) struct TrustedIssuer {
    pub(super) settings: Issuer,
    pub(super) source: Source,
    dpop: Option<Dpop>,
}

/// What proves its tokens.
#[derive(Debug)]
pub(super) enum Source {
    /// A signature by one of its keys.
    Keys { keys: Arc<KeyStore>, algorithms: Vec<Algorithm> },
    /// Its own word.
    Introspection(Arc<Introspection>),
}

impl TrustedIssuer {
    pub(super) fn new(
        settings: &Issuer,
        digests: &Arc<TokenDigests>,
        events: &Events,
        waiting: usize,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, IdentityError> {
        let (name, metrics) = (&settings.issuer, Arc::clone(metrics));
        let source = match &settings.proof {
            config::Proof::Keys(keys) => Source::Keys {
                keys: Arc::new(KeyStore::new(name, keys, events.clone(), waiting, metrics)?),
                algorithms: keys.algorithms.clone(),
            },
            config::Proof::Introspection(introspection) => {
                let digests = Arc::clone(digests);
                let asked = Introspection::new(name, introspection, digests, waiting, metrics)?;
                Source::Introspection(Arc::new(asked))
            }
        };
        let dpop = settings.dpop.as_ref().map(Dpop::new).transpose()?;
        Ok(Self { settings: settings.clone(), source, dpop })
    }

    /// With what the same issuer of before has seen of proofs.
    pub(super) fn after(self, before: &Self) -> Self {
        let dpop = self.dpop.map(|dpop| match &before.dpop {
            Some(before) => dpop.after(before),
            None => dpop,
        });
        Self { dpop, ..self }
    }

    pub(super) fn keys(&self) -> Option<&Arc<KeyStore>> {
        match &self.source {
            Source::Keys { keys, .. } => Some(keys),
            Source::Introspection(_) => None,
        }
    }

    pub(super) fn is_introspected(&self) -> bool {
        matches!(self.source, Source::Introspection(_))
    }

    pub(super) fn takes_dpop(&self) -> bool {
        self.dpop.is_some()
    }

    pub(super) fn nonce(&self, now: SystemTime) -> Option<String> {
        self.dpop.as_ref().and_then(|dpop| dpop.nonce(now))
    }

    /// Checks the token, from its header to its last claim.
    pub(super) async fn verify(
        &self,
        token: UnverifiedToken<'_>,
        keys: &KeyStore,
        algorithms: &[Algorithm],
    ) -> Result<(Arc<Verified>, u64), Refusal> {
        token.is_understood()?;
        token.is_of_type(&self.settings.types)?;
        let algorithm = token.algorithm(algorithms)?;
        let current = keys.key(token.key_id()?, algorithm).await?;
        let claims = token.verify(&current.key, algorithm)?;
        let CurrentKey { key, generation } = current;
        Ok((Arc::new(Verified::new(claims, &self.settings, Some(key))?), generation))
    }

    /// Asks the issuer about its token.
    pub(super) async fn introspect(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Arc<Verified>, Refusal> {
        Ok(Arc::new(Verified::new(self.introspected(token, now).await?, &self.settings, None)?))
    }

    /// Why its issuer could last not be asked.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.source {
            Source::Introspection(introspection) => introspection.trouble(),
            Source::Keys { .. } => None,
        }
    }

    /// What the issuer says of its token.
    pub(super) async fn introspected(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Claims, Refusal> {
        let Source::Introspection(introspection) = &self.source else {
            return Err(Refusal::NotCompact);
        };
        let claims = Claims::from(introspection.claims(token, now).await?);
        // It may leave out its name (RFC 7662, section 2.2), and may not have another.
        if claims.value("iss").is_some() && claims.issuer() != Some(&self.settings.issuer) {
            return Err(Refusal::UnknownIssuer);
        }
        claims.are_of_an_access_token()?;
        Ok(claims)
    }

    /// Whether a token that is bound like this can be taken from anybody at all.
    pub(super) fn takes_binding(&self, verified: &Verified) -> Result<(), Refusal> {
        Ok(binding::is_accepted(verified.confirmation(), &self.constraint())
            .map_err(SenderFault::from)?)
    }

    /// Whether the request comes from the one to whom the token is bound, if it is.
    pub(super) fn is_from_its_sender(
        &self,
        verified: &Verified,
        presented: PresentedToken<'_>,
        call: Call<'_>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        // Only a proof's memory asks for it.
        let caller = if verified.is_bound_to_a_key() { verified.person() } else { String::new() };
        let presented = binding::Presented {
            scheme: presented.scheme,
            token: presented.token,
            headers: call.headers,
            method: call.method,
            path: call.path,
            certificate: call.certificate,
            caller: &caller,
        };
        Ok(binding::check(verified.confirmation(), &self.constraint(), &presented, now)?)
    }

    fn constraint(&self) -> SenderConstraint<'_> {
        SenderConstraint {
            mtls: self.settings.mtls,
            dpop: self.dpop.as_ref(),
            required: self.settings.require_binding,
        }
    }
}
