//! What is asked of a gateway whose callers' tokens are bound to them, and how it refuses.

use std::fs;

use serde_json::{Value, json};

use super::bound::{ClientCertificate, DpopKey, exchange_over_tls, hash};
use super::issuers::{challenge, refusals, replace_issuers, request_with, serve_with_a_full_log};
use super::provider::Provider;
use super::{PATH, Reply, World, exchange, write_secret};

/// By which clients know the gateway; it listens elsewhere.
pub const PUBLIC_URL: &str = "https://gateway.example.com";

/// A gateway that accepts this provider's tokens with these keys of an issuer and of `listen`.
pub fn accepting(provider: &Provider, keys: &str, listen: &str) -> World {
    let is_tls = provider.issuer().starts_with("https:");
    let ca = if is_tls { format!(", ca = {:?}", provider.ca()) } else { String::new() };
    let issuers = format!(
        "[[issuers]]\nissuer = \"{}\"\naudiences = [\"cms-gateway\"]\nalgorithms = [\"ES256\"]\n\
         jwks = {{ discover = true{ca} }}\nroles_claim = \"roles\"\n{keys}",
        provider.issuer()
    );
    let world = World::with_command(
        |config| {
            replace_issuers(config, &issuers);
            let listen = format!("public_url = \"{PUBLIC_URL}\"\n{listen}\nadmin = ");
            *config = config.replacen("admin = ", &listen, 1);
        },
        |config| {
            let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
            let write = |name, text| fs::write(config.with_file_name(name), text).unwrap();
            write("tls.crt", own.cert.pem());
            write_secret(&config.with_file_name("tls.key"), &own.signing_key.serialize_pem());
            if is_tls {
                write("clients.pem", provider.client_authority().pem());
            }
            serve_with_a_full_log(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

/// What `listen` says to speak TLS, with more.
pub fn tls(more: &str) -> String {
    format!("tls = {{ certificate = \"tls.crt\", key = \"tls.key\"{more} }}")
}

pub fn ask(world: &World, head: &str) -> Reply {
    exchange(world.gateway.api, request_with(head).as_bytes())
}

pub fn ask_over_tls(world: &World, certificate: Option<&ClientCertificate>, head: &str) -> Reply {
    let ca = world.folder.path().join("tls.crt");
    exchange_over_tls(world.gateway.api, &ca, certificate, request_with(head).as_bytes())
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

pub fn dpop(token: &str, proof: &str) -> String {
    format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n")
}

pub fn url() -> String {
    format!("{PUBLIC_URL}{PATH}")
}

/// A good proof for one good request.
pub fn proof(key: &DpopKey, token: &str) -> String {
    key.proof_with("PUT", &url(), token)
}

/// A good proof but for these claims.
pub fn proof_but(key: &DpopKey, token: &str, others: Value) -> String {
    let mut claims = json!({"ath": hash(token.as_bytes())});
    claims.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    key.proof("PUT", &url(), &claims)
}

/// The request is refused for this reason, which the trail has in these words, with the actor.
pub fn assert_refused(
    world: &World,
    app: &str,
    asked: impl FnOnce() -> Reply,
    (label, words): (&str, &str),
) -> Reply {
    let (before, calls) = (refusals(&world.gateway, label), world.cms.calls());
    let reply = asked();
    assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2002"), "{label}: {reply:?}");
    assert_eq!(refusals(&world.gateway, label), before + 1.0, "{label}");
    assert_eq!(world.cms.calls(), calls, "{label}");
    assert!(challenge(&reply, "Bearer").unwrap().contains("error=\"invalid_token\""), "{reply:?}");
    let record = world.record_of(&reply).unwrap_or_else(|| panic!("{label} is not on record"));
    assert_eq!((&record["kind"], &record["actor"]["client_id"]), (&json!("denied"), &json!(app)));
    let decision = json!({"allow": false, "code": "GW-2002", "reason": words, "grant": null});
    assert_eq!(record["decision"], decision, "{label}");
    reply
}
