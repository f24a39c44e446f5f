//! A token that the operator has taken back is refused within a second, however good it is and
//! however often it was accepted before.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::issuers::{refusals, serve_with_a_full_log};
use support::trail::{events, serve_with_fault};
use support::{PATIENCE, Reply, SAMPLE, World, exchange, parse, records_in, request, wait_for};

/// How long a change of the file may take until it counts.
const SOON: Duration = Duration::from_secs(1);
const NOBODY: &str = r#"{"revoked":[]}"#;

/// A gateway with a revocation list, which this makes beside its configuration.
fn world(list: impl FnOnce(&Path)) -> World {
    let world = World::with_command(
        |config| config.push_str("[revocation]\nfile = \"revoked.json\"\n"),
        |config| {
            list(config.parent().unwrap());
            serve_with_a_full_log(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

/// A gateway with this revocation list.
fn world_with(text: &str) -> World {
    world(|folder| fs::write(folder.join("revoked.json"), text).unwrap())
}

/// The file at its place, as a whole.
fn write(world: &World, text: &str) {
    let file = file(world);
    fs::write(file.with_extension("new"), text).unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

fn file(world: &World) -> PathBuf {
    world.folder.path().join("revoked.json")
}

fn list(entries: &Value) -> String {
    json!({"revoked": entries}).to_string()
}

/// Does this, and fails if the token's status is not soon this one.
fn soon(world: &World, token: &str, status: u16, what: &str, done: impl FnOnce()) -> Reply {
    let begun = Instant::now();
    done();
    let mut reply = None;
    wait_for(what, || {
        let asked = world.put(token, SAMPLE);
        let is_as_expected = asked.status == status;
        reply = Some(asked);
        is_as_expected
    });
    assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    reply.unwrap()
}

/// Uses a token until it is one that is remembered.
fn remember(world: &World, token: &str) {
    let hits = || world.gateway.metric("cms_gateway_token_cache_hits_total").unwrap();
    assert_eq!(world.put(token, SAMPLE).status, 200);
    let before = hits();
    assert_eq!(world.put(token, SAMPLE).status, 200);
    assert_eq!(hits(), before + 1.0, "the token is not remembered");
}

fn events_named(world: &World, name: &str) -> Vec<Value> {
    let records = records_in(&world.folder.path().join("audit"));
    events(&records, name).into_iter().map(|record| record["event"].clone()).collect()
}

fn loads(world: &World, result: &str) -> f64 {
    let line = format!("cms_gateway_revocation_load_total{{result=\"{result}\"}}");
    world.gateway.metric(&line).unwrap_or_default()
}

#[test]
fn a_remembered_token_is_refused_within_a_second_and_comes_back_with_its_entry_gone() {
    let world = world_with(NOBODY);
    let entries: [fn(&Value) -> Value; 7] = [
        |claims| json!({"token_id": claims["jti"]}),
        |claims| json!({"token_id": claims["jti"], "issuer": claims["iss"]}),
        |_| json!({"subject": "alice"}),
        |claims| json!({"client_id": claims["client_id"]}),
        |claims| json!({"subject": "alice", "client_id": claims["client_id"]}),
        |claims| json!({"subject": "alice", "issued_before": issued(claims) + 1}),
        |claims| {
            let after = std::time::UNIX_EPOCH + Duration::from_secs(issued(claims) + 1);
            let after = humantime::format_rfc3339_seconds(after).to_string();
            json!({"client_id": claims["client_id"], "issued_before": after})
        },
    ];
    for (index, entry) in entries.into_iter().enumerate() {
        // Another one for each: of one holder only so many refusals are news.
        let client = format!("app-{index}");
        let mut claims = world.provider.claims(&client, &["campaign-supervisor"]);
        claims["sub"] = json!("alice");
        let (token, entry) = (world.mint(&claims), entry(&claims));
        remember(&world, &token);
        let what = entry.to_string();
        let before = refusals(&world.gateway, "revoked");
        let reply = soon(&world, &token, 401, &what, || write(&world, &list(&json!([entry]))));
        assert_eq!(reply.code(), "GW-2002", "{what}");
        let record = world.record_of(&reply).unwrap();
        let actor = json!({
            "issuer": world.provider.issuer(), "subject": "alice", "client_id": client,
            "roles": ["campaign-supervisor"], "token_id": claims["jti"],
        });
        assert_eq!((&record["kind"], &record["actor"]), (&json!("denied"), &actor), "{what}");
        let decision =
            json!({"allow": false, "code": "GW-2002", "reason": "revoked", "grant": null});
        assert_eq!(record["decision"], decision, "{what}");
        assert_eq!(refusals(&world.gateway, "revoked"), before + 1.0, "{what}");
        assert_eq!(world.gateway.metric("cms_gateway_revocation_entries"), Some(1.0), "{what}");
        let calls = world.cms.calls();
        soon(&world, &token, 200, &what, || write(&world, NOBODY));
        assert_eq!(world.cms.calls(), calls + 1, "{what}");
    }
}

fn issued(claims: &Value) -> u64 {
    claims["iat"].as_u64().unwrap()
}

#[test]
fn an_app_is_revoked_by_either_of_its_names() {
    let world = world_with(NOBODY);
    let mut claims = world.provider.claims("app", &["campaign-supervisor"]);
    claims["azp"] = json!("partner");
    let token = world.mint(&claims);
    remember(&world, &token);
    for name in ["app", "partner"] {
        let entry = list(&json!([{"client_id": name}]));
        soon(&world, &token, 401, name, || write(&world, &entry));
        soon(&world, &token, 200, name, || write(&world, NOBODY));
    }
}

#[test]
fn an_entry_is_about_no_other_token() {
    let world = world_with(NOBODY);
    let marked = world.supervisor();
    let mut claims = world.provider.claims("app", &["campaign-supervisor"]);
    claims["sub"] = json!("alice");
    let issued = claims["iat"].as_u64().unwrap();
    let token = world.mint(&claims);
    remember(&world, &token);
    let others = json!([
        {"token_id": "another"},
        {"token_id": claims["jti"], "issuer": "https://idp.example.com/"},
        {"subject": "app"},
        {"client_id": "alice"},
        {"subject": "Alice"},
        {"subject": "alice", "client_id": "another"},
        {"subject": "alice", "token_id": "another"},
        {"subject": "alice", "issued_before": issued},
        {"client_id": "app", "issued_before": "1970-01-01T00:00:01Z"},
        {"client_id": "test-app"},
    ]);
    soon(&world, &marked, 401, "the list", || write(&world, &list(&others)));
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_eq!(world.gateway.metric("cms_gateway_revocation_entries"), Some(10.0));
}

#[test]
fn a_list_that_is_there_from_the_start_counts_for_the_first_request() {
    let world = world_with(&list(&json!([{"client_id": "test-app"}])));
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 401);
    assert_eq!(refusals(&world.gateway, "revoked"), 1.0);
    assert_eq!(world.cms.calls(), 0);
}

#[test]
fn each_load_is_on_record_with_its_count() {
    let world = world_with(NOBODY);
    let token = world.supervisor();
    let entries = json!([{"client_id": "test-app"}, {"subject": "bob"}, {"token_id": "c"}]);
    soon(&world, &token, 401, "the list", || write(&world, &list(&entries)));
    soon(&world, &token, 200, "an empty list", || write(&world, NOBODY));
    let counts = || -> Vec<Value> {
        let loaded = events_named(&world, "revocations_loaded");
        loaded.iter().map(|event| event["count"].clone()).collect()
    };
    wait_for("the events", || counts().len() == 3);
    assert_eq!(counts(), [json!(0), json!(3), json!(0)]);
    assert_eq!(loads(&world, "success"), 3.0);
    let loaded = events_named(&world, "revocations_loaded");
    let detail = loaded[1]["detail"].as_str().unwrap();
    assert!(detail.contains("revoked.json: 3 entries, SHA-256 "), "{detail}");
    assert!(!world.told().contains("bob"), "who is on the list is not told");
}

#[test]
fn a_file_at_fault_changes_nothing_and_is_told_of() {
    let world = world_with(&list(&json!([{"subject": "alice"}])));
    let mut claims = world.provider.claims("app", &["campaign-supervisor"]);
    let good = world.mint(&claims);
    claims["sub"] = json!("alice");
    let revoked = world.mint(&claims);
    remember(&world, &good);
    let faults: [(&str, &dyn Fn()); 5] = [
        ("{\"revoked\":[", &|| write(&world, "{\"revoked\":[")),
        ("/revoked/1/sub", &|| {
            write(&world, &list(&json!([{"subject": "app"}, {"sub": "alice"}])));
        }),
        ("empty", &|| write(&world, "")),
        ("too long", &|| write(&world, &" ".repeat(17 << 20))),
        ("gone", &|| fs::remove_file(file(&world)).unwrap()),
    ];
    for (count, (what, done)) in faults.iter().enumerate() {
        done();
        let expected = f64::from(u32::try_from(count + 1).unwrap());
        wait_for(what, || loads(&world, "failure") == expected);
        wait_for(what, || events_named(&world, "revocations_refused").len() == count + 1);
        assert_eq!(world.put(&revoked, SAMPLE).status, 401, "{what}");
        assert_eq!(world.put(&good, SAMPLE).status, 200, "{what}");
        let ready = world.gateway.admin("/readyz");
        assert_eq!(ready.status, 200, "{what}");
        assert!(ready.body.contains("warning: revocation: "), "{what}: {ready:?}");
        let logged = world.gateway.log().matches("the revocation list can't be loaded").count();
        assert_eq!(logged, count + 1, "{what}");
    }
    let refused = events_named(&world, "revocations_refused");
    assert!(refused[1]["detail"].as_str().unwrap().contains("/revoked/1/sub"), "{refused:?}");
    assert_eq!(loads(&world, "success"), 1.0);
    soon(&world, &revoked, 200, "a good file", || write(&world, NOBODY));
}

#[test]
fn a_link_that_is_swapped_is_seen() {
    let version = |folder: &Path, name: &str, text: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("revoked.json"), text).unwrap();
    };
    // As Kubernetes mounts a config map.
    let world = world(|folder| {
        version(folder, "..1", NOBODY);
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/revoked.json", folder.join("revoked.json")).unwrap();
    });
    let (folder, token) = (world.folder.path(), world.supervisor());
    remember(&world, &token);
    // What was just written is read again and again; what is old, when something shows a change.
    let is_old = |folder: &str| {
        let file = world.folder.path().join(folder).join("revoked.json");
        let written = file.metadata().unwrap().modified().unwrap();
        written.elapsed().is_ok_and(|age| age > Duration::from_millis(2500))
    };
    let swap = |name: &str| {
        symlink(name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    version(folder, "..2", &list(&json!([{"client_id": "test-app"}])));
    wait_for("time to pass", || is_old("..2"));
    soon(&world, &token, 401, "the swap", || swap("..2"));
    soon(&world, &token, 200, "the swap back", || swap("..1"));
}

#[test]
fn a_body_that_comes_late_finds_its_token_revoked() {
    let world = world_with(NOBODY);
    let token = world.supervisor();
    remember(&world, &token);
    let whole = request(&token, SAMPLE);
    let (begin, end) = whole.split_at(whole.len() - 10);
    let mut late = TcpStream::connect(world.gateway.api).unwrap();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    late.write_all(begin.as_bytes()).unwrap();
    wait_for("its place", || world.gateway.metric("cms_gateway_in_flight") == Some(1.0));
    soon(&world, &token, 401, "revoked", || {
        write(&world, &list(&json!([{"client_id": "test-app"}])));
    });
    let calls = world.cms.calls();
    late.write_all(end.as_bytes()).unwrap();
    let mut answer = Vec::new();
    late.read_to_end(&mut answer).unwrap();
    assert_eq!(parse(&answer).status, 401);
    assert_eq!(world.cms.calls(), calls, "the CMS has heard of it");
}

#[test]
fn whoever_uses_a_revoked_token_again_and_again_does_not_fill_the_trail() {
    const USES: usize = 300;
    let world = world_with(&list(&json!([{"client_id": "test-app"}])));
    let token = world.supervisor();
    let begun = Instant::now();
    let whole = request(&token, SAMPLE);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..USES / 4 {
                    assert_eq!(exchange(world.gateway.api, whole.as_bytes()).status, 401);
                }
            });
        }
    });
    let most = 60 + 1 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    let of_their_own = |records: &[Value]| {
        let own =
            |it: &&Value| it["decision"]["reason"] == "revoked" && it["event"]["name"].is_null();
        records.iter().filter(own).count()
    };
    let counted = |records: &[Value]| -> u64 {
        let shared = records.iter().filter(|it| it["event"]["detail"] == "revoked");
        shared.map(|it| it["event"]["count"].as_u64().unwrap()).sum()
    };
    wait_for("the count", || {
        let records = world.records();
        of_their_own(&records) + usize::try_from(counted(&records)).unwrap() == USES
    });
    let recorded = of_their_own(&world.records());
    assert!((60..=most).contains(&recorded), "{recorded} records, {most} at most");
}

#[test]
fn a_disk_that_does_not_answer_is_told_of_and_its_keys_grow_old() {
    let freshness = "refresh = \"1s\", max_stale = \"2s\"";
    let world = World::with_command(
        |config| {
            let jwks = format!("{{ file = \"jwks.json\", {freshness} }}");
            *config = config.replace("{ file = \"jwks.json\" }", &jwks);
            config.push_str("[revocation]\nfile = \"revoked.json\"\n");
        },
        |config| {
            fs::write(config.with_file_name("revoked.json"), NOBODY).unwrap();
            serve_with_fault(config, "FAULT_HANG")
        },
    );
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let hang = world.folder.path().join("fault");
    fs::write(&hang, "").unwrap();
    write(&world, &list(&json!([{"subject": "nobody"}])));
    let jwks = world.folder.path().join("jwks.json");
    fs::write(&jwks, fs::read_to_string(&jwks).unwrap() + "\n").unwrap();
    wait_for("the keys to be too old", || {
        let ready = world.gateway.admin("/readyz");
        let answer = world.put(&token, SAMPLE);
        ready.status == 503 && answer.code() == "GW-2004"
    });
    wait_for("the word", || world.gateway.log().contains("no answer within 5s"));
    assert_eq!(events_named(&world, "revocations_refused").len(), 1);
    fs::remove_file(&hang).unwrap();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    wait_for("the list", || world.gateway.metric("cms_gateway_revocation_entries") == Some(1.0));
    assert_eq!(world.gateway.admin("/readyz").body, "ready\n");
}
