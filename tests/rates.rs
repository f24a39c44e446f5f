//! A caller is told how it stands with its rate, and what it is told is true.
//!
//! The headers are read as draft-ietf-httpapi-ratelimit-headers-11 has them, and as strictly.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};

use support::cms::Misbehaviour;
use support::issuers::replace_issuers;
use support::{Reply, SAMPLE, World, exchange, request, wait_for};

/// What an answer says of the caller's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    quota: u64,
    window: u64,
    remaining: u64,
    until_more: u64,
}

/// Nothing, or both headers, once each, with exactly the parameters that the draft requires.
fn told(reply: &Reply) -> Option<Told> {
    let values = |name: &str| -> Vec<&str> {
        let own = reply.headers.iter().filter(|(own, _)| own == name);
        own.map(|(_, value)| value.as_str()).collect()
    };
    let (policy, limit) = (values("ratelimit-policy"), values("ratelimit"));
    if (policy.len(), limit.len()) == (0, 0) {
        return None;
    }
    assert_eq!((policy.len(), limit.len()), (1, 1), "{reply:?}");
    let ([quota, window], [remaining, until_more]) =
        (parameters(policy[0], ["q", "w"]), parameters(limit[0], ["r", "t"]));
    assert!(window > 0 && until_more > 0 && remaining <= quota, "{reply:?}");
    Some(Told { quota, window, remaining, until_more })
}

/// An item of RFC 9651 whose value is the policy's name and whose parameters are these integers.
fn parameters<const N: usize>(item: &str, names: [&str; N]) -> [u64; N] {
    let mut parts = item.split(';');
    assert_eq!(parts.next(), Some("\"caller\""), "{item}");
    let values = names.map(|name| {
        let (own, value) = parts.next().unwrap().split_once('=').unwrap();
        let is_integer = value.len() <= 15 && value.bytes().all(|byte| byte.is_ascii_digit());
        assert!(own == name && is_integer, "{item}");
        value.parse().unwrap()
    });
    assert_eq!(parts.next(), None, "{item}");
    values
}

fn limited(rate: &str) -> World {
    let world = World::with(|config| {
        // Some must wait for it; it leaves the others time enough to ask meanwhile.
        *config += &format!("response_timeout = \"5s\"\n[limits]\nrate = {{ {rate} }}\n");
    });
    world.gateway.wait_until_ready();
    world
}

#[test]
fn every_answer_to_an_authenticated_caller_says_how_it_stands() {
    let world = limited("requests = 1, per = \"1h\", burst = 6");
    let token = world.supervisor();
    let stranger = world.put("e30.e30.AA", SAMPLE);
    assert_eq!((stranger.status, told(&stranger)), (401, None));
    let elsewhere = request(&token, SAMPLE).replacen("/cms", "/cmd", 1);
    let elsewhere = exchange(world.gateway.api, elsewhere.as_bytes());
    assert_eq!((elsewhere.status, told(&elsewhere)), (404, None), "nobody asked who that is");
    let dialer = world.token(&["north-dialer"]);
    let wrong_type = request(&token, SAMPLE).replace("application/json", "text/plain");
    let rows: [(u16, &dyn Fn() -> Reply); 6] = [
        (200, &|| world.put(&token, SAMPLE)),
        (403, &|| world.put(&dialer, SAMPLE)),
        (400, &|| world.put(&token, "{}")),
        (415, &|| exchange(world.gateway.api, wrong_type.as_bytes())),
        (404, &|| world.put(&token, &SAMPLE.replace("\"leadId\":2", "\"leadId\":99"))),
        (502, &|| {
            world.cms.misbehave(Misbehaviour::Garbage);
            world.put(&token, SAMPLE)
        }),
    ];
    for (remaining, (status, ask)) in (0..6).rev().zip(rows) {
        let reply = ask();
        assert_eq!(reply.status, status, "{reply:?}");
        let told = told(&reply).unwrap();
        assert_eq!((told.quota, told.window, told.remaining), (6, 6 * 3600, remaining));
        assert!(told.until_more > 3000 && told.until_more <= 3600, "{told:?}");
        assert_eq!(reply.header("retry-after"), None);
    }
    let refused = world.put(&token, SAMPLE);
    assert_eq!((refused.status, refused.code().as_str()), (429, "GW-3003"));
    let told = told(&refused).unwrap();
    assert_eq!(told.remaining, 0);
    assert!(told.until_more > 3000 && told.until_more <= 3600, "{told:?}");
    assert_eq!(refused.header("retry-after"), Some(told.until_more.to_string().as_str()));
    let record = world.records().pop().unwrap();
    assert_eq!(
        (&record["kind"], &record["decision"]["code"]),
        (&json!("denied"), &json!("GW-3003"))
    );
    assert_eq!(record["actor"]["client_id"], "test-app");
}

#[test]
fn nothing_is_said_of_a_rate_that_is_not_configured() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, told(&reply)), (200, None));
}

#[test]
fn a_caller_that_does_as_it_is_told_is_never_refused() {
    // A bucket smaller than the rate, one larger, and one that does not divide.
    for rate in [
        "requests = 20, per = \"1s\", burst = 3",
        "requests = 2, per = \"1s\", burst = 5",
        "requests = 3, per = \"2s\", burst = 1",
    ] {
        let world = limited(rate);
        let token = world.supervisor();
        let mut last = told(&world.put(&token, SAMPLE)).unwrap();
        for _ in 0..3 {
            for _ in 0..last.remaining {
                let reply = world.put(&token, SAMPLE);
                assert_eq!(reply.status, 200, "{rate}: {reply:?} after {last:?}");
                last = told(&reply).unwrap();
            }
            if last.remaining == 0 {
                std::thread::sleep(Duration::from_secs(last.until_more));
                let reply = world.put(&token, SAMPLE);
                assert_eq!(reply.status, 200, "{rate}: {reply:?} after {last:?}");
                last = told(&reply).unwrap();
            }
        }
    }
}

#[test]
fn a_caller_that_comes_back_when_it_was_told_is_served() {
    let world = limited("requests = 1, per = \"1s\", burst = 1");
    let token = world.supervisor();
    let mut refused = world.put(&token, SAMPLE);
    wait_for("a refusal", || {
        refused = world.put(&token, SAMPLE);
        refused.status == 429
    });
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(after, told(&refused).unwrap().until_more);
    std::thread::sleep(Duration::from_secs(after));
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn what_is_told_is_how_it_stands_as_the_answer_leaves() {
    let world = limited("requests = 1, per = \"1h\", burst = 10");
    let token = world.supervisor();
    // Until the CMS has accepted the credential once, others would wait for the slow request.
    assert_eq!(told(&world.put(&token, SAMPLE)).unwrap().remaining, 9);
    world.cms.misbehave(Misbehaviour::Slow);
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| world.put(&token, SAMPLE));
        wait_for("the slow request", || world.cms.calls() == 2);
        world.cms.misbehave(Misbehaviour::None);
        for remaining in [7, 6] {
            assert_eq!(told(&world.put(&token, SAMPLE)).unwrap().remaining, remaining);
        }
        slow.join().unwrap()
    });
    assert_eq!(slow.status, 504);
    assert_eq!(told(&slow).unwrap().remaining, 6, "others have asked since it did");
}

#[test]
fn nobody_is_told_to_come_back_before_it_may() {
    let world = limited("requests = 1, per = \"1h\", burst = 2");
    let token = world.supervisor();
    let audit = world.folder.path().join("audit");
    std::fs::rename(&audit, audit.with_file_name("gone")).unwrap();
    std::fs::write(&audit, "").unwrap();
    let first = world.put(&token, SAMPLE);
    assert_eq!((first.status, first.code().as_str()), (503, "GW-4001"), "{first:?}");
    assert_eq!(first.header("retry-after"), Some("1"), "one is left: {first:?}");
    let last = world.put(&token, SAMPLE);
    assert_eq!((last.status, told(&last).unwrap().remaining), (503, 0));
    let after: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(after, told(&last).unwrap().until_more);
}

#[test]
fn an_app_has_one_rate_whoever_it_acts_for() {
    let others = "https://other.example.com/";
    let world = World::with(|config| {
        let issuer = support::keys::issuer(config).to_owned();
        let entry = |issuer: &str| {
            format!(
                "[[issuers]]\nissuer = \"{issuer}\"\naudiences = [\"cms-gateway\"]\n\
                 jwks = {{ file = \"jwks.json\" }}\nalgorithms = [\"ES256\", \"RS256\"]\n\
                 roles_claim = \"roles\"\n"
            )
        };
        replace_issuers(config, &(entry(&issuer) + &entry(others)));
        *config += "[limits]\nrate = { requests = 1, per = \"1h\", burst = 4 }\n";
    });
    world.gateway.wait_until_ready();
    let remaining = |change: &dyn Fn(&mut Value)| {
        let mut claims = world.good_claims();
        change(&mut claims);
        let reply = world.put(&world.mint(&claims), SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
        let shown = format!("{:?}", reply.headers);
        for name in ["test-app", "another-app", "ann", "bob"] {
            assert!(!shown.contains(name), "{shown}");
        }
        told(&reply).unwrap().remaining
    };
    let subject = |name: &'static str| {
        move |claims: &mut Value| {
            claims["sub"] = json!(name);
        }
    };
    assert_eq!(remaining(&subject("ann")), 3);
    assert_eq!(remaining(&subject("bob")), 2, "the same app");
    assert_eq!(remaining(&|claims| claims["client_id"] = json!("another-app")), 3);
    assert_eq!(remaining(&|claims| claims["iss"] = json!(others)), 3, "another issuer's app");
    let without_app = |name: &'static str| {
        move |claims: &mut Value| {
            claims["sub"] = json!(name);
            claims.as_object_mut().unwrap().retain(|name, _| name != "client_id" && name != "azp");
        }
    };
    assert_eq!(remaining(&without_app("ann")), 3);
    assert_eq!(remaining(&without_app("ann")), 2);
    assert_eq!(remaining(&without_app("bob")), 3, "another subject, where there is no app");
}
