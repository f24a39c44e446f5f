//! How the CMS is known, and the gateway to it; read again when the files change.
//!
//! What is in force is whole at any time: a certificate whose key has not come yet changes nothing,
//! and is told. Each change makes new settings with a number of their own, by which connections made
//! under others are known; no session is resumed, so that each connection shows both certificates.

mod files;
pub(super) mod words;

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_rustls::ConfigBuilderExt;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use self::files::{Look, Read, Seen};
use crate::config;
use crate::disk::Disk;
use crate::telemetry::Metrics;

/// The time between two looks at the files.
const EVERY: Duration = Duration::from_millis(500);
/// How long a look may take before the files count as ones that can't be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong with one of the files, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFault {
    /// The key of `[upstream]` that names the file.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) message: String,
}

/// Everything that stands against using these settings now.
pub(crate) fn faults(settings: &config::Tls) -> Vec<TlsFault> {
    files::read(settings).err().unwrap_or_default()
}

/// Why there are no TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system's roots of trust can't be read.
    #[error("the system's certificates can't be read; name a file in \"ca\": {0}")]
    Roots(std::io::Error),
    /// The configured files can't be used.
    #[error("{0}")]
    Files(String),
}

/// The TLS settings in force.
pub(crate) struct Trust {
    settings: config::Tls,
    needs_roots: bool,
    current: ArcSwap<Current>,
    seen: Mutex<Seen>,
    trouble: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
}

struct Current {
    generation: u64,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Reads the files. Where no server has TLS, the system's roots aren't needed.
    pub(crate) fn new(
        settings: &config::Tls,
        needs_roots: bool,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let mut seen = Seen::of(settings);
        let read = files::read(settings).map_err(|faults| TlsError::Files(joined(&faults)))?;
        let config = Arc::new(build(settings, &read, needs_roots)?);
        seen.accept(&read);
        metrics.upstream_tls_load.with_label_values(&["success"]).inc();
        Ok(Self {
            settings: settings.clone(),
            needs_roots,
            current: ArcSwap::from_pointee(Current { generation: 0, config }),
            seen: Mutex::new(seen),
            trouble: Mutex::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Reads the files again when they change; for ever. A change that can't be used leaves the last
    /// good settings in force.
    pub(crate) async fn watch(self: &Arc<Self>) {
        if self.settings.ca.is_none() && self.settings.identity.is_none() {
            return std::future::pending().await;
        }
        let disk = Disk::default();
        loop {
            tokio::time::sleep(EVERY).await;
            let trust = Arc::clone(self);
            if disk.ask(PATIENCE, move || trust.look()).await.is_none() {
                self.fail("the files can't be read: no answer from the disk".to_owned());
            }
        }
    }

    /// Why the files' newest state is not in force.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble_now().clone()
    }

    /// The settings, and their number.
    pub(super) fn current(&self) -> (u64, Arc<ClientConfig>) {
        let current = self.current.load();
        (current.generation, Arc::clone(&current.config))
    }

    /// The number of the settings.
    pub(super) fn generation(&self) -> u64 {
        self.current.load().generation
    }

    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.look(&self.settings) {
            Look::NoNews => {}
            Look::Unusable(faults) => self.fail(joined(&faults)),
            Look::AsInForce => self.succeed(),
            Look::Changed(read) => match build(&self.settings, &read, self.needs_roots) {
                Ok(config) => {
                    seen.accept(&read);
                    let generation = self.current.load().generation + 1;
                    self.current.store(Arc::new(Current { generation, config: Arc::new(config) }));
                    self.metrics.upstream_tls_load.with_label_values(&["success"]).inc();
                    tracing::info!("the TLS files of [upstream] have changed and are in force");
                    self.succeed();
                }
                Err(error) => self.fail(error.to_string()),
            },
        }
    }

    fn succeed(&self) {
        *self.trouble_now() = None;
    }

    fn fail(&self, why: String) {
        let mut trouble = self.trouble_now();
        if trouble.as_ref() != Some(&why) {
            tracing::warn!("the TLS files of [upstream] are not used as they are: {why}");
            self.metrics.upstream_tls_load.with_label_values(&["failure"]).inc();
        }
        *trouble = Some(why);
    }

    fn trouble_now(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Trust").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn build(settings: &config::Tls, read: &Read, needs_roots: bool) -> Result<ClientConfig, TlsError> {
    let versions: &[&SupportedProtocolVersion] =
        if settings.only_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ClientConfig::builder_with_protocol_versions(versions);
    let builder = match &read.roots {
        Some(roots) => builder.with_root_certificates(Arc::clone(roots)),
        None if needs_roots => builder.with_native_roots().map_err(TlsError::Roots)?,
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = match &read.identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session takes both certificates from the one before, whatever has expired since.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn joined(faults: &[TlsFault]) -> String {
    let faults = faults.iter().map(|fault| format!("{}: {}", fault.key, fault.message));
    faults.collect::<Vec<_>>().join("; ")
}
