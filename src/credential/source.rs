//! Where the CMS's user name and password are kept. Each store is one file beside this one.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use zeroize::Zeroizing;

use crate::secret;

/// A store that has the CMS's user name and password.
///
/// How often it is asked, and what becomes of a credential that it no longer gives, is not its
/// matter but that of [`Credentials`](super::Credentials).
pub trait Source: Debug + Send + Sync {
    /// Its name in the configuration and in audit records.
    fn name(&self) -> &'static str;

    /// Asks for the credential. Bounded in time by the source itself.
    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>>;

    /// Waits until it may have another credential; for ever where it can't tell.
    fn changed(&self) -> Pending<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// What a source will say.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a source gives: fit to be sent, zeroed when it is dropped, and not to be printed.
pub struct Secret {
    pub(super) username: Zeroizing<String>,
    pub(super) password: Zeroizing<String>,
    /// The source's own name for this version of it.
    pub(super) version: Option<String>,
}

/// Why a source gives no credential. No message repeats a character of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It can't be asked now: no connection, no answer in time, sealed, on standby.
    #[error("{0}")]
    Unavailable(String),
    /// It does not let the gateway in.
    #[error("{0}")]
    Denied(String),
    /// It has no such secret, or no longer.
    #[error("{0}")]
    Missing(String),
    /// What it gives is no credential.
    #[error("{0}")]
    Malformed(String),
}

/// The longest version that is kept of a source's own naming, in bytes.
const LONGEST_VERSION: usize = 128;

impl Secret {
    /// Checks what was read before it is used: a password that a terminal's newline got into would
    /// lock the account.
    ///
    /// # Errors
    ///
    /// [`SourceError::Malformed`], which names the part and not its content.
    pub(super) fn new(
        username: Zeroizing<String>,
        password: Zeroizing<String>,
        version: Option<String>,
    ) -> Result<Self, SourceError> {
        let parts = [("user name", &username, true), ("password", &password, false)];
        for (part, text, is_username) in parts {
            if let Some(wrong) = fault(text, is_username) {
                return Err(SourceError::Malformed(format!("the {part} {wrong}")));
            }
        }
        let is_shown = |text: &String| {
            text.len() <= LONGEST_VERSION && !text.is_empty() && !text.chars().any(char::is_control)
        };
        Ok(Self { username, password, version: version.filter(is_shown) })
    }
}

/// What is wrong with a part of a credential, if anything is.
pub(crate) fn fault(text: &str, is_username: bool) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > secret::LARGEST {
        Some("is longer than 4 KiB")
    } else if text.chars().any(char::is_control) {
        Some("holds a control character, as a line break before its end")
    } else if is_username && text.contains(':') {
        Some("holds a colon, which a user name can't (RFC 7617, section 2)")
    } else {
        None
    }
}

impl Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { username: _, password: _, version } = self;
        formatter.debug_struct("Secret").field("version", version).finish_non_exhaustive()
    }
}
