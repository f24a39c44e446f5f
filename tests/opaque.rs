//! A token that only its issuer can judge is taken on the issuer's word (RFC 7662), and on nothing
//! else.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::bound::DpopKey;
use support::identity_provider::{Endpoint, Misbehaviour, RESOURCE_SERVER};
use support::issuers::{issuer_of, refusals, replace_issuers, serve_with_a_full_log};
use support::keys::{new_key, sign_under};
use support::provider::{DPOP_APP, GATEWAY, PLAIN_APP, Provider, SECRET};
use support::sender::{PUBLIC_URL, ask, dpop, proof};
use support::{Reply, SAMPLE, World, wait_for, write_secret};

/// A gateway that asks the sandbox's provider, with these keys besides, and this secret.
fn asking(keys: &str, secret: &str) -> World {
    asking_at("introspect", keys, secret)
}

/// The same, where the endpoint is elsewhere.
fn asking_at(endpoint: &str, keys: &str, secret: &str) -> World {
    let world = World::with_command(
        |config| {
            let issuer = issuer_of(config);
            let url = if endpoint.contains("://") {
                endpoint.to_owned()
            } else {
                format!("{issuer}{endpoint}")
            };
            let client = RESOURCE_SERVER.0;
            replace_issuers(config, &introspected(&issuer, &url, client, keys));
        },
        |config| {
            write_secret(&config.with_file_name("secret"), secret);
            serve_with_a_full_log(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

fn introspected(issuer: &str, url: &str, client: &str, keys: &str) -> String {
    format!(
        "[[issuers]]\nissuer = \"{issuer}\"\naudiences = [\"cms-gateway\"]\n\
         roles_claim = \"roles\"\nintrospection = {{ url = \"{url}\", client_id = \"{client}\", \
         client_secret = \"secret\"{keys} }}\n"
    )
}

/// A gateway that verifies the sandbox's tokens and asks this provider about its own.
fn beside(provider: &Provider, keys: &str, more: &str) -> World {
    let url = provider.introspection_url();
    let ca = if url.starts_with("https:") {
        format!(", ca = {:?}", provider.ca())
    } else {
        String::new()
    };
    let other = introspected(provider.issuer(), &url, GATEWAY, &format!("{ca}{keys}"));
    let world = World::with_command(
        |config| {
            *config = config.replacen("[roles.", &format!("{other}{more}\n[roles."), 1);
            let listen = format!("public_url = \"{PUBLIC_URL}\"\nadmin = ");
            *config = config.replacen("admin = ", &listen, 1);
        },
        |config| {
            write_secret(&config.with_file_name("secret"), SECRET);
            serve_with_a_full_log(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

fn supervisor(world: &World) -> Value {
    world.provider.claims("opaque-app", &["campaign-supervisor"])
}

fn questions(world: &World) -> u64 {
    world.provider.asked(Endpoint::Introspection)
}

fn hits(world: &World, issuer: &str) -> f64 {
    let line = format!("cms_gateway_introspection_cache_hits_total{{issuer=\"{issuer}\"}}");
    world.gateway.metric(&line).unwrap_or_default()
}

/// The token is refused for this reason, and counted so.
fn assert_refused(world: &World, token: &str, label: &str) -> Reply {
    let (before, calls) = (refusals(&world.gateway, label), world.cms.calls());
    let reply = world.put(token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2002"), "{label}: {reply:?}");
    assert_eq!(refusals(&world.gateway, label), before + 1.0, "{label}");
    assert_eq!(world.cms.calls(), calls, "{label}");
    reply
}

/// The token can't be judged now, and nothing is sent.
fn assert_unavailable(world: &World, token: &str, what: &str) {
    let label = "introspection_unavailable";
    let (before, calls) = (refusals(&world.gateway, label), world.cms.calls());
    let reply = world.put(token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-2004"), "{what}: {reply:?}");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..60).contains(&seconds), "{what}: {seconds}");
    assert_eq!(reply.header("www-authenticate"), None, "{what}: the token is not at fault");
    assert_eq!(refusals(&world.gateway, label), before + 1.0, "{what}");
    assert_eq!(world.cms.calls(), calls, "{what}");
}

#[test]
fn an_active_token_is_accepted_and_its_actor_is_on_record() {
    let world = asking(", max_age = \"60s\"", RESOURCE_SERVER.1);
    let claims = supervisor(&world);
    let token = world.provider.mint_opaque(&claims);
    for _ in 0..3 {
        let reply = world.put(&token, SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
        let expected = json!({
            "issuer": world.provider.issuer(), "subject": "opaque-app", "client_id": "opaque-app",
            "roles": ["campaign-supervisor"], "token_id": claims["jti"],
        });
        assert_eq!(world.record_of(&reply).unwrap()["actor"], expected);
    }
    assert_eq!((questions(&world), hits(&world, world.provider.issuer())), (1, 2.0));
    let dialer = world.provider.claims("dialer", &["north-dialer"]);
    let denied = world.put(&world.provider.mint_opaque(&dialer), SAMPLE);
    assert_eq!((denied.status, denied.code().as_str()), (403, "GW-3001"));
    let told = world.told();
    assert!(
        told.contains("opaque-app") && told.contains("\"level\":\"DEBUG\""),
        "all was gathered"
    );
    for hidden in [&token, RESOURCE_SERVER.1, "introspection+secret"] {
        assert!(!told.contains(hidden), "{hidden} was told");
    }
}

#[test]
fn a_token_is_refused_that_is_not_active_or_not_for_this_gateway() {
    let world = asking("", RESOURCE_SERVER.1);
    assert_refused(&world, "unknown", "inactive");
    let with = |name: &str, value: Value| {
        let mut claims = supervisor(&world);
        claims[name] = value;
        world.provider.mint_opaque(&claims)
    };
    let revoked = with("sub", json!("revoked"));
    world.provider.revoke(&revoked);
    assert_refused(&world, &revoked, "inactive");
    assert_refused(&world, &with("exp", json!(1)), "inactive");
    assert_refused(&world, &with("aud", json!("other")), "audience");
    assert_refused(&world, &with("aud", json!(["other"])), "audience");
    assert_refused(&world, &with("iss", json!("https://idp.example.com/")), "unknown_issuer");
    assert_refused(&world, &with("exp", Value::Null), "time");
    assert_refused(&world, &world.supervisor(), "inactive");
    // A refusal is not remembered.
    let asked = questions(&world);
    assert_refused(&world, "unknown", "inactive");
    assert_eq!(questions(&world), asked + 1);
}

#[test]
fn an_opaque_token_may_have_two_dots() {
    let world = asking("", RESOURCE_SERVER.1);
    for (token, asked) in [("a.b.c", 1), ("opaque.e30.x", 2), ("e30.e3.x", 3), ("1.2.3", 4)] {
        world.provider.know(token, &supervisor(&world));
        let reply = world.put(token, SAMPLE);
        assert_eq!((reply.status, questions(&world)), (200, asked), "{token}: {reply:?}");
        assert_eq!(world.record_of(&reply).unwrap()["actor"]["client_id"], "opaque-app");
    }
    assert_refused(&world, "a.b.d", "inactive");
}

#[test]
fn what_is_no_access_token_is_refused_however_active_it_is() {
    let world = asking("", RESOURCE_SERVER.1);
    let mut claims = supervisor(&world);
    for (name, is_accepted) in [
        (json!("Bearer"), true),
        (json!("bearer"), true),
        (json!("refresh_token"), false),
        (json!("access_token"), false),
        (json!("id_token"), false),
        (json!("DPoP"), false),
        (json!("N_A"), false),
        (json!(""), false),
        (json!(["Bearer"]), false),
        (Value::Null, false),
    ] {
        claims["token_type"] = name.clone();
        let token = world.provider.mint_opaque(&claims);
        if is_accepted {
            assert_eq!(world.put(&token, SAMPLE).status, 200, "{name}");
        } else {
            assert_refused(&world, &token, "type");
        }
    }
}

#[test]
fn a_jwt_that_its_issuer_is_asked_about_must_be_an_access_token_by_its_type_too() {
    let world = asking("", RESOURCE_SERVER.1);
    let (claims, key) = (supervisor(&world), new_key("any"));
    for (name, is_accepted) in [
        (Some("at+jwt"), true),
        (Some("JWT"), true),
        (None, true),
        (Some("id_token+jwt"), false),
        (Some("rt+jwt"), false),
        (Some("logout+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some(""), false),
    ] {
        let token = sign_under(&key, |header| header.typ = name.map(str::to_owned), &claims);
        world.provider.know(&token, &claims);
        let asked = questions(&world);
        if is_accepted {
            assert_eq!(world.put(&token, SAMPLE).status, 200, "{name:?}");
        } else {
            assert_refused(&world, &token, "type");
        }
        assert_eq!(questions(&world) - asked, u64::from(is_accepted), "{name:?}");
    }
}

#[test]
fn an_endpoint_that_misbehaves_lets_nobody_through() {
    let world = asking(", timeout = \"1s\", max_age = \"60s\"", RESOURCE_SERVER.1);
    let known = world.provider.mint_opaque(&supervisor(&world));
    assert_eq!(world.put(&known, SAMPLE).status, 200);
    let token = world.provider.mint_opaque(&supervisor(&world));
    for how in Misbehaviour::ALL {
        world.provider.misbehave(Endpoint::Introspection, *how);
        assert_unavailable(&world, &token, &format!("{how:?}"));
        assert_eq!(world.put(&known, SAMPLE).status, 200, "{how:?}: its answer still counts");
    }
    assert_eq!(world.gateway.admin("/readyz").status, 200);
    world.provider.misbehave(Endpoint::Introspection, Misbehaviour::None);
    assert_eq!(world.put(&token, SAMPLE).status, 200, "no trouble is remembered");
    let issuer = world.provider.issuer();
    let failures =
        format!("cms_gateway_introspection_total{{issuer=\"{issuer}\",result=\"failure\"}}");
    let expected = f64::from(u32::try_from(Misbehaviour::ALL.len()).unwrap());
    assert_eq!(world.gateway.metric(&failures), Some(expected));
    wait_for("the log", || world.gateway.log().contains("the issuer can't be asked about tokens"));
}

#[test]
fn where_nobody_answers_nobody_is_let_through() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = asking_at(&format!("http://{nobody}/"), "", RESOURCE_SERVER.1);
    assert_unavailable(&world, &world.provider.mint_opaque(&supervisor(&world)), "no connection");
}

#[test]
fn many_who_ask_with_one_token_cost_one_question() {
    const MANY: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let world = asking_at(&url, ", timeout = \"20s\", max_age = \"60s\"", RESOURCE_SERVER.1);
    let mut claims = supervisor(&world);
    claims["active"] = json!(true);
    let body = claims.to_string();
    let (together, world) = (Barrier::new(MANY), &world);
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..MANY)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    world.put("opaque", SAMPLE).status
                })
            })
            .collect();
        // The answer waits until all have asked.
        let (mut stream, _) = listener.accept().unwrap();
        wait_for("all of them", || world.gateway.metric("cms_gateway_in_flight") == Some(200.0));
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        drop(stream);
        for asker in askers {
            assert_eq!(asker.join().unwrap(), 200);
        }
    });
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody else has asked");
}

#[test]
fn the_gateways_own_secret_can_be_replaced_while_it_runs() {
    let world = asking(", max_age = \"0s\"", "the one before");
    let token = world.provider.mint_opaque(&supervisor(&world));
    assert_unavailable(&world, &token, "the provider has another secret");
    let file = world.folder.path().join("secret");
    write_secret(&file, RESOURCE_SERVER.1);
    assert_eq!(world.put(&token, SAMPLE).status, 200, "the next question has the new one");
    std::fs::remove_file(&file).unwrap();
    assert_unavailable(&world, &token, "there is none");
    write_secret(&file, RESOURCE_SERVER.1);
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn an_answer_counts_for_max_age_and_no_longer() {
    let provider = Provider::start();
    for max_age in [0, 1, 3] {
        let world = beside(&provider, &format!(", max_age = \"{max_age}s\""), "");
        let token = provider.token("opaque");
        let asked = Instant::now();
        let reply = world.put(&token, SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
        provider.revoke(&token);
        wait_for("the refusal", || world.put(&token, SAMPLE).status == 401);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(max_age + 1), "{max_age}: {took:?}");
        assert!(took >= Duration::from_secs(max_age), "{max_age}: {took:?}");
        assert_eq!(hits(&world, provider.issuer()) > 0.0, max_age > 0, "{max_age}");
        assert_eq!(refusals(&world.gateway, "inactive"), 1.0, "{max_age}");
    }
}

#[test]
fn a_real_providers_opaque_tokens_go_beside_anothers_jwts() {
    let provider = Provider::start();
    let world = beside(&provider, "", "dpop = {}");
    for _ in 0..2 {
        let reply = world.put(&provider.token("opaque"), SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
        let actor = &world.record_of(&reply).unwrap()["actor"];
        assert_eq!(
            (&actor["issuer"], &actor["client_id"]),
            (&json!(provider.issuer()), &json!(PLAIN_APP))
        );
        assert_eq!(actor["roles"], json!(["campaign-supervisor"]));
        let reply = world.put(&world.supervisor(), SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(world.record_of(&reply).unwrap()["actor"]["issuer"], world.provider.issuer());
    }
    let other = provider.token_for("urn:other:opaque", "campaign-supervisor");
    assert_refused(&world, &other, "audience");
    assert_refused(&world, "unknown", "inactive");
    // One that is bound is bound by the issuer's word.
    let key = DpopKey::generate();
    let bound = provider.dpop_token(&key, "opaque");
    let reply = ask(&world, &dpop(&bound, &proof(&key, &bound)));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.record_of(&reply).unwrap()["actor"]["client_id"], DPOP_APP);
    assert_refused(&world, &bound, "binding_bearer_scheme");
    assert_eq!(questions(&world), 0, "nobody asks about a JWT");
}

#[test]
fn without_such_an_issuer_a_token_that_is_no_jwt_is_refused() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.provider.mint_opaque(&supervisor(&world));
    for token in [token.as_str(), "opaque", "a.b", "a.b.c.d.e"] {
        assert_refused(&world, token, "not_compact");
    }
    assert_eq!(questions(&world), 0);
}
