//! DPoP (RFC 9449): the proof that a request's sender holds the key that its token is bound to.
//!
//! A proof is a JWT that the sender signs for one request: its method, its URL, the token and the
//! time. [`Dpop::check`] goes through section 4.3 and stops at the first fault. What costs little
//! comes first, and nothing is verified with a key that the token is not bound to. The memory of
//! proofs comes last, so that only proofs that are good in all else take room in it.
//!
//! That memory is this process's own: of several gateways each accepts a proof once. Nonces and a
//! short lifetime bound when.

mod fault;
mod key;
mod nonces;
mod replays;
#[cfg(test)]
mod tests;
mod unverified;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, Uri};

pub use self::fault::ProofFault;

use self::nonces::Nonces;
use self::replays::Replays;
use self::unverified::{ProofClaims, UnverifiedProof};
use crate::config;

/// How far a sender's clock may be ahead of this one.
const LEEWAY: Duration = Duration::from_secs(5);

/// What an issuer's proofs must hold, and which have been seen.
#[derive(Debug)]
pub(super) struct Dpop {
    origin: config::Origin,
    lifetime: Duration,
    nonces: Option<Nonces>,
    replays: Replays,
}

/// A request that must hold a proof.
#[derive(Clone, Copy)]
pub(super) struct Proof<'a> {
    /// All of its headers.
    pub(super) headers: &'a HeaderMap,
    /// Its method.
    pub(super) method: &'a Method,
    /// Its path as it was sent.
    pub(super) path: &'a str,
    /// Its access token.
    pub(super) token: &'a str,
    /// Whose token it is.
    pub(super) caller: &'a str,
    /// The RFC 7638 thumbprint (SHA-256) of the key that the token is bound to.
    pub(super) thumbprint: &'a str,
}

impl Dpop {
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub(super) fn new(settings: &config::Dpop) -> Result<Self, Unspecified> {
        Ok(Self {
            origin: settings.origin.clone(),
            lifetime: settings.lifetime,
            nonces: settings.nonce_key.clone().map(Nonces::new),
            replays: Replays::new(settings.lifetime + LEEWAY, settings.replay_capacity)?,
        })
    }

    /// With the memory of the one before it: what that has accepted is accepted by neither.
    pub(super) fn after(self, before: &Self) -> Self {
        Self { replays: self.replays.after(&before.replays), ..self }
    }

    /// The nonce that the next proof must hold, for `DPoP-Nonce`; nothing when none is asked for.
    pub(super) fn nonce(&self, now: SystemTime) -> Option<String> {
        self.nonces.as_ref().map(|nonces| nonces.current(now))
    }

    /// Whether the request holds a good proof, one that was not accepted before.
    ///
    /// # Errors
    ///
    /// The first fault of it.
    pub(super) fn check(&self, proof: Proof<'_>, now: SystemTime) -> Result<(), ProofFault> {
        let unverified = UnverifiedProof::of(proof.headers)?;
        if unverified.key.thumbprint != proof.thumbprint {
            return Err(ProofFault::OtherKey);
        }
        let claims = unverified.verify()?;
        if claims.method != proof.method.as_str() {
            return Err(ProofFault::Method);
        }
        if !self.is_target(&claims.target, proof.path) {
            return Err(ProofFault::Target);
        }
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, proof.token.as_bytes()));
        verify_slices_are_equal(claims.token_hash.as_bytes(), hash.as_bytes())
            .map_err(|Unspecified| ProofFault::TokenHash)?;
        self.check_time(&claims, now)?;
        if let Some(nonces) = &self.nonces
            && !claims.nonce.as_deref().is_some_and(|nonce| nonces.accept(nonce, now))
        {
            return Err(ProofFault::Nonce);
        }
        self.replays.note(proof.caller, proof.thumbprint, &claims.identifier, claims.issued_at, now)
    }

    /// Whether a URL, without its query and fragment, is that of the request (RFC 9449, section
    /// 4.3, number 9).
    fn is_target(&self, url: &str, path: &str) -> bool {
        let Ok(url) = url.parse::<Uri>() else { return false };
        config::Origin::of(&url).is_some_and(|origin| origin == self.origin) && url.path() == path
    }

    fn check_time(&self, claims: &ProofClaims, now: SystemTime) -> Result<(), ProofFault> {
        let issued_at = UNIX_EPOCH + Duration::from_secs(claims.issued_at);
        if issued_at > now + LEEWAY {
            return Err(ProofFault::NotYetValid);
        }
        if issued_at + self.lifetime < now {
            return Err(ProofFault::Expired);
        }
        Ok(())
    }
}
