//! Why a request has no principal.

use super::introspection::IntrospectionFault;
use super::{BindingFault, ProofFault, SenderFault};

/// The precise reason, for the audit trail; the caller is told less (see [`crate::reply`]).
///
/// README.md lists each of them by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// No `Authorization` header, or one of another scheme.
    #[error("no Bearer token")]
    NoToken,
    /// More than one `Authorization` header.
    #[error("more than one Authorization header")]
    TwoHeaders,
    /// A token beyond 8 KiB.
    #[error("token larger than 8 KiB")]
    TooLarge,
    /// Characters that no token has (RFC 6750, section 2.1).
    #[error("characters that no token has")]
    Characters,
    /// Not three parts (RFC 7515, section 7.1). Five parts are a JWE, which is not read here.
    #[error("not a signed JWT in compact form")]
    NotCompact,
    /// A part with padding, of another alphabet, or with bits left over.
    #[error("not base64url without padding")]
    NotBase64url,
    /// The header is not JSON, not an object, or has a member twice.
    #[error("the header is not a strict JSON object")]
    Header,
    /// The claims are not JSON, not an object, or have a member twice.
    #[error("the claims are not a strict JSON object")]
    Claims,
    /// A header parameter that must be understood and is not (`crit`, `b64`).
    #[error("header parameter that is not understood")]
    Critical,
    /// `typ` or `cty` says that it is something else than an access token.
    #[error("not an access token by its typ or cty")]
    Type,
    /// `kid` is not a text.
    #[error("kid is not a text")]
    KeyId,
    /// `iss` is not a configured issuer.
    #[error("unknown issuer")]
    UnknownIssuer,
    /// `alg` is not one that the issuer's configuration lists.
    #[error("algorithm not accepted")]
    Algorithm,
    /// The issuer has no such key for this algorithm.
    #[error("unknown key")]
    UnknownKey,
    /// Several keys of the issuer would fit.
    #[error("more than one key fits")]
    AmbiguousKey,
    /// The signature is not by that key.
    #[error("wrong signature")]
    Signature,
    /// A time that is not in whole seconds, or absurd.
    #[error("exp, nbf or iat is no time in whole seconds")]
    Time,
    /// There is no `exp`.
    #[error("no exp")]
    NoExpiry,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("not yet valid")]
    NotYetValid,
    /// `exp` is later than the issuer's longest lifetime after `iat`, or there is no `iat`.
    #[error("valid for longer than its issuer's max_lifetime")]
    Lifetime,
    /// `aud` does not name this gateway.
    #[error("not meant for this audience")]
    Audience,
    /// `sub`, `client_id`, `azp` or `jti` is not a text, or is empty.
    #[error("sub, client_id, azp or jti is no text")]
    Name,
    /// Neither `sub` nor `client_id` names an actor.
    #[error("names no actor")]
    NoActor,
    /// The roles are neither a list of texts nor a text.
    #[error("the roles are neither a list of texts nor a text of words")]
    Roles,
    /// A claim that RFC 9068 requires is missing.
    #[error("lacks a claim that RFC 9068 requires")]
    Profile,
    /// A claim that only ID tokens have.
    #[error("an ID token by its claims")]
    IdToken,
    /// The revocation list has it.
    #[error("revoked")]
    Revoked,
    /// No revocation list could be loaded, so nobody knows.
    #[error("no revocation list is in force")]
    RevocationUnknown,
    /// The one who sends it is not the one to whom it is bound.
    #[error(transparent)]
    Sender(#[from] SenderFault),
    /// Its issuer says that it is not active.
    #[error("not active, by its issuer's word")]
    Inactive,
    /// Its issuer can't be asked about it.
    #[error("the issuer can't be asked about the token")]
    IntrospectionUnavailable,
    /// Its issuer is being asked about too many tokens.
    #[error("the issuer is being asked about too many other tokens")]
    IntrospectionBusy,
    /// The issuer's keys were never to be had.
    #[error("the issuer's keys can't be had")]
    KeysUnavailable,
    /// The issuer's keys were last fetched too long ago.
    #[error("the issuer's keys are too old")]
    KeysStale,
    /// Too many requests wait for the issuer's keys already.
    #[error("too many requests wait for the issuer's keys")]
    KeysBusy,
}

impl Refusal {
    /// Whether a good token is refused, which its holder may not have or not use like this. An
    /// expired one is not worth a record: it has no other meaning, and no end of uses.
    pub(super) fn concerns_the_holder(self) -> bool {
        match self {
            Self::Revoked => true,
            // A proof without the current nonce is how an honest sender begins.
            Self::Sender(SenderFault::Proof(fault)) => {
                !matches!(fault, ProofFault::Nonce | ProofFault::ReplayMemoryFull)
            }
            Self::Sender(SenderFault::Binding(_)) => true,
            _ => false,
        }
    }
}

/// Declares the labels and the list of all.
macro_rules! labels {
    ($($reason:ident => $label:literal,)*) => {
        impl Refusal {
            /// One of each kind.
            pub fn all() -> impl Iterator<Item = Self> {
                let own = [$(Self::$reason,)*].into_iter();
                let bindings = BindingFault::ALL.iter().map(|fault| SenderFault::from(*fault));
                let proofs = ProofFault::ALL.iter().map(|fault| SenderFault::from(*fault));
                own.chain(bindings.chain(proofs).map(Self::Sender))
            }

            /// A short name, one of few, for metrics, logs and counting.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$reason => $label,)*
                    Self::Sender(SenderFault::Binding(fault)) => fault.label(),
                    Self::Sender(SenderFault::Proof(fault)) => fault.label(),
                }
            }
        }
    };
}

labels! {
    NoToken => "no_token",
    TwoHeaders => "two_headers",
    TooLarge => "too_large",
    Characters => "characters",
    NotCompact => "not_compact",
    NotBase64url => "not_base64url",
    Header => "header",
    Claims => "claims",
    Critical => "critical",
    Type => "type",
    KeyId => "key_id",
    UnknownIssuer => "unknown_issuer",
    Algorithm => "algorithm",
    UnknownKey => "unknown_key",
    AmbiguousKey => "ambiguous_key",
    Signature => "signature",
    Time => "time",
    NoExpiry => "no_expiry",
    Expired => "expired",
    NotYetValid => "not_yet_valid",
    Lifetime => "lifetime",
    Audience => "audience",
    Name => "name",
    NoActor => "no_actor",
    Roles => "roles",
    Profile => "profile",
    IdToken => "id_token",
    Inactive => "inactive",
    IntrospectionUnavailable => "introspection_unavailable",
    IntrospectionBusy => "introspection_busy",
    Revoked => "revoked",
    RevocationUnknown => "revocation_unknown",
    KeysUnavailable => "keys_unavailable",
    KeysStale => "keys_stale",
    KeysBusy => "keys_busy",
}

impl From<IntrospectionFault> for Refusal {
    fn from(fault: IntrospectionFault) -> Self {
        match fault {
            IntrospectionFault::Inactive => Self::Inactive,
            // What it was in particular is in the log: it concerns the operator.
            IntrospectionFault::Unavailable(_) => Self::IntrospectionUnavailable,
            IntrospectionFault::Busy => Self::IntrospectionBusy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_a_label_of_its_own_which_the_readme_lists() {
        let readme = include_str!("../../README.md");
        let mut labels = HashSet::new();
        for refusal in Refusal::all() {
            let label = refusal.label();
            assert!(labels.insert(label), "{label} stands for two reasons");
            assert!(readme.contains(&format!("`{label}`")), "{label} is not in README.md");
        }
    }
}
