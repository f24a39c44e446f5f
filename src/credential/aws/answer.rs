//! What Secrets Manager says: the secret's value, or why not.
//!
//! An error is told by its type and, where AWS's words help and can't hold what is secret, by them
//! too: those of a denial name who may not do what, those of a wrong signature repeat the request.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use zeroize::Zeroizing;

use super::super::source::{Secret, SourceError};
use super::pair;
use crate::client::Exchanged;
use crate::config::aws::SecretsManager as Settings;
use crate::secret::wipe;

/// Why there is no secret.
#[derive(Debug)]
pub(super) enum Refusal {
    /// AWS does not take these keys, or no longer: others may do.
    Keys(SourceError),
    /// Something else.
    Other(SourceError),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Other(error)
    }
}

impl From<Refusal> for SourceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Keys(error) | Refusal::Other(error) => error,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Value {
    secret_string: Option<Hidden>,
    secret_binary: Option<IgnoredAny>,
    version_id: Option<String>,
}

struct Hidden(Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// The error's members; services differ in the second one's first letter.
#[derive(Default, Deserialize)]
struct Told {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

/// The longest message of AWS's that is repeated, in characters.
const LONGEST_MESSAGE: usize = 400;
/// How far AWS lets a clock be off.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// What the answer says of the secret.
pub(super) fn read(
    exchanged: Exchanged,
    settings: &Settings,
    now: SystemTime,
) -> Result<Secret, Refusal> {
    let Exchanged { status, headers, body } = exchanged;
    if status == StatusCode::OK {
        return Ok(secret(body, settings)?);
    }
    Err(refusal(status, &headers, &body, settings, now))
}

fn secret(body: Bytes, settings: &Settings) -> Result<Secret, SourceError> {
    let value = serde_json::from_slice::<Value>(&body);
    wipe(body);
    let id = &settings.secret_id;
    let malformed = |wrong: &str| SourceError::Malformed(format!("secret {id:?}: {wrong}"));
    let Value { secret_string, secret_binary, version_id } =
        value.map_err(|_| malformed("the answer is not what the API says"))?;
    let Some(Hidden(text)) = secret_string else {
        return Err(malformed(if secret_binary.is_some() {
            "its value is SecretBinary; store JSON as SecretString"
        } else {
            "it has no value"
        }));
    };
    let keys = pair::Keys { username: &settings.username_key, password: &settings.password_key };
    let (username, password) = pair::read(&text, keys).map_err(|wrong| malformed(&wrong))?;
    Secret::new(username, password, version_id)
}

fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    settings: &Settings,
    now: SystemTime,
) -> Refusal {
    let Settings { secret_id, region, version_stage, .. } = settings;
    let Told { kind, message } = serde_json::from_slice(body).unwrap_or_default();
    let of_header = || headers.get("x-amzn-errortype").and_then(|it| it.to_str().ok());
    let kind = kind.as_deref().or_else(of_header).map(bare).unwrap_or_default();
    let code = status.as_u16();
    let plain = || format!("Secrets Manager in {region}: {kind} (status {code})");
    let said = || {
        let message = message.as_deref().unwrap_or_default();
        let kept = message.chars().filter(|it| !it.is_control()).take(LONGEST_MESSAGE);
        format!("{}: {}", plain(), kept.collect::<String>())
    };
    Refusal::Other(match kind.as_str() {
        "ResourceNotFoundException" => SourceError::Missing(format!(
            "Secrets Manager in {region} has no secret {secret_id:?} with a version labelled \
             {version_stage}"
        )),
        // As when it is marked for deletion.
        "InvalidRequestException" | "InvalidParameterException" | "ValidationException" => {
            SourceError::Missing(said())
        }
        "AccessDeniedException" | "AccessDenied" | "DecryptionFailure" => {
            SourceError::Denied(said())
        }
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId" => {
            let words = "AWS does not take the keys that sign the request, or no longer";
            return Refusal::Keys(SourceError::Denied(format!("{}: {words}", plain())));
        }
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "RequestExpired" => {
            let why = skew(headers, now).unwrap_or_else(|| {
                "the signature is wrong: the secret access key is not that of the key id, or this \
                 machine's clock is off"
                    .to_owned()
            });
            SourceError::Denied(format!("{}: {why}", plain()))
        }
        "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "InternalServiceError"
        | "InternalFailure"
        | "ServiceUnavailable" => SourceError::Unavailable(plain()),
        _ if status.is_server_error() || code == 429 => SourceError::Unavailable(plain()),
        _ => SourceError::Denied(plain()),
    })
}

/// An error's name alone: `com.example#Name:http://...` has it in its middle.
fn bare(kind: &str) -> String {
    let name = kind.rsplit_once('#').map_or(kind, |(_, name)| name);
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    name.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

/// How far this machine's clock is from AWS's, where that is too far.
fn skew(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let (off, word) = match now.duration_since(theirs) {
        Ok(off) => (off, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let shown = humantime::format_duration(Duration::from_secs(off.as_secs()));
    (off > SKEW).then(|| format!("this machine's clock is {shown} {word} AWS's"))
}

#[cfg(test)]
mod tests;
