//! A forger's workshop: header, claims and signature of a token, each as it is wanted.
//!
//! It has the private keys of issuers that the gateway trusts, so that a row can be wrong in one
//! thing and right in all others, and a stranger's key besides.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An issuer with one key of each kind.
pub const ISSUER: &str = "https://idp.example.com/";
/// One whose key set holds keys that must not be used, or not like this.
pub const ODD: &str = "https://odd.example.com/";
/// One whose tokens keep RFC 9068.
pub const STRICT: &str = "https://strict.example.com/";
/// One whose tokens are valid for ten minutes at the most.
pub const SHORT: &str = "https://short.example.com/";
/// What no answer, log, record or metric may show: each claim of a hostile token has it.
pub const MARK: &str = "hostile-";
/// The header of a good token.
pub const HEADER: &str = r#"{"alg":"ES256","typ":"at+jwt","kid":"es256"}"#;

pub struct Forge {
    pub folder: TempDir,
    es256: EcdsaKeyPair,
    es256_der: EcdsaKeyPair,
    es384: EcdsaKeyPair,
    rsa: RsaKeyPair,
    ed25519: Ed25519KeyPair,
    pub stranger: EcdsaKeyPair,
}

impl Forge {
    pub fn new() -> Self {
        let ec =
            |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::generate(algorithm).unwrap();
        let es256 = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = es256.to_pkcs8v1().unwrap();
        let es256_der =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
        let forge = Self {
            folder: tempfile::tempdir().unwrap(),
            es256,
            es256_der,
            es384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
            stranger: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        };
        let sets = [("keys.json", forge.keys()), ("odd.json", forge.odd_keys())];
        for (name, keys) in sets {
            let text = json!({"keys": keys}).to_string();
            fs::write(forge.folder.path().join(name), text).unwrap();
        }
        forge
    }

    /// The `[[issuers]]` that trust these keys.
    pub fn issuers(&self) -> String {
        let issuer = |name: &str, keys: &str, more: &str| {
            format!(
                "[[issuers]]\nissuer = \"{name}\"\naudiences = [\"cms-gateway\"]\n\
                 roles_claim = \"roles\"\njwks = {{ file = {:?} }}\n\
                 algorithms = [\"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \
                 \"ES256\", \"ES384\", \"EdDSA\"]\n{more}\n",
                self.folder.path().join(keys)
            )
        };
        [
            issuer(ISSUER, "keys.json", "leeway = \"5m\""),
            issuer(ODD, "odd.json", ""),
            issuer(STRICT, "keys.json", "profile = \"rfc9068\""),
            issuer(SHORT, "keys.json", "max_lifetime = \"10m\""),
        ]
        .concat()
    }

    fn keys(&self) -> Vec<Value> {
        let ed25519 = encode(self.ed25519.public_key().as_ref());
        vec![
            ec_key(&self.es256, "es256"),
            ec_key(&self.es384, "es384"),
            self.rsa_key("rsa"),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "eddsa", "x": ed25519}),
        ]
    }

    fn odd_keys(&self) -> Vec<Value> {
        let changed = |mut key: Value, name: &str, value: Value| {
            key[name] = value;
            key
        };
        let small = json!({"kty": "RSA", "kid": "small", "e": "AQAB", "n": self.small_modulus()});
        vec![
            changed(self.rsa_key("pinned"), "alg", "RS256".into()),
            changed(ec_key(&self.es256, "encryption"), "use", "enc".into()),
            changed(ec_key(&self.es256, "signs-only"), "key_ops", json!(["sign"])),
            small,
            // With this exponent, a signature is what it signs.
            changed(self.rsa_key("exponent-one"), "e", "AQ".into()),
            changed(ec_key(&self.es256, "off-the-curve"), "y", encode([7; 32]).into()),
            json!({"kty": "oct", "kid": "secret", "k": encode(SECRET), "alg": "HS256"}),
            json!({"kty": "oct", "kid": "secret-es256", "k": encode(SECRET), "alg": "ES256"}),
            ec_key(&self.es256, "twice"),
            ec_key(&self.stranger, "twice"),
        ]
    }

    fn rsa_key(&self, id: &str) -> Value {
        let public = self.rsa.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero();
        json!({"kty": "RSA", "kid": id, "n": encode(modulus), "e": "AQAB"})
    }

    /// Of a key of 1,024 bits, which the libraries here do not make any more.
    fn small_modulus(&self) -> String {
        let path = self.folder.path().join("small.pem");
        openssl(&["genrsa", "-traditional", "-out", path.to_str().unwrap(), "1024"]);
        let said = openssl(&["rsa", "-in", path.to_str().unwrap(), "-noout", "-modulus"]);
        let said = String::from_utf8(said).unwrap();
        let digits = said.trim().strip_prefix("Modulus=").unwrap();
        let places = (0..digits.len()).step_by(2);
        let bytes = places.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        encode(bytes.collect::<Vec<_>>())
    }

    pub fn rs256_small(&self, message: &[u8]) -> Vec<u8> {
        let file = self.folder.path().join("message");
        fs::write(&file, message).unwrap();
        let key = self.folder.path().join("small.pem");
        let (key, file) = (key.to_str().unwrap(), file.to_str().unwrap());
        openssl(&["dgst", "-sha256", "-sign", key, file])
    }

    pub fn es256(&self, message: &[u8]) -> Vec<u8> {
        ecdsa(&self.es256, message)
    }

    pub fn es256_der(&self, message: &[u8]) -> Vec<u8> {
        ecdsa(&self.es256_der, message)
    }

    pub fn es384(&self, message: &[u8]) -> Vec<u8> {
        ecdsa(&self.es384, message)
    }

    pub fn strangely(&self, message: &[u8]) -> Vec<u8> {
        ecdsa(&self.stranger, message)
    }

    pub fn eddsa(&self, message: &[u8]) -> Vec<u8> {
        self.ed25519.sign(message).as_ref().to_vec()
    }

    pub fn rs256(&self, message: &[u8]) -> Vec<u8> {
        self.rsa(&RSA_PKCS1_SHA256, message)
    }

    pub fn rs384(&self, message: &[u8]) -> Vec<u8> {
        self.rsa(&RSA_PKCS1_SHA384, message)
    }

    pub fn rs512(&self, message: &[u8]) -> Vec<u8> {
        self.rsa(&RSA_PKCS1_SHA512, message)
    }

    pub fn ps256(&self, message: &[u8]) -> Vec<u8> {
        self.rsa(&RSA_PSS_SHA256, message)
    }

    pub fn ps384(&self, message: &[u8]) -> Vec<u8> {
        self.rsa(&RSA_PSS_SHA384, message)
    }

    pub fn ps512(&self, message: &[u8]) -> Vec<u8> {
        self.rsa(&RSA_PSS_SHA512, message)
    }

    /// What a signature of RS256 is made of (RFC 8017, section 9.2), which anybody can make.
    pub fn rs256_unsigned(&self, message: &[u8]) -> Vec<u8> {
        const NAME: &[u8] =
            b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
        let hash = digest(&SHA256, message);
        let padding = vec![0xff; self.rsa.public_modulus_len() - 3 - NAME.len() - 32];
        [&[0, 1], &padding[..], &[0], NAME, hash.as_ref()].concat()
    }

    fn rsa(&self, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// Public keys as a confused verifier may take them for a secret: PEM and DER of a
    /// SubjectPublicKeyInfo (RFC 5280, section 4.1) as everybody can have them, JWK, and the bare
    /// point or modulus.
    pub fn public_keys(&self) -> Vec<(&'static str, &'static str, Vec<u8>)> {
        let mut all = Vec::new();
        let keys = self.keys();
        let (ec, rsa) = (self.es256.public_key(), self.rsa.public_key());
        let ec_der = ec.as_der().unwrap().as_ref().to_vec();
        let rsa_der = rsa.as_der().unwrap().as_ref().to_vec();
        for (id, jwk, der, bare) in
            [("es256", &keys[0], ec_der, ec.as_ref()), ("rsa", &keys[2], rsa_der, rsa.as_ref())]
        {
            let pem = pem(&der);
            all.push((id, "PEM without its last new line", pem.trim_end().into()));
            all.push((id, "PEM", pem.into_bytes()));
            all.push((id, "DER", der));
            all.push((id, "a bare key", bare.to_vec()));
            all.push((id, "JWK", jwk.to_string().into_bytes()));
        }
        all
    }

    /// The stranger's key, as a token may bring it along.
    pub fn strangers_key(&self) -> Value {
        ec_key(&self.stranger, "stranger")
    }

    /// A good token but for its claims.
    pub fn with_claims(&self, claims: impl AsRef<[u8]>) -> String {
        token(HEADER, claims, |message| self.es256(message))
    }

    /// A good token but for its header.
    pub fn with_header(&self, header: impl AsRef<[u8]>) -> String {
        token(header, hostile().to_string(), |message| self.es256(message))
    }
}

/// A symmetric key that stands in a key set.
pub const SECRET: &[u8; 32] = b"a secret in a public set of keys";

/// Signs symmetrically, with SHA-256, 384 or 512.
pub fn hs(bits: u16, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match bits {
        256 => hmac::HMAC_SHA256,
        384 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

pub fn token(
    header: impl AsRef<[u8]>,
    claims: impl AsRef<[u8]>,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// Claims that [`ISSUER`] may sign, of an app that the rows call good.
pub fn good() -> Value {
    let now = now();
    json!({
        "iss": ISSUER, "aud": "cms-gateway", "sub": "good-subject", "client_id": "good-client",
        "iat": now, "nbf": now, "exp": now + 600, "jti": "good-token",
        "roles": ["campaign-supervisor"],
    })
}

/// The same, where nothing of it may be shown anywhere.
pub fn hostile() -> Value {
    let marked = |name: &str| Value::from(format!("{MARK}{name}"));
    let mut claims = good();
    for name in ["sub", "client_id", "jti"] {
        claims[name] = marked(name);
    }
    claims
}

/// Claims in which one is another value.
pub fn changed(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

pub fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// Claims in which the value of one is this text, be it JSON or not.
pub fn spelled(claims: Value, name: &str, text: &str) -> String {
    changed(claims, name, "@").to_string().replace("\"@\"", text)
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn ec_key(pair: &EcdsaKeyPair, id: &str) -> Value {
    // An uncompressed point: 4, x, y.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let curve = if x.len() == 32 { "P-256" } else { "P-384" };
    json!({"kty": "EC", "crv": curve, "kid": id, "x": encode(x), "y": encode(y)})
}

/// In lines of 64 letters (RFC 7468, section 2), as OpenSSL writes it.
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    let lines: Vec<_> = lines.collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn ecdsa(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
