//! Tokens of a certified provider that is not ours are accepted, through all that it does to its
//! keys, and what else it signs is not.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use support::bound::DpopKey;
use support::identity_provider::SigningKey;
use support::issuers::{issuer_of, replace_issuers};
use support::keys::{sign, sign_under};
use support::provider::{DPOP_APP, MTLS_APP, PLAIN_APP, Provider, Rotation};
use support::{SAMPLE, World, wait_for};

/// The algorithms of its tokens, with a key of three kinds.
const ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];
/// Where the gateway finds the keys when a test does not care.
const DISCOVER: &str = "discover = true";
/// How fresh it keeps them: as fresh as it can be told to.
const FRESHNESS: &str = ", refresh = \"1s\", cool_down = \"1s\", max_stale = \"24h\"";
/// The least time between two refreshes that unknown keys cause, as [`FRESHNESS`] says.
const COOL_DOWN: Duration = Duration::from_secs(1);

/// A gateway that accepts the tokens of this provider.
fn world(provider: &Provider) -> World {
    world_with(provider, DISCOVER)
}

/// A gateway that finds the keys of this provider so.
fn world_with(provider: &Provider, source: &str) -> World {
    let is_tls = provider.issuer().starts_with("https:");
    let ca = if is_tls { format!(", ca = {:?}", provider.ca()) } else { String::new() };
    World::with(|config| {
        let (before, after) = config.split_once("issuer = ").unwrap();
        let (_, after) = after.split_once("[roles.").unwrap();
        let issuer = provider.issuer();
        *config = format!(
            "{before}issuer = \"{issuer}\"\naudiences = [\"cms-gateway\"]\n\
             jwks = {{ {source}{ca}{FRESHNESS} }}\nalgorithms = {ALGORITHMS:?}\n\
             roles_claim = \"roles\"\n[roles.{after}"
        );
    })
}

fn refreshes(world: &World, provider: &Provider, result: &str) -> f64 {
    let labels = format!("{{issuer=\"{}\",result=\"{result}\"}}", provider.issuer());
    world.gateway.metric(&format!("cms_gateway_jwks_refresh_total{labels}")).unwrap_or_default()
}

/// Waits for a refresh of the keys that begins from now on.
fn wait_for_a_refresh(world: &World, provider: &Provider, result: &str) {
    let before = refreshes(world, provider, result);
    // One may be under way.
    wait_for("a refresh", || refreshes(world, provider, result) >= before + 2.0);
}

fn header(token: &str) -> Value {
    part(token, 0)
}

fn claims(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, place: usize) -> Value {
    let part = token.split('.').nth(place).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_real_token_is_accepted_whatever_it_is_signed_with() {
    let provider = Provider::start();
    let world = world(&provider);
    world.gateway.wait_until_ready();
    for algorithm in ALGORITHMS {
        let token = provider.token(algorithm);
        assert_eq!(world.put(&token, SAMPLE).status, 200, "{algorithm}");
        let intent = world.records().into_iter().rev().find(|it| it["kind"] == "intent").unwrap();
        let expected = json!({
            "issuer": provider.issuer(), "subject": PLAIN_APP, "client_id": PLAIN_APP,
            "roles": ["campaign-supervisor"], "token_id": claims(&token)["jti"],
        });
        assert_eq!(intent["actor"], expected, "{algorithm}");
    }
    let dialer = provider.token_for("urn:cms-gateway:ES256", "north-dialer");
    assert_eq!(world.put(&dialer, SAMPLE).code(), "GW-3001", "the scope is the role");
}

#[test]
fn a_provider_over_tls_is_asked_with_the_configured_authority() {
    let provider = Provider::start_with_tls();
    for source in [DISCOVER, &format!("url = \"{}\"", provider.jwks_url())] {
        let world = world_with(&provider, source);
        world.gateway.wait_until_ready();
        assert_eq!(world.put(&provider.token("ES256"), SAMPLE).status, 200, "{source}");
    }
}

#[test]
fn another_issuer_with_eddsa_keys_is_beside_it_and_neither_signs_for_the_other() {
    let provider = Provider::start();
    let token = provider.token("EdDSA");
    let world = World::with(|config| {
        let own = issuer_of(config);
        let issuer = |name: &str, source: &str, algorithms: &[&str]| {
            format!(
                "[[issuers]]\nissuer = \"{name}\"\naudiences = [\"cms-gateway\"]\n\
                 jwks = {{ {source}{FRESHNESS} }}\nalgorithms = {algorithms:?}\n\
                 roles_claim = \"roles\"\n"
            )
        };
        let by_url = format!("url = \"{own}jwks\"");
        let issuers =
            [issuer(provider.issuer(), DISCOVER, &ALGORITHMS), issuer(&own, &by_url, &["EdDSA"])];
        replace_issuers(config, &issuers.concat());
    });
    world.gateway.wait_until_ready();
    // The other one's key has the name that this one's has.
    let name = header(&token)["kid"].as_str().unwrap().to_owned();
    let key = SigningKey::eddsa(&name).map_err(|it| it.to_string()).unwrap();
    world.provider.publish(json!({"keys": [key.public()]}));
    wait_for("the other's key", || {
        world.gateway.admin("/issuers").json()[1]["keys"][0]["kid"] == name
    });
    let mut claims = world.good_claims();
    let others = sign(&key, &claims);
    for (token, issuer, app) in
        [(&token, provider.issuer(), PLAIN_APP), (&others, world.provider.issuer(), "test-app")]
    {
        let reply = world.put(token, SAMPLE);
        assert_eq!(reply.status, 200, "{issuer}: {reply:?}");
        let actor = &world.record_of(&reply).unwrap()["actor"];
        assert_eq!((&actor["issuer"], &actor["client_id"]), (&json!(issuer), &json!(app)));
    }
    claims["iss"] = json!(provider.issuer());
    let calls = world.cms.calls();
    world.assert_refused(&sign(&key, &claims), "signature");
    let unnamed = sign_under(&key, |header| header.kid = None, &claims);
    world.assert_refused(&unnamed, "signature");
    assert_eq!(world.cms.calls(), calls);
}

#[test]
fn what_else_the_provider_signs_is_refused() {
    let provider = Provider::start();
    let world = world(&provider);
    world.gateway.wait_until_ready();
    let others = [
        ("of another audience", provider.token_for("urn:other:ES256", "campaign-supervisor")),
        ("an ID token", provider.id_token()),
        ("opaque", provider.token("opaque")),
    ];
    for (what, token) in others {
        let reply = world.put(&token, SAMPLE);
        assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2002"), "{what}");
    }
    assert_eq!(world.put(&provider.token("ES256"), SAMPLE).status, 200);
}

#[test]
fn the_providers_keys_change_under_load_and_no_good_token_is_refused() {
    let provider = Provider::start();
    let world = world(&provider);
    world.gateway.wait_until_ready();
    // Whoever holds it for reading has a token that must still be good.
    let in_use = RwLock::new(());
    let (ended, answers) = (AtomicBool::new(false), ALGORITHMS.map(|_| AtomicUsize::new(0)));
    let flow = || {
        let (begun, before) = (Instant::now(), answers.each_ref().map(count));
        wait_for("traffic", || {
            let more = answers.iter().zip(before).all(|(now, before)| count(now) >= before + 20);
            assert!(!ended.load(Ordering::Relaxed), "a good token was refused");
            more && begun.elapsed() > COOL_DOWN
        });
    };
    std::thread::scope(|scope| {
        for (algorithm, answers) in ALGORITHMS.iter().zip(&answers) {
            let (provider, world, in_use, ended) = (&provider, &world, &in_use, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let _good = in_use.read().unwrap();
                    let reply = world.put(&provider.token(algorithm), SAMPLE);
                    if reply.status != 200 {
                        ended.store(true, Ordering::Relaxed);
                        panic!("{algorithm}, after {} answers: {reply:?}", count(answers));
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for rotation in [Rotation::Overlap, Rotation::Overlap, Rotation::Withdraw] {
            flow();
            provider.rotate(rotation);
        }
        for _ in 0..2 {
            flow();
            let _none_in_use = in_use.write().unwrap();
            provider.rotate(Rotation::Swap);
        }
        flow();
        ended.store(true, Ordering::Relaxed);
    });
}

fn count(answers: &AtomicUsize) -> usize {
    answers.load(Ordering::Relaxed)
}

#[test]
fn a_token_of_a_withdrawn_key_is_refused_from_the_refresh_on_that_shows_it() {
    let provider = Provider::start();
    let world = world(&provider);
    world.gateway.wait_until_ready();
    let old = provider.token("RS256");
    assert_eq!(world.put(&old, SAMPLE).status, 200);
    provider.rotate(Rotation::Overlap);
    wait_for_a_refresh(&world, &provider, "success");
    let new = provider.token("RS256");
    assert_eq!(world.put(&new, SAMPLE).status, 200);
    assert_eq!(world.put(&old, SAMPLE).status, 200, "its key is still published");
    provider.rotate(Rotation::Withdraw);
    wait_for_a_refresh(&world, &provider, "success");
    let reply = world.put(&old, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2002"));
    assert_eq!(world.put(&new, SAMPLE).status, 200);
}

#[test]
fn known_keys_serve_while_the_provider_is_away_and_after_its_return() {
    let mut provider = Provider::start();
    let world = world(&provider);
    world.gateway.wait_until_ready();
    let early = provider.token("ES256");
    provider.stop();
    wait_for_a_refresh(&world, &provider, "failure");
    assert_eq!(world.put(&early, SAMPLE).status, 200);
    assert_eq!(world.gateway.admin("/readyz").status, 200);
    provider.start_again();
    wait_for_a_refresh(&world, &provider, "success");
    for token in [early, provider.token("ES256")] {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
}

#[test]
fn a_provider_that_returns_with_other_keys_is_believed() {
    let mut provider = Provider::start();
    let world = world(&provider);
    world.gateway.wait_until_ready();
    let early = provider.token("ES256");
    assert_eq!(world.put(&early, SAMPLE).status, 200);
    provider.stop();
    provider.start_again_with_other_keys();
    wait_for_a_refresh(&world, &provider, "success");
    assert_eq!(world.put(&provider.token("ES256"), SAMPLE).status, 200);
    assert_eq!(world.put(&early, SAMPLE).code(), "GW-2002");
}

#[test]
fn a_gateway_that_is_there_before_its_provider_waits_for_it() {
    let mut provider = Provider::start();
    let token = provider.token("ES256");
    provider.stop();
    let world = world(&provider);
    let reply = world.put(&token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-2004"));
    assert_eq!(world.gateway.admin("/readyz").status, 503);
    provider.start_again();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn the_provider_binds_a_token_to_a_key_or_to_a_certificate() {
    let provider = Provider::start_with_tls();
    let key = DpopKey::generate();
    let token = claims(&provider.dpop_token(&key, "ES256"));
    assert_eq!(token["client_id"], DPOP_APP);
    assert_eq!(token["cnf"], json!({"jkt": key.thumbprint()}));
    let token = claims(&provider.mtls_token("ES256"));
    assert_eq!(token["client_id"], MTLS_APP);
    assert_eq!(token["cnf"], json!({"x5t#S256": provider.client_certificate().thumbprint()}));
}

#[test]
fn the_provider_says_what_an_opaque_token_is() {
    let provider = Provider::start();
    let answer = provider.introspect(&provider.token("opaque"));
    for (name, expected) in [
        ("active", json!(true)),
        ("iss", json!(provider.issuer())),
        ("aud", json!("cms-gateway")),
        ("client_id", json!(PLAIN_APP)),
        ("scope", json!("campaign-supervisor")),
        ("roles", json!(["campaign-supervisor"])),
        ("token_type", json!("Bearer")),
    ] {
        assert_eq!(answer[name], expected, "{name}");
    }
    assert!(answer["exp"].is_u64());
    assert_eq!(provider.introspect("unknown"), json!({"active": false}));
}
