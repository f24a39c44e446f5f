//! An issuer's keys stay fresh, and nobody who asks for keys that are not there can do harm by it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use support::identity_provider::{Endpoint, Misbehaviour};
use support::keys::{Settings, at_once, bare_request, new_key, pipelined, sign, with_key_id};
use support::{PATIENCE, SAMPLE, World, parse, request, wait_for};

/// Refreshed by those who ask for unknown keys alone.
const ON_DEMAND: &str = "refresh = \"1h\"";
/// As often as can be.
const EAGER: &str = "refresh = \"1s\", cool_down = \"1s\"";

fn world(freshness: &'static str) -> World {
    let world = World::with(Settings::by_url(freshness));
    world.gateway.wait_until_ready();
    world
}

#[test]
fn a_flood_of_unknown_keys_causes_one_fetch_in_a_cool_down_and_harms_no_good_token() {
    const FLOOD: usize = 50_000;
    const CONNECTIONS: usize = 4;
    let cool_down = Duration::from_secs(2);
    let world = world("refresh = \"1h\", cool_down = \"2s\"");
    let (begun, fetched) = (Instant::now(), world.fetches());
    let (good, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let template = world.supervisor();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // Neither was seen before and both are known after the first use.
                let token = world.supervisor();
                for _ in 0..2 {
                    world.assert_accepted(&token);
                    good.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let flood = (0..CONNECTIONS).map(|_| {
            scope.spawn(|| {
                let tokens = (0..FLOOD / CONNECTIONS)
                    .map(|_| bare_request(&with_key_id(&template, &Uuid::now_v7().to_string())));
                pipelined(&world, &tokens.collect::<Vec<_>>())
            })
        });
        let flood: Vec<_> = flood.collect();
        let answers: Vec<u16> = flood.into_iter().flat_map(|it| it.join().unwrap()).collect();
        assert!(answers.len() == FLOOD && answers.iter().all(|status| *status == 401));
        ended.store(true, Ordering::Relaxed);
    });
    // One at once, then one whenever a cool-down has passed; the next scheduled one is far away.
    let most = 1 + begun.elapsed().as_millis() / cool_down.as_millis();
    let fetches = u128::from(world.fetches() - fetched);
    assert!((1..=most).contains(&fetches), "{fetches} fetches in {:?}", begun.elapsed());
    assert_eq!(world.refusals("unknown_key"), FLOOD as f64);
    assert!(good.load(Ordering::Relaxed) > 10, "{good:?} good ones");
}

#[test]
fn a_new_key_is_found_at_once_and_the_next_one_after_the_cool_down() {
    let world = world(ON_DEMAND);
    let [first, second] = ["first", "second"].map(new_key);
    let claims = world.good_claims();
    world.provider.publish(json!({"keys": [first.public()]}));
    world.assert_accepted(&sign(&first, &claims));
    assert_eq!(world.fetches(), 2);
    world.provider.publish(json!({"keys": [first.public(), second.public()]}));
    world.assert_refused(&sign(&second, &claims), "unknown_key");
    world.assert_accepted(&sign(&first, &claims));
    assert_eq!(world.fetches(), 2, "not within the cool-down");
}

#[test]
fn a_hundred_who_ask_for_a_new_key_cost_one_fetch() {
    let world = world("refresh = \"1h\", cool_down = \"1s\"");
    for round in 2..6 {
        let key = new_key(&format!("key {round}"));
        world.provider.publish(json!({"keys": [key.public()]}));
        let claims = |_| sign(&key, &world.good_claims());
        let tokens: Vec<String> = (0..100).map(claims).collect();
        for reply in at_once(&world, &tokens) {
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        assert_eq!(world.fetches(), round);
        let asked = Instant::now();
        wait_for("the end of the cool-down", || asked.elapsed() > Duration::from_secs(1));
    }
}

#[test]
fn a_slow_refresh_delays_no_known_key_and_a_bounded_number_of_others_for_a_bounded_time() {
    const WAITING: usize = 256;
    let world = world(ON_DEMAND);
    let known = world.supervisor();
    world.assert_accepted(&known);
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::Slow);
    let unknown = with_key_id(&known, "unknown");
    let begun = Instant::now();
    let connections = (0..WAITING + 44).map(|_| {
        let mut stream = TcpStream::connect(world.gateway.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request(&unknown, SAMPLE).as_bytes()).unwrap();
        stream
    });
    let connections: Vec<_> = connections.collect();
    wait_for("too many", || world.refusals("keys_busy") == 44.0);
    let new = world.supervisor();
    for token in [&known, &new] {
        world.assert_accepted(token);
    }
    assert_eq!(world.refusals("unknown_key"), 0.0, "the others wait still");
    let (mut refused, mut busy) = (0, 0);
    for mut stream in connections {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let reply = parse(&answer);
        match (reply.status, reply.code().as_str(), reply.header("retry-after")) {
            (401, "GW-2002", None) => refused += 1,
            (503, "GW-2004", Some("1")) => busy += 1,
            _ => panic!("{reply:?}"),
        }
    }
    assert_eq!((refused, busy), (WAITING, 44));
    // A fetch may take five seconds.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(world.fetches(), 2);
}

#[test]
fn while_the_provider_is_down_known_keys_serve_until_they_are_too_old() {
    let world = world("refresh = \"1s\", cool_down = \"1s\", max_stale = \"3s\"");
    let token = world.supervisor();
    world.assert_accepted(&token);
    let labels = format!("{{issuer=\"{}\"}}", world.provider.issuer());
    let age = || world.gateway.metric(&format!("cms_gateway_jwks_age_seconds{labels}")).unwrap();
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::HangUp);
    wait_for("a failure", || world.refreshes("failure") >= 1.0);
    let mut served = 0;
    // One that was verified before, and one that never was.
    for token in [&token, &world.supervisor()] {
        wait_for("keys that are too old", || {
            let before = age();
            let reply = world.put(token, SAMPLE);
            if reply.status == 200 {
                assert!(before <= 3.0, "served with keys of {before} s");
                served += 1;
                return false;
            }
            assert_eq!((reply.status, reply.code().as_str()), (503, "GW-2004"));
            assert!(reply.header("retry-after").is_some() && age() > 3.0, "{reply:?}");
            true
        });
    }
    assert!(served > 0 && world.refusals("keys_stale") == 2.0);
    let ready = world.gateway.admin("/readyz");
    let expected = format!("keys: those of issuer {} are too old\n", world.provider.issuer());
    assert_eq!((ready.status, ready.body), (503, expected));
    assert_eq!(world.issuer()["usable"], false);
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::None);
    world.gateway.wait_until_ready();
    world.assert_accepted(&token);
    world.assert_accepted(&world.supervisor());
    assert_eq!(world.issuer()["last_error"], Value::Null);
}

#[test]
fn a_withdrawn_key_stops_at_the_refresh_that_shows_it_for_known_tokens_too() {
    let world = world(ON_DEMAND);
    let token = world.supervisor();
    world.assert_accepted(&token);
    world.assert_accepted(&token);
    assert_eq!(world.cache(), (1.0, 1.0), "it is known");
    let new = new_key("new");
    world.provider.publish(json!({"keys": [new.public()]}));
    world.assert_accepted(&token);
    world.assert_accepted(&sign(&new, &world.good_claims()));
    world.assert_refused(&token, "unknown_key");
    assert_eq!(world.key_ids(), ["new"]);
}

#[test]
fn a_bad_answer_changes_nothing_and_is_counted_and_shown() {
    let world = world(EAGER);
    let token = world.supervisor();
    let es256 = world.provider.jwks()["keys"][0].to_string();
    let doubled = es256.replacen('{', "{\"kid\":\"other\",", 1);
    let symmetric = json!({"keys": [{"kty": "oct", "kid": "es256", "k": "c2VjcmV0"}]});
    // EdDSA is not among the issuer's algorithms.
    let ed25519 = json!({"keys": [world.provider.jwks()["keys"][2]]}).to_string();
    let encryption = es256.replace("\"sig\"", "\"enc\"");
    let keys = vec![&es256; 257].iter().map(|key| key.as_str()).collect::<Vec<_>>().join(",");
    let published = [
        (symmetric.to_string(), "holds no key that can be used"),
        (format!("{{\"keys\":[{encryption}]}}"), "holds no key that can be used"),
        (format!("{{\"keys\":[{doubled}]}}"), "not JSON: "),
        (format!("{{\"keys\":[],\"keys\":[{es256}]}}"), "not JSON: "),
        (format!("{{\"keys\":[{es256}]}} {{}}"), "not JSON: trailing"),
        (format!("[{es256}]"), "has no list \"keys\""),
        (format!("{{\"keys\":[{keys}]}}"), "holds more than 256 keys"),
        ("{\"keys\":[]}".to_owned(), "holds no key that can be used"),
        (ed25519.clone(), "holds no key for any of the issuer's algorithms"),
    ];
    let bad = Misbehaviour::ALL.iter().filter_map(|how| match how {
        Misbehaviour::None | Misbehaviour::WrongType => None,
        Misbehaviour::Unauthorized => Some((how, "the answer was 401")),
        Misbehaviour::NotFound => Some((how, "the answer was 404")),
        Misbehaviour::Error => Some((how, "the answer was 500")),
        Misbehaviour::Redirect => Some((how, "the answer was 302")),
        Misbehaviour::Slow => Some((how, "no whole answer within 5s")),
        Misbehaviour::Garbage => Some((how, "not JSON: ")),
        Misbehaviour::Empty => Some((how, "has no list \"keys\"")),
        Misbehaviour::Huge => Some((how, "the answer is larger than 524288 bytes")),
        Misbehaviour::HangUp => Some((how, "the answer is broken")),
    });
    let told = |what: &str, words: &str| {
        let (failures, fetches) = (world.refreshes("failure"), world.fetches());
        wait_for(what, || {
            world.fetches() > fetches
                && world.refreshes("failure") > failures
                && world.last_error().contains(words)
        });
        assert_eq!(world.key_ids(), ["es256", "rs256", "eddsa"], "{what}");
        for token in [&token, &world.supervisor()] {
            world.assert_accepted(token);
        }
        let ready = world.gateway.admin("/readyz");
        assert_eq!(ready.status, 200, "{what}");
        assert!(ready.body.contains("warning: keys: ") && ready.body.contains(words), "{ready:?}");
    };
    for (text, words) in published {
        world.provider.publish_text(text.clone());
        told(&text, words);
    }
    for (how, words) in bad {
        world.provider.misbehave(Endpoint::Jwks, *how);
        told(&format!("{how:?}"), words);
    }
    // Providers give key sets all sorts of types; what counts is what stands in them.
    world.provider.publish(world.provider.jwks().clone());
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::WrongType);
    let before = world.refreshes("success");
    wait_for("a good answer", || world.refreshes("success") > before);
    assert_eq!(world.issuer()["last_error"], Value::Null);
}

#[test]
fn an_answer_says_when_the_next_refresh_comes_within_bounds() {
    let freshness = "refresh = \"100s\", cool_down = \"20s\"";
    for (header, seconds) in [
        ("max-age=50", 50.0),
        ("public, max-age=50", 50.0),
        ("max-age=1", 20.0),
        ("no-store", 20.0),
        ("max-age=7200", 100.0),
        ("public", 100.0),
    ] {
        let world = world(freshness);
        world.provider.cache_control(header);
        wait_for("the first plan", || !world.issuer()["next_refresh"].is_null());
        let before = world.issuer();
        assert!(lies_ahead(&before, 100.0), "{before}");
        world.assert_refused(&with_key_id(&world.supervisor(), "unknown"), "unknown_key");
        let after = world.issuer();
        assert!(world.fetches() == 2 && lies_ahead(&after, seconds), "{header}: {after}");
    }
}

/// Whether the next refresh comes so long after the last one or up to a fifth sooner, but never
/// sooner than the cool-down of twenty seconds.
fn lies_ahead(issuer: &Value, seconds: f64) -> bool {
    let time = |name: &str| {
        let text = issuer[name].as_str().unwrap();
        humantime::parse_rfc3339(text).unwrap()
    };
    let pause = time("next_refresh").duration_since(time("last_refresh")).unwrap().as_secs_f64();
    // Both are told in whole seconds.
    ((seconds * 0.8).max(20.0) - 1.0..=seconds + 1.0).contains(&pause)
}

#[test]
fn a_short_max_age_makes_refreshes_come_as_often_as_the_cool_down_and_no_oftener() {
    let world = world("refresh = \"1h\", cool_down = \"1s\"");
    world.provider.cache_control("max-age=0");
    let (begun, fetched) = (Instant::now(), world.fetches());
    world.assert_refused(&with_key_id(&world.supervisor(), "unknown"), "unknown_key");
    wait_for("refreshes", || world.fetches() >= fetched + 4);
    // Three pauses, none shorter than the cool-down.
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn keys_that_may_be_as_old_as_a_refresh_is_late_are_never_too_old() {
    let world = world("refresh = \"2s\", max_stale = \"2s\"");
    let (token, begun) = (world.supervisor(), Instant::now());
    wait_for("three times max_stale", || {
        world.assert_accepted(&token);
        assert_eq!(world.gateway.admin("/readyz").status, 200);
        begun.elapsed() > Duration::from_secs(6)
    });
    assert_eq!(world.refreshes("failure"), 0.0);
}
