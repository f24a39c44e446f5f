//! How the CMS is known, and the gateway to it; read again when the files change.

use crate::config;

/// What is wrong with one of the files, for `check`.
#[derive(Debug)]
pub(crate) struct TlsFault {
    /// The key of `[upstream]` that names the file.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) message: String,
}

/// Everything that stands against using these settings now.
pub(crate) fn faults(_settings: &config::Tls) -> Vec<TlsFault> {
    Vec::new()
}
