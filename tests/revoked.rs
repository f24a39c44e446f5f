//! A token that the operator has taken back is refused within a second, however good it is and
//! however often it was accepted before.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::issuers::{refusals, serve_with_a_full_log};
use support::trail::events;
use support::{Reply, SAMPLE, World, records_in, wait_for};

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
    let mut claims = world.provider.claims("app", &["campaign-supervisor"]);
    claims["sub"] = json!("alice");
    let (token, issued) = (world.mint(&claims), claims["iat"].as_u64().unwrap());
    remember(&world, &token);
    let time =
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(issued + 1));
    for entry in [
        json!({"token_id": claims["jti"]}),
        json!({"token_id": claims["jti"], "issuer": world.provider.issuer()}),
        json!({"subject": "alice"}),
        json!({"client_id": "app"}),
        json!({"subject": "alice", "client_id": "app"}),
        json!({"subject": "alice", "issued_before": issued + 1}),
        json!({"client_id": "app", "issued_before": time.to_string()}),
    ] {
        let what = entry.to_string();
        let before = refusals(&world.gateway, "revoked");
        let reply = soon(&world, &token, 401, &what, || write(&world, &list(&json!([entry]))));
        assert_eq!(reply.code(), "GW-2002", "{what}");
        let record = world.record_of(&reply).unwrap();
        let actor = json!({
            "issuer": world.provider.issuer(), "subject": "alice", "client_id": "app",
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
