//! What SIEMs get is what their schemas say.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use support::reading::{audit, folder_of, line, python, trail};

fn export(folder: &Path, format: &str) -> Vec<Value> {
    let (status, words) = audit("export", folder, &["--format", format]);
    assert_eq!(status, 0, "{words}");
    words.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sample allowed and made; one that failed; one whose outcome the CMS did not tell; one that
/// has none.
fn outcomes() -> tempfile::TempDir {
    let upstream = |code: &str, status: Value| {
        let upstream = json!({"status": status, "code": code, "attempts": 2, "duration_us": 2500});
        [("/upstream", upstream), ("/credential", json!({"source": "file", "version": "v2"}))]
    };
    folder_of(&[&[
        line(1, "10:00:00", "intent", 1, &[]),
        line(2, "10:00:01", "outcome", 1, &[]),
        line(3, "10:00:02", "intent", 2, &[]),
        line(4, "10:00:03", "outcome", 2, &upstream("CONF-1001", json!(404))),
        line(5, "10:00:04", "intent", 3, &[]),
        line(6, "10:00:05", "outcome", 3, &upstream("GW-5003", Value::Null)),
        line(7, "10:00:06", "intent", 4, &[("/source/claimed_request_id", json!("mine"))]),
    ]])
}

#[test]
fn ocsf_events_are_valid_by_the_published_schema() {
    let trail = trail();
    let real = export(&trail.folder, "ocsf");
    assert_eq!(real.len(), 5);
    let made = export(outcomes().path(), "ocsf");
    let file = trail.world.folder.path().join("events");
    let lines: Vec<String> = real.iter().chain(&made).map(|event| format!("{event}\n")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let checked = python("check_ocsf.py")
        .stdin(fs::File::open(&file).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let words = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(words, "9 events of 1.8.0\n");

    for event in &real {
        let time = event["time"].as_u64().unwrap();
        assert!((1_700_000_000_000..4_000_000_000_000).contains(&time), "milliseconds: {time}");
    }
    assert_eq!((&real[0]["status_id"], &real[0]["type_uid"]), (&json!(1), &json!(600_303)));
    assert_eq!(real[0]["api"]["response"]["code"], 200);
    assert_eq!(real[1]["status_id"], 2);
    assert_eq!(real[1]["status_code"], "GW-3001");
    assert_eq!(real[1]["actor"]["authorizations"][0]["decision"], "denied");
    let anonymous = (&real[4]["actor"]["app_name"], &real[4]["count"]);
    assert_eq!(anonymous, (&json!("anonymous"), &json!(1)));
    let statuses: Vec<&Value> = made.iter().map(|event| &event["status"]).collect();
    assert_eq!(statuses, ["Success", "Failure", "Unknown", "Unknown"]);
    assert_eq!(made[2]["unmapped"]["credential"]["version"], "v2");
    assert_eq!(made[3]["unmapped"]["claimed_request_id"], "mine");
}

#[test]
fn ecs_events_have_what_the_schema_asks_for() {
    let events = export(&trail().folder, "ecs");
    assert_eq!(events.len(), 5);
    for event in &events {
        let required = ["/@timestamp", "/ecs/version", "/event/kind", "/event/category"];
        assert!(required.iter().all(|place| event.pointer(place).is_some()), "{event}");
    }
    assert_eq!(events[0]["user"]["id"], "test-app");
    assert_eq!(events[0]["event"]["outcome"], "success");
    let related = json!(["anav_agent", "exe_gs", "madhur1", "test-app"]);
    assert_eq!(events[0]["related"]["user"], related, "none twice");
    assert_eq!(events[2]["event"]["type"], json!(["access", "denied"]));
    assert_eq!(events[2]["cms_gateway"]["campaign"], 7);
    let made = export(outcomes().path(), "ecs");
    let outcomes: Vec<&Value> = made.iter().map(|event| &event["event"]["outcome"]).collect();
    assert_eq!(outcomes, ["success", "failure", "unknown", "unknown"]);
    assert_eq!(made[1]["cms_gateway"]["attempts"], 2);
}
