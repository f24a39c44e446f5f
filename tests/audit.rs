//! The trail answers: who did what, what was denied, what came of it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use support::reading::{audit, audit_apart, close, folder_of, line, trail};
use support::{Reply, SAMPLE, World};

fn rows(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments = [arguments, &["--format", "json"]].concat();
    let (status, rows, complaint) = audit_apart("query", folder, &arguments);
    assert_eq!(status, 0, "{complaint}");
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(reply: &Reply) -> &str {
    reply.header("x-request-id").unwrap()
}

fn fits(text: &str) -> bool {
    text.lines().all(|line| line.chars().count() <= 80)
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
    expect(&["--code", "gw-3001"], &[1]);
    expect(&["--code", "200"], &[0, 3]);
    expect(&["--operation", "lead-users", "--lead", "2"], &[0, 1, 3]);
    expect(&["--request", id(&trail.replies[1])], &[1]);
    expect(&["--request", &id(&trail.replies[1]).to_uppercase()], &[1]);
    expect(&["--since", "1h"], &[0, 1, 2, 3]);
    expect(&["--since", "2020-01-01", "--until", "2020-12-31"], &[]);
    expect(&["--until", "2020-01-01t00:00:00+01:00"], &[]);
    assert_eq!(ids(&["--limit", "2"]).len(), 2);
    assert_eq!(audit("query", &trail.folder, &["--limit", "0"]).1, "no call matches\n");

    let allowed = &rows(&trail.folder, &["--decision", "allow"])[0];
    assert_eq!(allowed["upstream"]["status"], 200, "intent and outcome are one row");
    assert_eq!(allowed["change"]["assigned"], json!(["anav_agent"]));
    assert_eq!((&allowed["kind"], &allowed["result"]), (&json!("intent"), &json!("200")));
    assert!(allowed["outcome_sequence"].as_u64() > allowed["sequence"].as_u64(), "{allowed}");
    assert!(allowed["outcome_time"].as_str() > allowed["time"].as_str(), "{allowed}");
}

#[test]
fn what_can_t_be_meant_is_refused() {
    let folder = folder_of(&[&[line(1, "10:00:00", "intent", 1, &[])]]);
    for (arguments, reason) in [
        (&["--since", "yesterday"][..], "or 7d"),
        (&["--since", "60y"], "before 1970"),
        (&["--until", "1000000d"], "before 1970"),
        (&["--until", "9999-12-31"], "not from 1970 to 9999"),
        (&["--since", "2026-02-30"], "write 2026-01-31"),
        (&["--since", "2026-02-02", "--until", "2026-01-31"], "is not before --until"),
        (&["--operation", "lead-user"], "possible values: lead-users"),
        (&["--campaign", "0"], "0 is not in 1.."),
        (&["--lead=-1"], "-1 is not in 1.."),
        (&["--request", "nosuch"], "not a UUID"),
        (&["--events", "--user", "madhur1"], "--events goes with"),
    ] {
        let (status, words) = audit("query", folder.path(), arguments);
        assert!(status == 2 && words.contains(reason), "{arguments:?}: {words}");
        assert!(!words.contains("panicked"), "{words}");
    }
}

/// A period has the calls that began in it, wherever their outcomes are.
#[test]
fn a_call_belongs_to_the_time_of_its_intent() {
    let segments: [&[String]; 4] = [
        &[
            line(1, "10:00:00", "intent", 1, &[]),
            line(2, "10:00:01", "intent", 2, &[]),
            line(3, "10:00:02", "outcome", 1, &[]),
            line(4, "10:00:03", "intent", 3, &[]),
        ],
        &[line(5, "10:00:04", "outcome", 3, &[])],
        &[line(6, "10:00:05", "denied", 4, &[("/target/lead", json!(9))])],
        &[line(7, "10:00:06", "outcome", 2, &[])],
    ];
    let folder = folder_of(&segments);
    let time = |second: &str| format!("2026-01-31T10:00:0{second}Z");
    let expect = |since: &str, until: &str, expected: &[u64]| {
        for order in [&[][..], &["--newest"]] {
            let (since, until) = (time(since), time(until));
            let period = ["--since", &since, "--until", &until, "--lead", "2"];
            let found = rows(folder.path(), &[&period, order].concat());
            let mut wanted = expected.to_vec();
            if !order.is_empty() {
                wanted.reverse();
            }
            let ids = found.iter().map(|row| row["request_id"].as_str().unwrap());
            let ids: Vec<u64> = ids.map(|id| id[24..].parse().unwrap()).collect();
            assert_eq!(ids, wanted, "{period:?} {order:?}");
            assert!(found.iter().all(|row| row["result"] == "200"), "{period:?} {order:?}");
        }
    };
    let all = || {
        expect("0", "9", &[1, 2, 3]);
        expect("0", "2", &[1, 2]);
        expect("1", "3", &[2]);
        expect("2", "3", &[]);
        expect("3", "4", &[3]);
        expect("4", "9", &[]);
    };
    all();
    // Where the manifest says which segments can't have any, these are not even read.
    close(folder.path(), &segments[..3]);
    all();
    let third = folder.path().join("audit-00000000000000000006.jsonl");
    fs::write(third, "no record\n").unwrap();
    expect("0", "3", &[1, 2]);
    assert_eq!(audit("query", folder.path(), &[]).0, 1);
}

#[test]
fn the_table_fits_eighty_columns_and_csv_has_a_column_for_each_fact() {
    let trail = trail();
    let (_, table) = audit("query", &trail.folder, &[]);
    assert_eq!(table.lines().filter(|line| line.starts_with("20")).count(), 5, "{table}");
    assert!(fits(&table), "{table}");
    assert!(table.contains("GW-3001") && table.contains("+anav_agent -exe_gs"), "{table}");
    assert_eq!(table.matches("-madhur1").count(), 3, "nobody is cut off: {table}");
    let (_, csv) = audit("query", &trail.folder, &["--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let titles = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cell =
        |row: usize, title: &str| &rows[row][titles.iter().position(|own| own == title).unwrap()];
    assert_eq!(rows.len(), 5);
    assert_eq!(cell(0, "change.unassigned"), r#"["exe_gs","madhur1"]"#);
    assert_eq!((cell(0, "decision.allow"), cell(0, "upstream.status")), ("true", "200"));
    assert_eq!((cell(2, "decision.code"), cell(2, "result")), ("GW-3002", "GW-3002"));
    assert_eq!((cell(4, "kind"), cell(4, "event.count")), ("denied", "1"));
    assert_eq!((cell(0, "gateway.instance"), cell(1, "outcome_sequence")), ("test", ""));
    for title in ["trace_id", "actor.token_id", "source.port", "credential.version"] {
        let _ = cell(0, title);
    }
}

/// Two who differ in their last letters alone, large ids, long codes, wide letters.
#[test]
fn a_table_cuts_nothing_off() {
    let long = |end: &str| json!(format!("{}{end}", "a-service-with-a-long-name.".repeat(3)));
    let refused =
        |code: &str| json!({"status": 404, "code": code, "attempts": 1, "duration_us": 1});
    let users = json!([format!("{}X", "agent".repeat(20)), "二人の代理人"]);
    let other = [
        ("/actor/subject", long("one")),
        ("/actor/client_id", long("one")),
        ("/target/campaign", json!(2_147_483_647)),
        ("/target/lead", json!(2_147_483_646)),
        ("/change/assigned", users),
    ];
    let mut outcome = other.to_vec();
    outcome.push(("/upstream", refused("CONF-1001")));
    let folder = folder_of(&[&[
        line(1, "10:00:00", "intent", 1, &other),
        line(2, "10:00:01", "outcome", 1, &outcome),
    ]]);
    let (_, table) = audit("query", folder.path(), &[]);
    assert!(fits(&table) && !table.contains('\u{2026}'), "{table}");
    for whole in ["2147483647", "2147483646", "CONF-1001", "2026-01-31 10:00:00"] {
        assert!(table.contains(whole), "{whole} in {table}");
    }
    let letters = |text: &str| text.chars().filter(|it| it.is_alphabetic()).count();
    let shown = letters(&table.lines().skip(1).collect::<String>());
    let all = letters("CONF") + letters(long("one").as_str().unwrap()) + 101 + 6;
    assert_eq!(shown, all + letters("exe_gsmadhur"), "{table}");
    let (_, summary) = audit("summary", folder.path(), &[]);
    assert!(fits(&summary) && summary.contains("CONF-1001") && !summary.contains('\u{2026}'));

    let wide = std::process::Command::new(support::BINARY)
        .args(["audit", "query"])
        .arg(folder.path())
        .env("COLUMNS", "300")
        .output()
        .unwrap();
    let wide = String::from_utf8(wide.stdout).unwrap();
    assert_eq!(wide.lines().count(), 2, "as wide as COLUMNS says: {wide}");
}

/// What failed changed nothing, and nobody knows of what has no outcome.
#[test]
fn the_summary_counts_what_was_changed() {
    let failed = json!({"status": null, "code": "GW-5003", "attempts": 1, "duration_us": 9});
    let denied = json!({"allow": false, "code": "GW-3001", "reason": "no", "grant": null});
    let folder = folder_of(&[&[
        line(1, "10:00:00", "intent", 1, &[]),
        line(2, "10:00:01", "outcome", 1, &[]),
        line(3, "10:00:02", "intent", 2, &[]),
        line(4, "10:00:03", "outcome", 2, &[("/upstream", failed)]),
        line(5, "10:00:04", "intent", 3, &[]),
        line(6, "10:00:05", "denied", 4, &[("/decision", denied)]),
    ]]);
    let (status, summary) = audit("summary", folder.path(), &[]);
    assert_eq!(status, 0);
    let words: Vec<&str> = summary.split_whitespace().collect();
    let has = |row: &[&str]| words.windows(row.len()).any(|window| window == row);
    assert!(has(&["app", "3", "1", "1", "1", "2", "1"]), "{summary}");
    assert!(has(&["app", "GW-3001", "1", "no"]), "{summary}");
    assert!(has(&["app", "GW-5003", "1", "no", "answer"]), "{summary}");
    let (_, json) = audit("summary", folder.path(), &["--format", "json"]);
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json.len(), 3);
    assert_eq!((&json[0]["unknown"], &json[0]["campaigns"]), (&json!(1), &json!([1])));
    assert_eq!((&json[2]["of"], &json[2]["code"]), (&json!("failures"), &json!("GW-5003")));
    let (_, csv) = audit("summary", folder.path(), &["--format", "csv"]);
    assert_eq!(csv.lines().nth(1), Some("changes,app,3,,,1,1,1,2,[1]"));
}

#[test]
fn events_are_found() {
    let trail = trail();
    let (status, table) = audit("query", &trail.folder, &["--events"]);
    assert!(status == 0 && fits(&table), "{table}");
    for name in ["start", "credential_loaded", "segment_closed", "stop"] {
        assert!(table.contains(name), "{name} in {table}");
    }
    let newest = rows(&trail.folder, &["--events", "--newest", "--limit", "1", "--since", "1h"]);
    assert_eq!((newest.len(), &newest[0]["event"]["name"]), (1, &json!("stop")));
    assert!(rows(&trail.folder, &["--events", "--until", "2020-01-01"]).is_empty());
}

#[test]
fn a_role_change_is_rehearsed_on_what_was_recorded() {
    let trail = trail();
    let config = trail.world.config();
    let path = config.to_str().unwrap();
    let (status, words) = audit("replay", &trail.folder, &["--config", path]);
    assert_eq!((status, words.as_str()), (0, "0 of 4 decisions would differ\n"));
    // What decides is enough.
    let roles = "[roles.campaign-supervisor]\npermissions = [\"lead-users:assign\"]\n\
                 campaigns = \"any\"\n[roles.north-dialer]\n\
                 permissions = [\"lead-users:assign\"]\ncampaigns = [7]\n";
    fs::write(&config, roles).unwrap();
    let (status, words) = audit("replay", &trail.folder, &["--config", path]);
    assert_eq!(status, 1, "{words}");
    assert!(words.ends_with("3 of 4 decisions would differ\n"), "{words}");
    assert!(words.contains("denied: role"), "{words}");
    assert!(words.contains("denied  allowed"), "{words}");
    assert!(words.lines().next().unwrap().contains("LEAD") && fits(&words), "{words}");
    let (status, json, said) =
        audit_apart("replay", &trail.folder, &["--config", path, "--format", "json"]);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((status, &first["lead"], &first["would_be"]), (1, &json!(2), &json!("denied")));
    assert_eq!((json.lines().count(), said.as_str()), (3, "3 of 4 decisions would differ\n"));
    for (text, fault) in [
        ("[role.x]\n".to_owned(), "has no role"),
        (roles.replace("campaigns = [7]", "campaign = [7]"), "did you mean campaigns"),
        (format!("{roles}[limits]\nusers = 0\n"), "limits.users"),
    ] {
        fs::write(&config, text).unwrap();
        let (status, words) = audit("replay", &trail.folder, &["--config", path]);
        assert!(status == 2 && words.contains(fault), "{words}");
    }
}

#[test]
fn what_callers_chose_reaches_no_terminal_and_no_spreadsheet() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let name = "=cmd|'\u{1b}[2J\u{202e}\u{85}\u{7f}\u{200b}\nrecord 9: by nobody";
    let token = world.mint(&world.provider.claims(name, &["campaign-supervisor"]));
    let reply = world.put(&token, SAMPLE);
    assert_eq!(reply.status, 200);
    let folder = world.folder.path().join("audit");
    let receipt = reply.header("audit-record").unwrap();
    for arguments in [
        &["query"][..],
        &["query", "--format", "csv"],
        &["query", "--format", "json"],
        &["summary"],
        &["summary", "--format", "csv"],
        &["export", "--format", "ocsf"],
        &["check-receipt", receipt],
    ] {
        let (status, words) = audit(arguments[0], &folder, &arguments[1..]);
        assert!(status == 0 && words.contains("cmd|'"), "{words}");
        assert!(!words.contains(['\u{1b}', '\u{202e}', '\u{85}', '\u{7f}', '\u{200b}']), "{words}");
        assert!(!words.lines().any(|line| line.starts_with("record 9")), "{words}");
    }
    let (_, csv) = audit("query", &folder, &["--format", "csv"]);
    assert!(csv.contains(",'=cmd|"), "{csv}");
    assert_eq!(rows(&folder, &[])[0]["actor"]["subject"], name, "JSON says the same, escaped");
}

#[test]
fn each_command_says_what_its_exit_status_means() {
    for command in [
        "verify",
        "query",
        "tail",
        "summary",
        "replay",
        "export",
        "prove",
        "check-proof",
        "check-receipt",
    ] {
        let (status, help) = audit(command, Path::new("DIR"), &["--help"]);
        assert!(status == 0 && help.contains("Exit status: 0 "), "{help}");
        assert!(fits(&help), "{help}");
        let lines: Vec<&str> = help.lines().map(str::trim).collect();
        let is_bare = |pair: &[&str]| pair[0].starts_with("--") && pair[1].is_empty();
        assert!(!lines.windows(2).any(is_bare), "an option without a word: {help}");
    }
}
