//! The trail answers: who did that, what was denied, prove it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use support::{BINARY, Gateway, Reply, SAMPLE, World, wait_for};

const OTHER: &str =
    r#"{"leadId":9,"campaignId":7,"assignedUserIds":["agent_four"],"unassignedUserIds":[]}"#;

struct Trail {
    world: World,
    folder: PathBuf,
    /// The sample by a supervisor; the same denied; another lead denied in its campaign.
    replies: Vec<Reply>,
}

fn trail() -> Trail {
    let mut world = World::with(|config| {
        *config = config.replace("[audit]\n", "[audit]\nsegment_size = \"4KiB\"\n");
    });
    world.gateway.wait_until_ready();
    let (supervisor, dialer) = (world.supervisor(), world.token(&["north-dialer"]));
    let calls = [(&supervisor, SAMPLE), (&dialer, SAMPLE), (&dialer, OTHER), (&supervisor, SAMPLE)];
    let replies = calls.iter().map(|(token, body)| world.put(token, body)).collect();
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    Trail { folder: world.folder.path().join("audit"), world, replies }
}

/// The exit status and the words.
fn audit(command: &str, folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(BINARY).args(["audit", command]).arg(folder).args(arguments).output().unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), words)
}

fn rows(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let (status, words) = audit("query", folder, &[arguments, &["--format", "json"]].concat());
    assert_eq!(status, 0, "{words}");
    words.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(reply: &Reply) -> &str {
    reply.header("x-request-id").unwrap()
}

#[test]
fn each_filter_finds_what_it_should_and_nothing_else() {
    let trail = trail();
    let ids = |arguments: &[&str]| -> Vec<String> {
        let rows = rows(&trail.folder, arguments);
        let with_id = rows.iter().filter(|row| !row["request_id"].is_null());
        with_id.map(|row| row["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let expect = |arguments: &[&str], expected: &[usize]| {
        let wanted: Vec<&str> = expected.iter().map(|it| id(&trail.replies[*it])).collect();
        assert_eq!(ids(arguments), wanted, "{arguments:?}");
        let mut newest = wanted.clone();
        newest.reverse();
        assert_eq!(ids(&[arguments, &["--newest"]].concat()), newest, "{arguments:?}");
    };
    expect(&[], &[0, 1, 2, 3]);
    expect(&["--actor", "test-app"], &[0, 1, 2, 3]);
    expect(&["--actor", "test"], &[]);
    expect(&["--client", "test-app"], &[0, 1, 2, 3]);
    expect(&["--campaign", "1"], &[0, 1, 3]);
    expect(&["--campaign", "7"], &[2]);
    expect(&["--lead", "9"], &[2]);
    expect(&["--campaign", "1", "--lead", "9"], &[]);
    expect(&["--user", "madhur1"], &[0, 1, 3]);
    expect(&["--user", "agent_four", "--decision", "allow"], &[]);
    expect(&["--decision", "allow"], &[0, 3]);
    expect(&["--decision", "deny"], &[1, 2]);
    expect(&["--code", "GW-3002"], &[2]);
    expect(&["--operation", "lead-users", "--lead", "2"], &[0, 1, 3]);
    expect(&["--request", id(&trail.replies[1])], &[1]);
    expect(&["--since", "1h"], &[0, 1, 2, 3]);
    expect(&["--since", "2020-01-01", "--until", "2020-12-31"], &[]);
    expect(&["--until", "2020-01-01T00:00:00Z"], &[]);
    assert_eq!(ids(&["--limit", "2"]).len(), 2);
    let (status, words) = audit("query", &trail.folder, &["--since", "yesterday"]);
    assert!(status == 2 && words.contains("a date"), "{words}");
    assert_eq!(audit("query", Path::new("/nonexistent"), &[]).0, 2);

    let allowed = &rows(&trail.folder, &["--decision", "allow"])[0];
    assert_eq!(allowed["upstream"]["status"], 200, "intent and outcome are one row");
    assert_eq!(allowed["change"]["assigned"], serde_json::json!(["anav_agent"]));
}

#[test]
fn the_table_fits_eighty_columns_and_csv_has_a_column_for_each_fact() {
    let trail = trail();
    let (_, table) = audit("query", &trail.folder, &[]);
    assert_eq!(table.lines().filter(|line| line.starts_with("20")).count(), 4, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("GW-3001") && table.contains("+anav_agent -exe_gs"), "{table}");
    assert_eq!(table.matches("-madhur1").count(), 3, "nobody is cut off: {table}");
    let (_, csv) = audit("query", &trail.folder, &["--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let titles = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cell =
        |row: usize, title: &str| &rows[row][titles.iter().position(|own| own == title).unwrap()];
    assert_eq!(
        (rows.len(), cell(0, "unassigned"), cell(0, "allow")),
        (4, "exe_gs madhur1", "true")
    );
    assert_eq!((cell(0, "upstream_status"), cell(2, "code")), ("200", "GW-3002"));

    let (status, summary) = audit("summary", &trail.folder, &[]);
    assert_eq!(status, 0);
    let words: Vec<&str> = summary.split_whitespace().collect();
    let has = |row: &[&str]| words.windows(row.len()).any(|window| window == row);
    assert!(has(&["test-app", "2", "0", "2", "4", "1"]), "{summary}");
    assert!(has(&["test-app", "GW-3001", "1", "role"]), "{summary}");
}

#[test]
fn evidence_stands_alone() {
    let trail = trail();
    let key = trail.folder.join("keys.pub");
    let file = trail.world.folder.path().join("evidence.json");
    let check = |evidence: &str| {
        fs::write(&file, evidence).unwrap();
        let output = Command::new(BINARY)
            .args(["audit", "check-proof"])
            .arg(&file)
            .arg("--key")
            .arg(&key)
            .output()
            .unwrap();
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), words)
    };
    for (reply, records) in trail.replies.iter().zip([2, 1, 1, 2]) {
        let (status, evidence) = audit("prove", &trail.folder, &["--request", id(reply)]);
        assert_eq!(status, 0, "{evidence}");
        let (status, words) = check(&evidence);
        assert!(status == 0 && words.starts_with("proved: request "), "{words}");

        // By somebody else's program.
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/bin/python");
        assert!(python.exists(), "tests/run installs what the tests need");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_proof.py");
        let output = Command::new(python).arg(script).arg(&file).arg(&key).output().unwrap();
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(words, format!("proved {records}\n"));

        let json: Value = serde_json::from_str(&evidence).unwrap();
        let line = json["records"][0]["line"].as_str().unwrap();
        let hash = json["records"][0]["inclusion"][0].as_str().unwrap();
        let other = id(&trail.replies[usize::from(id(reply) == id(&trail.replies[0]))]);
        for (from, to) in [
            (id(reply), other),
            ("evidence/1", "evidence/2"),
            ("lead-users", "lead-user"),
            (hash, &other_hash(hash)),
            ("previous-size", "previous-sizf"),
            ("\"sequence\": ", "\"sequence\": 1"),
        ] {
            let altered = evidence.replacen(from, to, 1);
            assert_ne!(altered, evidence, "{from}");
            let (status, words) = check(&altered);
            assert!(status == 1 && words.starts_with("refused: "), "{from}: {words}");
        }
        assert!(!line.is_empty());
    }
    let unknown = "00000000-0000-7000-8000-000000000000";
    let (status, words) = audit("prove", &trail.folder, &["--request", unknown]);
    assert!(status == 1 && words.contains("no record of request"), "{words}");
}

fn other_hash(hash: &str) -> String {
    let first = if hash.starts_with('A') { "B" } else { "A" };
    format!("{first}{}", &hash[1..])
}

#[test]
fn a_receipt_finds_its_record_and_no_other() {
    let trail = trail();
    for reply in &trail.replies {
        let receipt = reply.header("audit-record").unwrap();
        let (status, words) = audit("check-receipt", &trail.folder, &[receipt]);
        assert!(status == 0 && words.contains("found: record "), "{words}");
        let parts: Vec<&str> = receipt.split(' ').collect();
        let sequence: u64 = parts[1].parse().unwrap();
        for wrong in [
            format!("cms-gateway/other {} {}", parts[1], parts[2]),
            format!("{} {} {}", parts[0], sequence + 1, parts[2]),
            format!("{} {} {}", parts[0], parts[1], other_hash(parts[2])),
        ] {
            let (status, words) = audit("check-receipt", &trail.folder, &[&wrong]);
            assert!(status == 1 && words.starts_with("missing: "), "{wrong}: {words}");
        }
    }
    assert_eq!(audit("check-receipt", &trail.folder, &["nonsense"]).0, 2);
}

#[test]
fn a_role_change_is_rehearsed_on_what_was_recorded() {
    let trail = trail();
    let config = trail.world.config();
    let path = config.to_str().unwrap();
    let (status, words) = audit("replay", &trail.folder, &["--config", path]);
    assert_eq!((status, words.as_str()), (0, "0 of 4 decisions would differ\n"));
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "permissions = [\"lead-users:assign\"]\ncampaigns = [1, 2]",
        "permissions = [\"lead-users:assign\"]\ncampaigns = [7]",
    );
    let text = text.replace(
        "permissions = [\"lead-users:assign\", \"lead-users:unassign\"]",
        "permissions = [\"lead-users:assign\"]",
    );
    fs::write(&config, text).unwrap();
    let (status, words) = audit("replay", &trail.folder, &["--config", path]);
    assert_eq!(status, 1, "{words}");
    assert!(words.ends_with("3 of 4 decisions would differ\n"), "{words}");
    assert!(words.contains("denied: role"), "{words}");
    assert!(words.contains("denied  allowed"), "{words}");
    assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
}

#[test]
fn tail_follows_across_rotation() {
    let mut trail = trail();
    let mut child = Command::new(BINARY)
        .args(["audit", "tail", "-n", "1"])
        .arg(&trail.folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(first["event"]["name"], "stop");
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(trail.world.config());
    trail.world.gateway = Gateway::start(command);
    trail.world.gateway.wait_until_ready();
    let token = trail.world.supervisor();
    for _ in 0..6 {
        assert_eq!(trail.world.put(&token, SAMPLE).status, 200);
    }
    let mut last = first["sequence"].as_u64().unwrap();
    let (mut outcomes, mut rotations) = (0, 0);
    while outcomes < 6 {
        let line: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!(line["sequence"], last + 1);
        last += 1;
        outcomes += u32::from(line["kind"] == "outcome");
        rotations += u32::from(line["event"]["name"] == "segment_closed");
    }
    assert!(rotations > 1);
    child.kill().unwrap();
    wait_for("the end of tail", || child.try_wait().unwrap().is_some());
}

/// What OCSF 1.3 requires of API Activity and of the objects in it, and of which members an
/// object must have one at least (github.com/ocsf/ocsf-schema: `events/application`, `objects`).
const OCSF: &[(&str, &[&str], &[&str])] = &[
    (
        "",
        &[
            "activity_id",
            "actor",
            "api",
            "category_uid",
            "class_uid",
            "metadata",
            "severity_id",
            "src_endpoint",
            "time",
            "type_uid",
        ],
        &[],
    ),
    ("/actor", &[], &["process", "user", "invoked_by", "session", "app_name", "app_uid"]),
    ("/actor/user", &[], &["account", "name", "uid"]),
    ("/actor/idp", &[], &["name", "uid"]),
    ("/api", &["operation"], &[]),
    ("/api/request", &["uid"], &[]),
    ("/api/service", &[], &["name", "uid"]),
    ("/metadata", &["product", "version"], &[]),
    ("/metadata/product", &[], &["name", "uid"]),
    ("/src_endpoint", &[], &["ip", "uid", "name", "hostname"]),
    ("/resources/0", &[], &["name", "uid"]),
];

#[test]
fn exports_have_what_their_schemas_require() {
    let trail = trail();
    let export = |format: &str| -> Vec<Value> {
        let (status, words) = audit("export", &trail.folder, &["--format", format]);
        assert_eq!(status, 0, "{words}");
        words.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let events = export("ocsf");
    assert_eq!(events.len(), 4);
    for event in &events {
        for (place, all, some) in OCSF {
            let Some(object) = event.pointer(place) else { continue };
            assert!(all.iter().all(|name| !object[name].is_null()), "{place} of {event}");
            let has_some = some.is_empty() || some.iter().any(|name| !object[name].is_null());
            assert!(has_some, "{place} of {event}");
        }
        assert_eq!((&event["class_uid"], &event["type_uid"]), (&6003.into(), &600_303.into()));
        let time = event["time"].as_u64().unwrap();
        assert!((1_700_000_000_000..4_000_000_000_000).contains(&time), "milliseconds: {time}");
    }
    assert_eq!(events[0]["status_id"], 1);
    assert_eq!(events[0]["api"]["response"]["code"], 200);
    assert_eq!(events[1]["status_id"], 2);
    assert_eq!(events[1]["status_code"], "GW-3001");
    assert_eq!(events[1]["actor"]["authorizations"][0]["decision"], "denied");

    let events = export("ecs");
    assert_eq!(events.len(), 4);
    for event in &events {
        let required = ["/@timestamp", "/ecs/version", "/event/kind", "/event/category"];
        assert!(required.iter().all(|place| event.pointer(place).is_some()), "{event}");
        assert_eq!(event["user"]["id"], "test-app");
    }
    assert_eq!(events[0]["event"]["outcome"], "success");
    assert_eq!(events[2]["event"]["type"], serde_json::json!(["access", "denied"]));
    assert_eq!(events[2]["cms_gateway"]["campaign"], 7);
}

#[test]
fn what_callers_chose_reaches_no_terminal_and_no_spreadsheet() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.mint(&world.provider.claims("=cmd|'\u{1b}[2J", &["campaign-supervisor"]));
    let reply = world.put(&token, SAMPLE);
    assert_eq!(reply.status, 200);
    let folder = world.folder.path().join("audit");
    for arguments in [&["query"][..], &["query", "--format", "csv"], &["summary"]] {
        let (status, words) = audit(arguments[0], &folder, &arguments[1..]);
        assert!(status == 0 && words.contains("cmd|'"), "{words}");
        assert!(!words.contains('\u{1b}'), "{words:?}");
    }
    let (_, csv) = audit("query", &folder, &["--format", "csv"]);
    assert!(csv.contains(",'=cmd|"), "{csv}");
    let receipt = reply.header("audit-record").unwrap();
    let (status, words) = audit("check-receipt", &folder, &[receipt]);
    assert!(status == 0 && !words.contains('\u{1b}'), "{words:?}");
}
