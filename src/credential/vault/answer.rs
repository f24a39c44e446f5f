//! What the answers of a store mean.

use http::StatusCode;
use memchr::memmem;

use crate::config::credential::Vault;
use crate::credential::json::Json;
use crate::credential::source::{Secret, SourceError};

/// Which fault it is.
pub(super) type Kind = fn(String) -> SourceError;

/// The credential in the answer to a question for a secret.
pub(super) fn secret(json: &Json, settings: &Vault) -> Result<Secret, (Kind, String)> {
    let malformed = |wrong: String| (SourceError::Malformed as Kind, wrong);
    let data = json.member("data");
    let (fields, metadata) = if settings.is_versioned {
        (data.and_then(|data| data.member("data")), data.and_then(|data| data.member("metadata")))
    } else {
        (data, None)
    };
    let Some(fields @ Json::Object(_)) = fields else {
        // What is there may have a time of deletion too, one that is to come (delete_version_after).
        if let Some(gone) = metadata.and_then(gone) {
            return Err((SourceError::Missing, gone.to_owned()));
        }
        return Err(malformed(if settings.is_versioned {
            "the answer has no object \"data.data\"; if the engine is of version 1, write \
             kv_version = 1"
                .to_owned()
        } else {
            "the answer has no object \"data\"".to_owned()
        }));
    };
    let field = |key: &str, part: &str| match fields.member(key) {
        None => Err(malformed(format!("the secret has no field {key:?} ({part})"))),
        Some(value) => value
            .text()
            .cloned()
            .ok_or_else(|| malformed(format!("the secret's field {key:?} is no text"))),
    };
    let username = field(&settings.username_key, "username_key")?;
    let password = field(&settings.password_key, "password_key")?;
    let version = match metadata.and_then(|metadata| metadata.member("version")) {
        Some(Json::Integer(version)) => Some(version.to_string()),
        _ => None,
    };
    Secret::new(username, password, version).map_err(|wrong| malformed(wrong.to_string()))
}

/// What a status other than success means, and its body where that says more.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> (Kind, &'static str) {
    let unavailable: Kind = SourceError::Unavailable;
    match status.as_u16() {
        307 => (unavailable, "the active node that a standby named is a standby too (307)"),
        300..=399 => (unavailable, "it names another place, and only 307 of a standby is followed"),
        400 => (SourceError::Denied, "refused as wrong (400), as for an id that it does not know"),
        401 | 403 => (SourceError::Denied, "permission denied (403)"),
        404 | 405 => (SourceError::Missing, missing(body)),
        412 => (unavailable, "the node lags behind what was written (412)"),
        429 => (unavailable, "too many requests, or the node is a standby (429)"),
        472 => (unavailable, "the node is a secondary for disaster recovery (472)"),
        473 => (unavailable, "the node is a performance standby (473)"),
        503 if memmem::find(body, b"sealed").is_some() => {
            (unavailable, "the store is sealed (503)")
        }
        503 => (unavailable, "the store is sealed, or down for maintenance (503)"),
        500..=599 => (unavailable, "the store has failed (5xx)"),
        _ => (unavailable, "its status means nothing to the gateway"),
    }
}

/// KV version 2 answers 404 as well for a version that is there no more.
fn missing(body: &[u8]) -> &'static str {
    let json = Json::parse(body).unwrap_or(Json::Null);
    let metadata = json.member("data").and_then(|data| data.member("metadata"));
    metadata.and_then(gone).unwrap_or("nothing is there (404); look at mount, path and kv_version")
}

fn gone(metadata: &Json) -> Option<&'static str> {
    let deleted = metadata.member("deletion_time").and_then(Json::text);
    if matches!(metadata.member("destroyed"), Some(Json::Boolean(true))) {
        Some("the newest version of the secret was destroyed")
    } else if deleted.is_some_and(|time| !time.is_empty()) {
        Some("the newest version of the secret was deleted")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::uri::{Authority, Scheme};

    use super::*;
    use crate::config::credential::Login;

    fn settings(is_versioned: bool) -> Vault {
        Vault {
            scheme: Scheme::HTTPS,
            authority: Authority::from_static("vault.example.com"),
            ca: None,
            namespace: None,
            secret: "secret/data/cms".to_owned(),
            is_versioned,
            username_key: "name".to_owned(),
            password_key: "password".to_owned(),
            timeout: std::time::Duration::from_secs(2),
            login: Login::Token { file: "token".into() },
        }
    }

    fn read(text: &str, is_versioned: bool) -> Result<Secret, SourceError> {
        let json = Json::parse(text.as_bytes()).unwrap();
        secret(&json, &settings(is_versioned)).map_err(|(kind, wrong)| kind(wrong))
    }

    #[test]
    fn the_fields_are_found_in_both_versions() {
        let fields = r#"{"name":"u","password":"p","other":[1]}"#;
        let newer = format!(
            r#"{{"data":{{"data":{fields},"metadata":{{"version":3,"deletion_time":"","destroyed":false}}}}}}"#
        );
        let secret = read(&newer, true).unwrap();
        assert_eq!((secret.username.as_str(), secret.password.as_str()), ("u", "p"));
        assert_eq!(secret.version.as_deref(), Some("3"));
        let secret = read(&format!(r#"{{"data":{fields},"lease_duration":3600}}"#), false).unwrap();
        assert_eq!((secret.password.as_str(), secret.version), ("p", None));
        let without = read(&format!(r#"{{"data":{{"data":{fields}}}}}"#), true).unwrap();
        assert_eq!(without.version, None);
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_quoted() {
        for (text, is_versioned, words) in [
            ("null", true, "kv_version = 1"),
            (r#"{"data":{"name":"u","password":"hunter2"}}"#, true, "kv_version = 1"),
            (r#"{"data":null}"#, false, "no object \"data\""),
            (r#"{"data":{"password":"hunter2"}}"#, false, "username_key"),
            (r#"{"data":{"name":"u","passwort":"hunter2"}}"#, false, "\"password\""),
            (r#"{"data":{"name":"u","password":12345}}"#, false, "no text"),
            (r#"{"data":{"name":"u","password":"hunter2\n"}}"#, false, "control character"),
            (r#"{"data":{"data":null,"metadata":{"destroyed":true}}}"#, true, "destroyed"),
            (
                r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z"}}}"#,
                true,
                "deleted",
            ),
        ] {
            let told = read(text, is_versioned).err().unwrap().to_string();
            assert!(told.contains(words) && !told.contains("hunter2"), "{text}: {told}");
        }
    }

    #[test]
    fn every_status_is_understood() {
        let kind = |status: u16, body: &str| {
            let (kind, wrong) = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            kind(wrong.to_owned())
        };
        for status in [307, 302, 412, 429, 472, 473, 500, 502, 503, 418] {
            assert!(matches!(kind(status, ""), SourceError::Unavailable(_)), "{status}");
        }
        for status in [400, 401, 403] {
            assert!(matches!(kind(status, ""), SourceError::Denied(_)), "{status}");
        }
        let sealed = kind(503, r#"{"errors":["Vault is sealed"]}"#).to_string();
        assert!(sealed.contains("is sealed (503)"), "{sealed}");
        let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z",
            "destroyed":false,"version":4}}}"#;
        assert!(
            matches!(kind(404, deleted), SourceError::Missing(told) if told.contains("deleted"))
        );
        let destroyed = deleted.replace("false", "true");
        assert!(kind(404, &destroyed).to_string().contains("destroyed"));
        assert!(kind(404, "<html>").to_string().contains("kv_version"));
    }
}
