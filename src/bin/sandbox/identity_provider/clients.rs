//! Who may ask the identity provider, and the forms in which they do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::AUTHORIZATION;

/// The clients that it knows, and the role of each.
pub(crate) const CLIENTS: &[(&str, &str)] =
    &[("supervisor-app", "campaign-supervisor"), ("north-dialer-app", "north-dialer")];
/// The secret of each of them.
pub(crate) const CLIENT_SECRET: &str = "sandbox-secret";
/// Who may ask about tokens, and its secret; both change when they are form-encoded.
pub(crate) const RESOURCE_SERVER: (&str, &str) = ("cms:gateway", "introspection secret: 100%+&=");

/// The fields of a form.
pub(super) fn form(request: &Request<Bytes>) -> Vec<(String, String)> {
    form_urlencoded::parse(request.body()).into_owned().collect()
}

/// The value of a field, if it stands there once.
pub(super) fn field(form: &[(String, String)], name: &str) -> Option<String> {
    let mut values = form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// The client's name and secret in its Basic header (RFC 6749, section 2.3.1).
pub(super) fn basic(request: &Request<Bytes>) -> Option<(String, String)> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let pair = String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ")?).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decode = |text: &str| {
        let form = format!("x={text}");
        form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}
