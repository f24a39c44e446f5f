//! Claims that are not quite what they should be, under a good signature.

use serde_json::{Value, json};

use super::forge::{
    Forge, ISSUER, SHORT, STRICT, changed, good, hostile, now, spelled, token, without,
};
use super::row::{Row, refused, served};

pub fn rows(forge: &Forge) -> Vec<Row> {
    let mut rows = times(forge);
    rows.extend(audiences(forge));
    rows.extend(issuers(forge));
    rows.extend(actors(forge));
    rows.extend(roles(forge));
    rows.extend(profile(forge));
    rows.extend(lifetime(forge));
    rows
}

/// The leeway is five minutes, so that a slow machine makes no difference.
fn times(forge: &Forge) -> Vec<Row> {
    let now = now();
    let mut rows = Vec::new();
    for name in ["exp", "nbf", "iat"] {
        for text in [
            "null",
            "true",
            "\"9999999999\"",
            "\"2099-01-01T00:00:00Z\"",
            "\"\"",
            "-1",
            "-0",
            "-9223372036854775808",
            "9999999999.0",
            "1.5",
            "1e10",
            "9e99",
            "253402300800",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999999999999999999",
            "[9999999999]",
            "{}",
        ] {
            let token = forge.with_claims(spelled(hostile(), name, text));
            rows.push(refused(format!("{name} {text}"), token, "time"));
        }
        let milliseconds = forge.with_claims(spelled(hostile(), name, &format!("{now}000")));
        rows.push(refused(format!("{name} in milliseconds"), milliseconds, "time"));
    }
    let with =
        |name: &str, time: u64| forge.with_claims(changed(hostile(), name, time).to_string());
    let fine = |name: &str, time: u64| forge.with_claims(changed(good(), name, time).to_string());
    rows.extend([
        refused("no exp", forge.with_claims(without(hostile(), "exp").to_string()), "no_expiry"),
        refused("exp zero", with("exp", 0), "expired"),
        refused("exp beyond the leeway", with("exp", now - 301), "expired"),
        served("exp within the leeway", fine("exp", now - 100)),
        refused("nbf beyond the leeway", with("nbf", now + 900), "not_yet_valid"),
        refused("iat beyond the leeway", with("iat", now + 900), "not_yet_valid"),
        served("nbf within the leeway", fine("nbf", now + 290)),
        served("iat within the leeway", fine("iat", now + 290)),
        served("the last second of the year 9999", fine("exp", 253_402_300_799)),
        refused("nbf in that year", with("nbf", 253_402_300_799), "not_yet_valid"),
    ]);
    rows
}

fn audiences(forge: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for audience in [
        json!("cms-gatewa"),
        json!("cms-gateway2"),
        json!("CMS-Gateway"),
        json!("cms-gateway/"),
        json!("cms-gateway "),
        json!(" cms-gateway"),
        json!("cms-gateway\u{0}"),
        json!("cms-gateway\n"),
        json!("cms\u{2010}gateway"),
        json!("cms-g\u{430}teway"),
        json!("cms-gateway\u{200b}"),
        json!("\u{ff43}ms-gateway"),
        json!("cms-gateway,hostile-"),
        json!("cms-gateway hostile-"),
        json!("*"),
        json!(".*"),
        json!(""),
        json!([]),
        json!([["cms-gateway"]]),
        json!(["cms-gateway", ["cms-gateway"]]),
        json!(["cms-gateway", null]),
        json!(["cms-gateway", 1]),
        json!({"cms-gateway": 1}),
        json!([{"aud": "cms-gateway"}]),
        json!(1),
        json!(true),
        json!(null),
    ] {
        let token = forge.with_claims(changed(hostile(), "aud", audience.clone()).to_string());
        rows.push(refused(format!("aud {audience}"), token, "audience"));
    }
    let missing = forge.with_claims(without(hostile(), "aud").to_string());
    rows.push(refused("no aud", missing, "audience"));
    let one_of = changed(good(), "aud", json!(["hostile", "cms-gateway"]));
    rows.push(served("aud in a list", forge.with_claims(one_of.to_string())));
    rows
}

fn issuers(forge: &Forge) -> Vec<Row> {
    let bare = ISSUER.trim_end_matches('/');
    let mut rows = Vec::new();
    for issuer in [
        json!(bare),
        json!(format!("{ISSUER}/")),
        json!(format!("{ISSUER}?")),
        json!(format!("{ISSUER}#")),
        json!(format!("{ISSUER} ")),
        json!(format!("{ISSUER}\0")),
        json!(format!("{ISSUER}hostile-")),
        json!("https://IDP.example.com/"),
        json!("HTTPS://idp.example.com/"),
        json!("http://idp.example.com/"),
        json!("https://idp.example.com:443/"),
        json!("https://idp.example.com./"),
        json!("https://idp%2eexample.com/"),
        json!("https://idp.ex\u{430}mple.com/"),
        json!("https://idp\u{3002}example.com/"),
        json!("https://hostile-@idp.example.com/"),
        json!("https://idp.example.com/@hostile-"),
        json!([ISSUER]),
        json!({"iss": ISSUER}),
        json!(1),
        json!(null),
        json!(""),
    ] {
        let token = forge.with_claims(changed(hostile(), "iss", issuer.clone()).to_string());
        rows.push(refused(format!("iss {issuer}"), token, "unknown_issuer"));
    }
    let missing = forge.with_claims(without(hostile(), "iss").to_string());
    rows.push(refused("no iss", missing, "unknown_issuer"));
    let header = r#"{"alg":"ES256","kid":"es256","iss":"https://idp.example.com/"}"#;
    let moved = without(hostile(), "iss").to_string();
    let moved = token(header, moved, |it| forge.es256(it));
    rows.push(refused("iss in the header", moved, "unknown_issuer"));
    rows
}

fn actors(forge: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in ["sub", "client_id", "azp", "jti"] {
        for value in
            [json!(""), json!(0), json!(null), json!(["hostile-"]), json!({"a": "hostile-"})]
        {
            let token = forge.with_claims(changed(hostile(), name, value.clone()).to_string());
            rows.push(refused(format!("{name} {value}"), token, "name"));
        }
    }
    let anonymous = without(without(hostile(), "sub"), "client_id");
    let anonymous = forge.with_claims(anonymous.to_string());
    rows.push(refused("neither sub nor client_id", anonymous, "no_actor"));
    for name in ["sub", "client_id"] {
        let fine = forge.with_claims(without(good(), name).to_string());
        rows.push(served(format!("no {name}"), fine));
    }
    rows
}

fn roles(forge: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for roles in [
        json!({"campaign-supervisor": true}),
        json!([["campaign-supervisor"]]),
        json!([{"name": "campaign-supervisor"}]),
        json!(["campaign-supervisor", 1]),
        json!(["campaign-supervisor", null]),
        json!(1),
        json!(true),
        json!(null),
    ] {
        let token = forge.with_claims(changed(hostile(), "roles", roles.clone()).to_string());
        rows.push(refused(format!("roles {roles}"), token, "roles"));
    }
    let words = changed(good(), "roles", "openid campaign-supervisor");
    rows.push(served("roles in one text", forge.with_claims(words.to_string())));
    // The token is good, and its roles are none that the gateway knows.
    for roles in [
        json!([]),
        json!(""),
        json!("campaign-supervisor,remover"),
        json!(["campaign-supervisor "]),
        json!(["Campaign-Supervisor"]),
        json!(["campaign\u{2010}supervisor"]),
        json!(["*"]),
    ] {
        let token = forge.with_claims(changed(good(), "roles", roles.clone()).to_string());
        rows.push(served(format!("roles {roles}"), token).turned_away(403, "GW-3001"));
    }
    rows
}

/// RFC 9068, section 2.2, and OpenID Connect Core 1.0, section 2.
fn profile(forge: &Forge) -> Vec<Row> {
    let (bad, fine) = (changed(hostile(), "iss", STRICT), changed(good(), "iss", STRICT));
    let mut rows = vec![served("strict: all is there", forge.with_claims(fine.to_string()))];
    for name in ["nonce", "at_hash", "c_hash", "s_hash"] {
        for value in [json!("hostile-"), Value::Null] {
            let token = forge.with_claims(changed(bad.clone(), name, value.clone()).to_string());
            rows.push(refused(format!("strict: {name} {value}"), token, "id_token"));
        }
    }
    for name in ["jti", "client_id", "iat", "sub"] {
        let token = forge.with_claims(without(bad.clone(), name).to_string());
        rows.push(refused(format!("strict: no {name}"), token, "profile"));
    }
    let azp = changed(without(bad.clone(), "client_id"), "azp", "hostile-");
    rows.push(refused("strict: azp alone", forge.with_claims(azp.to_string()), "profile"));
    for header in [r#"{"alg":"ES256","typ":"JWT"}"#, r#"{"alg":"ES256"}"#] {
        let token = token(header, bad.to_string(), |it| forge.es256(it));
        rows.push(refused(format!("strict: {header}"), token, "type"));
    }
    rows
}

fn lifetime(forge: &Forge) -> Vec<Row> {
    let now = now();
    let lasting = |claims: Value, seconds: u64| {
        let claims = changed(changed(claims, "iss", SHORT), "iat", now);
        forge.with_claims(changed(claims, "exp", now + seconds).to_string())
    };
    let old = changed(changed(hostile(), "iss", SHORT), "iat", 0);
    let undated = without(changed(hostile(), "iss", SHORT), "iat");
    vec![
        served("ten minutes", lasting(good(), 600)),
        refused("a second more than ten minutes", lasting(hostile(), 601), "lifetime"),
        refused("iat in 1970", forge.with_claims(old.to_string()), "lifetime"),
        refused("no iat", forge.with_claims(undated.to_string()), "lifetime"),
    ]
}
