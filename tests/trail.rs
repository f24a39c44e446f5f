//! No authority without a record: what the trail withstands, and what stops without it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use support::cms::Misbehaviour;
use support::{BINARY, Gateway, SAMPLE, World, records_in, request, wait_for};

fn restart(world: &mut World) {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(world.config());
    world.gateway = Gateway::start(command);
    world.gateway.wait_until_ready();
}

#[test]
fn kill_9_between_intent_and_outcome_leaves_the_intent_and_the_numbers_go_on() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    world.cms.misbehave(Misbehaviour::Slow);
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    stream.write_all(request(&world.supervisor(), SAMPLE).as_bytes()).unwrap();
    wait_for("the CMS", || world.cms.calls() == 1);
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let records = world.records();
    let [intent] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(intent["kind"], "intent");
    let sent = &world.cms.received()[0].headers;
    let id = intent["request_id"].as_str().unwrap();
    assert!(sent.contains(&("x-request-id".to_owned(), id.to_owned())));

    world.cms.misbehave(Misbehaviour::None);
    restart(&mut world);
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let all = records_in(&world.folder.path().join("audit"));
    assert_numbered(&all);
}

#[test]
fn a_torn_last_line_is_set_aside_and_said() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    world.put(&world.supervisor(), SAMPLE);
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let audit = world.folder.path().join("audit");
    let segment = segments(&audit).pop().unwrap();
    let mut text = fs::read_to_string(&segment).unwrap();
    text.push_str("{\"time\":\"2026-01-");
    fs::write(&segment, text).unwrap();
    restart(&mut world);
    world.put(&world.supervisor(), SAMPLE);
    let all = records_in(&audit);
    assert!(all.iter().any(|record| record["event"]["name"] == "torn_line_set_aside"));
    let aside = fs::read_dir(&audit)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(".torn-"));
    assert_eq!(fs::read_to_string(aside.unwrap()).unwrap(), "{\"time\":\"2026-01-");
}

/// 1, 2, 3 and so on, none missing and none twice.
fn assert_numbered(records: &[Value]) {
    let numbers: Vec<u64> = records.iter().map(|it| it["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

fn segments(audit: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(audit)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn without_its_folder_nothing_is_sent_and_service_resumes_by_itself() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let (audit, away) = (world.folder.path().join("audit"), world.folder.path().join("away"));
    fs::rename(&audit, &away).unwrap();
    for body in [SAMPLE, "{}"] {
        let reply = world.put(&token, body);
        assert_eq!((reply.status, reply.code().as_str()), (503, "GW-4001"), "{reply:?}");
    }
    assert_eq!(world.cms.calls(), 1, "the CMS heard of a change that is on no record");
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.starts_with("audit: "), "{ready:?}");
    assert!(world.gateway.metric("cms_gateway_audit_failures_total").unwrap() >= 1.0);
    fs::rename(&away, &audit).unwrap();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let events = records_in(&audit);
    assert!(events.iter().any(|record| record["event"]["name"] == "audit_resumed"));
}

#[test]
fn a_segment_that_is_deleted_or_replaced_is_noticed_before_the_next_answer() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let audit = world.folder.path().join("audit");
    for round in 0..2 {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        let calls = world.cms.calls();
        let segment = segments(&audit).pop().unwrap();
        if round == 0 {
            fs::remove_file(&segment).unwrap();
        } else {
            let text = fs::read(&segment).unwrap();
            fs::write(audit.join("copy"), text).unwrap();
            fs::rename(audit.join("copy"), &segment).unwrap();
        }
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
        assert_eq!(world.cms.calls(), calls);
        world.gateway.wait_until_ready();
    }
}

#[test]
fn a_full_disk_stops_the_forwarding_and_room_resumes_it() {
    let (world, audit) = World::on_tmpfs("64k");
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let mut calls = 0;
    let refused = loop {
        let reply = world.put(&token, SAMPLE);
        if reply.status != 200 {
            break reply;
        }
        calls += 1;
        assert!(calls < 1000, "the disk never filled");
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "GW-4001"), "{refused:?}");
    assert_eq!(world.cms.calls(), calls);
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.contains("No space"), "{ready:?}");

    let before = records_in(&audit);
    world.within(&["mount", "-o", "remount,size=1m"]);
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let after = records_in(&audit);
    assert_eq!(after[..before.len()], before[..], "what was written stayed as it was");
    assert_numbered(&after);
    let of_kind = |kind| after.iter().filter(|record| record["kind"] == json!(kind)).count();
    assert_eq!(of_kind("intent"), of_kind("outcome"), "every outcome came on record in the end");
}

#[test]
fn an_error_of_writing_stops_the_forwarding_until_writing_works_again() {
    // The system refuses to let the file grow (EFBIG), as a quota would.
    let world = World::with_command(
        |_| {},
        |config| {
            let mut command = Command::new("sh");
            let script = "trap '' XFSZ; ulimit -S -f 64; exec \"$0\" serve --config \"$1\"";
            command.args(["-c", script, BINARY]).arg(config);
            command
        },
    );
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let mut calls = 0;
    while world.put(&token, SAMPLE).status == 200 {
        calls += 1;
        assert!(calls < 1000, "the file grew without end");
    }
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), calls);
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.contains("File too large"), "{ready:?}");
    let id = world.gateway.child.id().to_string();
    let raised = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &id]).status();
    assert!(raised.unwrap().success());
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_numbered(&records_in(&world.folder.path().join("audit")));
}

#[test]
fn a_second_writer_is_kept_out() {
    let world = World::start();
    let output =
        Command::new(BINARY).args(["serve", "--config"]).arg(world.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("another process writes to"), "{words}");
}

#[test]
fn callers_at_the_same_time_share_flushes() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let api = world.gateway.api;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(support::put(api, &token, SAMPLE).status, 200);
                }
            });
        }
    });
    let records: f64 = ["intent", "outcome"]
        .iter()
        .map(|kind| format!("cms_gateway_audit_records_total{{kind=\"{kind}\"}}"))
        .map(|line| world.gateway.metric(&line).unwrap())
        .sum();
    let flushes = world.gateway.metric("cms_gateway_audit_flush_duration_seconds_count").unwrap();
    assert_eq!(records, 800.0);
    assert!(flushes < records, "{flushes} flushes for {records} records");
}

#[test]
fn a_folder_that_is_missing_at_the_start_is_waited_for() {
    let world = World::with(|config| {
        *config = config.replace("directory = \"audit\"", "directory = \"volume/audit\"");
    });
    let folder = world.folder.path().join("volume/audit");
    let why = format!("audit: {}: No such file", folder.display());
    wait_for("the rest to be ready", || {
        let ready = world.gateway.admin("/readyz").body;
        ready.starts_with(&why) && ready.lines().count() == 1
    });
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), 0);
    fs::create_dir_all(folder).unwrap();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn a_flood_of_bad_tokens_leaves_few_records_and_few_flushes() {
    const CALLERS: usize = 4;
    const BATCHES: usize = 250;
    const BATCH: usize = 100;
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let flushes = "cms_gateway_audit_flush_duration_seconds_count";
    let before = world.gateway.metric(flushes).unwrap();
    // Signed as it should be, for another audience; and no token at all.
    let mut claims = world.provider.claims("stranger", &["campaign-supervisor"]);
    claims["aud"] = json!("another");
    let tokens = [world.mint(&claims), "nonsense".to_owned()];
    let start = std::time::Instant::now();
    let api = world.gateway.api;
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let one = request(&tokens[caller % 2], "").replace("Connection: close\r\n", "");
            scope.spawn(move || {
                let mut stream = TcpStream::connect(api).unwrap();
                let many = one.repeat(BATCH);
                let mut answers = std::io::BufReader::new(stream.try_clone().unwrap());
                for _ in 0..BATCHES {
                    stream.write_all(many.as_bytes()).unwrap();
                    for _ in 0..BATCH {
                        assert_eq!(support::next_status(&mut answers), 401);
                    }
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs() + 2;
    let flushed = world.gateway.metric(flushes).unwrap();
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    let denied = world.records();
    let counted: u64 = denied.iter().map(|it| it["event"]["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, (CALLERS * BATCHES * BATCH) as u64, "none is forgotten");
    assert!(denied.len() as u64 <= 2 * seconds, "{} records in {seconds} s", denied.len());
    assert!(flushed - before <= (4 * seconds) as f64, "{flushed} flushes in {seconds} s");
}

/// The outcome of the only change, once it is there.
fn outcome(world: &World) -> Value {
    let mut outcome = None;
    wait_for("the outcome", || {
        outcome = world.records().into_iter().find(|record| record["kind"] == "outcome");
        outcome.is_some()
    });
    outcome.unwrap()
}

#[test]
fn a_change_has_its_outcome_on_record_when_its_client_has_gone() {
    let world = World::with(|config| *config += "response_timeout = \"1s\"\n");
    world.gateway.wait_until_ready();
    world.cms.misbehave(Misbehaviour::Slow);
    let mut client = TcpStream::connect(world.gateway.api).unwrap();
    client.write_all(request(&world.supervisor(), SAMPLE).as_bytes()).unwrap();
    wait_for("the CMS", || world.cms.calls() == 1);
    drop(client);
    assert_eq!(outcome(&world)["upstream"]["code"], "GW-5003");
}

#[test]
fn a_change_has_its_outcome_on_record_when_the_cms_hangs_up() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
        let cms = support::RawCms::start(answer.as_bytes().to_vec());
        let world = World::with_cms(cms.address);
        world.gateway.wait_until_ready();
        assert_eq!(world.put(&world.supervisor(), SAMPLE).code(), "GW-5004");
        let outcome = outcome(&world);
        assert_eq!(outcome["upstream"]["code"], "GW-5004", "{answer:?}");
        assert_eq!(outcome["upstream"]["attempts"], 1);
    }
}
