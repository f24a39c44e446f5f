//! What a provider gives, checked before it is used: it gets into headers.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;

/// The longest session token, in bytes; AWS's have about a thousand and no stated limit.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Keys of AWS, if that is what these texts are. What is wrong else repeats none of them.
pub(crate) fn checked(
    id: String,
    secret: String,
    token: Option<String>,
    expiry: Option<SystemTime>,
    provider: &'static str,
) -> Result<Credentials, &'static str> {
    let token = token.filter(|token| !token.is_empty());
    // Zeroed in any case.
    let keys = Credentials::new(id, secret, token, expiry, provider);
    let id = keys.access_key_id();
    if !(1..=128).contains(&id.len())
        || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err("the access key id is none");
    }
    let is_graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let secret = keys.secret_access_key();
    if !(1..=256).contains(&secret.len()) || !is_graphic(secret) {
        return Err("the secret access key is none");
    }
    if keys.session_token().is_some_and(|it| it.len() > LONGEST_TOKEN || !is_graphic(it)) {
        return Err("the session token is none");
    }
    Ok(keys)
}

/// Whether keys count for this time or longer.
pub(super) fn last(keys: &Credentials, time: Duration) -> bool {
    keys.expiry().is_none_or(|expiry| expiry > SystemTime::now() + time)
}
