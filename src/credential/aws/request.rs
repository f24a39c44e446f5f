//! A request of a service, and its signature (AWS Signature Version 4).

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde_json::json;

use super::super::source::SourceError;
use crate::config::aws::SecretsManager as Settings;

const TARGET: &str = "secretsmanager.GetSecretValue";
const MEDIA_TYPE: &str = "application/x-amz-json-1.1";

/// Whom a signed request is for.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) endpoint: &'a Uri,
    pub(super) region: &'a str,
    pub(super) service: &'static str,
}

/// The request for the secret, signed for this time.
pub(super) fn of_secret(
    settings: &Settings,
    keys: &Credentials,
    time: SystemTime,
) -> Result<Request<Full<Bytes>>, SourceError> {
    let Settings { secret_id, version_stage, region, endpoint, .. } = settings;
    let body = json!({"SecretId": secret_id, "VersionStage": version_stage}).to_string();
    let headers = [(CONTENT_TYPE.as_str(), MEDIA_TYPE), ("x-amz-target", TARGET)];
    signed(Scope { endpoint, region, service: "secretsmanager" }, &headers, body.into(), keys, time)
}

/// A request by POST, signed for this time.
pub(super) fn signed(
    scope: Scope<'_>,
    headers: &[(&str, &str)],
    body: Bytes,
    keys: &Credentials,
    time: SystemTime,
) -> Result<Request<Full<Bytes>>, SourceError> {
    let Scope { endpoint, region, service } = scope;
    let identity = keys.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(unsigned)?
        .into();
    let url = endpoint.to_string();
    let signable = SignableRequest::new(
        Method::POST.as_str(),
        &url,
        headers.iter().copied(),
        SignableBody::Bytes(&body),
    );
    let (signature, _) =
        sign(signable.map_err(unsigned)?, &parameters).map_err(unsigned)?.into_parts();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.clone();
    for (name, value) in headers.iter().copied().chain(signature.headers()) {
        let mut value = HeaderValue::from_str(value).map_err(unsigned)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(unsigned)?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

fn unsigned(error: impl std::fmt::Display) -> SourceError {
    SourceError::Malformed(format!("the request can't be signed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::aws::tests::settings;

    /// What botocore's `SigV4Auth` makes of the same request, keys and time.
    #[test]
    fn the_signature_is_the_one_that_another_program_makes() {
        let time = humantime::parse_rfc3339("2026-01-31T12:00:00Z").unwrap();
        for (token, headers, signature) in [
            (
                None,
                "content-type;host;x-amz-date;x-amz-target",
                "e8aaebc57128b4605212f9850cff71b5c3e8d5026bb86579f28f5a67692dba27",
            ),
            (
                Some("session/token=="),
                "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
                "f1a9905be4f7caebffa14bfe8f0f8496eb55c650d590a32f0f099c7dfdc14484",
            ),
        ] {
            let keys = Credentials::new(
                "AKIDEXAMPLE",
                "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                token.map(str::to_owned),
                None,
                "test",
            );
            let request = of_secret(&settings("prod/cms"), &keys, time).unwrap();
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260131/eu-central-1/secretsmanager/\
                 aws4_request, SignedHeaders={headers}, Signature={signature}"
            );
            let header = |name| request.headers().get(name).map(|it| it.to_str().unwrap());
            assert_eq!(header("authorization"), Some(&*expected));
            assert_eq!(header("x-amz-date"), Some("20260131T120000Z"));
            assert_eq!(header("x-amz-security-token"), token);
        }
    }
}
