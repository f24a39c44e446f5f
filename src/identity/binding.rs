//! Tokens that are bound to their sender: to a certificate (RFC 8705) or to a key (RFC 9449).
//!
//! A bound token is of no use to who has stolen it, as long as nobody takes it without the proof.
//! So the claim that binds it (`cnf`, RFC 7800) is checked whole or the token is refused: also where
//! the issuer's tokens are not expected to be bound, or are bound in a way that is not known here.

mod fault;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method};
use serde_json::Value;

pub use self::fault::BindingFault;

use super::dpop::{Dpop, Proof, ProofFault};

/// What a token is bound to; to nothing when both are absent, to both when both are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// `x5t#S256`: SHA-256 of a certificate in DER (RFC 8705, section 3.1).
    certificate: Option<[u8; 32]>,
    /// `jkt`: the thumbprint of a key (RFC 9449, section 6.1).
    pub(super) key: Option<String>,
}

/// How an issuer's tokens may and must be bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct SenderConstraint<'a> {
    /// Whether to certificates.
    pub(super) mtls: bool,
    /// Whether to keys, and what proofs must hold then.
    pub(super) dpop: Option<&'a Dpop>,
    /// Whether a token that is bound to nothing is refused.
    pub(super) required: bool,
}

/// The scheme of the `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// RFC 6750, section 2.1.
    Bearer,
    /// RFC 9449, section 7.1.
    Dpop,
}

/// A request as it presents its token.
#[derive(Clone, Copy)]
pub(super) struct Presented<'a> {
    pub(super) scheme: Scheme,
    pub(super) token: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) method: &'a Method,
    /// As it was sent, without a query.
    pub(super) path: &'a str,
    /// SHA-256 of the client's certificate in DER.
    pub(super) certificate: Option<[u8; 32]>,
    /// Whose token it is.
    pub(super) caller: &'a str,
}

/// Why a sender is not the one that a token is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SenderFault {
    /// The token and how it came do not go together.
    #[error(transparent)]
    Binding(#[from] BindingFault),
    /// The proof is not good.
    #[error(transparent)]
    Proof(#[from] ProofFault),
}

impl SenderFault {
    /// A short name, one of few, for metrics and for counting.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Binding(fault) => fault.label(),
            Self::Proof(fault) => fault.label(),
        }
    }
}

impl Confirmation {
    /// Reads the claim `cnf`.
    ///
    /// # Errors
    ///
    /// [`BindingFault::Malformed`] when it is there and anything in it can't be checked.
    pub(super) fn parse(claim: Option<&Value>) -> Result<Self, BindingFault> {
        let Some(claim) = claim else { return Ok(Self::default()) };
        let members = claim.as_object().ok_or(BindingFault::Malformed)?;
        let mut confirmation = Self::default();
        for (name, value) in members {
            let text = value.as_str().ok_or(BindingFault::Malformed)?;
            let hash = URL_SAFE_NO_PAD.decode(text).map_err(|_| BindingFault::Malformed)?;
            let hash = hash.try_into().map_err(|_| BindingFault::Malformed)?;
            match name.as_str() {
                "x5t#S256" => confirmation.certificate = Some(hash),
                "jkt" => confirmation.key = Some(text.to_owned()),
                _ => return Err(BindingFault::Malformed),
            }
        }
        if members.is_empty() { Err(BindingFault::Malformed) } else { Ok(confirmation) }
    }

    /// Whether whoever has the token may use it.
    pub(super) fn is_none(&self) -> bool {
        self.certificate.is_none() && self.key.is_none()
    }
}

/// Whether the issuer's tokens may be bound like this, which no request changes.
///
/// # Errors
///
/// When they may not, or must be bound.
pub(super) fn is_accepted(
    confirmation: &Confirmation,
    settings: &SenderConstraint<'_>,
) -> Result<(), BindingFault> {
    let Confirmation { certificate, key } = confirmation;
    let is_accepted =
        (certificate.is_none() || settings.mtls) && (key.is_none() || settings.dpop.is_some());
    if !is_accepted {
        return Err(BindingFault::NotAccepted);
    }
    if settings.required && confirmation.is_none() {
        return Err(BindingFault::Required);
    }
    Ok(())
}

/// Whether a request comes from the one that its token is bound to.
///
/// # Errors
///
/// What does not go together, or the first fault of the proof.
pub(super) fn check(
    confirmation: &Confirmation,
    settings: &SenderConstraint<'_>,
    presented: &Presented<'_>,
    now: SystemTime,
) -> Result<(), SenderFault> {
    is_accepted(confirmation, settings)?;
    let Confirmation { certificate, key } = confirmation;
    match (presented.scheme, key) {
        (Scheme::Bearer, Some(_)) => return Err(BindingFault::BearerScheme.into()),
        (Scheme::Dpop, None) => return Err(BindingFault::UnboundDpop.into()),
        (Scheme::Bearer, None) | (Scheme::Dpop, Some(_)) => {}
    }
    match (certificate, &presented.certificate) {
        (Some(_), None) => return Err(BindingFault::NoCertificate.into()),
        (Some(expected), Some(own)) if own != expected => {
            return Err(BindingFault::OtherCertificate.into());
        }
        (Some(_), Some(_)) | (None, _) => {}
    }
    if let (Some(thumbprint), Some(dpop)) = (key, settings.dpop) {
        let Presented { headers, method, path, token, caller, .. } = *presented;
        dpop.check(Proof { headers, method, path, token, caller, thumbprint }, now)?;
    }
    Ok(())
}
