//! Questions to the store, over HTTP: <https://developer.hashicorp.com/vault/api-docs>.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::Instant;

use super::answer;
use super::session::Token;
use crate::client::{Client, ClientError, ExchangeError, Exchanged};
use crate::config::credential::Vault;
use crate::config::may_be_fetched;
use crate::credential::json::Json;
use crate::credential::source::SourceError;

/// The most bytes of an answer.
const LARGEST: usize = 64 << 10;

/// The way to a store.
#[derive(Debug)]
pub(super) struct Wire {
    client: Client<Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    namespace: Option<HeaderValue>,
    timeout: std::time::Duration,
}

/// A question.
pub(super) struct Ask<'a> {
    /// What it is about, for messages.
    pub(super) step: &'a str,
    /// Below `/v1/`, encoded.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a Token>,
    pub(super) body: Option<Bytes>,
}

impl Wire {
    pub(super) fn new(settings: &Vault) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::new(Some(&settings.scheme), settings.ca.clone(), settings.timeout)?,
            scheme: settings.scheme.clone(),
            authority: settings.authority.clone(),
            namespace: settings.namespace.clone(),
            timeout: settings.timeout,
        })
    }

    pub(super) async fn get(&self, ask: &Ask<'_>, by: Instant) -> Result<Json, SourceError> {
        self.ask(&Method::GET, ask, by).await
    }

    pub(super) async fn post(&self, ask: &Ask<'_>, by: Instant) -> Result<Json, SourceError> {
        self.ask(&Method::POST, ask, by).await
    }

    /// A message about a step, which says where it was.
    pub(super) fn told(&self, step: &str, wrong: &str) -> String {
        format!("{step} in {}://{}: {wrong}", self.scheme, self.authority)
    }

    async fn ask(&self, how: &Method, ask: &Ask<'_>, by: Instant) -> Result<Json, SourceError> {
        let mut answer = self.send(&self.authority, how, ask, by).await?;
        if answer.status == StatusCode::TEMPORARY_REDIRECT {
            let active = active_node(&self.scheme, &answer.headers)
                .map_err(|wrong| SourceError::Unavailable(self.told(ask.step, wrong)))?;
            answer = self.send(&active, how, ask, by).await?;
        }
        if answer.status.is_success() {
            let is_empty = answer.body.is_empty();
            let json = if is_empty { Ok(Json::Null) } else { Json::parse_and_wipe(answer.body) };
            return json.map_err(|wrong| {
                let wrong = format!("the answer is {wrong}");
                SourceError::Malformed(self.told(ask.step, &wrong))
            });
        }
        let (kind, wrong) = answer::refusal(answer.status, &answer.body);
        Err(kind(self.told(ask.step, wrong)))
    }

    async fn send(
        &self,
        authority: &Authority,
        method: &Method,
        ask: &Ask<'_>,
        by: Instant,
    ) -> Result<Exchanged, SourceError> {
        let send = async || {
            let request = self.request(authority, method, ask).map_err(|_| {
                let wrong = "it can't be asked: the path or the token is no part of a request";
                SourceError::Malformed(self.told(ask.step, wrong))
            })?;
            let left = by.saturating_duration_since(Instant::now());
            Ok::<_, SourceError>(self.client.exchange(request, left, LARGEST).await)
        };
        let mut sent = send().await?;
        // As when the store closed a connection just before; asking again changes nothing.
        if matches!(sent, Err(ExchangeError::Broken(_))) {
            sent = send().await?;
        }
        sent.map_err(|error| match error {
            ExchangeError::TooLarge(_) => {
                SourceError::Malformed(self.told(ask.step, "the answer is larger than 64 KiB"))
            }
            ExchangeError::TimedOut(_) => {
                let limit = humantime::format_duration(self.timeout);
                let wrong = format!("no whole answer within the {limit} that a fetch may take");
                SourceError::Unavailable(self.told(ask.step, &wrong))
            }
            error => SourceError::Unavailable(self.told(ask.step, &error.to_string())),
        })
    }

    fn request(
        &self,
        authority: &Authority,
        method: &Method,
        ask: &Ask<'_>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(authority.clone())
            .path_and_query(format!("/v1/{}", ask.path))
            .build()?;
        // Without this one, an agent before the store may refuse (its require_request_header).
        let mut request =
            Request::builder().method(method).uri(uri).header("x-vault-request", "true");
        if let Some(token) = ask.token {
            request = request.header("x-vault-token", token.header()?);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if ask.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(ask.body.clone().unwrap_or_default()))
    }
}

/// Where a standby says that the active node is. The path stays our own, and the token never goes
/// over plain text to elsewhere, nor over another scheme than the configured one.
fn active_node(scheme: &Scheme, headers: &HeaderMap) -> Result<Authority, &'static str> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.and_then(|location| location.parse::<Uri>().ok());
    let location =
        location.ok_or("it is a standby (307) and does not say where the active node is")?;
    match (location.scheme(), location.authority()) {
        (Some(own), Some(authority)) if own == scheme && may_be_fetched(&location, false) => {
            Ok(authority.clone())
        }
        (Some(_), Some(_)) => Err(
            "it is a standby (307), and the way to the active node is not followed: another scheme, \
             plain text to elsewhere than loopback, or a user name",
        ),
        _ => Err("it is a standby (307) and does not say where the active node is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_to_no_other_scheme_and_over_no_open_network() {
        let (https, http) = (Scheme::HTTPS, Scheme::HTTP);
        for (scheme, location, expected) in [
            (
                &https,
                "https://active.example.com:8200/v1/secret/data/cms",
                Ok("active.example.com:8200"),
            ),
            (&https, "HTTPS://active.example.com/", Ok("active.example.com")),
            (&http, "http://127.0.0.1:8200/v1/x", Ok("127.0.0.1:8200")),
            (&https, "http://127.0.0.1:8200/v1/x", Err("not followed")),
            (&http, "https://active.example.com/v1/x", Err("not followed")),
            (&http, "http://active.example.com/v1/x", Err("not followed")),
            (&https, "https://u:p@active.example.com/v1/x", Err("not followed")),
            (&https, "/v1/secret/data/cms", Err("does not say where")),
            (&https, "", Err("does not say where")),
            (&https, "active.example.com:8200", Err("does not say where")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
            let active = active_node(scheme, &headers);
            match expected {
                Ok(expected) => assert_eq!(active.unwrap(), expected, "{location}"),
                Err(words) => assert!(active.unwrap_err().contains(words), "{location}"),
            }
        }
        assert!(active_node(&https, &HeaderMap::new()).is_err());
    }
}
