//! A JSON Web Key Set (RFC 7517), filtered when it is read: what it holds can verify a token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::identity::algorithm;
use crate::strict_json;

/// The most keys that are taken from one set.
const MOST: usize = 256;

/// The keys of a key set that can verify a token.
#[derive(Debug)]
pub struct KeySet(Vec<Arc<Key>>);

/// A public key and the algorithms that it may be used with.
#[derive(Debug)]
pub struct Key {
    id: Option<String>,
    /// RFC 7638.
    thumbprint: String,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
    /// Since when it is held here.
    since: SystemTime,
}

/// What a search for a key comes to.
#[derive(Debug)]
pub(super) enum Found {
    One(Arc<Key>),
    None,
    Several,
}

/// Why a text is no key set of use.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is not JSON, or a member of it stands twice.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no list `keys`.
    #[error("has no list \"keys\"")]
    NoKeys,
    /// It has too many.
    #[error("holds more than {MOST} keys")]
    TooMany,
    /// None of its keys can verify a token.
    #[error(
        "holds no key that can be used (RSA of 2,048 bits or more, P-256, P-384 or Ed25519, for \
         signatures)"
    )]
    NoUsableKey,
}

impl KeySet {
    /// The most bytes of a key set.
    pub const LARGEST: usize = 512 << 10;

    /// Reads a key set and leaves out what can't verify a token: symmetric keys, keys for
    /// encryption, RSA keys below 2,048 bits, curves that no accepted algorithm has.
    ///
    /// # Errors
    ///
    /// When nothing is left, or it is no key set.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let value = strict_json::parse(bytes)?;
        let list = value.get("keys").and_then(Value::as_array).ok_or(KeySetError::NoKeys)?;
        if list.len() > MOST {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<Key> = Vec::new();
        for key in list.iter().filter_map(Key::of) {
            // The same key twice, for an algorithm each perhaps, is one.
            match keys.iter_mut().find(|known| known.is_named_like(&key)) {
                Some(known) => known.take_algorithms_of(key),
                None => keys.push(key),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self(keys.into_iter().map(Arc::new).collect()))
    }

    /// Whether one of the keys goes with one of the algorithms.
    #[must_use]
    pub fn fits_any(&self, algorithms: &[Algorithm]) -> bool {
        self.0.iter().any(|key| key.algorithms.iter().any(|own| algorithms.contains(own)))
    }

    pub(super) fn keys(&self) -> &[Arc<Key>] {
        &self.0
    }

    /// The key of that name for that algorithm; without a name, the only one that fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let mut fitting = self.0.iter().filter(|key| {
            (id.is_none() || key.id.as_deref() == id) && key.algorithms.contains(&algorithm)
        });
        match (fitting.next(), fitting.next()) {
            (None, _) => Found::None,
            (Some(only), None) => Found::One(Arc::clone(only)),
            (Some(_), Some(_)) => Found::Several,
        }
    }

    /// Whether both hold the same keys, in whatever order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let contains =
            |all: &Self, key: &Arc<Key>| all.0.iter().any(|candidate| candidate.is_same(key));
        self.0.len() == other.0.len() && self.0.iter().all(|key| contains(other, key))
    }

    /// Keys that were held before stay the same ones, with the time since when.
    pub(super) fn after(self, before: &Self) -> Self {
        let known: HashMap<_, _> =
            before.0.iter().map(|key| ((&key.thumbprint, &key.id), key)).collect();
        let keys = self.0.into_iter().map(|key| match known.get(&(&key.thumbprint, &key.id)) {
            Some(old) if old.is_same(&key) => Arc::clone(old),
            _ => key,
        });
        Self(keys.collect())
    }
}

impl Key {
    fn of(value: &Value) -> Option<Self> {
        // Ours to read below; the crate's list of names is not the one that counts.
        let mut parameters = value.as_object()?.clone();
        let named = parameters.remove("alg");
        let jwk: Jwk = serde_json::from_value(Value::Object(parameters)).ok()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let operations = jwk.common.key_operations.as_deref();
        if operations.is_some_and(|allowed| !allowed.contains(&KeyOperations::Verify)) {
            return None;
        }
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) if bits(&rsa.n) >= 2048 => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ][..],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        let algorithms: Vec<_> = match named {
            None => kind.to_vec(),
            Some(name) => {
                let own = algorithm::named(name.as_str()?)?;
                kind.iter().copied().filter(|algorithm| *algorithm == own).collect()
            }
        };
        if algorithms.is_empty() {
            return None;
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        let id = jwk.common.key_id;
        Some(Self { id, thumbprint, algorithms, decoding, since: SystemTime::now() })
    }

    /// Whether tokens would not see a difference.
    fn is_same(&self, other: &Self) -> bool {
        self.is_named_like(other) && self.algorithms == other.algorithms
    }

    fn take_algorithms_of(&mut self, other: Self) {
        let new = other.algorithms.into_iter().filter(|it| !self.algorithms.contains(it));
        let new: Vec<_> = new.collect();
        self.algorithms.extend(new);
    }

    /// Whether it is that key under that name, whatever it may be used for.
    pub(super) fn is_named_like(&self, other: &Self) -> bool {
        self.thumbprint == other.thumbprint && self.id == other.id
    }

    /// Its name (`kid`), if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The names of the algorithms that it may be used with.
    pub fn algorithms(&self) -> impl Iterator<Item = &'static str> {
        self.algorithms.iter().copied().map(algorithm::name)
    }

    /// RFC 7638, with SHA-256.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Since when it is held here.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.since
    }

    pub(in crate::identity) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// The length of a modulus in base64url.
fn bits(modulus: &str) -> usize {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).unwrap_or_default();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros).map_or(0, |top| (bytes.len() - zeros) * 8 - top.leading_zeros() as usize)
}
