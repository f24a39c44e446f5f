//! The API's TLS: its certificate, and which certificates of clients are accepted.
//!
//! The files are read again when they change. Handshakes from then on are made with what they say;
//! connections that are open go on. TLS 1.2 and 1.3 with the library's suites, which are all AEAD
//! with forward secrecy.
//!
//! Revocation fails closed: where there is a CRL, a certificate whose issuer has none in it, or one
//! that is past its next update, is refused as one that was revoked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::audit::{Event, Events};
use crate::config::{ListenClients, ListenTls};
use crate::telemetry::Metrics;
use crate::tls::{self, Files, Kept, Source, TlsError, TlsFault};

/// Everything that stands against using these files now.
pub(crate) fn faults(settings: &ListenTls) -> Vec<TlsFault> {
    tls::faults(|files| make(settings, files))
}

/// The API's TLS as it is in force.
pub(super) struct ListenerTls(Arc<Kept<Listener>>);

/// What it is made of, and who is told of changes.
struct Listener {
    settings: ListenTls,
    events: Events,
    metrics: Arc<Metrics>,
}

/// What the files say.
struct Served {
    config: Arc<ServerConfig>,
    /// When the certificate ends.
    certificate_until: UnixTime,
    /// When the first of the revocation lists ends.
    crl_until: Option<UnixTime>,
}

/// Seconds since 1970.
type UnixTime = i64;

/// The last second that can be shown, in the year 9999.
const LAST: u64 = 253_402_300_799;

impl ListenerTls {
    /// Reads the files.
    pub(super) fn new(
        settings: &ListenTls,
        events: Events,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let metrics = Arc::clone(metrics);
        let listener = Listener { settings: settings.clone(), events, metrics };
        Ok(Self(Arc::new(Kept::new(listener)?)))
    }

    /// Reads the files again when they change; for ever. A change that can't be used leaves what was
    /// in force before.
    pub(super) async fn watch(&self) {
        self.0.watch().await;
    }

    /// For one handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.current().made.config))
    }

    /// Shows when the files in force end, if there are such files.
    pub(super) fn observe(own: Option<&Self>, metrics: &Metrics) {
        let none: [&str; 0] = [];
        let current = own.map(|own| own.0.current());
        let served = current.as_ref().map(|current| &current.made);
        let certificate = served.map(|served| served.certificate_until);
        let crl = served.and_then(|served| served.crl_until);
        for (gauge, until) in
            [(&metrics.tls_certificate_expiry, certificate), (&metrics.tls_crl_expiry, crl)]
        {
            match until {
                Some(until) => gauge.with_label_values(&none).set(until),
                None => gauge.reset(),
            }
        }
    }

    /// What is not as it should be.
    pub(super) fn warnings(&self) -> Vec<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let is_over = |until: UnixTime| until < UnixTime::try_from(now).unwrap_or(UnixTime::MAX);
        let current = self.0.current();
        let Served { certificate_until, crl_until, .. } = current.made;
        let expired = is_over(certificate_until)
            .then(|| format!("certificate: expired at {}", shown(certificate_until)));
        let outdated = crl_until.filter(|until| is_over(*until)).map(|until| {
            format!(
                "client_crl: expired at {}, no certificate of its issuer is accepted",
                shown(until)
            )
        });
        self.0.trouble().into_iter().chain(expired).chain(outdated).collect()
    }
}

impl Source for Listener {
    type Made = Served;
    const SECTION: &'static str = "listen.tls";

    fn paths(&self) -> Vec<PathBuf> {
        let ListenTls { certificate, key, clients } = &self.settings;
        let clients = clients.iter().flat_map(|clients| [Some(&clients.ca), clients.crl.as_ref()]);
        [certificate, key].into_iter().chain(clients.flatten()).cloned().collect()
    }

    fn make(&self, files: &mut Files) -> Option<Served> {
        make(&self.settings, files)
    }

    fn tell(&self, news: Result<&Served, &str>) {
        let loads = &self.metrics.tls_load;
        let served = match news {
            Ok(served) => served,
            Err(why) => {
                tracing::error!("the TLS files of [listen.tls] are not used as they are: {why}");
                loads.with_label_values(&["failure"]).inc();
                self.events.record(Event::new("tls_refused").detail(why.to_owned()));
                return;
            }
        };
        let mut detail = format!("certificate until {}", shown(served.certificate_until));
        if let Some(until) = served.crl_until {
            detail += &format!(", client_crl until {}", shown(until));
        }
        tracing::info!(detail, "the TLS files of [listen.tls] are loaded");
        loads.with_label_values(&["success"]).inc();
        self.events.record(Event::new("tls_loaded").detail(detail));
    }
}

/// Why a handshake failed, in a word: the client's certificate, its TLS, or its connection.
pub(super) fn failure(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            "certificate"
        }
        Some(_) => "protocol",
        None => "connection",
    }
}

fn make(settings: &ListenTls, files: &mut Files) -> Option<Served> {
    let ListenTls { certificate, key, clients } = settings;
    let identity = files.identity(("certificate", certificate), ("key", key));
    let clients = clients.as_ref().map(|clients| accepted(clients, files));
    let identity = identity?;
    let leaf = identity.end_entity_cert().ok()?;
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
        files.fault("certificate", format!("{} is no X.509 certificate", certificate.display()));
        return None;
    };
    let certificate_until = parsed.validity().not_after.timestamp();
    let (verifier, crl_until) = match clients {
        None => (None, None),
        Some(clients) => clients.map(|(verifier, until)| (Some(verifier), until))?,
    };
    let asks_for_certificates = verifier.is_some();
    let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13, &TLS12])
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks_for_certificates {
        // A resumed session takes the certificate from the one before, whatever has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Some(Served { config: Arc::new(config), certificate_until, crl_until })
}

/// Who checks clients' certificates, and when the first of its revocation lists ends.
fn accepted(
    clients: &ListenClients,
    files: &mut Files,
) -> Option<(Arc<dyn ClientCertVerifier>, Option<UnixTime>)> {
    let roots = files.roots(("client_ca", &clients.ca));
    let lists = clients.crl.as_deref().map(|path| revocation_lists(path, files));
    let (lists, until) = match lists {
        None => (Vec::new(), None),
        Some(lists) => lists.map(|(lists, until)| (lists, Some(until)))?,
    };
    match verifier(roots?, lists, clients.is_required) {
        Ok(verifier) => Some((verifier, until)),
        Err(error) => {
            let (key, path) = match (&error, &clients.crl) {
                (VerifierBuilderError::InvalidCrl(_), Some(path)) => ("client_crl", path),
                _ => ("client_ca", &clients.ca),
            };
            files.fault(key, format!("{} can't be used: {error}", path.display()));
            None
        }
    }
}

/// The lists of a file, and when the first of them ends.
fn revocation_lists(
    path: &Path,
    files: &mut Files,
) -> Option<(Vec<CertificateRevocationListDer<'static>>, UnixTime)> {
    let lists = files.revocation_lists(("client_crl", path))?;
    let ends: Option<Vec<UnixTime>> = lists.iter().map(end).collect();
    let Some(until) = ends.and_then(|ends| ends.into_iter().min()) else {
        let wanted = "holds a list that does not say when its next update is";
        files.fault("client_crl", format!("{} {wanted}", path.display()));
        return None;
    };
    Some((lists, until))
}

fn verifier(
    roots: Arc<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    is_required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let builder = WebPkiClientVerifier::builder(roots);
    let builder = if lists.is_empty() {
        builder
    } else {
        // Of every certificate up to the CA, and an unknown status is refused unless asked otherwise.
        builder.with_crls(lists).enforce_revocation_expiration()
    };
    if is_required { builder.build() } else { builder.allow_unauthenticated().build() }
}

/// When the next one is due.
fn end(list: &CertificateRevocationListDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = CertificateRevocationList::from_der(list).ok()?;
    parsed.next_update().map(|time| time.timestamp())
}

fn shown(time: UnixTime) -> String {
    let since = Duration::from_secs(u64::try_from(time).unwrap_or_default().min(LAST));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
