//! Why a token and how it came do not go together.

/// The precise reason, for the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BindingFault {
    /// `cnf` is empty, or holds what can't be checked here.
    #[error("cnf binds the token in a way that can't be checked")]
    Malformed,
    /// The issuer's tokens are not accepted with such a binding.
    #[error("the issuer's tokens are not accepted with that binding")]
    NotAccepted,
    /// The token is bound to a certificate, and the client showed none.
    #[error("bound to a certificate, and the client has shown none")]
    NoCertificate,
    /// The token is bound to another certificate than the client's.
    #[error("bound to another certificate than the client's")]
    OtherCertificate,
    /// A token that is bound to a key was sent as Bearer (RFC 9449, section 7.2).
    #[error("bound to a key, and sent as Bearer")]
    BearerScheme,
    /// A token that is not bound to a key was sent as DPoP (RFC 9449, section 7.1).
    #[error("not bound to a key, and sent as DPoP")]
    UnboundDpop,
    /// The issuer's tokens must be bound, and this one is not.
    #[error("not bound to its sender")]
    Required,
}

impl BindingFault {
    /// One of each kind.
    pub const ALL: &[Self] = &[
        Self::Malformed,
        Self::NotAccepted,
        Self::NoCertificate,
        Self::OtherCertificate,
        Self::BearerScheme,
        Self::UnboundDpop,
        Self::Required,
    ];

    /// A short name, one of few, for metrics and for counting.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "binding_malformed",
            Self::NotAccepted => "binding_not_accepted",
            Self::NoCertificate => "binding_no_certificate",
            Self::OtherCertificate => "binding_other_certificate",
            Self::BearerScheme => "binding_bearer_scheme",
            Self::UnboundDpop => "binding_unbound_dpop",
            Self::Required => "binding_required",
        }
    }
}
