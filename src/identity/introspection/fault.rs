//! Why an issuer's word on a token is not there, or is no.

use http::StatusCode;

/// Why an issuer's word on a token is not there, or is no. Nothing of it holds the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectionFault {
    /// It has expired, was revoked, or never was (RFC 7662, section 2.2).
    #[error("the issuer says that the token is not active")]
    Inactive,
    /// There is no answer that can be believed.
    #[error("the issuer can't be asked about the token: {0}")]
    Unavailable(Unavailable),
    /// Too many questions are on their way, and too many wait.
    #[error("the issuer is being asked about too many other tokens")]
    Busy,
}

impl IntrospectionFault {
    /// One of each kind.
    pub const ALL: &[Self] =
        &[Self::Inactive, Self::Unavailable(Unavailable::NoConnection), Self::Busy];

    /// A short name, one of few, for metrics and for counting.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inactive => "introspection_inactive",
            Self::Unavailable(_) => "introspection_unavailable",
            Self::Busy => "introspection_busy",
        }
    }
}

/// Why there is no answer that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The gateway's own secret can't be read.
    #[error("the gateway's client secret can't be had")]
    Secret,
    /// Nobody answers.
    #[error("no connection")]
    NoConnection,
    /// The answer was not whole in time.
    #[error("no whole answer in time")]
    TooSlow,
    /// The answer is too large.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer is not HTTP, or was cut off.
    #[error("the answer is broken")]
    Broken,
    /// The gateway itself is refused (401 or 403): its client or secret is wrong.
    #[error("the issuer refuses the gateway's client ({0}); check client_id and client_secret")]
    Refused(StatusCode),
    /// Another status than 200.
    #[error("the answer was {0}")]
    Status(StatusCode),
    /// Another type than `application/json`.
    #[error("the answer is not application/json")]
    ContentType,
    /// It is not strict JSON, or does not say whether the token is active.
    #[error("the answer is not an introspection response")]
    Malformed,
}
