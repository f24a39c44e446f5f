//! An identity provider that signs access tokens (RFC 9068), publishes its keys and is asked about
//! its opaque tokens (RFC 7662).
//!
//! For trying and testing alone: its clients and their secrets are known to everyone, and each of
//! its endpoints can be told to misbehave.

mod answers;
mod clients;
mod keys;
#[allow(dead_code, reason = "the tests use all of it")]
mod misbehaviour;

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

#[allow(unused_imports, reason = "the sandbox and each test use some of them")]
pub(crate) use self::clients::{CLIENT_SECRET, CLIENTS, RESOURCE_SERVER};
pub(crate) use self::keys::SigningKey;
pub(crate) use self::misbehaviour::Misbehaviour;

use super::http as web;

/// The audience of its tokens.
pub(crate) const AUDIENCE: &str = "cms-gateway";

/// A running identity provider.
#[derive(Clone)]
pub(crate) struct IdentityProvider(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    issuer: String,
    es256: SigningKey,
    rs256: SigningKey,
    eddsa: SigningKey,
    jwks: Value,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is published instead of the keys.
    jwks: Option<Bytes>,
    cache_control: Option<HeaderValue>,
    opaque: HashMap<String, Value>,
    asked: HashMap<Endpoint, u64>,
    misbehaving: HashMap<Endpoint, Misbehaviour>,
}

/// What it can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// `/jwks`
    Jwks,
    /// `/.well-known/openid-configuration` (OpenID Connect Discovery)
    OpenIdConfiguration,
    /// `/.well-known/oauth-authorization-server` (RFC 8414)
    AuthorizationServer,
    /// `/introspect` (RFC 7662)
    Introspection,
    /// `/token`
    Token,
}

impl Endpoint {
    const ALL: &[Self] = &[
        Self::Jwks,
        Self::OpenIdConfiguration,
        Self::AuthorizationServer,
        Self::Introspection,
        Self::Token,
    ];

    const fn path(self) -> &'static str {
        match self {
            Self::Jwks => "/jwks",
            Self::OpenIdConfiguration => "/.well-known/openid-configuration",
            Self::AuthorizationServer => "/.well-known/oauth-authorization-server",
            Self::Introspection => "/introspect",
            Self::Token => "/token",
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Jwks | Self::OpenIdConfiguration | Self::AuthorizationServer => Method::GET,
            Self::Introspection | Self::Token => Method::POST,
        }
    }
}

/// Why a key can't be made or a token not be signed.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    fn of(what: impl Display) -> Self {
        Self(what.to_string())
    }
}

impl Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "identity provider: {}", self.0)
    }
}

impl IdentityProvider {
    /// Makes its keys and serves.
    pub(crate) fn start(listener: TcpListener) -> Result<Self, Failed> {
        let address = listener.local_addr().map_err(Failed::of)?;
        let es256 = SigningKey::es256("es256")?;
        let rs256 = SigningKey::rs256("rs256")?;
        let eddsa = SigningKey::eddsa("eddsa")?;
        let provider = Self(Arc::new(Inner {
            address,
            issuer: format!("http://{address}/"),
            jwks: json!({"keys": [es256.public(), rs256.public(), eddsa.public()]}),
            es256,
            rs256,
            eddsa,
            state: Mutex::default(),
        }));
        let served = provider.clone();
        web::serve(listener, move |request| {
            let provider = served.clone();
            async move { provider.answer(&request).await }
        });
        Ok(provider)
    }

    /// Its name in its tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Where its keys are.
    pub(crate) fn jwks_url(&self) -> String {
        self.url(Endpoint::Jwks)
    }

    /// Where tokens are given.
    pub(crate) fn token_url(&self) -> String {
        self.url(Endpoint::Token)
    }

    /// Where something of it is.
    pub(crate) fn url(&self, endpoint: Endpoint) -> String {
        format!("http://{}{}", self.0.address, endpoint.path())
    }

    /// Its own public keys, whatever it publishes.
    pub(crate) fn jwks(&self) -> &Value {
        &self.0.jwks
    }

    /// The claims of a good token, valid for an hour.
    pub(crate) fn claims(&self, client_id: &str, roles: &[&str]) -> Value {
        let now = now();
        json!({
            "iss": self.issuer(), "aud": AUDIENCE, "sub": client_id, "client_id": client_id,
            "iat": now, "nbf": now, "exp": now + 3600, "jti": Uuid::now_v7(), "roles": roles,
        })
    }

    /// Signs these claims as they are, with ES256.
    pub(crate) fn mint(&self, claims: &Value) -> Result<String, Failed> {
        self.0.es256.sign(claims)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tests tell it.
#[allow(dead_code, reason = "the tests use it")]
impl IdentityProvider {
    /// Signs these claims as they are, with RS256.
    pub(crate) fn mint_rs256(&self, claims: &Value) -> Result<String, Failed> {
        self.0.rs256.sign(claims)
    }

    /// Signs these claims as they are, with EdDSA.
    pub(crate) fn mint_eddsa(&self, claims: &Value) -> Result<String, Failed> {
        self.0.eddsa.sign(claims)
    }

    /// A token that says nothing, about which it must be asked.
    pub(crate) fn mint_opaque(&self, claims: &Value) -> String {
        let token = format!("{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple());
        self.know(&token, claims);
        token
    }

    /// Takes a text for a token with these claims when it is asked about it.
    pub(crate) fn know(&self, token: &str, claims: &Value) {
        self.state().opaque.insert(token.to_owned(), claims.clone());
    }

    /// Takes an opaque token back.
    pub(crate) fn revoke(&self, token: &str) {
        self.state().opaque.remove(token);
    }

    /// Publishes another key set than its own.
    pub(crate) fn publish(&self, jwks: Value) {
        self.publish_text(jwks.to_string());
    }

    /// Publishes this text, which need not be a key set.
    pub(crate) fn publish_text(&self, text: String) {
        self.state().jwks = Some(text.into());
    }

    /// What `/jwks` says of how long its answer counts; nothing at first.
    pub(crate) fn cache_control(&self, value: &'static str) {
        self.state().cache_control = Some(HeaderValue::from_static(value));
    }

    /// How often something of it was asked.
    pub(crate) fn asked(&self, endpoint: Endpoint) -> u64 {
        self.state().asked.get(&endpoint).copied().unwrap_or_default()
    }

    /// Tells an endpoint how to behave from now on.
    pub(crate) fn misbehave(&self, endpoint: Endpoint, how: Misbehaviour) {
        self.state().misbehaving.insert(endpoint, how);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
