//! How the CMS is known, and the gateway to it; read again when the files change.
//!
//! Each change makes new settings with a number of their own, by which connections made under others
//! are known; no session is resumed, so that each connection shows both certificates.

pub(super) mod words;

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::config;
use crate::telemetry::Metrics;
use crate::tls::{self, Files, Kept, Source, TlsError, TlsFault};

/// Everything that stands against using these settings now.
pub(crate) fn faults(settings: &config::Tls) -> Vec<TlsFault> {
    tls::faults(|files| make(settings, false, files))
}

/// The TLS settings in force.
pub(crate) struct Trust(Arc<Kept<Cms>>);

/// What they are made of.
struct Cms {
    settings: config::Tls,
    needs_roots: bool,
    metrics: Arc<Metrics>,
}

impl Trust {
    /// Reads the files. Where no server has TLS, the system's roots aren't needed.
    pub(crate) fn new(
        settings: &config::Tls,
        needs_roots: bool,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let metrics = Arc::clone(metrics);
        let cms = Cms { settings: settings.clone(), needs_roots, metrics };
        Ok(Self(Arc::new(Kept::new(cms)?)))
    }

    /// Reads the files again when they change; for ever. A change that can't be used leaves the last
    /// good settings in force.
    pub(crate) async fn watch(&self) {
        self.0.watch().await;
    }

    /// Why the files' newest state is not in force.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.trouble()
    }

    /// The settings, and their number.
    pub(super) fn current(&self) -> (u64, Arc<ClientConfig>) {
        let current = self.0.current();
        (current.generation, Arc::clone(&current.made))
    }

    /// The number of the settings.
    pub(super) fn generation(&self) -> u64 {
        self.0.current().generation
    }
}

impl Source for Cms {
    type Made = Arc<ClientConfig>;
    const SECTION: &'static str = "upstream";

    fn paths(&self) -> Vec<PathBuf> {
        let identity = self.settings.identity.iter().flat_map(|it| [&it.certificate, &it.key]);
        self.settings.ca.iter().chain(identity).cloned().collect()
    }

    fn make(&self, files: &mut Files) -> Option<Self::Made> {
        make(&self.settings, self.needs_roots, files).map(Arc::new)
    }

    fn tell(&self, news: Result<&Self::Made, &str>) {
        let result = match news {
            Ok(_) => {
                tracing::info!("the TLS settings of [upstream] are loaded");
                "success"
            }
            Err(why) => {
                tracing::warn!("the TLS files of [upstream] are not used as they are: {why}");
                "failure"
            }
        };
        self.metrics.upstream_tls_load.with_label_values(&[result]).inc();
    }
}

impl Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Trust").finish_non_exhaustive()
    }
}

fn make(settings: &config::Tls, needs_roots: bool, files: &mut Files) -> Option<ClientConfig> {
    let roots = settings.ca.as_deref().map(|path| files.roots(("ca", path)));
    let identity = settings.identity.as_ref().map(|own| {
        files.identity(("client_certificate", &own.certificate), ("client_key", &own.key))
    });
    let versions: &[&SupportedProtocolVersion] =
        if settings.only_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ClientConfig::builder_with_protocol_versions(versions);
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots?),
        None if needs_roots => match builder.with_native_roots() {
            Ok(builder) => builder,
            Err(error) => {
                files
                    .fault("ca", format!("names no file, and the system's can't be read: {error}"));
                return None;
            }
        },
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity?)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session takes both certificates from the one before, whatever has expired since.
    config.resumption = Resumption::disabled();
    Some(config)
}
