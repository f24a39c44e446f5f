//! Keys that STS gives for a token of somebody whom AWS trusts, as of an EKS service account.
//!
//! `AssumeRoleWithWebIdentity` takes no signature: the token is the proof. STS answers in XML, of
//! which four texts are wanted. None of them can hold a character that XML writes otherwise, so
//! that they stand between their tags as they are, and one that doesn't is refused.

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::super::source::SourceError;
use super::call::Call;
use super::{document, files, keys};
use crate::client::Exchanged;
use crate::config::aws::WebIdentity;
use crate::secret::wipe;

const WHOM: &str = "STS";
/// The longest token that STS takes, in characters.
const LONGEST_TOKEN: usize = 20_000;

/// Keys of the role.
pub(super) async fn keys(
    settings: &WebIdentity,
    call: &Call<'_>,
) -> Result<Credentials, SourceError> {
    let token = files::read(&settings.token_file, call).await?;
    let token = token.trim();
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        let shown = settings.token_file.display();
        return Err(SourceError::Malformed(format!("{shown} holds no web identity token")));
    }
    let mut request = Request::new(Full::new(Bytes::from_owner(form(settings, token))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = settings.endpoint.clone();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    read(call.exchange(WHOM, request).await?, &settings.role_arn)
}

fn form(settings: &WebIdentity, token: &str) -> Zeroizing<String> {
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let room = String::with_capacity(3 * (token.len() + settings.role_arn.len() + 512));
    let mut form = form_urlencoded::Serializer::new(room);
    form.append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", &settings.role_arn)
        .append_pair("RoleSessionName", &settings.session_name)
        .append_pair("WebIdentityToken", token);
    Zeroizing::new(form.finish())
}

fn read(exchanged: Exchanged, role: &str) -> Result<Credentials, SourceError> {
    let Exchanged { status, headers: _, body } = exchanged;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let taken = if status.is_success() { given(text) } else { Err(refusal(text, status, role)) };
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
    keys::checked(id, secret, Some(token), Some(end), "web identity").map_err(malformed)
}

fn refusal(text: &str, status: http::StatusCode, role: &str) -> SourceError {
    let code = element(text, "Code", false).unwrap_or_default();
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let why = match code.as_str() {
        "AccessDenied" => "the role's trust policy does not let this token in",
        "ExpiredTokenException" | "ExpiredToken" => "the token has expired",
        "InvalidIdentityToken" => "the token is not of a provider that the account knows",
        "IDPCommunicationError" => "it can't reach the token's provider",
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
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(status: StatusCode, body: &str) -> Result<Credentials, SourceError> {
        let body = Bytes::from(body.to_owned());
        read(Exchanged { status, headers: HeaderMap::new(), body }, "arn:aws:iam::1:role/r")
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
    fn a_token_is_sent_as_a_form_has_it() {
        let settings = WebIdentity {
            token_file: "token".into(),
            role_arn: "arn:aws:iam::123456789012:role/cms".to_owned(),
            session_name: "cms-gateway".to_owned(),
            endpoint: http::Uri::from_static("https://sts.eu-central-1.amazonaws.com"),
        };
        assert_eq!(
            *form(&settings, "a.b-c_d&"),
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A\
             123456789012%3Arole%2Fcms&RoleSessionName=cms-gateway&WebIdentityToken=a.b-c_d%26"
        );
    }
}
