//! An issuer's keys: a JSON Web Key Set (RFC 7517), filtered when it is loaded, kept fresh.
//!
//! A known key never waits for a refresh, and stays when one fails. An unknown one causes a
//! refresh, at most one in [`COOL_DOWN`] whoever asks, and all who ask meanwhile wait for the
//! same one.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::sync::Mutex;

use super::Refusal;
use crate::audit::{Event, Events};
use crate::client::{Client, ClientError};
use crate::config::{Issuer, Jwks};
use crate::random;
use crate::strict_json;
use crate::telemetry::Metrics;

/// The least time between two refreshes that unknown keys cause.
const COOL_DOWN: Duration = Duration::from_secs(30);
/// The time between two refreshes in the background.
const REFRESH: Duration = Duration::from_secs(300);
/// The time before the first try anew after a failure; it doubles up to [`COOL_DOWN`].
const RETRY: Duration = Duration::from_millis(500);
/// How long a fetch may take, from the connection to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a key set.
const LARGEST: usize = 512 << 10;

/// The keys of a key set that can verify a token.
#[derive(Debug)]
pub struct KeySet(Vec<Arc<Key>>);

/// A public key and the algorithms that it may be used with.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// Why a key set is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The file can't be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The URL could not be asked, or gave something else than a key set.
    #[error("{0}")]
    Fetch(String),
    /// It is not JSON, or a member of it stands twice.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no list `keys`.
    #[error("has no list \"keys\"")]
    NoKeys,
    /// None of its keys can verify a token.
    #[error(
        "holds no key that can be used (RSA of 2,048 bits or more, P-256, P-384 or Ed25519, for \
         signatures)"
    )]
    NoUsableKey,
}

/// Whether an issuer's keys are there.
#[derive(Debug)]
pub struct KeyStatus<'a> {
    /// The issuer.
    pub issuer: &'a str,
    /// How long ago they were last fetched; nothing when they never were.
    pub age: Option<Duration>,
}

impl KeySet {
    /// Reads a key set and leaves out what can't verify a token: symmetric keys, keys for
    /// encryption, RSA keys below 2,048 bits, curves that no accepted algorithm has.
    ///
    /// # Errors
    ///
    /// When nothing is left, or it is no key set.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let value = strict_json::parse(bytes)?;
        let list = value.get("keys").and_then(Value::as_array).ok_or(KeySetError::NoKeys)?;
        let keys: Vec<_> = list.iter().filter_map(Key::of).map(Arc::new).collect();
        if keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// Whether one of the keys goes with one of the algorithms.
    #[must_use]
    pub fn fits_any(&self, algorithms: &[Algorithm]) -> bool {
        self.0.iter().any(|key| key.algorithms.iter().any(|own| algorithms.contains(own)))
    }

    fn ids(&self) -> Vec<&str> {
        self.0.iter().map(|key| key.id.as_deref().unwrap_or("(no kid)")).collect()
    }

    /// The key of that name for that algorithm; without a name, the only one that fits.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let mut fitting = self.0.iter().filter(|key| {
            (id.is_none() || key.id.as_deref() == id) && key.algorithms.contains(&algorithm)
        });
        let first = fitting.next()?;
        fitting.next().is_none().then(|| Arc::clone(first))
    }
}

impl Key {
    fn of(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
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
        let algorithms: Vec<_> = match value.get("alg") {
            None => kind.to_vec(),
            Some(name) => {
                let own: Algorithm = name.as_str()?.parse().ok()?;
                kind.iter().copied().filter(|algorithm| *algorithm == own).collect()
            }
        };
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self { id: jwk.common.key_id, algorithms, decoding })
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// The length of a modulus in base64url.
fn bits(modulus: &str) -> usize {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).unwrap_or_default();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros).map_or(0, |top| (bytes.len() - zeros) * 8 - top.leading_zeros() as usize)
}

/// One issuer's keys.
#[derive(Debug)]
pub(super) struct KeyStore {
    issuer: String,
    source: Source,
    current: ArcSwapOption<(KeySet, Instant)>,
    /// When the last refresh began. Whoever holds it is refreshing.
    last_try: Mutex<Option<Instant>>,
    events: Events,
    metrics: Arc<Metrics>,
}

impl KeyStore {
    pub(super) fn new(
        issuer: &Issuer,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        let source = match issuer.jwks.clone() {
            Jwks::File(path) => Source::File { path },
            Jwks::Url { url, ca } => {
                let client = Box::new(Client::new(url.scheme(), ca, FETCH_TIMEOUT)?);
                Source::Url { url, client }
            }
        };
        Ok(Self {
            issuer: issuer.issuer.clone(),
            source,
            current: ArcSwapOption::empty(),
            last_try: Mutex::new(None),
            events,
            metrics,
        })
    }

    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<Key>, Refusal> {
        if let Some(key) = self.find(id, algorithm) {
            return Ok(key);
        }
        {
            let mut last_try = self.last_try.lock().await;
            let is_due = last_try.is_none_or(|at| at.elapsed() >= COOL_DOWN);
            // Whoever held the lock before may have brought it.
            if is_due && self.find(id, algorithm).is_none() {
                *last_try = Some(Instant::now());
                self.load().await;
            }
        }
        match self.find(id, algorithm) {
            Some(key) => Ok(key),
            None if self.current.load().is_none() => Err(Refusal::KeysUnavailable),
            None => Err(Refusal::UnknownKey),
        }
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        self.current.load().as_ref().and_then(|current| current.0.find(id, algorithm))
    }

    pub(super) fn age(&self) -> Option<Duration> {
        self.current.load().as_ref().map(|current| current.1.elapsed())
    }

    /// Refreshes the keys at once and then again and again.
    pub(super) async fn refresh_for_ever(&self) {
        let mut retry = RETRY;
        loop {
            let loaded = {
                let mut last_try = self.last_try.lock().await;
                *last_try = Some(Instant::now());
                self.load().await
            };
            let pause = if loaded {
                retry = RETRY;
                REFRESH
            } else {
                retry = (retry * 2).min(COOL_DOWN);
                retry
            };
            tokio::time::sleep(random::jittered(pause)).await;
        }
    }

    /// Loads the keys; what there was stays when that fails.
    async fn load(&self) -> bool {
        let parsed = self.fetch().await.and_then(|bytes| KeySet::parse(&bytes));
        let result = if parsed.is_ok() { "success" } else { "failure" };
        self.metrics.jwks_refresh.with_label_values(&[self.issuer.as_str(), result]).inc();
        match parsed {
            Ok(keys) => {
                let before = self.current.load();
                if before.as_ref().is_none_or(|before| before.0.ids() != keys.ids()) {
                    let detail = format!("{}: {}", self.issuer, keys.ids().join(", "));
                    self.events.record(Event::new("keys_changed").detail(detail));
                }
                self.current.store(Some(Arc::new((keys, Instant::now()))));
                true
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, %error, "the issuer's keys can't be refreshed");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>, KeySetError> {
        let too_large = || KeySetError::Fetch(format!("is larger than {LARGEST} bytes"));
        match &self.source {
            Source::File { path } => {
                let path = path.clone();
                let read = move || {
                    let mut bytes = Vec::new();
                    File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
                    Ok::<_, std::io::Error>(bytes)
                };
                let joined = tokio::task::spawn_blocking(read).await;
                let bytes = joined.map_err(std::io::Error::other)??;
                if bytes.len() > LARGEST { Err(too_large()) } else { Ok(bytes) }
            }
            Source::Url { url, client } => {
                let mut request = Request::new(Empty::new());
                *request.uri_mut() = url.clone();
                request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
                let fetched = client.exchange(request, FETCH_TIMEOUT, LARGEST).await;
                let fetched = fetched.map_err(|error| KeySetError::Fetch(error.to_string()))?;
                if fetched.status != StatusCode::OK {
                    return Err(KeySetError::Fetch(format!("the answer was {}", fetched.status)));
                }
                Ok(fetched.body.into())
            }
        }
    }
}

/// Where the keys come from, with the client that fetches them.
#[derive(Debug)]
enum Source {
    File { path: PathBuf },
    Url { url: Uri, client: Box<Client<Empty<Bytes>>> },
}
