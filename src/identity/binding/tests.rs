use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::config;

/// RFC 9449, section 6.1.
const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
/// RFC 8705, section 3.1.
const CERTIFICATE: &str = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";

fn dpop() -> Dpop {
    let settings = config::Dpop {
        origin: config::Origin::of(&"https://gateway.example.com".parse().unwrap()).unwrap(),
        lifetime: Duration::from_secs(60),
        nonce_key: None,
        replay_capacity: 1000,
    };
    Dpop::new(&settings).unwrap()
}

fn certificate(byte: u8) -> Confirmation {
    let claim = json!({"x5t#S256": URL_SAFE_NO_PAD.encode([byte; 32])});
    Confirmation::parse(Some(&claim)).unwrap()
}

fn key() -> Confirmation {
    Confirmation::parse(Some(&json!({"jkt": THUMBPRINT}))).unwrap()
}

#[test]
fn a_confirmation_is_read_whole_or_not_at_all() {
    let hash: [u8; 32] = URL_SAFE_NO_PAD.decode(THUMBPRINT).unwrap().try_into().unwrap();
    let (certificate, key) = (Some(hash), Some(THUMBPRINT.to_owned()));
    for (claim, expected) in [
        (None, Confirmation::default()),
        (
            Some(json!({"x5t#S256": THUMBPRINT})),
            Confirmation { certificate, ..Confirmation::default() },
        ),
        (
            Some(json!({"jkt": THUMBPRINT})),
            Confirmation { key: key.clone(), ..Confirmation::default() },
        ),
        (
            Some(json!({"jkt": THUMBPRINT, "x5t#S256": THUMBPRINT})),
            Confirmation { certificate, key },
        ),
    ] {
        assert_eq!(Confirmation::parse(claim.as_ref()), Ok(expected), "{claim:?}");
    }
    for claim in [
        json!(null),
        json!("jkt"),
        json!([{"jkt": THUMBPRINT}]),
        json!({}),
        json!({"jkt": null}),
        json!({"jkt": [THUMBPRINT]}),
        json!({"jkt": ""}),
        json!({"jkt": format!("{THUMBPRINT}=")}),
        json!({"jkt": format!("{THUMBPRINT}AA")}),
        json!({"jkt": THUMBPRINT.replace('I', "J")}),
        json!({"jkt": THUMBPRINT[1..]}),
        json!({"jkt": THUMBPRINT.replace('-', "+")}),
        json!({"x5t#S256": ""}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o"}),
        json!({"x5t#s256": THUMBPRINT}),
        json!({"x5t": THUMBPRINT}),
        json!({"jwk": {"kty": "EC"}}),
        json!({"jwe": THUMBPRINT}),
        json!({"kid": "1"}),
        json!({"jku": "https://idp.example.com/jwks"}),
        json!({"jkt": THUMBPRINT, "kid": "1"}),
        json!({"jkt": THUMBPRINT, "other": THUMBPRINT}),
    ] {
        assert_eq!(Confirmation::parse(Some(&claim)), Err(BindingFault::Malformed), "{claim}");
    }
    // The standard's example is no hash's base64url: its last letter has bits that are left over.
    let example = json!({"x5t#S256": CERTIFICATE});
    assert_eq!(Confirmation::parse(Some(&example)), Err(BindingFault::Malformed));
}

#[test]
fn a_token_comes_as_it_is_bound_or_is_refused() {
    use Scheme::{Bearer, Dpop as DpopScheme};
    let (none, both) = (Confirmation::default(), Confirmation { key: key().key, ..certificate(1) });
    let (own, other) = (Some([1; 32]), Some([2; 32]));
    // Headers have no proof here, so a request that comes to it is refused for that.
    let no_proof = Err(SenderFault::Proof(ProofFault::Missing));
    let fault = |fault: BindingFault| Err(SenderFault::Binding(fault));
    let dpop = dpop();
    let settings = |text: &str| SenderConstraint {
        mtls: text.contains("mtls"),
        dpop: text.contains("dpop").then_some(&dpop),
        required: text.contains("required"),
    };
    for (token, enabled, scheme, shown, expected) in [
        (&none, "", Bearer, None, Ok(())),
        (&none, "mtls dpop", Bearer, own, Ok(())),
        (&none, "mtls dpop required", Bearer, own, fault(BindingFault::Required)),
        (&none, "required", Bearer, None, fault(BindingFault::Required)),
        (&none, "", DpopScheme, None, fault(BindingFault::UnboundDpop)),
        (&none, "dpop", DpopScheme, None, fault(BindingFault::UnboundDpop)),
        (&none, "dpop required", DpopScheme, None, fault(BindingFault::Required)),
        (&certificate(1), "", Bearer, own, fault(BindingFault::NotAccepted)),
        (&certificate(1), "dpop", Bearer, own, fault(BindingFault::NotAccepted)),
        (&certificate(1), "mtls", Bearer, own, Ok(())),
        (&certificate(1), "mtls required", Bearer, own, Ok(())),
        (&certificate(1), "mtls", Bearer, None, fault(BindingFault::NoCertificate)),
        (&certificate(1), "mtls", Bearer, other, fault(BindingFault::OtherCertificate)),
        (&certificate(1), "mtls dpop", DpopScheme, own, fault(BindingFault::UnboundDpop)),
        (&key(), "", Bearer, None, fault(BindingFault::NotAccepted)),
        (&key(), "mtls", DpopScheme, own, fault(BindingFault::NotAccepted)),
        (&key(), "dpop", Bearer, None, fault(BindingFault::BearerScheme)),
        (&key(), "dpop", DpopScheme, None, no_proof),
        (&key(), "dpop required", DpopScheme, other, no_proof),
        (&both, "mtls", Bearer, own, fault(BindingFault::NotAccepted)),
        (&both, "dpop", DpopScheme, own, fault(BindingFault::NotAccepted)),
        (&both, "mtls dpop", Bearer, own, fault(BindingFault::BearerScheme)),
        (&both, "mtls dpop", DpopScheme, None, fault(BindingFault::NoCertificate)),
        (&both, "mtls dpop", DpopScheme, other, fault(BindingFault::OtherCertificate)),
        (&both, "mtls dpop", DpopScheme, own, no_proof),
    ] {
        let presented = Presented {
            caller: "caller",
            scheme,
            token: "token",
            headers: &HeaderMap::new(),
            method: &Method::PUT,
            path: "/",
            certificate: shown,
        };
        let checked = check(token, &settings(enabled), &presented, UNIX_EPOCH);
        assert_eq!(checked, expected, "{token:?} with {enabled:?} as {scheme:?}, {shown:?}");
    }
}

#[test]
fn labels_are_one_for_each_fault() {
    let mut labels: Vec<_> = BindingFault::ALL.iter().map(|fault| fault.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), BindingFault::ALL.len());
}
