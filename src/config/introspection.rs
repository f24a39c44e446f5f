//! `[issuers.introspection]`: an issuer that is asked about its tokens (RFC 7662).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::RootCertStore;

use super::section::Section;
use super::sections::{MILLISECOND, SECOND, base, trusted};
use crate::secret;

/// An issuer that is asked about its tokens.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The introspection endpoint.
    pub url: Uri,
    /// Whom to trust for it; the system's roots without.
    pub ca: Option<Arc<RootCertStore>>,
    /// The gateway's own name there.
    pub client_id: String,
    /// The file of the gateway's own secret there, read anew for each question.
    pub client_secret: PathBuf,
    /// How long an answer counts; never beyond the token's own end.
    pub max_age: Duration,
    /// How long an answer may take, and how long a question may wait for a place.
    pub timeout: Duration,
    /// How many questions are asked at the same time.
    pub concurrency: usize,
    /// How many more wait for a place.
    pub waiting: usize,
}

/// Where the answer may come from, and how much of it.
pub(super) fn introspection(mut section: Section) -> Option<Introspection> {
    let url = section.parsed::<Uri>("url", "a URL, as \"https://idp.example.com/introspect\"");
    let url = section.require("url", url, "\"https://idp.example.com/introspect\"");
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let ca = trusted(&mut section);
    let client_id = section.text("client_id");
    let client_id = section.require("client_id", client_id, "\"cms-gateway\"");
    let client_secret = section.path("client_secret");
    let client_secret =
        section.require("client_secret", client_secret, "\"/run/secrets/idp/client-secret\"");
    if let Some(file) = &client_secret {
        match secret::read(&file.value) {
            Err(error) => section.fault_of(file, error),
            Ok((text, _)) if text.is_empty() => section.fault_of(file, "is an empty file"),
            Ok((text, _)) if text.len() > secret::LARGEST => {
                section.fault_of(file, "holds more than 4 KiB");
            }
            Ok(_) => {}
        }
    }
    let max_age = section.duration("max_age", 10 * SECOND, Duration::ZERO..=60 * SECOND);
    let timeout = section.duration("timeout", 2 * SECOND, 10 * MILLISECOND..=30 * SECOND);
    let concurrency = section.integer("concurrency", 16, 1..=1024) as usize;
    let waiting = section.integer("waiting", 256, 0..=10_000) as usize;
    let url = url?;
    base(&section, &url, allow_plaintext)?;
    Some(Introspection {
        url: url.value,
        ca: ca?,
        client_id: client_id?.value,
        client_secret: client_secret?.value,
        max_age,
        timeout,
        concurrency,
        waiting,
    })
}
