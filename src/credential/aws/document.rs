//! The JSON in which a container's agent and an instance give keys.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::source::SourceError;
use super::keys;
use crate::client::Exchanged;
use crate::secret::wipe;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

/// The keys of such an answer. What is wrong else repeats nothing of it but its code.
pub(super) fn keys(
    whom: &str,
    exchanged: Exchanged,
    provider: &'static str,
) -> Result<Credentials, SourceError> {
    let Exchanged { status, headers: _, body } = exchanged;
    if !status.is_success() {
        wipe(body);
        let wrong = format!("{whom} answers with status {}", status.as_u16());
        return Err(if status.is_server_error() || status.as_u16() == 429 {
            SourceError::Unavailable(wrong)
        } else {
            SourceError::Denied(wrong)
        });
    }
    let document = serde_json::from_slice::<Document>(&body);
    wipe(body);
    let malformed = |wrong: &str| SourceError::Malformed(format!("{whom}: {wrong}"));
    let document = document.map_err(|_| malformed("the answer is no JSON of keys"))?;
    let Document { code, access_key_id, secret_access_key, token, expiration } = document;
    let expiry = expiration.map(|text| expiry(&text).ok_or("the end of the keys is no time"));
    // Before anything is refused, so that all of it is zeroed.
    let keys = keys::checked(
        access_key_id.unwrap_or_default(),
        secret_access_key.unwrap_or_default(),
        token,
        expiry.and_then(Result::ok),
        provider,
    );
    if let Some(code) = code.filter(|code| code != "Success") {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        return Err(SourceError::Denied(format!("{whom} gives no keys: {code}")));
    }
    expiry.transpose().map_err(malformed)?;
    keys.map_err(malformed)
}

/// An instant as AWS writes it (RFC 3339).
pub(super) fn expiry(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn read(status: u16, body: &str) -> Result<Credentials, SourceError> {
        let exchanged = Exchanged {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from(body.to_owned()),
        };
        keys("the agent", exchanged, "test")
    }

    #[test]
    fn the_documented_answer_gives_keys() {
        let keys = read(
            200,
            r#"{"Code": "Success", "LastUpdated": "2026-01-31T10:00:00Z", "Type": "AWS-HMAC",
                "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "wJalr/K7+EXAMPLE",
                "Token": "token/+==", "Expiration": "2026-01-31T16:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!(keys.access_key_id(), "ASIAIOSFODNN7EXAMPLE");
        assert_eq!(keys.secret_access_key(), "wJalr/K7+EXAMPLE");
        assert_eq!(keys.session_token(), Some("token/+=="));
        let end = humantime::parse_rfc3339("2026-01-31T16:00:00Z").unwrap();
        assert_eq!(keys.expiry(), Some(end));
    }

    #[test]
    fn what_is_no_such_answer_is_refused_and_not_repeated() {
        for (status, body, words) in [
            (404, "", "status 404"),
            (500, "hidden", "status 500"),
            (200, "hidden", "no JSON"),
            (200, "{}", "access key id"),
            (200, r#"{"Code": "AssumeRoleUnauthorizedAccess"}"#, "AssumeRoleUnauthorizedAccess"),
            (200, r#"{"AccessKeyId": "AB", "SecretAccessKey": "hidden\n"}"#, "secret access key"),
            (
                200,
                r#"{"AccessKeyId": "AB", "SecretAccessKey": "s", "Token": "hidden\r\nHost: x"}"#,
                "session token",
            ),
            (
                200,
                r#"{"AccessKeyId": "AB", "SecretAccessKey": "s", "Expiration": "hidden"}"#,
                "no time",
            ),
        ] {
            let error = read(status, body).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hidden"), "{body}: {error}");
        }
    }
}
