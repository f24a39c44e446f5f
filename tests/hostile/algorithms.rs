//! Algorithms, and keys that are not meant for them.

use serde_json::{Value, json};

use super::forge::{Forge, ODD, SECRET, changed, encode, good, hostile, hs, token};
use super::row::{Row, refused, served};

pub fn rows(forge: &Forge, key_set_url: &str) -> Vec<Row> {
    let mut rows = controls(forge);
    rows.extend(unsigned(forge));
    rows.extend(symmetric(forge));
    rows.extend(other_keys(forge));
    rows.extend(embedded(forge, key_set_url));
    rows.extend(odd_keys(forge));
    rows
}

fn header(algorithm: &str, kid: &str) -> String {
    json!({"alg": algorithm, "typ": "at+jwt", "kid": kid}).to_string()
}

/// The forger's own tokens are good as long as nothing is wrong with them.
fn controls(forge: &Forge) -> Vec<Row> {
    let claims = good().to_string();
    vec![
        served("ES256", token(header("ES256", "es256"), &claims, |it| forge.es256(it))),
        served("ES384", token(header("ES384", "es384"), &claims, |it| forge.es384(it))),
        served("RS256", token(header("RS256", "rsa"), &claims, |it| forge.rs256(it))),
        served("RS384", token(header("RS384", "rsa"), &claims, |it| forge.rs384(it))),
        served("RS512", token(header("RS512", "rsa"), &claims, |it| forge.rs512(it))),
        served("PS256", token(header("PS256", "rsa"), &claims, |it| forge.ps256(it))),
        served("PS384", token(header("PS384", "rsa"), &claims, |it| forge.ps384(it))),
        served("PS512", token(header("PS512", "rsa"), &claims, |it| forge.ps512(it))),
        served("EdDSA", token(header("EdDSA", "eddsa"), &claims, |it| forge.eddsa(it))),
        served("Ed25519", token(header("Ed25519", "eddsa"), &claims, |it| forge.eddsa(it))),
        served("ES256, no kid", token(r#"{"alg":"ES256"}"#, &claims, |it| forge.es256(it))),
    ]
}

fn unsigned(forge: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in ["none", "None", "NONE", "nOnE", "none ", "", "\0none", "n\u{43e}ne"] {
        let header = header(name, "es256");
        let claims = hostile().to_string();
        let bare = token(&header, &claims, |_| Vec::new());
        rows.push(refused(format!("alg {name:?} without a signature"), bare, "algorithm"));
        let signed = token(&header, &claims, |it| forge.es256(it));
        rows.push(refused(format!("alg {name:?} with a good signature"), signed, "algorithm"));
    }
    for (name, value) in [
        ("null", Value::Null),
        ("a number", 256.into()),
        ("a list", json!(["ES256"])),
        ("an object", json!({"ES256": 1})),
        ("lower case", "es256".into()),
        ("with a space", "ES256 ".into()),
        ("unknown", "ES999".into()),
        ("ES256K", "ES256K".into()),
        ("ES512", "ES512".into()),
        ("RSA-OAEP", "RSA-OAEP".into()),
        ("dir", "dir".into()),
    ] {
        let header = json!({"alg": value, "typ": "at+jwt", "kid": "es256"}).to_string();
        rows.push(refused(format!("alg {name}"), forge.with_header(header), "algorithm"));
    }
    rows.push(refused("no alg", forge.with_header(r#"{"kid":"es256"}"#), "algorithm"));
    rows
}

/// A public key is no secret.
fn symmetric(forge: &Forge) -> Vec<Row> {
    let mut rows = Vec::new();
    for (kid, form, secret) in forge.public_keys() {
        for bits in [256, 384, 512] {
            let header = header(&format!("HS{bits}"), kid);
            let token = token(header, hostile().to_string(), |it| hs(bits, &secret, it));
            rows.push(refused(format!("HS{bits} with {kid} as {form}"), token, "algorithm"));
        }
        // The asymmetric name, with the symmetric signature.
        let header = header(if kid == "rsa" { "RS256" } else { "ES256" }, kid);
        let token = token(header, hostile().to_string(), |it| hs(256, &secret, it));
        rows.push(refused(format!("an HMAC with {kid} as {form}"), token, "signature"));
    }
    let empty = token(header("HS256", "es256"), hostile().to_string(), |it| hs(256, b"", it));
    rows.push(refused("HS256 with an empty secret", empty, "algorithm"));
    rows
}

fn other_keys(forge: &Forge) -> Vec<Row> {
    let claims = hostile().to_string();
    let es256 = |kid: Value| {
        forge.with_header(json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}).to_string())
    };
    let mut rows = vec![
        refused(
            "RS256 in the header, an ES256 key",
            token(header("RS256", "es256"), &claims, |it| forge.es256(it)),
            "unknown_key",
        ),
        refused(
            "ES256 in the header, an RSA key",
            token(header("ES256", "rsa"), &claims, |it| forge.rs256(it)),
            "unknown_key",
        ),
        refused(
            "ES384 in the header, an ES256 key",
            token(header("ES384", "es256"), &claims, |it| forge.es256(it)),
            "unknown_key",
        ),
        refused(
            "PS256 in the header, signed as RS256",
            token(header("PS256", "rsa"), &claims, |it| forge.rs256(it)),
            "signature",
        ),
        refused(
            "RS256 in the header, signed as RS512",
            token(header("RS256", "rsa"), &claims, |it| forge.rs512(it)),
            "signature",
        ),
    ];
    let long = "hostile-".repeat(640);
    for kid in [
        "rsa",
        "",
        "ES256",
        "es256 ",
        "es256\0",
        "../../../../hostile-/dev/null",
        "/etc/hostile-passwd",
        "keys.json",
        "file:///hostile-",
        "http://127.0.0.1:1/hostile-",
        "hostile-' OR '1'='1",
        "hostile-'; DROP TABLE keys; --",
        "hostile-' UNION SELECT 'key",
        "hostile-\0",
        "\0es256",
        "hostile-$(id)`id`|id",
        "hostile-\r\nX: y",
        "hostile-{{7*7}}${7*7}%s%n",
        "e\u{455}256",
        &long,
    ] {
        let name: String = kid.chars().take(32).collect();
        rows.push(refused(format!("kid {name:?}"), es256(kid.into()), "unknown_key"));
    }
    for (name, kid) in [
        ("null", Value::Null),
        ("a number", 256.into()),
        ("a list", json!(["es256"])),
        ("an object", json!({"es256": "es256"})),
        ("true", true.into()),
    ] {
        rows.push(refused(format!("kid {name}"), es256(kid), "key_id"));
    }
    rows
}

/// A token can't bring its own key, nor say where it is.
fn embedded(forge: &Forge, key_set_url: &str) -> Vec<Row> {
    let own = rcgen::generate_simple_self_signed(["hostile-name".to_owned()]).unwrap();
    let chain = base64::engine::general_purpose::STANDARD;
    let chain = base64::Engine::encode(&chain, own.cert.der());
    let key = forge.strangers_key();
    let private = json!({"kty": "oct", "k": encode("hostile-secret")});
    let mut rows = Vec::new();
    for (name, value) in [
        ("jwk", key),
        ("jwk", private),
        ("x5c", json!([chain])),
        ("jku", key_set_url.into()),
        ("x5u", key_set_url.into()),
        ("x5t", encode([0; 20]).into()),
        ("x5t#S256", encode([0; 32]).into()),
    ] {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", name: value});
        let kind = header[name]["kty"].as_str().unwrap_or_default();
        let name = format!("{name} {kind}");
        let strange = token(header.to_string(), hostile().to_string(), |it| forge.strangely(it));
        rows.push(refused(format!("{name}, signed by its key"), strange, "signature"));
        header["kid"] = "es256".into();
        let named = token(header.to_string(), hostile().to_string(), |it| forge.strangely(it));
        rows.push(refused(format!("{name}, with the kid of a known key"), named, "signature"));
        header["kid"] = "stranger".into();
        let named = token(header.to_string(), hostile().to_string(), |it| forge.strangely(it));
        rows.push(refused(format!("{name}, with its own kid"), named, "unknown_key"));
        // It is no fault to have it: it is not looked at.
        header["kid"] = "es256".into();
        let ignored = token(header.to_string(), good().to_string(), |it| forge.es256(it));
        rows.push(served(format!("{name}, signed by a known key"), ignored));
    }
    rows
}

/// What stands in an issuer's key set and must not be used, or not like this.
fn odd_keys(forge: &Forge) -> Vec<Row> {
    let claims = changed(hostile(), "iss", ODD).to_string();
    let fine = changed(good(), "iss", ODD).to_string();
    let es256 = |kid| token(header("ES256", kid), &claims, |it| forge.es256(it));
    let hs256 = |name, kid| token(header(name, kid), &claims, |it| hs(256, SECRET, it));
    vec![
        served(
            "RS256, of a key for RS256",
            token(header("RS256", "pinned"), fine, |it| forge.rs256(it)),
        ),
        refused(
            "RS512, of a key for RS256",
            token(header("RS512", "pinned"), &claims, |it| forge.rs512(it)),
            "unknown_key",
        ),
        refused(
            "PS256, of a key for RS256",
            token(header("PS256", "pinned"), &claims, |it| forge.ps256(it)),
            "unknown_key",
        ),
        refused("a key for encryption", es256("encryption"), "unknown_key"),
        refused("a key that signs only", es256("signs-only"), "unknown_key"),
        refused(
            "a key of 1,024 bits",
            token(header("RS256", "small"), &claims, |it| forge.rs256_small(it)),
            "unknown_key",
        ),
        refused(
            "a key whose exponent is one",
            token(header("RS256", "exponent-one"), &claims, |it| forge.rs256_unsigned(it)),
            "signature",
        ),
        refused("a key off the curve", es256("off-the-curve"), "signature"),
        refused("HS256 with a key of the set", hs256("HS256", "secret"), "algorithm"),
        refused("ES256 with a symmetric key", hs256("ES256", "secret"), "unknown_key"),
        refused("a symmetric key for ES256", hs256("ES256", "secret-es256"), "unknown_key"),
        refused("a kid of two keys", es256("twice"), "ambiguous_key"),
        refused(
            "no kid where two keys fit",
            token(r#"{"alg":"ES256"}"#, &claims, |it| forge.es256(it)),
            "ambiguous_key",
        ),
    ]
}
