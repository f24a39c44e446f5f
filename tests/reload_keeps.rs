//! What a reload must not forget, and what one that is refused must not change.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use support::bound::DpopKey;
use support::cms::Misbehaviour as CmsMisbehaviour;
use support::identity_provider::{Endpoint, Misbehaviour};
use support::issuers::serve_with_a_full_log;
use support::keys::{Settings, with_key_id};
use support::provider::{DPOP_APP, Provider};
use support::sender::{accepting, ask, assert_refused, dpop, proof, proof_but};
use support::{
    PATH, PATIENCE, Reply, SAMPLE, World, parse, records_in, request, wait_for, write_secret,
};

const REFUSED: &str = "cms_gateway_credential_refused";

fn reloads(world: &World, result: &str) -> f64 {
    let metric = format!("cms_gateway_config_reload_total{{result=\"{result}\"}}");
    world.gateway.metric(&metric).unwrap_or_default()
}

/// Changes the configuration, and waits until that is in force, or refused.
fn change(world: &World, (from, to): (&str, &str), result: &str) {
    let text = fs::read_to_string(world.config()).unwrap();
    assert!(text.contains(from), "{from}");
    let before = reloads(world, result);
    let new = world.folder.path().join("new.toml");
    fs::write(&new, text.replacen(from, to, 1)).unwrap();
    fs::rename(&new, world.config()).unwrap();
    wait_for(result, || reloads(world, result) > before);
}

fn nonce(reply: &Reply) -> String {
    reply.header("dpop-nonce").unwrap().to_owned()
}

#[test]
fn a_proof_is_accepted_once_whatever_of_its_issuer_is_changed() {
    let provider = Provider::start();
    let world = accepting(&provider, "dpop = {}", "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let once = dpop(&token, &proof(&key, &token));
    assert_eq!(ask(&world, &once).status, 200);
    for other in [
        ("dpop = {}", "dpop = { lifetime = \"59s\" }"),
        ("[listen]", "[listen]\nallow_plaintext = true"),
    ] {
        change(&world, other, "success");
        let reason = ("dpop_replayed", "DPoP proof sent again");
        assert_refused(&world, DPOP_APP, || ask(&world, &once), reason);
    }
    assert_eq!(ask(&world, &dpop(&token, &proof(&key, &token))).status, 200);
    change(&world, ("//gateway.example.com", "//other.example.com"), "success");
    let other = key.proof_with("PUT", &format!("https://other.example.com{PATH}"), &token);
    assert_eq!(ask(&world, &dpop(&token, &other)).status, 200);
    assert_eq!(ask(&world, &dpop(&token, &proof(&key, &token))).status, 401);
}

#[test]
fn keys_and_tokens_are_known_still_where_it_listens_otherwise() {
    let world = World::with(Settings::by_url("refresh = \"1h\", cool_down = \"1s\""));
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let misses = || world.gateway.metric("cms_gateway_token_cache_misses_total");
    assert_eq!((world.fetches(), misses()), (1, Some(1.0)));
    // It can't be had anew.
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::Error);
    change(&world, ("[listen]", "[listen]\nallow_plaintext = true"), "success");
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_eq!((world.fetches(), misses()), (1, Some(1.0)));
    // Proofs would name it, but no issuer here takes them.
    let url = ("[listen]", "[listen]\npublic_url = \"https://gateway.example.com\"");
    change(&world, url, "success");
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn another_key_of_nonces_is_taken_at_a_hangup() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    write_secret(&file, &"a".repeat(32));
    let world = accepting(&provider, &format!("dpop = {{ nonce_key = {file:?} }}"), "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let old = nonce(&ask(&world, &dpop(&token, &proof(&key, &token))));
    let with = |nonce: &str| dpop(&token, &proof_but(&key, &token, json!({"nonce": nonce})));
    assert_eq!(ask(&world, &with(&old)).status, 200);
    write_secret(&file, &"b".repeat(32));
    world.gateway.signal("-HUP");
    wait_for("the reload", || reloads(&world, "success") == 1.0);
    let reply = ask(&world, &with(&old));
    assert_eq!(reply.status, 401);
    assert_eq!(ask(&world, &with(&nonce(&reply))).status, 200);
}

#[test]
fn a_fetch_of_keys_that_ends_with_the_configuration_of_before_leaves_nobody_waiting() {
    let world = World::with(|config| {
        Settings::by_url("refresh = \"1h\", cool_down = \"1s\"")(config);
        *config += "[limits]\nbody_timeout = \"1h\"\n";
    });
    world.gateway.wait_until_ready();
    // Keeps the configuration of before.
    let text = request(&world.supervisor(), SAMPLE);
    let (first, rest) = text.split_at(text.len() - 10);
    let mut last = TcpStream::connect(world.gateway.api).unwrap();
    last.write_all(first.as_bytes()).unwrap();
    wait_for("the request", || world.gateway.metric("cms_gateway_in_flight") == Some(1.0));
    change(&world, ("[audit]", "[token_cache]\nsize = \"1MiB\"\n[audit]"), "success");
    let fetches = world.fetches();
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::Slow);
    let unknown = with_key_id(&world.supervisor(), "unknown");
    let mut asking = TcpStream::connect(world.gateway.api).unwrap();
    asking.write_all(request(&unknown, SAMPLE).as_bytes()).unwrap();
    wait_for("the fetch", || world.fetches() > fetches);
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::None);
    last.write_all(rest.as_bytes()).unwrap();
    let answer = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        parse(&answer).status
    };
    assert_eq!(answer(&mut last), 200);
    assert_eq!(answer(&mut asking), 401);
    let metric = world.gateway.metric("cms_gateway_in_flight");
    assert_eq!(metric, Some(0.0));
}

#[test]
fn requests_of_before_a_reload_count_among_those_in_flight() {
    let world = World::with(|config| {
        *config += "[limits]\nbody_timeout = \"1h\"\nin_flight = 1\n";
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let text = request(&token, SAMPLE);
    let (first, rest) = text.split_at(text.len() - 10);
    let mut early = TcpStream::connect(world.gateway.api).unwrap();
    early.write_all(first.as_bytes()).unwrap();
    let in_flight = || world.gateway.metric("cms_gateway_in_flight");
    wait_for("the request", || in_flight() == Some(1.0));
    change(&world, ("[audit]", "[token_cache]\nsize = \"1MiB\"\n[audit]"), "success");
    assert_eq!(world.put(&token, SAMPLE).status, 503);
    // Another limit is one of its own.
    change(&world, ("in_flight = 1", "in_flight = 2"), "success");
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    early.write_all(rest.as_bytes()).unwrap();
    let mut answer = Vec::new();
    early.read_to_end(&mut answer).unwrap();
    assert_eq!(parse(&answer).status, 200);
    wait_for("its place", || in_flight() == Some(0.0));
}

/// A gateway whose password the CMS refuses, as it was told so often that it is not tried for the
/// next seconds.
fn refused(tries: u64) -> (World, Instant) {
    let world = World::start();
    world.gateway.wait_until_ready();
    world.cms.misbehave(CmsMisbehaviour::Unauthorized);
    let token = world.supervisor();
    wait_for("the tries", || {
        assert_eq!(world.put(&token, SAMPLE).status, 502);
        world.cms.calls() >= tries
    });
    assert_eq!(world.gateway.metric(REFUSED), Some(1.0));
    (world, Instant::now())
}

#[test]
fn a_password_that_was_refused_is_not_tried_anew_because_of_a_reload() {
    // The pause is 8 seconds after this.
    let (world, since) = refused(4);
    let calls = world.cms.calls();
    for (from, to) in [
        ("source = \"file\"", "source = \"file\"\nrefresh = \"29s\""),
        ("\"29s\"", "\"28s\""),
        ("\"28s\"", "\"27s\""),
    ] {
        change(&world, (from, to), "success");
        assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 502);
        let took = since.elapsed();
        assert!(took > Duration::from_secs(6) || world.cms.calls() == calls, "{to}: {took:?}");
        assert_eq!(world.gateway.metric(REFUSED), Some(1.0));
    }
}

#[test]
fn a_configuration_that_is_refused_changes_no_metric() {
    let (world, _) = refused(1);
    for (name, from) in [("username-2", "username"), ("password-2", "password")] {
        let from = fs::read_to_string(world.folder.path().join(from)).unwrap();
        write_secret(&world.folder.path().join(name), &format!("{from}2"));
    }
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let issuer = format!(
        "[[issuers]]\nissuer = \"http://{unused}/\"\naudiences = [\"cms-gateway\"]\n\
         jwks = {{ url = \"http://{unused}/jwks\" }}\nalgorithms = [\"RS256\"]\n[roles.campaign"
    );
    let text = fs::read_to_string(world.config()).unwrap();
    let other = text.replacen("\"password\"", "\"password-2\"", 1).replacen(
        &format!("url = \"{}\"", world.cms.url()),
        "url = \"http://127.0.0.1:9\"",
        1,
    );
    fs::write(world.config(), other.replacen("[roles.campaign", &issuer, 1)).unwrap();
    wait_for("the refusal", || reloads(&world, "failure") == 1.0);
    assert_eq!(world.gateway.metric(REFUSED), Some(1.0));
    let circuit = "upstream_circuit_open{server=\"http://127.0.0.1:9\"}";
    assert!(!world.gateway.admin("/metrics").body.contains(circuit));
}

#[test]
fn only_a_configuration_that_is_in_force_has_loaded_anything_on_record() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let at = |name: &str| world.folder.path().join(name);
    for (name, from) in [("username-2", "username"), ("password-2", "password")] {
        write_secret(&at(name), &fs::read_to_string(at(from)).unwrap());
    }
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(at("tls.crt"), own.cert.pem()).unwrap();
    write_secret(&at("tls.key"), &own.signing_key.serialize_pem());
    fs::write(at("revoked.json"), r#"{"revoked": []}"#).unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let issuer = |url: &str, jwks: &str| {
        format!(
            "[[issuers]]\nissuer = \"{url}\"\naudiences = [\"cms-gateway\"]\n\
             jwks = {{ {jwks} }}\nalgorithms = [\"RS256\", \"ES256\"]\n"
        )
    };
    let out_of_reach = issuer(&format!("http://{unused}/"), &format!("url = \"http://{unused}/\""));
    let others = fs::read_to_string(world.config())
        .unwrap()
        .replacen("[listen]", "[listen]\ntls = { certificate = \"tls.crt\", key = \"tls.key\" }", 1)
        .replacen("\"username\"", "\"username-2\"", 1)
        .replacen("\"password\"", "\"password-2\"", 1)
        + "[revocation]\nfile = \"revoked.json\"\n"
        + &issuer("https://other.example.com/", "file = \"jwks.json\"");
    let events = || {
        let records = records_in(&world.folder.path().join("audit"));
        let names = records.iter().filter_map(|record| record["event"]["name"].as_str());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let at_start = ["start", "credential_loaded", "keys_changed"];
    wait_for("the records of the start", || events().len() == at_start.len());
    fs::write(world.config(), others.clone() + &out_of_reach).unwrap();
    wait_for("the refusal", || events().iter().any(|name| name == "config_refused"));
    assert_eq!(events()[at_start.len()..], ["config_refused"]);
    fs::write(world.config(), others).unwrap();
    wait_for("the reload", || events().iter().any(|name| name == "config_loaded"));
    let mut loaded = events().split_off(at_start.len() + 1);
    assert_eq!(loaded.pop().unwrap(), "config_loaded");
    loaded.sort();
    let all = ["credential_loaded", "keys_changed", "revocations_loaded", "tls_loaded"];
    assert_eq!(loaded, all);
}

#[test]
fn other_roots_for_the_collector_keep_no_change_out() {
    let certificate = || {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        own.cert.pem()
    };
    let world = World::with_command(
        |config| {
            *config += "[telemetry.otlp]\nendpoint = \"https://127.0.0.1:9\"\nca = \"ca.pem\"\n";
        },
        |config| {
            fs::write(config.with_file_name("ca.pem"), certificate()).unwrap();
            serve_with_a_full_log(config)
        },
    );
    world.gateway.wait_until_ready();
    fs::write(world.folder.path().join("ca.pem"), certificate()).unwrap();
    change(&world, ("[audit]", "[limits]\nusers = 1\n[audit]"), "success");
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 400);
    let is_told = || world.gateway.log().contains("telemetry.otlp.ca says something else");
    wait_for("the log", is_told);
}

#[test]
fn half_of_a_file_is_never_in_force() {
    const ROUNDS: usize = 5;
    let world = World::start();
    world.gateway.wait_until_ready();
    let text = fs::read_to_string(world.config()).unwrap();
    for round in 1..=ROUNDS {
        // Another time between two looks at the file.
        std::thread::sleep(Duration::from_millis(45) * round as u32);
        let mut file = File::create(world.config()).unwrap();
        write!(file, "{text}# {round}\n[limits]\n").unwrap();
        file.flush().unwrap();
        // As a slow writer does.
        std::thread::sleep(Duration::from_millis(150));
        file.write_all(b"users = 1\n").unwrap();
        wait_for("the whole", || world.put(&world.supervisor(), SAMPLE).status == 400);
        // And back to what takes the sample.
        fs::write(world.config(), &text).unwrap();
        wait_for("the other", || world.put(&world.supervisor(), SAMPLE).status == 200);
    }
    let loaded = |record: &serde_json::Value| record["event"]["name"] == "config_loaded";
    let records = records_in(&world.folder.path().join("audit"));
    assert_eq!(records.iter().filter(|it| loaded(it)).count(), 2 * ROUNDS);
}
