//! Every way to fail, as the caller is told: code, status, message, headers.
//!
//! This is the one place that knows the HTTP statuses of errors. The body has the CMS's own shape,
//! so that a caller parses one shape, with the request's id beside it.

mod code;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use uuid::Uuid;

pub use self::code::Code;
use crate::audit;
use crate::audit::Receipt;
use crate::context::{self, REQUEST_ID};
use crate::credential::CredentialError;
use crate::gateway::body::BodyError;
use crate::gateway::head::HeadError;
use crate::gateway::rates::Standing;
use crate::identity::{ProofFault, Refusal, SenderFault, algorithm};
use crate::operation::{BodyFault, RouteError};
use crate::policy::Denied;
use crate::upstream;

/// A refusal or failure, as the caller is told.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The code.
    pub code: Code,
    /// What is wrong, for the one who must act on it.
    pub message: Cow<'static, str>,
    headers: Vec<(HeaderName, String)>,
}

/// The time after which to try again where nothing says better.
const SOON: Duration = Duration::from_secs(1);

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let problem = Self { code, message: message.into(), headers: Vec::new() };
        if code.status() == StatusCode::SERVICE_UNAVAILABLE {
            problem.retry_after(SOON)
        } else {
            problem
        }
    }

    fn allow(mut self, method: &Method) -> Self {
        self.headers.push((ALLOW, method.to_string()));
        self
    }

    fn challenge(mut self, parameters: &str) -> Self {
        let separator = if parameters.is_empty() { "" } else { ", " };
        let challenge = format!("Bearer realm=\"cms-gateway\"{separator}{parameters}");
        self.headers.push((WWW_AUTHENTICATE, challenge));
        self
    }

    /// Tells a caller without a principal that DPoP is taken too (RFC 9449, section 7.1), what was
    /// wrong with its proof, and which nonce the next one needs.
    pub(crate) fn offer_dpop(mut self, refusal: &Refusal, nonce: Option<String>) -> Self {
        if self.code.status() != StatusCode::UNAUTHORIZED {
            return self;
        }
        let error = match refusal {
            Refusal::NoToken => "",
            Refusal::Sender(SenderFault::Proof(ProofFault::Nonce)) => "error=\"use_dpop_nonce\", ",
            Refusal::Sender(SenderFault::Proof(_)) => "error=\"invalid_dpop_proof\", ",
            _ => "error=\"invalid_token\", ",
        };
        let algorithms: Vec<_> = algorithm::ACCEPTABLE.iter().map(|(name, _)| *name).collect();
        let challenge =
            format!("DPoP realm=\"cms-gateway\", {error}algs=\"{}\"", algorithms.join(" "));
        self.headers.push((WWW_AUTHENTICATE, challenge));
        self.headers.extend(nonce.map(|nonce| (DPOP_NONCE.clone(), nonce)));
        self
    }

    /// Speaks to a caller in the scheme that it used.
    pub(crate) fn in_dpop(mut self) -> Self {
        for (name, value) in &mut self.headers {
            if let (&WWW_AUTHENTICATE, Some(parameters)) = (&*name, value.strip_prefix("Bearer ")) {
                *value = format!("DPoP {parameters}");
            }
        }
        self
    }

    /// In whole seconds, rounded up, at least one (RFC 9110, section 10.2.3).
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        self.headers.retain(|(name, _)| name != RETRY_AFTER);
        self.headers.push((RETRY_AFTER, seconds.to_string()));
        self
    }

    /// The whole answer.
    #[must_use]
    pub fn response(&self, request_id: Uuid) -> Response<Full<Bytes>> {
        self.whole(request_id).map(Full::new)
    }

    /// The whole answer as HTTP/1.1 writes it, for a connection that hyper does not serve.
    pub(crate) fn http_1(&self, request_id: Uuid) -> Vec<u8> {
        let (head, body) = self.whole(request_id).into_parts();
        let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\n", head.status).into_bytes();
        for (name, value) in &head.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        text.extend_from_slice(&body);
        text
    }

    /// The body of the answer.
    pub(crate) fn body(&self, request_id: Uuid) -> impl Serialize {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            status_code: u16,
            status: &'a str,
            error_code: &'a str,
            error_message: &'a str,
            request_id: Uuid,
        }
        let status = self.code.status();
        Body {
            status_code: status.as_u16(),
            status: status.canonical_reason().unwrap_or_default(),
            error_code: self.code.as_str(),
            error_message: &self.message,
            request_id,
        }
    }

    fn whole(&self, request_id: Uuid) -> Response<Bytes> {
        let status = self.code.status();
        let body = self.body(request_id);
        let mut response =
            with_json(status, serde_json::to_vec(&body).unwrap_or_default().into(), request_id);
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// The header of a request's receipt.
pub(crate) static AUDIT_RECORD: HeaderName = HeaderName::from_static("audit-record");

/// An answer with a JSON body, or with none where that is empty.
#[must_use]
pub fn json(status: StatusCode, body: Bytes, request_id: Uuid) -> Response<Full<Bytes>> {
    with_json(status, body, request_id).map(Full::new)
}

fn with_json(status: StatusCode, body: Bytes, request_id: Uuid) -> Response<Bytes> {
    let mut headers = HeaderMap::with_capacity(6);
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Ok(id) = context::id_value(request_id) {
        headers.insert(&REQUEST_ID, id);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The header of a nonce (RFC 9449, section 8).
pub(crate) static DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Adds the receipt of a request that is on record, and the nonce of its caller's next proof.
pub fn attach<B>(response: &mut Response<B>, receipt: Option<&Receipt>, nonce: Option<&str>) {
    let receipt = receipt.and_then(|receipt| HeaderValue::try_from(String::from(receipt)).ok());
    let nonce = nonce.and_then(|nonce| HeaderValue::from_str(nonce).ok());
    for (name, value) in [(&AUDIT_RECORD, receipt), (&DPOP_NONCE, nonce)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The headers of a caller's rate (draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4). No
/// partition key is told: it would be the caller's name.
pub(crate) static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(crate) static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Tells an authenticated caller how it stands with its rate. Nobody is told to come back before it
/// may send again.
pub(crate) fn attach_standing<B>(response: &mut Response<B>, standing: Standing) {
    let Standing { quota, window, remaining, until_more } = standing;
    let policy = format!("\"caller\";q={quota};w={window}");
    let limit = format!("\"caller\";r={remaining};t={until_more}");
    let is_over = response.status() == Code::OverRate.status();
    let headers = response.headers_mut();
    for (name, text) in [(&RATE_LIMIT_POLICY, policy), (&RATE_LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    let told = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(told) = told
        && (is_over || (remaining == 0 && told < until_more))
    {
        headers.insert(RETRY_AFTER, until_more.into());
    }
}

// One impl for each stage's way to fail.

macro_rules! also_from_owned {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::from(&error)
            }
        })*
    };
}

also_from_owned!(HeadError, RouteError, BodyError, BodyFault, audit::Unavailable);

impl From<&HeadError> for Problem {
    fn from(error: &HeadError) -> Self {
        let code = match error {
            HeadError::TooLarge(_) | HeadError::TooManyHeaders(_) => Code::HeadTooLarge,
            _ => Code::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<&RouteError> for Problem {
    fn from(error: &RouteError) -> Self {
        match error {
            RouteError::NotFound => Self::new(Code::NoSuchOperation, error.to_string()),
            RouteError::MethodNotAllowed { allow } => {
                Self::new(Code::WrongMethod, error.to_string()).allow(allow)
            }
        }
    }
}

impl From<&Refusal> for Problem {
    /// The caller is told only what helps an honest one.
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NoToken => {
                Self::new(Code::NoToken, "send a Bearer token in the Authorization header")
                    .challenge("")
            }
            Refusal::Expired => {
                Self::new(Code::TokenExpired, "the token has expired; get a new one").challenge(
                    "error=\"invalid_token\", error_description=\"the token has expired\"",
                )
            }
            Refusal::RevocationUnknown
            | Refusal::IntrospectionUnavailable
            | Refusal::IntrospectionBusy
            | Refusal::Sender(SenderFault::Proof(ProofFault::ReplayMemoryFull)) => Self::new(
                Code::KeysUnavailable,
                "the gateway can't check the token at the moment; try again",
            ),
            Refusal::Sender(SenderFault::Proof(fault)) => {
                let message = match fault {
                    ProofFault::Nonce => {
                        "the DPoP proof needs the nonce of this answer's DPoP-Nonce"
                    }
                    ProofFault::Missing => "the token needs a DPoP proof",
                    _ => "the DPoP proof is not acceptable for this request and token",
                };
                Self::new(Code::TokenNotAcceptable, message)
                    .challenge("error=\"invalid_token\", error_description=\"see DPoP\"")
            }
            Refusal::Sender(SenderFault::Binding(_)) => Self::new(
                Code::TokenNotAcceptable,
                "the token is bound to its sender and was not sent as it must be; use the client \
                 certificate or the DPoP proof that it was issued for",
            )
            .challenge(
                "error=\"invalid_token\", error_description=\"the token is bound to its sender\"",
            ),
            Refusal::KeysUnavailable | Refusal::KeysStale | Refusal::KeysBusy => Self::new(
                Code::KeysUnavailable,
                "the keys of the token's issuer can't be had at the moment",
            ),
            _ => Self::new(
                Code::TokenNotAcceptable,
                "the token is not acceptable; get one from a configured issuer, for this \
                 gateway's audience",
            )
            .challenge(
                "error=\"invalid_token\", error_description=\"the token is not acceptable\"",
            ),
        }
    }
}

impl From<&BodyError> for Problem {
    fn from(error: &BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge(_) => Code::BodyTooLarge,
            BodyError::MediaType | BodyError::Encoded => Code::WrongMediaType,
            BodyError::TooSlow(_) => Code::TooSlow,
            BodyError::Broken => Code::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<&BodyFault> for Problem {
    fn from(fault: &BodyFault) -> Self {
        Self::new(Code::Malformed, fault.to_string())
    }
}

impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        let code = if denied.lacks_permission() { Code::NotGranted } else { Code::NotInCampaign };
        let lacking: Vec<&str> = denied.lacks.iter().map(|lack| lack.permission.as_str()).collect();
        let scope = lacking.join(" ");
        Self::new(code, denied.to_string())
            .challenge(&format!("error=\"insufficient_scope\", scope=\"{scope}\""))
    }
}

impl From<&audit::Unavailable> for Problem {
    /// Where the trail is kept is nothing for callers; the log and `/readyz` say it.
    fn from(_: &audit::Unavailable) -> Self {
        Self::new(
            Code::AuditUnavailable,
            "the audit trail can't be written, so nothing was sent; try again later",
        )
    }
}

impl From<&CredentialError> for Problem {
    fn from(error: &CredentialError) -> Self {
        match error {
            CredentialError::Unavailable | CredentialError::Stale => Self::new(
                Code::CredentialUnavailable,
                "the gateway's credential for the CMS can't be had; nothing was sent",
            ),
            CredentialError::Refused { .. } => Self::new(
                Code::CredentialRefused,
                "the CMS refuses the gateway's credential; yours is not at fault",
            ),
            CredentialError::OnTrial => Self::new(
                Code::UpstreamTooSlow,
                "the CMS has not answered the one change that tries the gateway's credential; \
                 nothing of yours was sent",
            ),
        }
    }
}

impl From<&upstream::Failure> for Problem {
    fn from(failure: &upstream::Failure) -> Self {
        use upstream::Failure;
        match failure {
            Failure::Unauthorized | Failure::Forbidden => Self::new(
                Code::CredentialRefused,
                "the CMS refuses the gateway's credential; yours is not at fault",
            ),
            Failure::Credential(error) => error.into(),
            Failure::Unreachable(_) => {
                Self::new(Code::UpstreamUnreachable, "the CMS can't be reached; nothing was sent")
            }
            Failure::TimedOut(_) => Self::new(
                Code::UpstreamTooSlow,
                "the CMS did not answer in time; the change may have been made, and it is safe to \
                 send it again",
            ),
            Failure::Unintelligible(_) => Self::new(
                Code::UpstreamUnintelligible,
                "the CMS's answer can't be understood; the change may have been made, and it is \
                 safe to send it again",
            ),
            Failure::Contradicting(_) => Self::new(
                Code::UpstreamUnintelligible,
                "the CMS's answer is to another lead or campaign; find out what it did before you \
                 send the change again",
            ),
            Failure::Busy { status, retry_after } => Self::new(
                Code::CircuitOpen,
                format!("the CMS answered {status}; it is safe to send the change again, later"),
            )
            .retry_after(*retry_after),
            Failure::CircuitOpen { retry_after } => {
                Self::new(Code::CircuitOpen, failure.to_string()).retry_after(*retry_after)
            }
            Failure::Shed => Self::new(
                Code::Overloaded,
                "too many changes wait for the CMS; nothing was sent; try again",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_can_not_be_judged_now_is_not_at_fault() {
        for refusal in [
            Refusal::RevocationUnknown,
            Refusal::KeysUnavailable,
            Refusal::KeysStale,
            Refusal::KeysBusy,
            Refusal::IntrospectionUnavailable,
            Refusal::IntrospectionBusy,
            Refusal::Sender(SenderFault::Proof(ProofFault::ReplayMemoryFull)),
        ] {
            let problem = Problem::from(&refusal).offer_dpop(&refusal, None);
            assert_eq!(problem.code.as_str(), "GW-2004", "{refusal:?}");
            let response = problem.response(Uuid::now_v7());
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{refusal:?}");
            let headers = response.headers();
            assert_eq!(headers.get(RETRY_AFTER).unwrap(), "1", "{refusal:?}");
            assert!(!headers.contains_key(WWW_AUTHENTICATE), "{refusal:?}");
        }
    }
}
