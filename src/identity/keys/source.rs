//! Where a key set comes from: a file, a URL, or what the issuer's metadata names.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, EXPIRES};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use serde_json::Value;

use super::set::{KeySet, KeySetError};
use crate::client::{Client, ClientError, Exchanged};
use crate::config;
use crate::strict_json;
use crate::watch::{Sight, Unreadable};

/// How long a fetch may take, from the first connection to the last byte, metadata included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one address of the metadata may take, so that the next one has its turn.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the keys come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file, which is watched.
    File(PathBuf),
    /// A server, which is asked.
    Remote(Box<Remote>),
}

/// A server that has the keys, with the client that asks it.
#[derive(Debug)]
pub(super) struct Remote {
    at: Location,
    client: Client<Empty<Bytes>>,
}

#[derive(Debug)]
enum Location {
    KeySet(Uri),
    Metadata { issuer: String, addresses: Vec<Uri>, allow_plaintext: bool },
}

/// What a fetch gave.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    /// For how long the answer may be used, as its headers say (RFC 9111, section 4.2.1).
    pub(super) fresh_for: Option<Duration>,
}

/// Why there is no key set.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{path} {error}")]
    File { path: PathBuf, error: Unreadable },
    #[error("{url}: {reason}")]
    Exchange { url: Uri, reason: String },
    #[error("{from} {error}")]
    KeySet { from: String, error: KeySetError },
    #[error("the key set holds no key for any of the issuer's algorithms")]
    NothingFits,
    #[error("no key set within {}", humantime::format_duration(TIMEOUT))]
    TooSlow,
    #[error("{url}: its issuer is not {issuer:?}")]
    OtherIssuer { url: Uri, issuer: String },
    #[error("{url}: {reason}")]
    Metadata { url: Uri, reason: &'static str },
}

impl Source {
    pub(super) fn new(issuer: &str, source: &config::KeySource) -> Result<Self, ClientError> {
        let (at, ca, scheme) = match source {
            config::KeySource::File(path) => return Ok(Self::File(path.clone())),
            config::KeySource::Url { url, ca } => {
                (Location::KeySet(url.clone()), ca, url.scheme().cloned())
            }
            config::KeySource::Discovery { addresses, ca, allow_plaintext } => {
                let (issuer, addresses) = (issuer.to_owned(), addresses.clone());
                let allow_plaintext = *allow_plaintext;
                let scheme = addresses.first().and_then(|url| url.scheme().cloned());
                (Location::Metadata { issuer, addresses, allow_plaintext }, ca, scheme)
            }
        };
        // Metadata in plain text may name keys that are not: those need roots of trust, if there are
        // any.
        let may_differ = matches!(at, Location::Metadata { .. }) && scheme != Some(Scheme::HTTPS);
        let client = match Client::new(scheme.as_ref(), ca.clone(), TIMEOUT) {
            Ok(client) if may_differ => {
                Client::new(Some(&Scheme::HTTPS), ca.clone(), TIMEOUT).unwrap_or(client)
            }
            made => made?,
        };
        Ok(Self::Remote(Box::new(Remote { at, client })))
    }
}

/// Reads what a file says.
pub(super) fn read(path: &Path, seen: Sight) -> Result<Fetched, FetchError> {
    let bytes = seen.map_err(|error| FetchError::File { path: path.to_owned(), error })?;
    Ok(Fetched { keys: parse(&path.display().to_string(), &bytes)?, fresh_for: None })
}

fn parse(from: &str, bytes: &[u8]) -> Result<KeySet, FetchError> {
    KeySet::parse(bytes).map_err(|error| FetchError::KeySet { from: from.to_owned(), error })
}

impl Remote {
    pub(super) async fn fetch(&self) -> Result<Fetched, FetchError> {
        let fetch = async {
            match &self.at {
                Location::KeySet(url) => self.keys(url).await,
                Location::Metadata { issuer, addresses, allow_plaintext } => {
                    let url = self.discover(issuer, addresses, *allow_plaintext).await?;
                    self.keys(&url).await
                }
            }
        };
        tokio::time::timeout(TIMEOUT, fetch).await.unwrap_or(Err(FetchError::TooSlow))
    }

    async fn keys(&self, url: &Uri) -> Result<Fetched, FetchError> {
        let answer = self.document(url, TIMEOUT).await?;
        let keys = parse(&url.to_string(), &answer.body)?;
        Ok(Fetched { keys, fresh_for: fresh_for(&answer.headers, SystemTime::now()) })
    }

    /// The `jwks_uri` of the issuer's metadata: OpenID Connect Discovery 1.0, section 4, or
    /// RFC 8414, section 3. The next address is tried where the one before has no document.
    async fn discover(
        &self,
        issuer: &str,
        addresses: &[Uri],
        allow_plaintext: bool,
    ) -> Result<Uri, FetchError> {
        let mut missing = None;
        for url in addresses {
            match self.document(url, METADATA_TIMEOUT).await {
                Ok(answer) => return key_set_address(url, issuer, &answer.body, allow_plaintext),
                Err(error) => missing = Some(missing.unwrap_or(error)),
            }
        }
        Err(missing.unwrap_or(FetchError::Metadata {
            url: Uri::default(),
            reason: "no address of the issuer's metadata is known",
        }))
    }

    async fn document(&self, url: &Uri, timeout: Duration) -> Result<Exchanged, FetchError> {
        let failed = |reason| FetchError::Exchange { url: url.clone(), reason };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.clone();
        let json = HeaderValue::from_static("application/json, application/jwk-set+json");
        request.headers_mut().insert(ACCEPT, json);
        let answer = self.client.exchange(request, timeout, KeySet::LARGEST).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        if answer.status == StatusCode::OK {
            Ok(answer)
        } else {
            Err(failed(format!("the answer was {}", answer.status)))
        }
    }
}

/// The metadata must be of the issuer that was asked for, byte for byte (RFC 8414, section 3.3).
fn key_set_address(
    from: &Uri,
    issuer: &str,
    body: &[u8],
    allow_plaintext: bool,
) -> Result<Uri, FetchError> {
    let wrong = |reason| FetchError::Metadata { url: from.clone(), reason };
    let metadata =
        strict_json::parse(body).map_err(|_| wrong("the issuer's metadata is not JSON"))?;
    if metadata.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(FetchError::OtherIssuer { url: from.clone(), issuer: issuer.to_owned() });
    }
    let address = metadata.get("jwks_uri").and_then(Value::as_str);
    let url: Uri = address
        .ok_or(wrong("the issuer's metadata has no jwks_uri"))?
        .parse()
        .map_err(|_| wrong("the jwks_uri of the issuer's metadata is no URL"))?;
    // In plain text only where the metadata came so.
    let may_be_plain = from.scheme() == Some(&Scheme::HTTP);
    let is_plain = url.scheme() == Some(&Scheme::HTTP);
    if config::may_be_fetched(&url, allow_plaintext)
        && (allow_plaintext || may_be_plain || !is_plain)
    {
        Ok(url)
    } else {
        Err(wrong("the jwks_uri of the issuer's metadata is not https"))
    }
}

/// How long an answer may be used (RFC 9111, section 4.2.1), less the time that it has been under
/// way; nothing where it does not say, zero where it must not be kept.
fn fresh_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut max_age = None;
    for directive in directives.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            max_age = value.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(max_age) = max_age {
        let age =
            text(AGE).and_then(|age| age.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
        return Some(max_age.saturating_sub(age));
    }
    let expires = httpdate::parse_http_date(text(EXPIRES)?);
    // A date that is none means that it has passed (section 5.3).
    Some(expires.ok().and_then(|at| at.duration_since(now).ok()).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_headers_say() {
        let now = httpdate::parse_http_date("Wed, 25 Nov 2026 10:00:00 GMT").unwrap();
        for (headers, expected) in [
            (&[][..], None),
            (&[("cache-control", "public, max-age=300")], Some(300)),
            (&[("cache-control", "MAX-AGE=\"300\""), ("age", "100")], Some(200)),
            (&[("cache-control", "max-age=300"), ("age", "400")], Some(0)),
            (&[("cache-control", "max-age=300, no-store")], Some(0)),
            (&[("cache-control", "public"), ("cache-control", "no-cache")], Some(0)),
            (&[("cache-control", "max-age=x")], None),
            (&[("expires", "Wed, 25 Nov 2026 10:05:00 GMT")], Some(300)),
            (&[("expires", "0")], Some(0)),
            (&[("expires", "Wed, 25 Nov 2026 09:05:00 GMT")], Some(0)),
            (
                &[("cache-control", "max-age=9"), ("expires", "Wed, 25 Nov 2026 10:05:00 GMT")],
                Some(9),
            ),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(fresh_for(&map, now), expected.map(Duration::from_secs), "{headers:?}");
        }
    }

    #[test]
    fn metadata_must_be_of_the_issuer_itself() {
        let from = Uri::from_static("https://idp.example.com/.well-known/openid-configuration");
        let address = |body: &str, allow_plaintext| {
            let issuer = "https://idp.example.com";
            key_set_address(&from, issuer, body.as_bytes(), allow_plaintext)
                .map_err(|error| error.to_string())
        };
        let good =
            r#"{"issuer":"https://idp.example.com","jwks_uri":"https://keys.example.com/k"}"#;
        assert_eq!(address(good, false).unwrap(), "https://keys.example.com/k");
        let plain = r#"{"issuer":"https://idp.example.com","jwks_uri":"http://idp.example.com/k"}"#;
        assert_eq!(address(plain, true).unwrap(), "http://idp.example.com/k");
        for (body, expected) in [
            (plain, "is not https"),
            (r#"{"issuer":"https://idp.example.com/","jwks_uri":"https://x/k"}"#, "its issuer"),
            (r#"{"issuer":"https://idp.example.com","issuer":"x"}"#, "is not JSON"),
            (r#"{"issuer":["https://idp.example.com"],"jwks_uri":"https://x/k"}"#, "its issuer"),
            (r#"{"issuer":"https://idp.example.com"}"#, "has no jwks_uri"),
            (r#"{"issuer":"https://idp.example.com","jwks_uri":"/k"}"#, "is not https"),
            (r#"{"issuer":"https://idp.example.com","jwks_uri":"file:///k"}"#, "no"),
        ] {
            let refused = address(body, false).unwrap_err();
            assert!(refused.contains(expected), "{body}: {refused}");
        }
    }
}
