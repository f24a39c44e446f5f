//! What a token can be bound to: a key (RFC 9449, DPoP) or a certificate (RFC 8705).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An ES256 key and the proofs that somebody has it.
pub struct DpopKey {
    private: EncodingKey,
    public: Jwk,
}

/// A certificate of a client's own making, in both of its forms, and its key (PKCS#8).
pub struct ClientCertificate {
    pub pem: String,
    pub der: CertificateDer<'static>,
    pub key: Vec<u8>,
}

impl DpopKey {
    pub fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        // An uncompressed point: 4, x, y.
        let point = pair.public_key().as_ref();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        let public = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        Self {
            private: EncodingKey::from_ec_der(private.as_ref()),
            public: serde_json::from_value(public).unwrap(),
        }
    }

    /// What `cnf.jkt` says of it (RFC 7638).
    pub fn thumbprint(&self) -> String {
        self.public.thumbprint(ThumbprintHash::SHA256).unwrap()
    }

    /// A proof for one request (RFC 9449, section 4.2), with more claims, or others.
    pub fn proof(&self, method: &str, url: &str, more: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("dpop+jwt".to_owned());
        header.jwk = Some(self.public.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"jti": Uuid::now_v7(), "htm": method, "htu": url, "iat": now});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        jsonwebtoken::encode(&header, &claims, &self.private).unwrap()
    }

    /// A proof for a request that carries this token: with its hash, `ath`.
    pub fn proof_with(&self, method: &str, url: &str, token: &str) -> String {
        self.proof(method, url, &json!({"ath": hash(token.as_bytes())}))
    }
}

impl ClientCertificate {
    pub fn generate(name: &str) -> Self {
        let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self {
            pem: own.cert.pem(),
            der: own.cert.der().clone(),
            key: own.signing_key.serialize_der(),
        }
    }

    /// What `cnf.x5t#S256` says of it (RFC 8705, section 3.1).
    pub fn thumbprint(&self) -> String {
        hash(&self.der)
    }
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}
