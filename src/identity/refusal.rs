//! Why a request has no principal.

/// The precise reason, for the audit trail; the caller is told less (see [`crate::reply`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// No `Authorization` header, or one of another scheme.
    #[error("no Bearer token")]
    NoToken,
    /// More than one `Authorization` header.
    #[error("more than one Authorization header")]
    TwoHeaders,
    /// A token beyond 8 KiB.
    #[error("token too large")]
    TooLarge,
    /// Not a signed JWT in compact form (RFC 7515, section 7.1).
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A header parameter that must not be there (`crit`, `b64`).
    #[error("header parameter that is not understood")]
    Critical,
    /// `typ` says that it is something else than an access token.
    #[error("not an access token by its typ")]
    Type,
    /// `iss` is not a configured issuer.
    #[error("unknown issuer")]
    UnknownIssuer,
    /// An algorithm that the issuer's configuration does not list.
    #[error("algorithm not accepted")]
    Algorithm,
    /// The issuer has no such key, or several would fit.
    #[error("unknown key")]
    UnknownKey,
    /// The issuer's keys were never to be had.
    #[error("the issuer's keys can't be had")]
    KeysUnavailable,
    /// The signature is not by that key.
    #[error("wrong signature")]
    Signature,
    /// `aud` does not name this gateway.
    #[error("not meant for this audience")]
    Audience,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("not yet valid")]
    NotYetValid,
    /// Neither `sub` nor `client_id` names an actor.
    #[error("names no actor")]
    NoActor,
}

impl Refusal {
    /// One of each kind.
    pub const ALL: &[Self] = &[
        Self::NoToken,
        Self::TwoHeaders,
        Self::TooLarge,
        Self::Malformed("not a strict JWT"),
        Self::Critical,
        Self::Type,
        Self::UnknownIssuer,
        Self::Algorithm,
        Self::UnknownKey,
        Self::KeysUnavailable,
        Self::Signature,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::NoActor,
    ];

    /// A short name, one of few, for metrics and for counting.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::TwoHeaders => "two_headers",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoActor => "no_actor",
        }
    }
}
