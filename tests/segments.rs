//! The journal can't be fooled: what happens to its folder is noticed, said and survived, and the
//! log goes on as the same log.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use support::trail::{
    assert_whole, events, files, folder, restart, serve, stop, verify, with_audit, with_fault,
};
use support::{BINARY, Gateway, SAMPLE, World, records_in, wait_for};

#[test]
fn a_start_carries_on_the_same_log_in_the_same_segment() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    for _ in 0..3 {
        assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
        stop(&mut world);
        assert_whole(&folder(&world));
        restart(&mut world);
    }
    stop(&mut world);
    assert_whole(&folder(&world));
    assert_eq!(files(&folder(&world), ".jsonl").len(), 1);
    assert_eq!(events(&records_in(&folder(&world)), "start").len(), 4);
}

#[test]
fn a_change_whose_outcome_never_came_is_closed_at_the_next_start() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    world.cms.misbehave(support::cms::Misbehaviour::Slow);
    let api = world.gateway.api;
    let token = world.supervisor();
    let call = std::thread::spawn(move || support::try_put(api, &token, SAMPLE));
    wait_for("the CMS", || world.cms.calls() == 1);
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    assert!(call.join().unwrap().is_none());
    assert!(assert_whole(&folder(&world)).contains("without an outcome on record yet: 1 change"));
    world.cms.misbehave(support::cms::Misbehaviour::None);
    restart(&mut world);
    stop(&mut world);
    let records = records_in(&folder(&world));
    let intent = records.iter().find(|record| record["kind"] == "intent").unwrap();
    let unknown = events(&records, "outcome_unknown");
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0]["request_id"], intent["request_id"]);
    assert!(!assert_whole(&folder(&world)).contains("without an outcome"));
    // Once is enough.
    restart(&mut world);
    stop(&mut world);
    assert_eq!(events(&records_in(&folder(&world)), "outcome_unknown").len(), 1);
}

#[test]
fn a_segment_that_is_lost_while_running_is_on_record_and_verify_says_which() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("truncated", |path| {
            let length = fs::metadata(path).unwrap().len();
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        }),
        ("replaced", |path| {
            let text = fs::read_to_string(path).unwrap().replace("exe_gs", "exe_gt");
            fs::write(path.with_extension("new"), text).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("written to", |path| {
            let text = fs::read_to_string(path).unwrap();
            let first = text.lines().next().unwrap();
            fs::write(path, text.replacen(first, &"x".repeat(first.len()), 1) + "x").unwrap();
        }),
    ];
    for (name, harm) in harms {
        let mut world = World::start();
        world.gateway.wait_until_ready();
        let token = world.supervisor();
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        let segment = files(&folder(&world), ".jsonl").pop().unwrap();
        harm(&segment);
        let calls = world.cms.calls();
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001", "{name}");
        assert_eq!(world.cms.calls(), calls, "{name}");
        world.gateway.wait_until_ready();
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        stop(&mut world);
        let newest = files(&folder(&world), ".jsonl").pop().unwrap();
        assert_ne!(newest, segment, "{name}");
        let text = fs::read_to_string(&newest).unwrap();
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let lost = events(&records, "segment_lost");
        assert_eq!(lost.len(), 1, "{name}");
        let (status, words) = verify(&folder(&world));
        assert_eq!(status, 1, "{name}: {words}");
        assert!(words.contains("audit-00000000000000000001"), "{name}: {words}");
        assert!(words.contains("the gateway noticed then"), "{name}: {words}");
        // The log goes on, and a start is no trouble.
        restart(&mut world);
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
}

#[test]
fn an_exact_copy_in_a_segments_place_is_noticed_and_the_trail_stays_whole() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    let copy = segment.with_extension("new");
    fs::copy(&segment, &copy).unwrap();
    fs::rename(&copy, &segment).unwrap();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    stop(&mut world);
    let records = records_in(&folder(&world));
    let resumed = events(&records, "audit_resumed");
    assert!(resumed[0]["event"]["detail"].as_str().unwrap().contains("replaced"));
    assert!(events(&records, "segment_lost").is_empty());
    assert_whole(&folder(&world));
}

#[test]
fn a_trail_that_was_changed_while_it_was_not_written_is_not_carried_on() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    stop(&mut world);
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("exe_gs", "exe_gt", 1)).unwrap();
    world.gateway = Gateway::start(serve(&world));
    wait_for("the reason", || {
        world.gateway.admin("/readyz").body.starts_with("audit: the trail is damaged: ")
    });
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    fs::rename(folder(&world), world.folder.path().join("evidence")).unwrap();
    fs::create_dir(folder(&world)).unwrap();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    stop(&mut world);
    assert_whole(&folder(&world));
}

/// Two changes go through with a fault of the system between them, while which nothing does; and
/// the trail is whole.
fn with_fault_between(variable: &'static str, words: &str) -> (World, PathBuf, u64) {
    let mut world = with_fault(variable);
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    let length = fs::metadata(&segment).unwrap().len();
    let fault = world.folder.path().join("fault");
    fs::write(&fault, "").unwrap();
    let calls = world.cms.calls();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), calls);
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.contains(words), "{ready:?}");
    fs::remove_file(&fault).unwrap();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    stop(&mut world);
    assert_whole(&folder(&world));
    (world, segment, length)
}

#[test]
fn after_an_io_error_of_a_sync_the_segment_is_never_written_again() {
    let (world, segment, length) = with_fault_between("FAULT_EIO", "Input/output error");
    assert_eq!(fs::metadata(&segment).unwrap().len(), length, "cut back to what was promised");
    assert_ne!(files(&folder(&world), ".jsonl").pop().unwrap(), segment);
}

#[test]
fn a_file_system_that_becomes_read_only_stops_the_forwarding_until_it_is_writable() {
    let (world, segment, _) = with_fault_between("FAULT_WRITE", "Read-only file system");
    assert_eq!(files(&folder(&world), ".jsonl"), [segment]);
}

#[test]
fn a_clock_that_is_set_back_is_on_record_and_reorders_nothing() {
    let mut world = with_fault("FAULT_CLOCK");
    world.gateway.wait_until_ready();
    fs::write(world.folder.path().join("fault"), "-3600").unwrap();
    // The token's own times are checked with leeway, not with an hour's.
    let mut claims = world.provider.claims("test-app", &["campaign-supervisor"]);
    for name in ["iat", "nbf"] {
        if let Some(time) = claims[name].as_u64() {
            claims[name] = (time - 7200).into();
        }
    }
    let token = world.mint(&claims);
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    stop(&mut world);
    let records = records_in(&folder(&world));
    let sequences: Vec<u64> = records.iter().map(|it| it["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>());
    assert_eq!(events(&records, "clock_set_back").len(), 1, "said once, not for every record");
    assert_whole(&folder(&world));
}

#[test]
fn another_file_system_in_the_folders_place_takes_no_record() {
    let (world, audit) = World::on_tmpfs("4m");
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    world.within(&["mount", "-t", "tmpfs", "tmpfs"]);
    let calls = world.cms.calls();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), calls);
    assert_eq!(world.gateway.admin("/readyz").status, 503);
    world.within(&["umount"]);
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_whole(&audit);
}

#[test]
fn a_new_day_begins_a_new_segment() {
    let mut world = with_fault("FAULT_CLOCK");
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let today = files(&folder(&world), ".jsonl");
    fs::write(world.folder.path().join("fault"), "86400").unwrap();
    wait_for("the next day's segment", || {
        world.put(&world.supervisor(), "{}");
        files(&folder(&world), ".jsonl").len() > today.len()
    });
    stop(&mut world);
    let records = records_in(&folder(&world));
    let closed = events(&records, "segment_closed");
    assert_eq!(closed.len(), 1);
    assert!(closed[0]["event"]["detail"].as_str().unwrap().starts_with("by day, next audit-"));
    assert_whole(&folder(&world));
}

#[test]
fn a_new_name_and_a_new_key_carry_on_the_same_log() {
    let mut world = support::trail::ended_trail("segment_size = \"4KiB\"");
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config.replace("instance = \"test\"", "instance = \"renamed\""))
        .unwrap();
    restart(&mut world);
    support::trail::change(&world);
    stop(&mut world);
    assert_whole(&folder(&world));
    fs::remove_file(world.folder.path().join("audit.signing-key.pem")).unwrap();
    let before = files(&folder(&world), ".jsonl").len();
    restart(&mut world);
    while files(&folder(&world), ".jsonl").len() < before + 3 {
        support::trail::change(&world);
    }
    stop(&mut world);
    restart(&mut world);
    stop(&mut world);
    assert_whole(&folder(&world));
    let records = records_in(&folder(&world));
    assert_eq!(events(&records, "signing_key_changed").len(), 2, "the name is a key's as well");
}

#[test]
fn closed_segments_are_compressed_and_read_as_before() {
    let mut world = World::with(with_audit("segment_size = \"4KiB\"\ncompress = true"));
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let reply = world.put(&token, SAMPLE);
    for _ in 0..10 {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
    let audit = folder(&world);
    wait_for("the compression", || files(&audit, ".jsonl").len() == 1);
    assert!(files(&audit, ".zst").len() > 3);
    stop(&mut world);
    assert_whole(&audit);
    let request = reply.header("x-request-id").unwrap();
    let output = Command::new(BINARY)
        .args(["audit", "prove", "--request", request])
        .arg(&audit)
        .output()
        .unwrap();
    assert!(output.status.success());
    let output = Command::new(BINARY)
        .args(["audit", "query", "--format", "json", "--decision", "allow"])
        .arg(&audit)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 11);
    // What is compressed can be altered as little.
    let first = &files(&audit, ".zst")[0];
    let text = zstd::decode_all(fs::File::open(first).unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap().replacen("exe_gs", "exe_gt", 1);
    fs::write(first, zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
    let (status, words) = verify(&audit);
    assert!(status == 1 && words.contains("not what was signed"), "{words}");
    restart(&mut world);
}

#[test]
fn what_retention_deletes_is_signed_for_and_the_rest_still_verifies() {
    let mut world = World::with(with_audit(
        "segment_size = \"256KiB\"\nretention = { size = \"1MiB\" }\ndurability = \"write\"",
    ));
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let audit = folder(&world);
    let first = files(&audit, ".jsonl").remove(0);
    let mut calls = 0;
    while first.exists() {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        calls += 1;
        assert!(calls < 3000, "nothing was deleted");
    }
    let last = world.put(&token, SAMPLE);
    stop(&mut world);
    let words = assert_whole(&audit);
    assert!(
        words.contains("deleted by retention, as a later record says: records 1 to "),
        "{words}"
    );
    let prove = |request: &str| {
        let mut command = Command::new(BINARY);
        let output = command.args(["audit", "prove", "--request", request]).arg(&audit).output();
        output.unwrap().status.code()
    };
    assert_eq!(prove(last.header("x-request-id").unwrap()), Some(0));
    // Nobody else may delete one more, nor say so in the manifest alone.
    let next = files(&audit, ".jsonl").remove(0);
    let (hidden, checkpoints) = (next.with_extension("hidden"), next.with_extension("checkpoints"));
    fs::rename(&next, &hidden).unwrap();
    let (status, words) = verify(&audit);
    assert!(status == 1 && words.contains("no record says that retention deleted it"), "{words}");
    fs::remove_file(&checkpoints).unwrap();
    assert_eq!(verify(&audit).0, 1);
}

/// The room that a gateway which was killed had set aside is no record, and costs none.
#[test]
fn room_that_was_set_aside_deletes_nothing() {
    let mut world =
        World::with(with_audit("segment_size = \"4KiB\"\nretention = { size = \"1MiB\" }"));
    world.gateway.wait_until_ready();
    for _ in 0..6 {
        support::trail::change(&world);
    }
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    restart(&mut world);
    support::trail::change(&world);
    stop(&mut world);
    assert_eq!(events(&records_in(&folder(&world)), "segments_deleted"), Vec::<&Value>::new());
    assert!(!assert_whole(&folder(&world)).contains("deleted by retention"));
}

/// Nor does a segment keep it that is closed at the second try.
#[test]
fn room_that_was_set_aside_is_given_back_whatever_goes_wrong() {
    let mut world = World::with_command(with_audit("segment_size = \"4KiB\""), |config| {
        support::trail::serve_with_fault(config, "FAULT_CHECKPOINT")
    });
    world.gateway.wait_until_ready();
    support::trail::change(&world);
    let fault = world.folder.path().join("fault");
    fs::write(&fault, "").unwrap();
    let token = world.supervisor();
    wait_for("a segment that can't be closed", || world.put(&token, SAMPLE).status == 503);
    fs::remove_file(&fault).unwrap();
    world.gateway.wait_until_ready();
    support::trail::change(&world);
    stop(&mut world);
    let segments = files(&folder(&world), ".jsonl");
    assert!(segments.len() > 1);
    for segment in segments {
        let taken = fs::metadata(&segment).unwrap().blocks() * 512;
        assert!(taken < 64 << 10, "{} takes {taken} bytes", segment.display());
    }
    assert_whole(&folder(&world));
}

#[test]
fn what_is_too_old_is_deleted() {
    let mut world = World::with_command(
        with_audit("segment_size = \"4KiB\"\nretention = { age = \"1d\" }"),
        |config| support::trail::serve_with_fault(config, "FAULT_CLOCK"),
    );
    world.gateway.wait_until_ready();
    for _ in 0..6 {
        support::trail::change(&world);
    }
    let first = files(&folder(&world), ".jsonl").remove(0);
    fs::write(world.folder.path().join("fault"), "172800").unwrap();
    wait_for("the deletion", || {
        world.put(&world.supervisor(), "{}");
        !first.exists()
    });
    stop(&mut world);
    let records = records_in(&folder(&world));
    let deleted = events(&records, "segments_deleted");
    assert!(deleted[0]["event"]["detail"].as_str().unwrap().contains("by age"), "{deleted:?}");
    assert!(assert_whole(&folder(&world)).contains("deleted by retention"));
}

#[test]
fn records_go_to_standard_output_as_well_and_a_slow_reader_holds_up_nothing() {
    let mut world = World::with(with_audit("also = \"stdout\""));
    stop(&mut world);
    fs::remove_dir_all(folder(&world)).unwrap();
    let mut command = serve(&world);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(Stdio::from(writer));
    world.gateway = Gateway::start_with_stdout(command);
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    // More than a pipe holds, and nobody reads.
    for _ in 0..100 {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
    let mut reader = BufReader::new(reader);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let read = std::thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        rest
    });
    stop(&mut world);
    let copied = first + &read.join().unwrap();
    let trail = fs::read_to_string(files(&folder(&world), ".jsonl").pop().unwrap()).unwrap();
    let lines: std::collections::BTreeSet<&str> = trail.lines().collect();
    assert!(copied.lines().count() > 10);
    assert!(copied.lines().all(|line| lines.contains(line)), "letter by letter");
}

#[test]
fn too_little_room_is_said_before_the_wall() {
    let world = World::with(with_audit("low_space = \"1000TiB\""));
    wait_for("the warning", || {
        let ready = world.gateway.admin("/readyz");
        ready.status == 200 && ready.body.contains("warning: audit: less than 1000.0 TiB are free")
    });
    wait_for("the record", || !events(&records_in(&folder(&world)), "space_low").is_empty());
    assert!(world.gateway.metric("cms_gateway_audit_free_bytes").unwrap() > 0.0);
}

#[test]
fn a_trail_verifies_while_it_is_written_and_rotated() {
    let world = World::with(with_audit("segment_size = \"4KiB\"\ncompress = true"));
    world.gateway.wait_until_ready();
    let (api, token) = (world.gateway.api, world.supervisor());
    while files(&folder(&world), ".zst").len() < 2 {
        assert_eq!(support::put(api, &token, SAMPLE).status, 200);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Bounded: the more there is, the longer each verification takes.
                for _ in 0..1000 {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    assert_eq!(support::put(api, &token, SAMPLE).status, 200);
                }
            });
        }
        let verified: Vec<_> = (0..40).map(|_| verify(&folder(&world))).collect();
        is_over.store(true, Ordering::Relaxed);
        for (status, words) in verified {
            assert_eq!(status, 0, "{words}");
        }
    });
}
