//! Keys of an EC2 instance's role, by version 2 of its metadata service alone: version 1 gives them
//! to whoever can make the gateway send a request.

use std::time::Duration;

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::super::source::SourceError;
use super::call::Call;
use super::document;
use crate::secret::wipe;

const WHOM: &str = "the instance's metadata service";
const TOKEN_PATH: &str = "/latest/api/token";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// How long each question may take: elsewhere than on EC2 nobody answers.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Keys of the instance's role.
pub(super) async fn keys(endpoint: &Uri, call: &Call<'_>) -> Result<Credentials, SourceError> {
    // Its token is used for these two questions and no more.
    let time = (TOKEN_TIME, HeaderValue::from_static("60"));
    let token = text(call, request(Method::PUT, endpoint, TOKEN_PATH, time)?).await?;
    let mut token = HeaderValue::from_str(&token).map_err(|_| wrong("its token is none"))?;
    token.set_sensitive(true);
    let shown = (TOKEN, token);
    let roles = text(call, request(Method::GET, endpoint, ROLE_PATH, shown.clone())?).await?;
    let role = roles.lines().next().unwrap_or_default();
    // The characters of a role's name, none of which means anything in a path.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if role.is_empty() || role.len() > 128 || !role.bytes().all(is_name) {
        return Err(wrong("the instance has no role"));
    }
    let request = request(Method::GET, endpoint, &format!("{ROLE_PATH}{role}"), shown)?;
    document::keys(WHOM, call.at_most(TIMEOUT).exchange(WHOM, request).await?, "instance")
}

fn request(
    method: Method,
    endpoint: &Uri,
    path: &str,
    (name, value): (HeaderName, HeaderValue),
) -> Result<Request<Full<Bytes>>, SourceError> {
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = path.parse::<PathAndQuery>().ok();
    let url = Uri::from_parts(parts).map_err(|_| wrong("its URL is none"))?;
    let mut request = Request::new(Full::default());
    *request.method_mut() = method;
    *request.uri_mut() = url;
    request.headers_mut().insert(name, value);
    Ok(request)
}

async fn text(call: &Call<'_>, request: Request<Full<Bytes>>) -> Result<String, SourceError> {
    let is_role = request.uri().path() == ROLE_PATH;
    let exchanged = call.at_most(TIMEOUT).exchange(WHOM, request).await?;
    let text = std::str::from_utf8(&exchanged.body).map(|text| text.trim().to_owned());
    wipe(exchanged.body);
    match exchanged.status.as_u16() {
        200 => text.map_err(|_| wrong("its answer is not UTF-8")),
        404 if is_role => Err(wrong("the instance has no role")),
        status => Err(wrong(&format!("it answers with status {status}"))),
    }
}

fn wrong(words: &str) -> SourceError {
    SourceError::Unavailable(format!("{WHOM}: {words}"))
}
