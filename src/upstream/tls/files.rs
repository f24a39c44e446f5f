//! The files that TLS to the CMS is set up from, and whether they say something else than before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use zeroize::Zeroize;

use super::TlsFault;
use crate::watch::{self, Stamp, TICK};
use crate::{config, secret};

/// The largest file of certificates, in bytes; a system's whole bundle has some 200 KiB.
const LARGEST: usize = 4 << 20;
/// The largest file of a key, in bytes, which may have its certificates beside it.
const LARGEST_KEY: usize = 64 << 10;

/// What the files say.
pub(super) struct Read {
    /// Whom to trust; nothing where no file is configured.
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// What the gateway shows of itself.
    pub(super) identity: Option<CertifiedKey>,
    digest: [u8; 32],
}

/// What was last seen of the files.
pub(super) struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// Whether others can't have the same stamps.
    is_settled: bool,
    /// What is in force.
    digest: Option<[u8; 32]>,
}

/// What a look at the files shows.
pub(super) enum Look {
    /// Nothing that was not told before.
    NoNews,
    /// They say what is in force.
    AsInForce,
    /// They say something else, which makes sense.
    Changed(Read),
    /// They make no sense.
    Unusable(Vec<TlsFault>),
}

impl Seen {
    /// To be called before the files are read, so that a change meanwhile is seen.
    pub(super) fn of(settings: &config::Tls) -> Self {
        let stamps: Vec<_> = paths(settings).map(|path| stamp(path)).collect();
        let is_old = |stamp: &Option<Stamp>| stamp.is_some_and(|stamp| stamp.is_older_than(TICK));
        let is_settled = stamps.iter().all(is_old);
        Self { stamps, is_settled, digest: None }
    }

    /// What was read is in force.
    pub(super) fn accept(&mut self, read: &Read) {
        self.digest = Some(read.digest);
    }

    pub(super) fn look(&mut self, settings: &config::Tls) -> Look {
        let now = Self::of(settings);
        if self.is_settled && now.stamps == self.stamps {
            return Look::NoNews;
        }
        *self = Self { digest: self.digest, ..now };
        match read(settings) {
            Err(faults) => Look::Unusable(faults),
            Ok(read) if self.digest == Some(read.digest) => Look::AsInForce,
            Ok(read) => {
                // Until it is in force, each look is to tell it.
                self.is_settled = false;
                Look::Changed(read)
            }
        }
    }
}

/// Reads them all, or says all that is wrong.
pub(super) fn read(settings: &config::Tls) -> Result<Read, Vec<TlsFault>> {
    let mut faults = Vec::new();
    let mut digest = Context::new(&SHA256);
    let roots = settings.ca.as_deref().and_then(|path| {
        let roots = certificates(path, &mut digest).and_then(|found| roots(path, found));
        roots.map_err(|message| faults.push(TlsFault { key: "ca", message })).ok()
    });
    let identity = settings.identity.as_ref().and_then(|identity| {
        let chain = certificates(&identity.certificate, &mut digest)
            .map_err(|message| faults.push(TlsFault { key: "client_certificate", message }));
        let key = key(&identity.key, &mut digest)
            .map_err(|message| faults.push(TlsFault { key: "client_key", message }));
        let certified = CertifiedKey::new(chain.ok()?, key.ok()?);
        if let Err((key, message)) = fit(&certified, identity) {
            faults.push(TlsFault { key, message });
        }
        Some(certified)
    });
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Ok(Read { roots, identity, digest: bytes })
}

fn certificates(path: &Path, digest: &mut Context) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let bytes = watch::read(path, LARGEST).map_err(|why| format!("{shown} {why}"))?;
    note(digest, &bytes);
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{shown} can't be read as certificates in PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!("{shown} holds no certificate in PEM"));
    }
    Ok(found)
}

fn roots(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| {
            format!("{} holds a certificate of no use: {error}", path.display())
        })?;
    }
    Ok(Arc::new(roots))
}

fn key(path: &Path, digest: &mut Context) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    let shown = path.display();
    let (text, _) = secret::read_up_to(path, LARGEST_KEY)?;
    if text.len() > LARGEST_KEY {
        return Err(format!("{shown} is larger than {LARGEST_KEY} bytes"));
    }
    note(digest, text.as_bytes());
    let mut der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        // The words are of the format alone: no character of the file is repeated.
        .map_err(|_| format!("{shown} holds no private key in PEM that is not encrypted"))?;
    let signing = any_supported_type(&der)
        .map_err(|_| format!("{shown} holds a private key of a kind that is not supported"));
    der.zeroize();
    signing
}

/// Whether the key is that of the certificate.
fn fit(
    certified: &CertifiedKey,
    identity: &config::ClientIdentity,
) -> Result<(), (&'static str, String)> {
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    match certified.keys_match() {
        // A key that can't tell its public half is found out in the handshake.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(("client_key", format!("{key} is not the key of the certificate {certificate}")))
        }
        Err(error) => Err(("client_certificate", format!("{certificate} can't be used: {error}"))),
    }
}

/// Length and content, so that no byte can move from one file to the next unseen.
fn note(digest: &mut Context, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

fn paths(settings: &config::Tls) -> impl Iterator<Item = &PathBuf> {
    let identity = settings.identity.iter().flat_map(|it| [&it.certificate, &it.key]);
    settings.ca.iter().chain(identity)
}

fn stamp(path: &Path) -> Option<Stamp> {
    path.metadata().ok().map(|metadata| Stamp::of(&metadata))
}
