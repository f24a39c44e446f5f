//! Why a proof is not accepted.

/// The precise reason, for the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProofFault {
    /// No `DPoP` header.
    #[error("no DPoP proof")]
    Missing,
    /// More than one `DPoP` header.
    #[error("more than one DPoP header")]
    TwoHeaders,
    /// A proof beyond 8 KiB.
    #[error("DPoP proof too large")]
    TooLarge,
    /// Not a signed JWT in compact form of strict JSON (RFC 7515, section 7.1).
    #[error("DPoP proof malformed")]
    Malformed,
    /// `typ` is not `dpop+jwt`.
    #[error("DPoP proof of another typ")]
    Type,
    /// `alg` is none, symmetric, or not known.
    #[error("DPoP proof's algorithm not accepted")]
    Algorithm,
    /// A header parameter that must not be there (`crit`, `b64`).
    #[error("DPoP proof's header has a parameter that is not understood")]
    Critical,
    /// `jwk` is no public key for that algorithm, or a weak one.
    #[error("DPoP proof's jwk is no key for its algorithm")]
    Key,
    /// `jwk` has a private or symmetric part.
    #[error("DPoP proof's jwk has a private part")]
    PrivateKey,
    /// `jwk` is not the key that the token is bound to.
    #[error("DPoP proof by another key than the token's")]
    OtherKey,
    /// The signature is not by `jwk`.
    #[error("DPoP proof's signature is wrong")]
    Signature,
    /// `htm` is not the request's method.
    #[error("DPoP proof for another method")]
    Method,
    /// `htu` is not the request's URL.
    #[error("DPoP proof for another URL")]
    Target,
    /// `ath` is not the token's hash.
    #[error("DPoP proof for another token")]
    TokenHash,
    /// `jti` is missing, empty, too long or no text.
    #[error("DPoP proof's jti is not acceptable")]
    Identifier,
    /// `iat` is missing or not in whole seconds.
    #[error("DPoP proof's iat is not acceptable")]
    IssueTime,
    /// `iat` is too long ago.
    #[error("DPoP proof too old")]
    Expired,
    /// `iat` is still to come.
    #[error("DPoP proof not yet valid")]
    NotYetValid,
    /// `nonce` is missing or not one that is accepted now; the answer should bring one.
    #[error("DPoP proof without a current nonce")]
    Nonce,
    /// The proof has been accepted before.
    #[error("DPoP proof sent again")]
    Replayed,
    /// So many proofs are remembered that no other can be. The caller is not at fault.
    #[error("no room to remember a DPoP proof")]
    ReplayMemoryFull,
}

impl ProofFault {
    /// One of each kind.
    pub const ALL: &[Self] = &[
        Self::Missing,
        Self::TwoHeaders,
        Self::TooLarge,
        Self::Malformed,
        Self::Type,
        Self::Algorithm,
        Self::Critical,
        Self::Key,
        Self::PrivateKey,
        Self::OtherKey,
        Self::Signature,
        Self::Method,
        Self::Target,
        Self::TokenHash,
        Self::Identifier,
        Self::IssueTime,
        Self::Expired,
        Self::NotYetValid,
        Self::Nonce,
        Self::Replayed,
        Self::ReplayMemoryFull,
    ];

    /// A short name, one of few, for metrics and for counting.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "dpop_missing",
            Self::TwoHeaders => "dpop_two_headers",
            Self::TooLarge => "dpop_too_large",
            Self::Malformed => "dpop_malformed",
            Self::Type => "dpop_type",
            Self::Algorithm => "dpop_algorithm",
            Self::Critical => "dpop_critical",
            Self::Key => "dpop_key",
            Self::PrivateKey => "dpop_private_key",
            Self::OtherKey => "dpop_other_key",
            Self::Signature => "dpop_signature",
            Self::Method => "dpop_method",
            Self::Target => "dpop_target",
            Self::TokenHash => "dpop_token_hash",
            Self::Identifier => "dpop_identifier",
            Self::IssueTime => "dpop_issue_time",
            Self::Expired => "dpop_expired",
            Self::NotYetValid => "dpop_not_yet_valid",
            Self::Nonce => "dpop_nonce",
            Self::Replayed => "dpop_replayed",
            Self::ReplayMemoryFull => "dpop_replay_memory_full",
        }
    }
}
