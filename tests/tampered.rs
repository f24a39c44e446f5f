//! What happens to the trail's folder while a gateway runs is noticed before the next answer, said,
//! and survived.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::trail::{
    assert_whole, change, events, files, folder, restart, serve, serve_with_fault, stop, verify,
    with_audit, with_fault,
};
use support::{Gateway, SAMPLE, World, records_in, request, wait_for};

/// The next call is refused, the CMS hears nothing, and the one after goes through.
fn assert_noticed(world: &World) {
    let (calls, token) = (world.cms.calls(), world.supervisor());
    let reply = world.put(&token, SAMPLE);
    assert_eq!(reply.code(), "GW-4001", "{reply:?}");
    assert_eq!(world.cms.calls(), calls);
    world.gateway.wait_until_ready();
    change(world);
}

fn detail(event: &Value) -> &str {
    event["event"]["detail"].as_str().unwrap()
}

#[test]
fn a_closed_segment_that_is_deleted_is_noticed_and_on_record() {
    let mut world = World::with(with_audit("segment_size = \"4KiB\""));
    world.gateway.wait_until_ready();
    while files(&folder(&world), ".jsonl").len() < 4 {
        change(&world);
    }
    let lost = files(&folder(&world), ".jsonl").remove(1);
    fs::remove_file(&lost).unwrap();
    assert_noticed(&world);
    stop(&mut world);
    let records = records_in(&folder(&world));
    let events = events(&records, "segment_lost");
    assert_eq!(events.len(), 1);
    assert!(detail(events[0]).starts_with(lost.file_name().unwrap().to_str().unwrap()));
    assert_eq!(verify(&folder(&world)).0, 1);
}

#[test]
fn checkpoints_that_are_deleted_are_noticed_and_on_record() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    let checkpoints = files(&folder(&world), ".checkpoints").remove(0);
    wait_for("a checkpoint", || fs::metadata(&checkpoints).unwrap().len() > 0);
    fs::remove_file(&checkpoints).unwrap();
    assert_noticed(&world);
    stop(&mut world);
    let records = records_in(&folder(&world));
    assert_eq!(events(&records, "checkpoints_lost").len(), 1);
    let (status, words) = verify(&folder(&world));
    assert!(status == 1 && words.contains("and the one before it here is at record 0"), "{words}");
}

#[test]
fn the_public_keys_and_the_lock_are_not_lost_unnoticed() {
    for name in ["keys.pub", "lock"] {
        let mut world = World::start();
        world.gateway.wait_until_ready();
        change(&world);
        fs::remove_file(folder(&world).join(name)).unwrap();
        assert_noticed(&world);
        stop(&mut world);
        let records = records_in(&folder(&world));
        let resumed = events(&records, "audit_resumed");
        assert!(resumed.len() == 1 && detail(resumed[0]).contains(name), "{resumed:?}");
        assert_whole(&folder(&world));
    }
}

#[test]
fn a_second_gateway_that_takes_the_lock_away_writes_alone() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    fs::remove_file(folder(&world).join("lock")).unwrap();
    let second = Gateway::start(serve(&world));
    second.wait_until_ready();
    let (calls, token) = (world.cms.calls(), world.supervisor());
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), calls);
    wait_for("the reason", || {
        world.gateway.admin("/readyz").body.contains("another process writes to")
    });
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    drop(second);
    restart(&mut world);
    change(&world);
    stop(&mut world);
    assert_whole(&folder(&world));
}

#[test]
fn a_pipe_in_the_open_segments_place_holds_nobody_up() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    let segment = files(&folder(&world), ".jsonl").remove(0);
    let moved = segment.with_extension("moved");
    fs::rename(&segment, &moved).unwrap();
    assert!(Command::new("mkfifo").arg(&segment).status().unwrap().success());
    let token = world.supervisor();
    for _ in 0..3 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    }
    fs::rename(&moved, &segment).unwrap();
    world.gateway.wait_until_ready();
    change(&world);
    stop(&mut world);
    assert_whole(&folder(&world));
}

#[test]
fn what_stands_in_the_next_segments_place_is_set_aside() {
    let mut world = World::with(with_audit("segment_size = \"4KiB\""));
    world.gateway.wait_until_ready();
    let first = records_in(&folder(&world)).len() as u64;
    let planted: Vec<_> = (first + 1..first + 40)
        .map(|sequence| folder(&world).join(format!("audit-{sequence:020}.jsonl")))
        .collect();
    planted.iter().for_each(|path| fs::write(path, "x").unwrap());
    let is_set_aside = |_: &World| !files_named(&folder(&world), "foreign").is_empty();
    for _ in 0..40 {
        if is_set_aside(&world) {
            break;
        }
        change(&world);
    }
    assert!(is_set_aside(&world));
    for path in planted {
        if fs::read(&path).is_ok_and(|text| text == b"x") {
            fs::remove_file(path).unwrap();
        }
    }
    change(&world);
    stop(&mut world);
    let records = records_in(&folder(&world));
    assert!(!events(&records, "foreign_file_set_aside").is_empty());
    assert_whole(&folder(&world));
}

fn files_named(folder: &Path, part: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    names.map(|it| it.into_string().unwrap()).filter(|name| name.contains(part)).collect()
}

/// A disk that takes its time, and strangers who hang up meanwhile, cost no change its outcome.
#[test]
fn an_outcome_finds_room_whatever_waits_to_be_written() {
    let mut world = World::with_command(
        |config| *config += "response_timeout = \"2s\"\n[limits]\nin_flight = 8\n",
        |config| serve_with_fault(config, "FAULT_STALL"),
    );
    world.gateway.wait_until_ready();
    world.cms.misbehave(support::cms::Misbehaviour::Slow);
    let (api, token) = (world.gateway.api, world.supervisor());
    let call = std::thread::spawn(move || support::put(api, &token, SAMPLE));
    wait_for("the CMS", || world.cms.calls() == 1);
    let fault = world.folder.path().join("fault");
    fs::write(&fault, "").unwrap();
    // Denied, each of them, and gone before it is told.
    let denied = world.token(&["nobody"]);
    let strangers: Vec<TcpStream> = (0..7)
        .map(|_| {
            let mut stream = TcpStream::connect(api).unwrap();
            stream.write_all(request(&denied, SAMPLE).as_bytes()).unwrap();
            stream
        })
        .collect();
    let gauge = |name: &str| world.gateway.metric(&format!("cms_gateway_{name}")).unwrap();
    wait_for("all places to be taken", || gauge("in_flight") == 8.0);
    drop(strangers);
    wait_for("their end", || gauge("connections") == 1.0);
    assert_eq!(world.put(&denied, SAMPLE).code(), "GW-9001", "their places are taken still");
    world.cms.misbehave(support::cms::Misbehaviour::None);
    fs::remove_file(&fault).unwrap();
    let reply = call.join().unwrap();
    stop(&mut world);
    let records = records_in(&folder(&world));
    let its = |record: &&Value| record["request_id"] == reply.header("x-request-id").unwrap();
    let kinds: Vec<&str> =
        records.iter().filter(its).map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    assert_whole(&folder(&world));
}

/// Callers are refused after a while, the CMS hears nothing, and what the disk took nevertheless is
/// told apart from what was sent.
#[test]
fn a_disk_that_does_not_answer_holds_nobody_for_ever() {
    let mut world = with_fault("FAULT_STALL");
    world.gateway.wait_until_ready();
    change(&world);
    let fault = world.folder.path().join("fault");
    fs::write(&fault, "").unwrap();
    let (calls, token) = (world.cms.calls(), world.supervisor());
    let refused = world.put(&token, SAMPLE);
    assert_eq!(refused.code(), "GW-4001");
    wait_for("the reason", || {
        world.gateway.admin("/readyz").body.contains("audit: the disk has not answered for")
    });
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), calls);
    fs::remove_file(&fault).unwrap();
    world.gateway.wait_until_ready();
    change(&world);
    let of_refused = |records: &[Value]| -> Vec<String> {
        let id = refused.header("x-request-id").unwrap();
        let its = records.iter().filter(|record| record["request_id"] == id);
        its.map(|it| format!("{} {}", it["kind"], it["event"]["name"])).collect()
    };
    wait_for("what became of it", || of_refused(&records_in(&folder(&world))).len() == 2);
    let records = records_in(&folder(&world));
    assert_eq!(of_refused(&records), ["\"intent\" null", "\"event\" \"not_sent\""]);
    assert!(!assert_whole(&folder(&world)).contains("without an outcome"));
    // What is refused just before the end is told apart as well.
    fs::write(&fault, "").unwrap();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    world.gateway.signal("-TERM");
    wait_for("the end of listening", || TcpStream::connect(world.gateway.api).is_err());
    fs::remove_file(&fault).unwrap();
    world.gateway.wait();
    assert!(!assert_whole(&folder(&world)).contains("without an outcome"));
    // Nor does such a disk keep the process from ending.
    world.gateway = Gateway::start(serve_with_fault(&world.config(), "FAULT_STALL"));
    world.gateway.wait_until_ready();
    fs::write(&fault, "").unwrap();
    world.gateway.signal("-TERM");
    world.gateway.wait();
}

/// However often a gateway is killed as soon as it has begun, and however long it was down.
#[test]
fn a_crash_loop_damages_nothing() {
    let mut world = with_fault("FAULT_CLOCK");
    world.gateway.wait_until_ready();
    change(&world);
    for hours in 1..5 {
        world.gateway.child.kill().unwrap();
        world.gateway.wait();
        assert_whole(&folder(&world));
        let clock = world.folder.path().join("fault");
        fs::write(&clock, (hours * 3600).to_string()).unwrap();
        world.gateway = Gateway::start(serve_with_fault(&world.config(), "FAULT_CLOCK"));
        wait_for("its first record", || {
            let begun = records_in(&folder(&world));
            events(&begun, "start").len() > hours
        });
    }
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    restart(&mut world);
    stop(&mut world);
    assert_whole(&folder(&world));
}

#[test]
fn nothing_is_written_behind_what_can_not_be_signed() {
    let mut world = with_fault("FAULT_CHECKPOINT");
    world.gateway.wait_until_ready();
    change(&world);
    let fault = world.folder.path().join("fault");
    fs::write(&fault, "").unwrap();
    let token = world.supervisor();
    wait_for("the first checkpoint that fails", || world.put(&token, SAMPLE).status == 503);
    let records = records_in(&folder(&world)).len();
    let failures = || world.gateway.metric("cms_gateway_audit_failures_total").unwrap();
    let before = failures();
    wait_for("some tries", || failures() > before + 3.0);
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(records_in(&folder(&world)).len(), records);
    fs::remove_file(&fault).unwrap();
    world.gateway.wait_until_ready();
    change(&world);
    stop(&mut world);
    assert_whole(&folder(&world));
}

#[test]
fn compression_and_retention_do_not_bring_back_what_is_deleted() {
    let config = "segment_size = \"64KiB\"\ndurability = \"write\"";
    let mut world = World::with(with_audit(config));
    world.gateway.wait_until_ready();
    while files(&folder(&world), ".jsonl").len() < 24 {
        change(&world);
    }
    stop(&mut world);
    let text = fs::read_to_string(world.config()).unwrap();
    let both = format!("{config}\ncompress = true\nretention = {{ size = \"1MiB\" }}");
    fs::write(world.config(), text.replace(config, &both)).unwrap();
    restart(&mut world);
    change(&world);
    wait_for("compression", || files(&folder(&world), ".jsonl").len() == 1);
    stop(&mut world);
    let words = assert_whole(&folder(&world));
    assert!(words.contains("deleted by retention"), "{words}");
    assert!(files_named(&folder(&world), ".new").is_empty());
}

#[test]
fn a_gateway_that_is_killed_while_it_ends_leaves_a_whole_trail() {
    let mut world = with_fault("FAULT_STALL");
    world.gateway.wait_until_ready();
    change(&world);
    wait_for("a checkpoint", || !verify(&folder(&world)).1.contains("not signed yet"));
    // Its last record is written and its last checkpoint is not.
    fs::write(world.folder.path().join("fault"), "").unwrap();
    world.gateway.signal("-TERM");
    wait_for("the last record", || {
        let segment = files(&folder(&world), ".jsonl").remove(0);
        fs::read_to_string(segment).unwrap().contains("\"name\":\"stop\"")
    });
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let words = assert_whole(&folder(&world));
    assert!(words.contains("not signed yet"), "{words}");
    fs::remove_file(world.folder.path().join("fault")).unwrap();
    restart(&mut world);
    change(&world);
    stop(&mut world);
    assert_whole(&folder(&world));
}
