//! Keys of the agent beside a container: ECS tasks, EKS Pod Identity.

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::super::source::SourceError;
use super::call::Call;
use super::{document, files};
use crate::config::aws::Container;

const WHOM: &str = "the container's agent";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

/// Keys of the container's role.
pub(super) async fn keys(
    settings: &Container,
    call: &Call<'_>,
) -> Result<Credentials, SourceError> {
    let token = match &settings.token_file {
        Some(path) => Some(files::read(path, call).await?),
        None => std::env::var(TOKEN).ok().map(Zeroizing::new),
    };
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = settings.url.clone();
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = token.as_ref().map(|it| it.trim()).filter(|it| !it.is_empty()) {
        let mut value = HeaderValue::from_str(token).map_err(|_| {
            SourceError::Malformed(format!("the token for {WHOM} is not fit for a header"))
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    document::keys(WHOM, call.exchange(WHOM, request).await?, "container")
}
