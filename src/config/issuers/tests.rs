use std::path::Path;

use super::super::section::faults_of;
use super::*;

const SOUND: &str = r#"[[issuers]]
issuer = "https://idp.example.com/"
audiences = ["cms-gateway"]
algorithms = ["ES256"]
jwks = { discover = true, @ }
"#;

/// The only issuer with these keys of its own, and of its `jwks`.
fn read(own: &str, jwks: &str) -> (Option<Issuer>, Vec<String>) {
    let text = format!("{}{own}\n", SOUND.replace("@", jwks));
    let read = |mut root: Section| issuers(&mut root, &Roles::default(), None).pop();
    faults_of(&text, Path::new(""), read)
}

#[test]
fn what_is_left_out_has_its_default() {
    let (issuer, faults) = read("", "");
    assert_eq!(faults, Vec::<String>::new());
    let issuer = issuer.unwrap();
    let Proof::Keys(keys) = issuer.proof else { panic!() };
    let Freshness { refresh, cool_down, max_stale } = keys.freshness;
    assert_eq!((refresh, cool_down, max_stale), (300 * SECOND, 30 * SECOND, 24 * HOUR));
    assert_eq!((issuer.leeway, issuer.max_lifetime), (30 * SECOND, None));
    assert_eq!(issuer.types, [TokenType::AccessToken, TokenType::Jwt]);
    assert_eq!(issuer.roles_claim, "roles");
    assert!(!issuer.is_strict && !issuer.mtls && !issuer.require_binding);
    assert!(issuer.dpop.is_none() && issuer.roles.is_none());
    // Refreshes that come sooner than the cool-down's default shorten it.
    let Proof::Keys(keys) = read("", "refresh = \"10s\"").0.unwrap().proof else { panic!() };
    assert_eq!(keys.freshness.cool_down, 10 * SECOND);
}

#[test]
fn times_have_bounds() {
    for (own, jwks, fault) in [
        ("leeway = \"5m\"", "", None),
        ("leeway = \"301s\"", "", Some("leeway: ")),
        ("leeway = \"6m\"", "", Some("leeway: ")),
        ("max_lifetime = \"9s\"", "", Some("max_lifetime: ")),
        ("", "refresh = \"2s\", max_stale = \"2s\"", None),
        ("", "refresh = \"2s\", max_stale = \"1s\"", Some("max_stale: is shorter than refresh")),
        ("", "refresh = \"999ms\"", Some("refresh: ")),
        ("", "cool_down = \"999ms\"", Some("cool_down: ")),
        ("", "refresh = \"2s\", cool_down = \"3s\"", Some("cool_down: is longer than refresh")),
        ("", "max_stale = \"31d\"", Some("max_stale: ")),
    ] {
        let (_, faults) = read(own, jwks);
        let is_told = match fault {
            None => faults.is_empty(),
            Some(fault) => faults.len() == 1 && faults[0].contains(fault),
        };
        assert!(is_told, "{own}{jwks}: {faults:?}");
    }
}
