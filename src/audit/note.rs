//! Signed notes (C2SP `signed-note`) with Ed25519: the envelope of a checkpoint.
//!
//! A note is a text, an empty line, and a line for each signature: an em dash, the key's name, and
//! in base64 the key's id and the signature. The one release of `signed_note` brings a second
//! implementation of Ed25519 and SHA-2, so these lines are read and written here; the tests check
//! them against it.

use std::fmt::{self, Display};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::secret;

/// The algorithm's number in key ids and verifier keys.
const ALGORITHM: u8 = 1;
/// What stands before the key in the DER of an Ed25519 public key (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A private key and the name that it signs under.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// A public key and its name, written as C2SP's verifier key: `name+id+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: [u8; 32],
}

/// The public keys that are trusted. One without a name, as from PEM, goes by every name.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<(Option<String>, [u8; 32])>);

/// A note whose form is right; its signatures are not checked yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Signature<'a> {
    name: &'a str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a note is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not a signed note.
    #[error("is not a signed note")]
    Malformed,
    /// None of its signatures is by a trusted key.
    #[error("is not signed by a trusted key")]
    Unsigned,
    /// A signature that says it is by a trusted key is not.
    #[error("has a signature that is wrong")]
    Forged,
}

/// Why a private key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can't be read, or others can.
    #[error("{0}")]
    Unreadable(String),
    /// It can't be made.
    #[error("it is not there and can't be made: {0}")]
    Unmade(#[from] io::Error),
    /// It is something else.
    #[error("{} is not an Ed25519 private key in PEM (PKCS#8)", .0.display())]
    Malformed(PathBuf),
}

// === impl Signer ===

impl Signer {
    /// Reads a key, or makes one where there is none.
    ///
    /// # Errors
    ///
    /// When it can't be read or made, or is no Ed25519 key.
    pub fn load_or_make(path: &Path, name: &str) -> Result<Self, KeyError> {
        if !path.try_exists()? {
            make(path)?;
        }
        Self::load(path, name)
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// When it can't be read, or is no Ed25519 key.
    pub fn load(path: &Path, name: &str) -> Result<Self, KeyError> {
        let (text, _) = secret::read(path).map_err(KeyError::Unreadable)?;
        let malformed = || KeyError::Malformed(path.to_owned());
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| malformed())?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| malformed())?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| malformed())?;
        Ok(Self { pair, public: PublicKey { name: name.to_owned(), key } })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signed note of a text, which ends with a line feed.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.public.id().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} {} {}\n", self.public.name, STANDARD.encode(signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes a key in a file that is whole or not there.
fn make(path: &Path) -> Result<(), KeyError> {
    let unspecified = |_| KeyError::Unmade(io::Error::other("an Ed25519 key can't be made"));
    let pair = Ed25519KeyPair::generate().map_err(unspecified)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(unspecified)?;
    let body = zeroize::Zeroizing::new(STANDARD.encode(der.as_ref()));
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&name)?;
    writeln!(file, "-----BEGIN PRIVATE KEY-----")?;
    for line in body.as_bytes().chunks(64) {
        file.write_all(line)?;
        file.write_all(b"\n")?;
    }
    writeln!(file, "-----END PRIVATE KEY-----")?;
    file.sync_all()?;
    fs::rename(&name, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

// === impl PublicKey ===

impl PublicKey {
    /// The name that it signs under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        id(&self.name, &self.key)
    }
}

impl Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ALGORITHM];
        key.extend_from_slice(&self.key);
        let id = u32::from_be_bytes(self.id());
        write!(formatter, "{}+{id:08x}+{}", self.name, STANDARD.encode(key))
    }
}

/// The first four bytes of a hash over name and key.
fn id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    let mut input = name.as_bytes().to_vec();
    input.extend_from_slice(&[b'\n', ALGORITHM]);
    input.extend_from_slice(key);
    let hash = digest(&SHA256, &input);
    let mut id = [0; 4];
    id.iter_mut().zip(hash.as_ref()).for_each(|(own, byte)| *own = *byte);
    id
}

// === impl Keys ===

impl Keys {
    /// From verifier keys, one a line, or a public key in PEM.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains("-----BEGIN") {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).ok()?;
            let key = der.as_ref().strip_prefix(&SPKI)?.try_into().ok()?;
            return Some(Self(vec![(None, key)]));
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Option<Vec<_>> = lines.map(verifier_key).collect();
        keys.filter(|keys| !keys.is_empty()).map(Self)
    }

    /// Trusts one more.
    pub fn add(&mut self, key: &PublicKey) {
        self.0.push((Some(key.name.clone()), key.key));
    }
}

fn verifier_key(line: &str) -> Option<(Option<String>, [u8; 32])> {
    // The base64 of the key may hold a plus itself.
    let mut parts = line.splitn(3, '+');
    let (name, stated, key) = (parts.next()?, parts.next()?, parts.next()?);
    let key: [u8; 32] = STANDARD.decode(key).ok()?.strip_prefix(&[ALGORITHM])?.try_into().ok()?;
    let id = u32::from_be_bytes(id(name, &key));
    (format!("{id:08x}") == stated).then(|| (Some(name.to_owned()), key))
}

// === impl Note ===

impl<'a> Note<'a> {
    /// Reads a note, up to the end of what is given.
    ///
    /// # Errors
    ///
    /// [`NoteError::Malformed`].
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
        let end = text.len() + 1;
        let text = note.get(..end).ok_or(NoteError::Malformed)?;
        let is_plain = text.chars().all(|it| it == '\n' || !it.is_control());
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        let signatures: Option<Vec<_>> = signatures.split('\n').map(signature).collect();
        match signatures {
            Some(signatures) if is_plain => Ok(Self { text, signatures }),
            _ => Err(NoteError::Malformed),
        }
    }

    /// Its text, once one of its signatures is by a trusted key, and under which name. Those of
    /// unknown keys are as if they were not there.
    ///
    /// # Errors
    ///
    /// When none is by a trusted key, or one that should be is not.
    pub fn verify(&self, keys: &Keys) -> Result<(&'a str, &'a str), NoteError> {
        let mut signed_by = None;
        for signature in &self.signatures {
            for (name, key) in &keys.0 {
                let is_named = name.as_ref().is_none_or(|name| name == signature.name);
                if !is_named || id(signature.name, key) != signature.id {
                    continue;
                }
                UnparsedPublicKey::new(&ED25519, key)
                    .verify(self.text.as_bytes(), &signature.bytes)
                    .map_err(|_| NoteError::Forged)?;
                signed_by = Some(signature.name);
            }
        }
        signed_by.map(|name| (self.text, name)).ok_or(NoteError::Unsigned)
    }
}

fn signature(line: &str) -> Option<Signature<'_>> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded).ok()?;
    let (id, bytes) = decoded.split_first_chunk()?;
    (!name.is_empty() && !bytes.is_empty()).then(|| Signature {
        name,
        id: *id,
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use signed_note::{StandardVerifier, VerifierList};

    use super::*;

    /// The published example of the format's authors (`golang.org/x/mod/sumdb/note`).
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_example_is_accepted_and_nothing_but_it() {
        let keys = Keys::parse(KEY).unwrap();
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(Note::parse(&note).unwrap().verify(&keys), Ok((TEXT, "PeterNeumann")));
        let altered = note.replace("answer", "Answer");
        assert_eq!(Note::parse(&altered).unwrap().verify(&keys), Err(NoteError::Forged));
        let other = note.replace("x08go", "y08go");
        assert_eq!(Note::parse(&other).unwrap().verify(&keys), Err(NoteError::Unsigned));
        let twice = format!("{note}\u{2014} Someone AAAAAAAA\n");
        assert_eq!(Note::parse(&twice).unwrap().verify(&keys), Ok((TEXT, "PeterNeumann")));
        for malformed in ["", "\n", TEXT, &note[1..note.len() - 1], &note.replace("\u{2014}", "-")]
        {
            assert_eq!(Note::parse(malformed), Err(NoteError::Malformed), "{malformed}");
        }
        for key in ["", "PeterNeumann", &KEY.replace("c74f20a3", "c74f20a4"), &KEY[..60]] {
            assert!(Keys::parse(key).is_none(), "{key}");
        }
    }

    #[test]
    fn what_is_signed_here_an_independent_implementation_accepts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let signer = Signer::load_or_make(&path, "example.com/log").unwrap();
        let again = Signer::load_or_make(&path, "example.com/log").unwrap();
        assert_eq!(signer.public(), again.public());
        let note = signer.sign("one\ntwo\n");
        let verifier = StandardVerifier::new(&signer.public().to_string()).unwrap();
        let theirs = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        let (good, unknown) = theirs.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        assert_eq!((good.len(), unknown.len()), (1, 0));
        let keys = Keys::parse(&signer.public().to_string()).unwrap();
        assert_eq!(
            Note::parse(&note).unwrap().verify(&keys),
            Ok(("one\ntwo\n", "example.com/log"))
        );
    }
}
