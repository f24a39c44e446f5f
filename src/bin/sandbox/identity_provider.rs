//! An identity provider that signs access tokens (RFC 9068) and publishes its keys.
//!
//! For trying and testing alone: its clients and their secret are known to everyone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::http as web;

/// The clients that it knows, and the role of each.
pub(crate) const CLIENTS: &[(&str, &str)] =
    &[("supervisor-app", "campaign-supervisor"), ("north-dialer-app", "north-dialer")];
/// The secret of each of them.
pub(crate) const CLIENT_SECRET: &str = "sandbox-secret";
/// The audience of its tokens.
pub(crate) const AUDIENCE: &str = "cms-gateway";

/// A running identity provider.
#[derive(Clone)]
pub(crate) struct IdentityProvider(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    issuer: String,
    es256: EncodingKey,
    #[allow(dead_code, reason = "the tests use it")]
    rs256: EncodingKey,
    jwks: Value,
}

/// Why a key can't be made or a token not be signed.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "identity provider: {}", self.0)
    }
}

impl IdentityProvider {
    /// Makes its keys and serves.
    pub(crate) fn start(listener: TcpListener) -> Result<Self, Failed> {
        let failed = |what: &dyn std::fmt::Display| Failed(what.to_string());
        let address = listener.local_addr().map_err(|error| failed(&error))?;

        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|error| failed(&error))?;
        let private = pair.to_pkcs8v1().map_err(|error| failed(&error))?;
        // An uncompressed point: 4, x, y.
        let point = pair.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());

        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|error| failed(&error))?;
        let rsa_private = AsDer::<Pkcs8V1Der<'_>>::as_der(&rsa).map_err(|error| failed(&error))?;
        let rsa_private = pkcs1(rsa_private.as_ref());
        let modulus = rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let exponent = rsa.public_key().exponent().big_endian_without_leading_zero().to_vec();

        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwks = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "es256", "use": "sig", "alg": "ES256",
             "x": encode(x), "y": encode(y)},
            {"kty": "RSA", "kid": "rs256", "use": "sig", "alg": "RS256",
             "n": encode(&modulus), "e": encode(&exponent)},
        ]});
        let provider = Self(Arc::new(Inner {
            address,
            issuer: format!("http://{address}/"),
            es256: EncodingKey::from_ec_der(private.as_ref()),
            rs256: EncodingKey::from_rsa_der(&rsa_private),
            jwks,
        }));
        let served = provider.clone();
        web::serve(listener, move |request| {
            let provider = served.clone();
            async move { provider.answer(&request) }
        });
        Ok(provider)
    }

    /// Its name in its tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Where its keys are.
    pub(crate) fn jwks_url(&self) -> String {
        format!("http://{}/jwks", self.0.address)
    }

    /// Where tokens are given.
    pub(crate) fn token_url(&self) -> String {
        format!("http://{}/token", self.0.address)
    }

    /// Its public keys.
    pub(crate) fn jwks(&self) -> &Value {
        &self.0.jwks
    }

    /// The claims of a good token, valid for an hour.
    pub(crate) fn claims(&self, client_id: &str, roles: &[&str]) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({
            "iss": self.issuer(), "aud": AUDIENCE, "sub": client_id, "client_id": client_id,
            "iat": now, "nbf": now, "exp": now + 3600, "jti": Uuid::now_v7(), "roles": roles,
        })
    }

    /// Signs these claims as they are, with ES256.
    pub(crate) fn mint(&self, claims: &Value) -> Result<String, Failed> {
        self.sign(Algorithm::ES256, "es256", &self.0.es256, claims)
    }

    /// Signs these claims as they are, with RS256.
    #[allow(dead_code, reason = "the tests use it")]
    pub(crate) fn mint_rs256(&self, claims: &Value) -> Result<String, Failed> {
        self.sign(Algorithm::RS256, "rs256", &self.0.rs256, claims)
    }

    fn sign(
        &self,
        algorithm: Algorithm,
        key_id: &str,
        key: &EncodingKey,
        claims: &Value,
    ) -> Result<String, Failed> {
        let mut header = Header::new(algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(key_id.to_owned());
        jsonwebtoken::encode(&header, claims, key).map_err(|error| Failed(error.to_string()))
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<web::Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/jwks") => web::json(StatusCode::OK, self.jwks()),
            (&Method::GET, "/.well-known/openid-configuration") => web::json(
                StatusCode::OK,
                &json!({
                    "issuer": self.issuer(),
                    "jwks_uri": self.jwks_url(),
                    "token_endpoint": self.token_url(),
                    "grant_types_supported": ["client_credentials"],
                    "response_types_supported": [],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256", "RS256"],
                }),
            ),
            (&Method::POST, "/token") => self.token(request),
            (_, "/jwks" | "/.well-known/openid-configuration" | "/token") => {
                web::text(StatusCode::METHOD_NOT_ALLOWED, "wrong method")
            }
            _ => web::text(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    /// RFC 6749, section 4.4: a token for a client's own credentials.
    fn token(&self, request: &Request<Bytes>) -> Response<web::Body> {
        let refuse = |status, error: &str| {
            let mut response = web::json(status, &json!({"error": error}));
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CACHE_CONTROL, no_store);
            response
        };
        let form: Vec<(&str, &str)> = std::str::from_utf8(request.body())
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let field =
            |name| form.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        if field("grant_type").as_deref() != Some("client_credentials") {
            return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
        }
        let basic = request.headers().get(AUTHORIZATION).and_then(|value| {
            let pair = STANDARD.decode(value.to_str().ok()?.strip_prefix("Basic ")?).ok()?;
            let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
            Some((id.to_owned(), secret.to_owned()))
        });
        let pair = basic.or_else(|| Some((field("client_id")?, field("client_secret")?)));
        let client = pair.filter(|(_, secret)| secret == CLIENT_SECRET);
        let client = client.and_then(|(id, _)| CLIENTS.iter().find(|(known, _)| *known == id));
        let Some((client, role)) = client else {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
        };
        match self.mint(&self.claims(client, &[role])) {
            Ok(token) => {
                let answer =
                    json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
                let mut response = web::json(StatusCode::OK, &answer);
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(CACHE_CONTROL, no_store);
                response
            }
            Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        }
    }
}

/// The RSA key within a PKCS#8 document, which is what `jsonwebtoken` signs with: the last of its
/// parts, from the second `SEQUENCE` of some length on (RFC 5208, section 5).
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    // 30 82 .. .. | 02 01 00 | 30 0d <13 bytes> | 04 82 .. .. | the key
    pkcs8.get(4 + 3 + 15 + 4..).unwrap_or_default().to_vec()
}
