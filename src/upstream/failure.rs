//! Why the CMS's answer can't be relayed, or why there is none.

use std::time::Duration;

use http::StatusCode;

use super::exchange::ExchangeFault;
use crate::config;
use crate::credential::CredentialError;

/// Why the CMS's answer can't be relayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The CMS says that the gateway's credential is wrong.
    #[error("the CMS refused the gateway's credential with 401")]
    Unauthorized,
    /// The CMS says that the gateway's account may not do this.
    #[error("the CMS refused the gateway's credential with 403")]
    Forbidden,
    /// There is no credential to send it with.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// No connection; nothing was sent.
    #[error("the CMS can't be reached: {0}")]
    Unreachable(String),
    /// The answer did not come in time; the change may have been made.
    #[error("the CMS did not answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The answer can't be understood; the change may have been made.
    #[error("the CMS's answer can't be understood: {0}")]
    Unintelligible(String),
    /// The answer is to another change; this one may have been made.
    #[error("the CMS's answer contradicts the change: {0}")]
    Contradicting(String),
    /// The CMS says that it has too much to do.
    #[error("the CMS has too much to do: {status}")]
    Busy {
        /// 429 or 503.
        status: StatusCode,
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// The CMS has failed too often to be asked now.
    #[error("the CMS has failed too often and is not asked for a while")]
    CircuitOpen {
        /// When it will be.
        retry_after: Duration,
    },
    /// The change has waited too long for its turn; nothing was sent.
    #[error("too many changes wait for the CMS")]
    Shed,
}

impl Failure {
    pub(super) fn of(fault: ExchangeFault, settings: &config::Upstream) -> Self {
        match fault {
            // Whatever became of its body, the account may be locked after a few more.
            fault if fault.status() == Some(StatusCode::UNAUTHORIZED) => Self::Unauthorized,
            ExchangeFault::NotSent(why) => Self::Unreachable(why),
            ExchangeFault::NoHead => Self::TimedOut(settings.head_timeout),
            ExchangeFault::NoEnd(_) => Self::TimedOut(settings.response_timeout),
            fault => Self::Unintelligible(fault.to_string()),
        }
    }

    /// Whether the change may have been made.
    pub(super) fn leaves_open(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Unintelligible(_) | Self::Contradicting(_))
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether it says that nothing was sent.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Credential(_) | Self::Unreachable(_) | Self::CircuitOpen { .. } | Self::Shed
        )
    }

    /// Whether it speaks against the server, rather than the account or what was asked.
    pub(super) fn is_the_servers(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::TimedOut(_)
                | Self::Unintelligible(_)
                | Self::Contradicting(_)
                | Self::Busy { .. }
        )
    }
}
