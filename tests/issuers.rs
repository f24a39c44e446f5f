//! Whose tokens are accepted: several issuers at once, each by its own keys, wherever they are.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::identity_provider::{Endpoint, IdentityProvider, Misbehaviour};
use support::keys::{Settings, another_provider, new_key, sign, sign_under};
use support::{World, records_in, wait_for};

const TABLE: &str = "[[issuers]]\nissuer = \"{issuer}\"\naudiences = [\"cms-gateway\"]\n\
                     algorithms = [\"ES256\", \"EdDSA\"]\njwks = { {source} }\n";

/// One more issuer before all roles.
fn add(config: &mut String, issuer: &str, source: &str) {
    let table = TABLE.replace("{issuer}", issuer).replace("{source}", source);
    *config = config.replacen("[roles.", &format!("{table}[roles."), 1);
}

fn claims(provider: &IdentityProvider) -> Value {
    provider.claims("test-app", &["campaign-supervisor"])
}

fn minted<E>(token: Result<String, E>) -> String {
    token.map_err(|_| "not minted").unwrap()
}

#[test]
fn each_issuer_has_its_own_keys_and_signs_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut others = Vec::new();
    let world = World::with(|config| {
        Settings::by_url("refresh = \"1h\"")(config);
        for _ in 0..3 {
            others.push(another_provider());
        }
        let [by_file, by_openid, by_oauth] = &others[..] else { panic!() };
        let file = folder.path().join("other.json");
        fs::write(&file, by_file.jwks().to_string()).unwrap();
        add(config, by_file.issuer(), &format!("file = {file:?}"));
        by_openid.misbehave(Endpoint::AuthorizationServer, Misbehaviour::NotFound);
        add(config, by_openid.issuer(), "discover = true");
        by_oauth.misbehave(Endpoint::OpenIdConfiguration, Misbehaviour::NotFound);
        add(config, by_oauth.issuer(), "discover = true");
    });
    world.gateway.wait_until_ready();
    let providers = [&[world.provider.clone()][..], &others].concat();
    for (own, provider) in providers.iter().enumerate() {
        world.assert_accepted(&minted(provider.mint(&claims(provider))));
        let eddsa = minted(provider.mint_eddsa(&claims(provider)));
        if own == 0 {
            world.assert_refused(&eddsa, "algorithm");
        } else {
            world.assert_accepted(&eddsa);
        }
        let record = world.records().pop().unwrap();
        assert_eq!(record["actor"]["issuer"], provider.issuer());
        for stranger in providers.iter().filter(|other| other.issuer() != provider.issuer()) {
            // Its key has the same name.
            world.assert_refused(&minted(stranger.mint(&claims(provider))), "signature");
        }
    }
    assert_eq!(world.fetches(), 1);
    let [by_file, by_openid, by_oauth] = &others[..] else { panic!() };
    let asked = |provider: &IdentityProvider| {
        let endpoints =
            [Endpoint::Jwks, Endpoint::OpenIdConfiguration, Endpoint::AuthorizationServer];
        endpoints.map(|endpoint| provider.asked(endpoint))
    };
    assert_eq!([by_file, by_openid, by_oauth].map(asked), [[0, 0, 0], [1, 1, 0], [1, 1, 1]]);
    for name in [providers[0].issuer().trim_end_matches('/'), "https://idp.example.com/"] {
        let mut claims = claims(&world.provider);
        claims["iss"] = json!(name);
        world.assert_refused(&world.mint(&claims), "unknown_issuer");
    }
}

#[test]
fn a_key_file_that_is_replaced_counts_within_a_second() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let within = |replaced: Instant, id: &str| {
        wait_for("the other key", || world.key_ids() == [id]);
        assert!(replaced.elapsed() < Duration::from_secs(1), "{id}: {:?}", replaced.elapsed());
    };
    let path = world.folder.path().join("jwks.json");
    let old = world.supervisor();
    let keys = ["renamed", "written", "swapped", "once more"].map(new_key);
    let text = |number: usize| json!({"keys": [keys[number].public()]}).to_string();
    within(world.rename_keys(&text(0)), "renamed");
    world.assert_refused(&old, "unknown_key");
    world.assert_accepted(&sign(&keys[0], &world.good_claims()));

    fs::write(&path, text(1)).unwrap();
    within(Instant::now(), "written");
    world.assert_accepted(&sign(&keys[1], &world.good_claims()));

    // As Kubernetes does: jwks.json -> ..data/jwks.json, and ..data -> one folder or another.
    let folder = world.folder.path();
    for (number, id) in [(2, "swapped"), (3, "once more")] {
        let version = format!("..{number}");
        fs::create_dir(folder.join(&version)).unwrap();
        fs::write(folder.join(&version).join("jwks.json"), text(number)).unwrap();
        symlink(&version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if number == 2 {
            symlink("..data/jwks.json", folder.join("link")).unwrap();
            fs::rename(folder.join("link"), &path).unwrap();
        }
        within(Instant::now(), id);
        world.assert_accepted(&sign(&keys[number], &world.good_claims()));
    }
}

#[test]
fn other_keys_are_an_audit_event_and_their_order_is_none() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let own = world.provider.jwks()["keys"].clone();
    let (new, mut reordered) = (new_key("new"), own.as_array().unwrap().clone());
    reordered.reverse();
    let mut keys_then = vec!["es256, rs256, eddsa"];
    for (keys, ids, is_event) in [
        (json!(reordered), "eddsa, rs256, es256", false),
        (json!([new.public(), own[1]]), "new, rs256", true),
        (json!([own[1], new.public()]), "rs256, new", false),
        (json!([own[1]]), "rs256", true),
    ] {
        world.rename_keys(&json!({"keys": keys}).to_string());
        wait_for("the other keys", || world.key_ids().join(", ") == ids);
        if is_event {
            keys_then.push(ids);
        }
    }
    let name = world.provider.issuer();
    let expected: Vec<_> = keys_then.iter().map(|ids| format!("{name}: {ids}")).collect();
    let on_record = || {
        let records = records_in(&world.folder.path().join("audit"));
        let events = records.into_iter().filter(|it| it["event"]["name"] == "keys_changed");
        events.map(|it| it["event"]["detail"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_for("the last event", || on_record().last() == expected.last());
    assert_eq!(on_record(), expected);
}

#[test]
fn a_key_file_that_is_spoilt_changes_nothing() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let (token, good) = (world.supervisor(), world.provider.jwks().to_string());
    let es256 = world.provider.jwks()["keys"][0].to_string();
    let doubled = format!("{{\"keys\":[{}]}}", es256.replacen('{', "{\"kid\":\"x\",", 1));
    let path = world.folder.path().join("jwks.json");
    for (failures, (text, words)) in [
        ("{", "not JSON"),
        ("{\"keys\":[]}", "holds no key that can be used"),
        (&doubled, "not JSON"),
        (&" ".repeat((512 << 10) + 1), "is larger than 524288 bytes"),
        ("gone", "can't be read: No such file"),
    ]
    .into_iter()
    .enumerate()
    {
        if text == "gone" {
            fs::remove_file(&path).unwrap();
        } else {
            world.rename_keys(text);
        }
        wait_for(words, || world.refreshes("failure") == failures as f64 + 1.0);
        wait_for(words, || world.last_error().contains(words));
        for token in [&token, &world.supervisor()] {
            world.assert_accepted(token);
        }
        assert_eq!(world.key_ids(), ["es256", "rs256", "eddsa"]);
    }
    world.rename_keys(&good);
    wait_for("the good one", || world.issuer()["last_error"].is_null());
    world.assert_accepted(&token);
}

#[test]
fn the_keys_of_a_spoilt_file_count_until_they_are_too_old() {
    let world = World::with(|config| {
        let file = "file = \"jwks.json\", refresh = \"1s\", max_stale = \"2s\"";
        Settings::keys(config, file);
    });
    world.gateway.wait_until_ready();
    let (token, begun) = (world.supervisor(), Instant::now());
    // As long as the file is as it was, its keys do not age.
    wait_for("more than max_stale", || {
        world.assert_accepted(&token);
        begun.elapsed() > Duration::from_millis(2500)
    });
    let spoilt = world.rename_keys("{");
    world.assert_accepted(&token);
    wait_for("keys that are too old", || {
        let reply = world.put(&token, support::SAMPLE);
        let is_over = reply.status == 503 && reply.code() == "GW-2004";
        assert!(is_over || reply.status == 200, "{reply:?}");
        is_over
    });
    assert!(spoilt.elapsed() >= Duration::from_secs(2), "{:?}", spoilt.elapsed());
    assert_eq!(world.gateway.admin("/readyz").status, 503);
    world.rename_keys(&world.provider.jwks().to_string());
    world.gateway.wait_until_ready();
    world.assert_accepted(&token);
}

#[test]
fn a_token_without_a_key_id_is_good_if_exactly_one_key_fits() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let [one, two] = ["one", "two"].map(new_key);
    let token = sign_under(&one, |header| header.kid = None, &world.good_claims());
    let rs256 = &world.provider.jwks()["keys"][1];
    let again = with(one.public(), "kid", json!("again"));
    let nameless = without(one.public(), "kid");
    for (keys, ids, refused) in [
        (json!([one.public(), rs256]), &["one", "rs256"][..], None),
        (json!([nameless]), &["(none)"], None),
        // The same key twice is one key.
        (json!([one.public(), one.public()]), &["one"], None),
        (json!([one.public(), two.public()]), &["one", "two"], Some("ambiguous_key")),
        (json!([one.public(), again]), &["one", "again"], Some("ambiguous_key")),
        (json!([rs256]), &["rs256"], Some("unknown_key")),
        (json!([two.public()]), &["two"], Some("signature")),
    ] {
        world.rename_keys(&json!({"keys": keys}).to_string());
        world.wait_for_keys(ids);
        match refused {
            None => world.assert_accepted(&token),
            Some(reason) => world.assert_refused(&token, reason),
        }
    }
    // A key without a name is not the one that a token names.
    world.rename_keys(&json!({"keys": [nameless]}).to_string());
    world.wait_for_keys(&["(none)"]);
    world.assert_refused(&sign(&one, &world.good_claims()), "unknown_key");
}

fn with(key: &Value, name: &str, value: Value) -> Value {
    let mut key = key.clone();
    key[name] = value;
    key
}

fn without(key: &Value, name: &str) -> Value {
    let mut key = key.clone();
    key.as_object_mut().unwrap().shift_remove(name);
    key
}

#[test]
fn a_key_is_used_for_what_it_says_alone() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let (key, other) = (new_key("key"), new_key("other"));
    let token = sign(&key, &world.good_claims());
    let public = key.public();
    let bare = without(&without(public, "use"), "alg");
    for (key, is_used) in [
        (public.clone(), true),
        (bare.clone(), true),
        (with(public, "use", json!("enc")), false),
        (with(public, "use", json!("other")), false),
        (with(public, "alg", json!("ES384")), false),
        (with(public, "alg", json!("ECDH-ES")), false),
        (with(public, "alg", json!("HS256")), false),
        (with(public, "alg", json!(1)), false),
        (with(&bare, "key_ops", json!(["verify"])), true),
        (with(&bare, "key_ops", json!(["sign", "verify"])), true),
        (with(&bare, "key_ops", json!(["sign"])), false),
        (with(&bare, "key_ops", json!(["deriveKey"])), false),
        (with(&bare, "key_ops", json!([])), false),
        (with(public, "crv", json!("P-384")), false),
        (with(public, "kty", json!("RSA")), false),
    ] {
        world.rename_keys(&json!({"keys": [other.public(), key]}).to_string());
        let ids: &[&str] = if is_used { &["other", "key"] } else { &["other"] };
        world.wait_for_keys(ids);
        if is_used {
            world.assert_accepted(&token);
        } else {
            world.assert_refused(&token, "unknown_key");
        }
        world.rename_keys(&world.provider.jwks().to_string());
        world.wait_for_keys(&["es256", "rs256", "eddsa"]);
    }
    // `alg` narrows an RSA key down, where the issuer's list would allow more.
    let rs256 = &world.provider.jwks()["keys"][1];
    for (key, algorithms) in [
        (rs256.clone(), json!(["RS256"])),
        (without(rs256, "alg"), json!(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])),
    ] {
        world.rename_keys(&json!({"keys": [key]}).to_string());
        wait_for("the key", || world.issuer()["keys"][0]["algorithms"] == algorithms);
    }
}

#[test]
fn the_admin_listener_shows_each_key_and_since_when_it_is_held() {
    let freshness = "refresh = \"1s\", cool_down = \"1s\"";
    let world = World::with(Settings::by_url(freshness));
    world.gateway.wait_until_ready();
    let first = world.issuer();
    assert_eq!(first["issuer"], world.provider.issuer());
    assert_eq!((&first["usable"], &first["last_error"]), (&json!(true), &Value::Null));
    let own = world.provider.jwks();
    for (at, algorithm) in ["ES256", "RS256", "EdDSA"].into_iter().enumerate() {
        let key = &first["keys"][at];
        assert_eq!(key["kid"], own["keys"][at]["kid"]);
        assert_eq!(key["algorithms"], json!([algorithm]));
        assert_eq!(key["thumbprint"].as_str().unwrap().len(), 43);
    }
    let seconds = |value: &Value| {
        let time = humantime::parse_rfc3339(value.as_str().unwrap()).unwrap();
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    let new = new_key("new");
    let old = own["keys"].as_array().unwrap();
    let all = [old.as_slice(), &[new.public().clone()]].concat();
    let mut last = first.clone();
    for round in 0..3 {
        let (before, fetches) = (seconds(&last["last_refresh"]), world.refreshes("success"));
        if round == 1 {
            world.provider.publish(json!({"keys": all}));
        }
        wait_for("a refresh", || {
            last = world.issuer();
            // In whole seconds, with refreshes that are nearly one apart.
            let (refreshed, next) = (&last["last_refresh"], &last["next_refresh"]);
            world.refreshes("success") >= fetches + 2.0
                && seconds(refreshed) > before
                && seconds(next) >= seconds(refreshed)
        });
        for at in 0..3 {
            assert_eq!(last["keys"][at], first["keys"][at], "held as long as before");
        }
    }
    assert_eq!(last["keys"][3]["kid"], "new");
    assert!(seconds(&last["keys"][3]["held_since"]) > seconds(&first["keys"][0]["held_since"]));
    // A key that goes and comes again was not held meanwhile.
    world.provider.publish(json!({"keys": [new.public()]}));
    world.wait_for_keys(&["new"]);
    world.provider.publish(json!({"keys": all}));
    world.wait_for_keys(&["es256", "rs256", "eddsa", "new"]);
    let again = world.issuer();
    assert!(seconds(&again["keys"][0]["held_since"]) > seconds(&first["keys"][0]["held_since"]));
    assert_eq!(again["keys"][3], last["keys"][3]);
    world.provider.misbehave(Endpoint::Jwks, Misbehaviour::Error);
    wait_for("a fault", || world.last_error().contains("500"));
    let fault = world.issuer()["last_error"].take();
    assert!(seconds(&fault["time"]) >= seconds(&again["last_refresh"]), "{fault}");
    assert_eq!(world.issuer()["keys"], again["keys"]);
}
