//! What a token can be bound to: a key (RFC 9449, DPoP) or a certificate (RFC 8705).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::authority::Authority;
use super::{PATIENCE, Reply, parse};

/// An ES256 key and the proofs that somebody has it.
pub struct DpopKey {
    private: EncodingKey,
    public: Jwk,
}

/// Who vouches for clients.
pub struct ClientAuthority(Authority);

/// A client's certificate, in both of its forms, and its key (PKCS#8).
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

impl ClientAuthority {
    pub fn generate() -> Self {
        Self(Authority::new())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn certificate(&self, name: &str) -> ClientCertificate {
        let own = self.0.sign(name, |parameters| {
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        ClientCertificate { pem: own.certificate, der: own.der, key: own.key.serialize_der() }
    }
}

impl ClientCertificate {
    /// What `cnf.x5t#S256` says of it (RFC 8705, section 3.1).
    pub fn thumbprint(&self) -> String {
        hash(&self.der)
    }
}

/// As [`super::exchange`], over TLS with somebody whom this file vouches for, to whom this
/// certificate is shown if he asks.
pub fn exchange_over_tls(
    address: SocketAddr,
    ca: &Path,
    certificate: Option<&ClientCertificate>,
    bytes: &[u8],
) -> Reply {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.clone()));
            builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
        }
    };
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::from(address.ip());
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    // As in [`super::exchange`], a refusal may come before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

pub fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))
}
