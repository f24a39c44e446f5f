//! What is remembered of a token is what it proves: it saves the signature, and no other rule.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use support::keys::{Settings, at_once, new_key, sign, with_key_id};
use support::trail::{serve, serve_with_fault};
use support::{SAMPLE, World, next_status, request, wait_for};

fn world(change: impl FnOnce(&mut String)) -> World {
    let world = World::with(change);
    world.gateway.wait_until_ready();
    world
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_token_is_verified_once_and_its_roles_are_decided_upon_at_each_use() {
    let world = world(|_| {});
    let token = world.token(&["north-dialer"]);
    let body = |campaign: i32, list: &str| {
        let mut body = json!({"leadId": 2, "campaignId": campaign,
            "assignedUserIds": [], "unassignedUserIds": []});
        body[list] = json!(["agent_four"]);
        body.to_string()
    };
    for (uses, (campaign, list, status, code)) in [
        (1, "assignedUserIds", 200, ""),
        (1, "unassignedUserIds", 403, "GW-3001"),
        (7, "assignedUserIds", 403, "GW-3002"),
        (1, "assignedUserIds", 200, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let calls = world.cms.calls();
        let reply = world.put(&token, &body(campaign, list));
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{reply:?}");
        assert_eq!(world.cms.calls(), calls + u64::from(status == 200));
        assert_eq!(world.cache(), (uses as f64, 1.0));
    }
    world.assert_refused(&with_key_id(&token, "es256 "), "unknown_key");
    assert_eq!(world.cache(), (3.0, 2.0), "another token with the same claims");
}

#[test]
fn a_remembered_token_is_refused_from_its_end_on() {
    let world = world(Settings::with("leeway = \"0s\""));
    let mut claims = world.good_claims();
    let end = now() + 3;
    claims["exp"] = json!(end);
    let token = world.mint(&claims);
    world.assert_accepted(&token);
    let mut last = 0.0;
    wait_for("the token's end", || {
        let (begun, (hits, _)) = (now(), world.cache());
        let reply = world.put(&token, SAMPLE);
        if reply.status == 200 {
            assert!(begun < end, "used at {begun}, valid until {end}");
            last = hits;
            return false;
        }
        assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2003"));
        assert!(now() >= end && world.refusals("expired") == 1.0);
        true
    });
    assert!(last > 0.0, "it was remembered");
}

#[test]
fn every_rule_that_depends_on_the_time_is_applied_at_each_use() {
    let world = World::with_command(|_| {}, |config| serve_with_fault(config, "FAULT_CLOCK"));
    world.gateway.wait_until_ready();
    let at = |seconds: i64| {
        fs::write(world.folder.path().join("fault"), seconds.to_string()).unwrap();
    };
    let token = |name: &str, seconds: i64| {
        let mut claims = world.good_claims();
        for own in ["iat", "nbf"] {
            claims[own] = json!(now() - 7200);
        }
        claims[name] = json!(now().saturating_add_signed(seconds));
        world.mint(&claims)
    };
    let (no, late) = (("GW-2002", "not_yet_valid"), ("GW-2003", "expired"));
    for (token, clock, (code, reason)) in [
        (token("iat", 0), -3600, no),
        (token("nbf", 0), -3600, no),
        // A leeway of 30 s, and some seconds that this test may take.
        (token("iat", 0), -60, no),
        (token("exp", 600), 640, late),
        (token("exp", 600), 3600, late),
    ] {
        world.assert_accepted(&token);
        let ((hits, misses), refused) = (world.cache(), world.refusals(reason));
        at(clock);
        for uses in 1..=2 {
            let reply = world.put(&token, SAMPLE);
            assert_eq!((reply.status, reply.code().as_str()), (401, code), "{clock}");
            assert_eq!(world.cache(), (hits + f64::from(uses), misses), "remembered, and refused");
            assert_eq!(world.refusals(reason), refused + f64::from(uses), "{clock}");
        }
        at(0);
        world.assert_accepted(&token);
        assert_eq!(world.cache(), (hits + 3.0, misses));
    }
}

#[test]
fn what_can_not_be_verified_is_not_remembered() {
    let world = world(|_| {});
    let changed = |name: &str, value| {
        let mut claims = world.good_claims();
        claims[name] = value;
        world.mint(&claims)
    };
    let empty = with_key_id("..AAAA", "es256").replace("..", ".e30.");
    let other = sign(&new_key("es256"), &world.good_claims());
    let mut misses = 0.0;
    for (token, reason) in [
        (other, "signature"),
        (with_key_id(&world.supervisor(), "unknown"), "unknown_key"),
        (world.supervisor() + "=", "not_base64url"),
        (empty, "unknown_issuer"),
        (changed("aud", json!("elsewhere")), "audience"),
        (changed("iss", json!("https://idp.example.com/")), "unknown_issuer"),
        (changed("sub", json!(1)), "name"),
        (changed("roles", json!({"campaign-supervisor": true})), "roles"),
        (changed("exp", json!("tomorrow")), "time"),
    ] {
        for _ in 0..2 {
            world.assert_refused(&token, reason);
            misses += 1.0;
            assert_eq!(world.cache(), (0.0, misses), "{reason}");
        }
    }
    let ended = changed("exp", json!(now() - 60));
    for _ in 0..2 {
        assert_eq!(world.put(&ended, SAMPLE).code(), "GW-2003");
    }
    assert_eq!(world.cache(), (0.0, misses + 2.0), "an expired one is not worth a place");
}

#[test]
fn other_keys_are_another_reason_to_verify_again_and_the_same_keys_are_not() {
    let world = world(|_| {});
    let (token, own) = (world.supervisor(), world.provider.jwks()["keys"].clone());
    for _ in 0..2 {
        world.assert_accepted(&token);
    }
    assert_eq!(world.cache(), (1.0, 1.0));
    let new = new_key("new");
    let more = json!({"keys": [own[0], own[1], own[2], new.public()]});
    world.rename_keys(&more.to_string());
    world.wait_for_keys(&["es256", "rs256", "eddsa", "new"]);
    for _ in 0..2 {
        world.assert_accepted(&token);
    }
    assert_eq!(world.cache(), (2.0, 2.0));
    // In another order they are the same.
    world.rename_keys(&json!({"keys": [new.public(), own[2], own[1], own[0]]}).to_string());
    world.wait_for_keys(&["new", "eddsa", "rs256", "es256"]);
    world.assert_accepted(&token);
    assert_eq!(world.cache(), (3.0, 2.0));
    // Another key of the same name.
    let changed = new_key("es256");
    world.rename_keys(&json!({"keys": [changed.public(), new.public()]}).to_string());
    world.wait_for_keys(&["es256", "new"]);
    world.assert_refused(&token, "signature");
    world.assert_accepted(&sign(&changed, &world.good_claims()));
}

#[test]
fn a_token_is_remembered_no_longer_than_configured() {
    for (max_age, is_remembered) in [("2s", true), ("0s", false)] {
        let lines = format!("[token_cache]\nmax_age = \"{max_age}\"\n[audit]\n");
        let world = world(|config| *config = config.replace("[audit]\n", &lines));
        let token = world.supervisor();
        let mut uses = 0.0;
        wait_for("the second verification", || {
            world.assert_accepted(&token);
            uses += 1.0;
            world.cache().1 >= 2.0
        });
        assert_eq!(world.cache(), (uses - 2.0, 2.0));
        assert_eq!(uses > 2.0, is_remembered, "{max_age}");
    }
}

#[test]
fn what_is_remembered_is_bounded_in_memory() {
    const TOKENS: usize = 2000;
    const CONNECTIONS: usize = 8;
    let sized = |size: &str| {
        let lines = format!("[token_cache]\nsize = \"{size}\"\n[audit]\n");
        let world = world(|config| {
            *config = config.replace("[audit]\n", &lines);
        });
        let resident = || world.gateway.metric("process_resident_memory_bytes").unwrap();
        let tokens: Vec<String> = (0..TOKENS)
            .map(|_| {
                let mut claims = world.good_claims();
                claims["more"] = json!("x".repeat(4000));
                world.mint(&claims)
            })
            .collect();
        // A body of no use: it is refused after the token was accepted.
        let send = |tokens: &[String]| {
            let mut stream = TcpStream::connect(world.gateway.api).unwrap();
            let mut answers = BufReader::new(stream.try_clone().unwrap());
            for token in tokens {
                let text = request(token, "{}").replace("Connection: close\r\n", "");
                stream.write_all(text.as_bytes()).unwrap();
                assert_eq!(next_status(&mut answers), 400);
            }
        };
        let round = || {
            std::thread::scope(|scope| {
                for part in tokens.chunks(TOKENS / CONNECTIONS) {
                    scope.spawn(move || send(part));
                }
            });
        };
        send(&tokens[..100]);
        let before = resident();
        round();
        let grown = resident() - before;
        let hits = world.cache().0;
        round();
        (world.cache().0 - hits, grown)
    };
    let (hits, grown) = sized("64KiB");
    let (all, grown_without_bound) = sized("1GiB");
    println!("64KiB: {hits} hits, {grown} bytes; 1GiB: {all} hits, {grown_without_bound} bytes");
    assert_eq!(all, TOKENS as f64);
    // Each takes 1 KiB at the least, and here, with its claims, more than 4 KiB.
    assert!(hits <= 16.0, "{hits} of {TOKENS}");
    assert!(grown < grown_without_bound / 2.0, "{grown} of {grown_without_bound} bytes");
}

#[test]
fn the_same_new_token_a_hundred_times_at_once_is_good_each_time() {
    let world = world(|_| {});
    let token = world.supervisor();
    for reply in at_once(&world, &vec![token.clone(); 100]) {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let (hits, misses) = world.cache();
    assert!(hits + misses == 100.0 && misses >= 1.0, "{hits} and {misses}");
    world.assert_accepted(&token);
    assert_eq!(world.cache(), (hits + 1.0, misses));
}

#[test]
fn a_restart_remembers_nothing() {
    let mut world = world(|_| {});
    let token = world.supervisor();
    for _ in 0..2 {
        world.assert_accepted(&token);
    }
    support::trail::stop(&mut world);
    world.gateway = support::Gateway::start(serve(&world));
    world.gateway.wait_until_ready();
    world.assert_accepted(&token);
    assert_eq!(world.cache(), (0.0, 1.0));
}
