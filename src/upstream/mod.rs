//! The CMS: a request built afresh, its answer translated.
//!
//! Nothing of the client's head or bytes passes through. The request is made from the recorded
//! change: the operation's own method and path, canonical JSON, and an allow-list of headers. Of
//! the answer, status and JSON body are taken and nothing else.

mod addresses;
mod breaker;
mod connect;
mod exchange;
mod pool;
mod server;
mod stream;
pub(crate) mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;

use self::breaker::Breaker;
use crate::audit::Recorded;
use crate::client::{Client, ClientError, ExchangeError, Exchanged};
use crate::config;
use crate::context::{Context, REQUEST_ID, TRACEPARENT};
use crate::credential::Credential;
use crate::operation::Change;
use crate::telemetry::Metrics;

/// The most bytes of an answer of the CMS.
const LARGEST: usize = 1 << 20;

/// The CMS.
#[derive(Debug)]
pub struct Upstream {
    client: Client<Full<Bytes>>,
    settings: config::Upstream,
    breaker: Breaker,
    metrics: Arc<Metrics>,
}

/// What the CMS said, in words that the caller may hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status: 200, 204, 400, 404 or 500.
    pub status: StatusCode,
    /// Its body, JSON; empty with a 204.
    pub body: Bytes,
    /// The error code in the body, if it is an error.
    pub code: Option<String>,
}

/// Why the CMS's answer can't be relayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The CMS says that the gateway's credential is wrong.
    #[error("the CMS refused the gateway's credential with 401")]
    Unauthorized,
    /// The CMS says that the gateway's account may not do this.
    #[error("the CMS refused the gateway's credential with 403")]
    Forbidden,
    /// No connection; nothing was sent.
    #[error("the CMS can't be reached: {0}")]
    Unreachable(String),
    /// The answer did not come in time; the change may have been made.
    #[error("the CMS did not answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The answer can't be understood; the change may have been made.
    #[error("the CMS's answer can't be understood: {0}")]
    Unintelligible(String),
    /// The CMS has failed too often to be asked now.
    #[error("the CMS has failed too often and is not asked for a while")]
    CircuitOpen {
        /// When it will be.
        retry_after: Duration,
    },
}

/// One exchange with the CMS.
#[derive(Debug)]
pub struct Exchange {
    /// The CMS's status, if there was an answer.
    pub status: Option<StatusCode>,
    /// What it comes to.
    pub result: Result<Answer, Failure>,
}

impl Exchange {
    /// How often the change was sent: not at all while the breaker is open.
    pub(crate) fn attempts(&self) -> u32 {
        u32::from(!matches!(self.result, Err(Failure::CircuitOpen { .. })))
    }
}

impl Upstream {
    /// A client for the CMS, which opens no connection yet.
    ///
    /// # Errors
    ///
    /// When the roots of trust can't be read.
    pub fn new(settings: &config::Upstream, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
        let target = settings.targets.first();
        Ok(Self {
            client: Client::new(target.map(|it| &it.scheme), None, settings.connect_timeout)?,
            settings: settings.clone(),
            breaker: Breaker::new(settings.breaker),
            metrics,
        })
    }

    /// Sends a change that is permitted and on record.
    pub async fn forward(
        &self,
        recorded: &Recorded,
        credential: &Credential,
        context: &Context,
    ) -> Exchange {
        if let Err(retry_after) = self.breaker.admit() {
            return Exchange { status: None, result: Err(Failure::CircuitOpen { retry_after }) };
        }
        let change = recorded.permitted().change();
        let started = Instant::now();
        let exchanged = match self.request(change, credential, context) {
            Ok(request) => {
                self.client.exchange(request, self.settings.response_timeout, LARGEST).await
            }
            Err(error) => Err(ExchangeError::Connect(error.to_string())),
        };
        self.metrics.upstream_duration.observe(started.elapsed().as_secs_f64());
        let status = exchanged.as_ref().ok().map(|exchanged| exchanged.status);
        let result = match exchanged {
            Ok(exchanged) => translate(change, exchanged),
            Err(ExchangeError::Connect(cause)) => Err(Failure::Unreachable(cause)),
            Err(ExchangeError::TimedOut(timeout)) => Err(Failure::TimedOut(timeout)),
            Err(error @ (ExchangeError::TooLarge(_) | ExchangeError::Broken(_))) => {
                Err(Failure::Unintelligible(error.to_string()))
            }
        };
        let is_failing = matches!(
            result,
            Err(Failure::Unreachable(_) | Failure::TimedOut(_) | Failure::Unintelligible(_))
        );
        self.metrics.circuit_open.set(i64::from(self.breaker.observe(is_failing)));
        Exchange { status, result }
    }

    fn request(
        &self,
        change: &dyn Change,
        credential: &Credential,
        context: &Context,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let operation = change.operation();
        let mut uri = Uri::builder().path_and_query(operation.path);
        if let Some(target) = self.settings.targets.first() {
            uri = uri.scheme(target.scheme.clone()).authority(target.authority.clone());
        }
        let uri = uri.build()?;
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::builder()
            .method(operation.method.clone())
            .uri(uri)
            .header(CONTENT_TYPE, json.clone())
            .header(ACCEPT, json)
            .header(&REQUEST_ID, context.request_id.to_string())
            .header(AUTHORIZATION, credential.authorization()?);
        if let Some(trace) = context.trace {
            request = request.header(&TRACEPARENT, trace.for_upstream());
        }
        request.body(Full::new(change.encode()))
    }
}

/// The CMS's own shape of an error, as far as it must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CmsError {
    status_code: u16,
    error_code: String,
    #[serde(rename = "errorMessage")]
    _error_message: String,
}

fn translate(change: &dyn Change, exchanged: Exchanged) -> Result<Answer, Failure> {
    let Exchanged { status, headers, body } = exchanged;
    let unintelligible = |why: &str| Err(Failure::Unintelligible(format!("{status}, {why}")));
    match status {
        StatusCode::UNAUTHORIZED => return Err(Failure::Unauthorized),
        StatusCode::FORBIDDEN => return Err(Failure::Forbidden),
        StatusCode::NO_CONTENT => return Ok(Answer { status, body: Bytes::new(), code: None }),
        StatusCode::OK
        | StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND
        | StatusCode::INTERNAL_SERVER_ERROR => {}
        _ => return unintelligible("which this operation does not have"),
    }
    let is_json =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            let essence = value.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        });
    if !is_json {
        return unintelligible("whose body is not application/json");
    }
    if status == StatusCode::OK {
        return if change.is_answered_by(&body) {
            Ok(Answer { status, body, code: None })
        } else {
            unintelligible("whose body is no answer to this change")
        };
    }
    match serde_json::from_slice::<CmsError>(&body) {
        Ok(error) if error.status_code == status.as_u16() => {
            Ok(Answer { status, body, code: Some(error.error_code) })
        }
        _ => unintelligible("whose body has not the CMS's shape of an error"),
    }
}
