//! The documented answers and others.

use http::HeaderValue;

use super::*;
use crate::config::aws::tests::settings;

const NOW: &str = "2026-01-31T12:00:00Z";

fn answer(status: u16, body: &str, headers: &[(&'static str, &str)]) -> Result<Secret, Refusal> {
    let headers = headers.iter().map(|(name, value)| {
        (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    });
    let exchanged = Exchanged {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.collect(),
        body: Bytes::from(body.to_owned()),
    };
    read(exchanged, &settings("prod/cms"), humantime::parse_rfc3339(NOW).unwrap())
}

fn error(status: u16, body: &str) -> SourceError {
    answer(status, body, &[]).unwrap_err().into()
}

#[test]
fn the_documented_answer_gives_a_credential_and_its_version() {
    let body = r#"{"ARN": "arn:aws:secretsmanager:eu-central-1:1:secret:prod/cms-a1b2c3",
        "CreatedDate": 1.523477145713E9, "Name": "prod/cms",
        "SecretString": "{\n  \"username\":\"cms\",\n  \"password\":\"p\\\"w\"\n}\n",
        "VersionId": "EXAMPLE1-90ab-cdef-fedc-ba987SECRET1", "VersionStages": ["AWSCURRENT"]}"#;
    let secret = answer(200, body, &[]).unwrap();
    assert_eq!((secret.username.as_str(), secret.password.as_str()), ("cms", "p\"w"));
    assert_eq!(secret.version.as_deref(), Some("EXAMPLE1-90ab-cdef-fedc-ba987SECRET1"));
}

#[test]
fn a_value_that_is_no_credential_is_told_and_not_repeated() {
    for (body, words) in [
        (r#"{"SecretBinary": "aGlkZGVu"}"#, "SecretBinary"),
        ("{}", "no value"),
        ("hidden", "not what the API says"),
        (r#"{"SecretString": ["hidden"]}"#, "not what the API says"),
        (r#"{"SecretString": "hidden"}"#, "no JSON object"),
        (r#"{"SecretString": "{\"username\":\"hidden\"}"}"#, "\"password\""),
        (r#"{"SecretString": "{\"username\":\"hi:dden\",\"password\":\"p\"}"}"#, "colon"),
    ] {
        let error = error(200, body);
        assert!(matches!(error, SourceError::Malformed(_)), "{body}: {error:?}");
        let told = error.to_string();
        assert!(told.contains(words) && !told.contains("hidden"), "{body}: {told}");
    }
}

#[test]
fn each_error_says_what_must_be_done() {
    type Kind = fn(String) -> SourceError;
    let cases: [(u16, &str, Kind, &str); 12] = [
        (400, "ResourceNotFoundException", SourceError::Missing, "no secret \"prod/cms\""),
        (400, "InvalidRequestException", SourceError::Missing, "the words"),
        (400, "com.amazon.coral.service#AccessDeniedException", SourceError::Denied, "the words"),
        (400, "DecryptionFailure", SourceError::Denied, "the words"),
        (400, "ThrottlingException", SourceError::Unavailable, "ThrottlingException"),
        (500, "InternalServiceError", SourceError::Unavailable, "InternalServiceError"),
        (503, "Unheard", SourceError::Unavailable, "status 503"),
        (429, "", SourceError::Unavailable, "status 429"),
        (400, "ExpiredTokenException:http://x/", SourceError::Denied, "ExpiredTokenException ("),
        (400, "UnrecognizedClientException", SourceError::Denied, "does not take the keys"),
        (400, "InvalidSignatureException", SourceError::Denied, "clock is off"),
        (302, "Unheard", SourceError::Denied, "Unheard (status 302)"),
    ];
    for (status, kind, of, words) in cases {
        let error = error(status, &format!(r#"{{"__type": "{kind}", "message": "the words"}}"#));
        assert_eq!(error, of(error.to_string()), "{kind}");
        assert!(error.to_string().contains(words), "{kind}: {error}");
    }
    // Such words repeat the request, its session token with it.
    let told = error(400, r#"{"__type": "InvalidSignatureException", "message": "hidden"}"#);
    assert!(!told.to_string().contains("hidden"), "{told}");
    for body in ["hidden", "<html>hidden</html>", ""] {
        assert!(!error(403, body).to_string().contains("hidden"));
    }
}

#[test]
fn keys_that_are_not_taken_are_told_apart() {
    for kind in ["ExpiredTokenException", "UnrecognizedClientException"] {
        let refusal = answer(400, &format!(r#"{{"__type": "{kind}"}}"#), &[]).unwrap_err();
        assert!(matches!(refusal, Refusal::Keys(_)), "{kind}");
        let refusal = answer(403, "", &[("x-amzn-errortype", kind)]).unwrap_err();
        assert!(matches!(refusal, Refusal::Keys(_)), "{kind} in the header");
    }
    let refusal = answer(400, r#"{"__type": "AccessDeniedException"}"#, &[]).unwrap_err();
    assert!(matches!(refusal, Refusal::Other(_)));
}

#[test]
fn a_clock_that_is_off_is_told_with_how_far() {
    let body = r#"{"__type": "InvalidSignatureException"}"#;
    for (date, words) in [
        ("Sat, 31 Jan 2026 11:50:00 GMT", "clock is 10m ahead of AWS's"),
        ("Sat, 31 Jan 2026 12:20:00 GMT", "clock is 20m behind AWS's"),
        ("Sat, 31 Jan 2026 12:01:00 GMT", "the secret access key is not that"),
        ("today", "the secret access key is not that"),
    ] {
        let told = SourceError::from(answer(400, body, &[("date", date)]).unwrap_err());
        assert!(told.to_string().contains(words), "{date}: {told}");
    }
}
