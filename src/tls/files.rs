//! The files that TLS is set up from, and whether they say something else than before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, RootCertStore};
use zeroize::Zeroize;

use super::TlsFault;
use crate::secret;
use crate::watch::{self, Stamp, TICK};

/// The largest file of certificates, in bytes; a system's whole bundle has some 200 KiB.
const LARGEST: usize = 4 << 20;
/// The largest file of revocation lists, in bytes: some 400,000 certificates.
const LARGEST_LISTS: usize = 16 << 20;
/// The largest file of a key, in bytes, which may have its certificates beside it.
const LARGEST_KEY: usize = 64 << 10;

/// SHA-256 of all that was read.
pub(super) type Digest = [u8; 32];

/// Files while they are read. What is wrong with one is noted, and reading goes on.
pub(crate) struct Files {
    digest: Context,
    faults: Vec<TlsFault>,
}

/// A file, and the configuration's key that names it.
pub(crate) type Named<'a> = (&'static str, &'a Path);

/// What was last seen of the files.
pub(super) struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// Whether others can't have the same stamps.
    is_settled: bool,
    /// What is in force.
    digest: Option<Digest>,
}

impl Seen {
    /// To be called before the files are read, so that a change meanwhile is seen.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let stamps: Vec<_> = paths.iter().map(|path| stamp(path)).collect();
        let is_old = |stamp: &Option<Stamp>| stamp.is_some_and(|stamp| stamp.is_older_than(TICK));
        let is_settled = stamps.iter().all(is_old);
        Self { stamps, is_settled, digest: None }
    }

    /// What was read is in force.
    pub(super) fn accept(&mut self, digest: Digest) {
        self.digest = Some(digest);
    }

    pub(super) fn is_in_force(&self, digest: Digest) -> bool {
        self.digest == Some(digest)
    }

    /// Looks at the files, without reading them.
    pub(super) fn may_have_changed(&mut self, paths: &[PathBuf]) -> bool {
        let now = Self::of(paths);
        let is_same = self.is_settled && now.stamps == self.stamps;
        *self = Self { digest: self.digest, ..now };
        !is_same
    }
}

/// What is made of files and the digest of what they say, or all that is wrong with them.
pub(super) fn read<T>(
    make: impl FnOnce(&mut Files) -> Option<T>,
) -> Result<(T, Digest), Vec<TlsFault>> {
    let mut files = Files { digest: Context::new(&SHA256), faults: Vec::new() };
    match make(&mut files) {
        Some(made) if files.faults.is_empty() => {
            let mut digest = [0; 32];
            digest.copy_from_slice(files.digest.finish().as_ref());
            Ok((made, digest))
        }
        _ => Err(files.faults),
    }
}

impl Files {
    /// Notes what is wrong with a file.
    pub(crate) fn fault(&mut self, key: &'static str, message: impl Into<String>) {
        self.faults.push(TlsFault { key, message: message.into() });
    }

    /// The certificates of whom to trust.
    pub(crate) fn roots(&mut self, (key, path): Named) -> Option<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates((key, path))? {
            if let Err(error) = roots.add(certificate) {
                let shown = path.display();
                self.fault(key, format!("{shown} holds a certificate of no use: {error}"));
                return None;
            }
        }
        Some(Arc::new(roots))
    }

    /// A certificate with those of its issuers, and its key.
    pub(crate) fn identity(&mut self, certificate: Named, key: Named) -> Option<CertifiedKey> {
        let (chain, signing) = (self.certificates(certificate), self.key(key));
        let certified = CertifiedKey::new(chain?, signing?);
        let (of_certificate, of_key) = (certificate.1.display(), key.1.display());
        match certified.keys_match() {
            // A key that can't tell its public half is found out in the handshake.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                return Some(certified);
            }
            Err(rustls::Error::InconsistentKeys(_)) => self.fault(
                key.0,
                format!("{of_key} is not the key of the certificate {of_certificate}"),
            ),
            Err(error) => {
                self.fault(certificate.0, format!("{of_certificate} can't be used: {error}"));
            }
        }
        None
    }

    /// Lists of certificates that were revoked.
    pub(crate) fn revocation_lists(
        &mut self,
        file: Named,
    ) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        self.sections(file, LARGEST_LISTS, "revocation list")
    }

    fn certificates(&mut self, file: Named) -> Option<Vec<CertificateDer<'static>>> {
        self.sections(file, LARGEST, "certificate")
    }

    /// Everything of a kind, at least one.
    fn sections<T: PemObject>(
        &mut self,
        (key, path): Named,
        largest: usize,
        kind: &str,
    ) -> Option<Vec<T>> {
        let shown = path.display();
        let bytes = watch::read(path, largest)
            .map_err(|why| self.fault(key, format!("{shown} {why}")))
            .ok()?;
        note(&mut self.digest, &bytes);
        let found = T::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                self.fault(key, format!("{shown} can't be read as {kind}s in PEM: {error}"));
            })
            .ok()?;
        if found.is_empty() {
            self.fault(key, format!("{shown} holds no {kind} in PEM"));
            return None;
        }
        Some(found)
    }

    fn key(&mut self, (key, path): Named) -> Option<Arc<dyn SigningKey>> {
        let read = read_key(path, &mut self.digest);
        read.map_err(|message| self.fault(key, message)).ok()
    }
}

fn read_key(path: &Path, digest: &mut Context) -> Result<Arc<dyn SigningKey>, String> {
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

/// Length and content, so that no byte can move from one file to the next unseen.
fn note(digest: &mut Context, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

fn stamp(path: &Path) -> Option<Stamp> {
    path.metadata().ok().map(|metadata| Stamp::of(&metadata))
}
