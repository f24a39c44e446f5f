//! The question about a token (RFC 7662, section 2.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use zeroize::Zeroizing;

use crate::config;

/// Its memory is zeroed when it has been sent.
///
/// # Errors
///
/// Never, since base64 is good in a header.
pub(super) fn request(
    settings: &config::Introspection,
    secret: &str,
    token: &str,
) -> Result<Request<Full<Bytes>>, InvalidHeaderValue> {
    let mut body = Zeroizing::new(Vec::with_capacity(64 + 3 * token.len()));
    body.extend_from_slice(b"token=");
    form_encode(token, &mut body);
    body.extend_from_slice(b"&token_type_hint=access_token");
    let mut request = Request::new(Full::new(Bytes::from_owner(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = settings.url.clone();
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, authorization(&settings.client_id, secret)?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form);
    Ok(request)
}

/// RFC 6749, section 2.3.1: name and secret are form-encoded before they become Basic's pair, so
/// that a colon in the name does not end it.
fn authorization(client_id: &str, secret: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let mut pair = Zeroizing::new(Vec::with_capacity(3 * (client_id.len() + secret.len()) + 1));
    form_encode(client_id, &mut pair);
    pair.push(b':');
    form_encode(secret, &mut pair);
    let pair = Zeroizing::new(STANDARD.encode(&*pair));
    let value = Zeroizing::new(format!("Basic {}", *pair).into_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value))?;
    value.set_sensitive(true);
    Ok(value)
}

fn form_encode(text: &str, into: &mut Vec<u8>) {
    byte_serialize(text.as_bytes()).for_each(|part| into.extend_from_slice(part.as_bytes()));
}
