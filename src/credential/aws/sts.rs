//! Keys that STS gives for a while: those of a role.
//!
//! STS answers in XML, of which four texts are wanted. None of them can hold a character that XML
//! writes otherwise, so that they stand between their tags as they are, and one that doesn't is
//! refused.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::super::source::SourceError;
use super::call::Call;
use super::request::{Scope, signed};
use super::{document, keys};
use crate::client::Exchanged;
use crate::secret::wipe;

const WHOM: &str = "STS";
const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Where STS is asked.
#[derive(Debug)]
pub(super) struct Sts {
    pub(super) endpoint: Uri,
    /// For which requests are signed.
    pub(super) region: String,
}

/// What makes STS give them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    /// A token in the form.
    Token,
    /// Keys that sign the request.
    Keys(&'a Credentials),
}

impl Sts {
    /// The keys of a role for which this form asks.
    pub(super) async fn keys(
        &self,
        form: &[(&str, &str)],
        proof: Proof<'_>,
        role: &str,
        call: &Call<'_>,
    ) -> Result<Credentials, SourceError> {
        let body = Bytes::from_owner(encoded(form));
        let request = match proof {
            Proof::Token => {
                let mut request = Request::new(Full::new(body));
                *request.method_mut() = Method::POST;
                *request.uri_mut() = self.endpoint.clone();
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
                request
            }
            Proof::Keys(keys) => {
                let Self { endpoint, region } = self;
                let scope = Scope { endpoint, region, service: "sts" };
                signed(
                    scope,
                    &[(CONTENT_TYPE.as_str(), MEDIA_TYPE)],
                    body,
                    keys,
                    SystemTime::now(),
                )?
            }
        };
        read(call.exchange(WHOM, request).await?, proof, role)
    }
}

fn encoded(form: &[(&str, &str)]) -> Zeroizing<String> {
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let length: usize = form.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut encoder = form_urlencoded::Serializer::new(String::with_capacity(3 * length));
    Zeroizing::new(encoder.extend_pairs(form).finish())
}

fn read(exchanged: Exchanged, proof: Proof<'_>, role: &str) -> Result<Credentials, SourceError> {
    let Exchanged { status, headers: _, body } = exchanged;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let taken =
        if status.is_success() { given(text) } else { Err(refusal(text, status, proof, role)) };
    wipe(body);
    taken
}

fn given(text: &str) -> Result<Credentials, SourceError> {
    let malformed = |wrong: &str| SourceError::Malformed(format!("{WHOM}: {wrong}"));
    let lacking = || malformed("the answer has no keys");
    let inner = element(text, "Credentials", true).ok_or_else(lacking)?;
    let part = |name| element(inner, name, false).map(str::to_owned);
    let end = part("Expiration").and_then(|text| document::expiry(&text));
    let end = end.ok_or_else(|| malformed("the end of the keys is no time"))?;
    let (id, secret) = part("AccessKeyId").zip(part("SecretAccessKey")).ok_or_else(lacking)?;
    let token = part("SessionToken").ok_or_else(lacking)?;
    keys::checked(id, secret, Some(token), Some(end), "sts").map_err(malformed)
}

fn refusal(text: &str, status: StatusCode, proof: Proof<'_>, role: &str) -> SourceError {
    let code = element(text, "Code", false).unwrap_or_default();
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let why = match (code.as_str(), proof) {
        ("AccessDenied", Proof::Token) => "the role's trust policy does not let this token in",
        ("AccessDenied", Proof::Keys(_)) => {
            "the role's trust policy does not let these keys in, or they have no right to \
             sts:AssumeRole"
        }
        ("ExpiredTokenException" | "ExpiredToken", _) => "the token has expired",
        ("InvalidIdentityToken", _) => "the token is not of a provider that the account knows",
        ("IDPCommunicationError", _) => "it can't reach the token's provider",
        ("InvalidClientTokenId", _) => "it does not know the keys that sign the request",
        ("SignatureDoesNotMatch", _) => {
            "the secret access key is not that of the key id, or this machine's clock is off"
        }
        _ => "",
    };
    let status_code = status.as_u16();
    let words = format!("{WHOM} gives no keys of {role}: {code} (status {status_code}) {why}");
    let words = words.trim_end().to_owned();
    if status.is_server_error() || code == "IDPCommunicationError" || code == "Throttling" {
        SourceError::Unavailable(words)
    } else {
        SourceError::Denied(words)
    }
}

/// What stands between an element's tags; with nothing else in it, unless others may be.
fn element<'a>(text: &'a str, name: &str, may_nest: bool) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = after.split_once(&format!("</{name}>"))?;
    let inner = inner.trim();
    (may_nest || !inner.contains(['<', '&'])).then_some(inner)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(status: StatusCode, body: &str) -> Result<Credentials, SourceError> {
        let body = Bytes::from(body.to_owned());
        let exchanged = Exchanged { status, headers: HeaderMap::new(), body };
        read(exchanged, Proof::Token, "arn:aws:iam::1:role/r")
    }

    const GOOD: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>
        <Credentials><SessionToken>to/ken+==</SessionToken>
        <SecretAccessKey>sec/ret+</SecretAccessKey><Expiration>2026-01-31T11:00:00Z</Expiration>
        <AccessKeyId>ASIA1</AccessKeyId></Credentials><Provider>x</Provider>
        </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

    #[test]
    fn the_documented_answer_gives_keys() {
        let keys = answer(StatusCode::OK, GOOD).unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("ASIA1", "sec/ret+"));
        assert_eq!(keys.session_token(), Some("to/ken+=="));
        assert_eq!(keys.expiry(), humantime::parse_rfc3339("2026-01-31T11:00:00Z").ok());
    }

    #[test]
    fn an_answer_of_another_shape_gives_none_and_is_not_repeated() {
        for wrong in [
            GOOD.replace("<Credentials>", "<Others>"),
            GOOD.replace("sec/ret+", "sec<b/>ret"),
            GOOD.replace("to/ken+==", "to&amp;ken"),
            GOOD.replace("ASIA1", ""),
            GOOD.replace("2026-01-31T11:00:00Z", "soon"),
            String::new(),
        ] {
            let error = answer(StatusCode::OK, &wrong).unwrap_err();
            assert!(matches!(error, SourceError::Malformed(_)), "{error:?}");
            assert!(!error.to_string().contains("sec"), "{error}");
        }
        let refused = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>hidden</Message>\
                       </Error></ErrorResponse>";
        let error = answer(StatusCode::FORBIDDEN, refused).unwrap_err();
        assert!(matches!(&error, SourceError::Denied(words) if words.contains("trust policy")));
        assert!(!error.to_string().contains("hidden"), "{error}");
        let error = answer(StatusCode::SERVICE_UNAVAILABLE, "").unwrap_err();
        assert!(matches!(error, SourceError::Unavailable(_)), "{error:?}");
    }

    #[test]
    fn a_form_is_encoded() {
        let form = [("RoleArn", "arn:aws:iam::1:role/cms"), ("WebIdentityToken", "a.b-c_d&")];
        let expected = "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fcms&WebIdentityToken=a.b-c_d%26";
        assert_eq!(*encoded(&form), expected);
    }
}
