//! Whoever can write the trail's folder while no gateway runs, but has not the key, can't make
//! history: `verify` finds it, and the next start does not carry it on.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cms_gateway::audit::log::{Closed, Digest, manifest};
use cms_gateway::audit::note::Signer;
use serde_json::Value;

use support::trail::{
    assert_whole, change, ended_trail, events, files, folder, lines, restart, serve, stop, verify,
};
use support::{Gateway, World, records_in, wait_for};

const SMALL: &str = "segment_size = \"4KiB\"";

fn assert_not_whole(folder: &Path, words: &str) {
    let (status, said) = verify(folder);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains(words), "{said}");
}

/// A start says why it does not carry a trail on, and forwards nothing.
fn assert_not_carried_on(world: &mut World, words: &str) {
    world.gateway = Gateway::start(serve(world));
    wait_for("the reason alone", || {
        let ready = world.gateway.admin("/readyz").body;
        ready.starts_with("audit: the trail is damaged: ") && ready.contains(words)
    });
    let calls = world.cms.calls();
    assert_eq!(world.put(&world.supervisor(), support::SAMPLE).code(), "GW-4001");
    assert_eq!(world.cms.calls(), calls);
}

fn append(path: &Path, text: &str) {
    fs::write(path, fs::read_to_string(path).unwrap() + text).unwrap();
}

/// A record as it could stand after all others.
fn next_record(world: &World, of_kind: &str) -> String {
    let records = records_in(&folder(world));
    let last = records.last().unwrap();
    let mut record = records.iter().find(|it| it["kind"] == of_kind).unwrap().clone();
    record["sequence"] = (last["sequence"].as_u64().unwrap() + 1).into();
    record["time"] = last["time"].clone();
    record.to_string() + "\n"
}

#[test]
fn what_is_written_behind_a_gateways_end_is_found_and_not_carried_on() {
    let mut world = ended_trail("");
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    append(&segment, &next_record(&world, "intent"));
    assert_not_whole(&folder(&world), "stands behind a gateway's end");
    assert_not_carried_on(&mut world, "stands behind a gateway's end");
}

#[test]
fn what_a_killed_gateway_left_unsigned_is_carried_on_and_said_on_record() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    let newest = || files(&folder(&world), ".checkpoints").pop().map(|it| lines(&it).len());
    wait_for("a checkpoint", || newest().is_some_and(|lines| lines > 0));
    change(&world);
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let records = records_in(&folder(&world));
    let checkpoints = lines(&files(&folder(&world), ".checkpoints").pop().unwrap());
    let signed: usize = checkpoints[checkpoints.len() - 5].trim().parse().unwrap();
    restart(&mut world);
    stop(&mut world);
    let after = records_in(&folder(&world));
    let adopted = events(&after, "unsigned_adopted");
    let left = records.len() - signed;
    assert_eq!(adopted.len(), usize::from(left > 0));
    for event in adopted {
        assert_eq!(event["event"]["count"], left);
    }
    // Not signed before that was said, or a second kill would leave it signed and unsaid.
    let sizes = lines(&files(&folder(&world), ".checkpoints").pop().unwrap());
    let sizes: Vec<usize> = sizes.iter().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(left == 0 || !sizes.contains(&records.len()), "{sizes:?}");
    assert_whole(&folder(&world));
}

#[test]
fn more_than_a_killed_gateway_leaves_unsigned_is_not_carried_on() {
    let mut world = ended_trail("");
    // All is rewritten, and nothing of it is signed: as old as it says, it should be.
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    fs::remove_file(files(&folder(&world), ".checkpoints").pop().unwrap()).unwrap();
    fs::write(folder(&world).join("lock"), "").unwrap();
    let mut text = String::new();
    for (line, hour) in lines(&segment).iter().filter(|line| !line.contains("\"stop\"")).zip(0..) {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["time"] = format!("2026-01-01T{hour:02}:00:00.000000Z").into();
        text += &(record.to_string() + "\n");
    }
    fs::write(&segment, text).unwrap();
    assert_not_whole(&folder(&world), "has no checkpoint after record 0");
    assert_not_carried_on(&mut world, "no checkpoint covers them");
}

#[test]
fn a_manifest_that_was_forged_begins_no_tree() {
    type Forge = fn(&mut Value);
    let forgeries: [Forge; 5] = [
        |line| line["edge"][0] = line["root"].clone(),
        |line| line["root"] = line["edge"][0].clone(),
        |line| line["last"] = u64::MAX.into(),
        |line| line["last"] = (line["last"].as_u64().unwrap() + 1).into(),
        |line| line["pending"] = serde_json::json!(["01A20AD8-0DBE-73E1-9511-E680E589735A"]),
    ];
    for forge in forgeries {
        let mut world = ended_trail(SMALL);
        let manifest = folder(&world).join("manifest");
        let mut all = lines(&manifest);
        let mut last: Value = serde_json::from_str(all.last().unwrap()).unwrap();
        forge(&mut last);
        let place = all.len() - 1;
        all[place] = last.to_string() + "\n";
        fs::write(&manifest, all.concat()).unwrap();
        assert_not_whole(&folder(&world), "manifest");
        assert_not_carried_on(&mut world, "manifest");
    }
}

#[test]
fn segments_that_are_missing_at_a_start_are_not_forgotten() {
    // The open one, and one in the middle.
    for missing in [0, 1] {
        let mut world = ended_trail(SMALL);
        let segments = files(&folder(&world), ".jsonl");
        let segment = &segments[segments.len() - 1 - missing];
        let beside = ["checkpoints", "leaves"].map(|it| segment.with_extension(it));
        beside.iter().chain([segment]).for_each(|path| fs::remove_file(path).unwrap());
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert_not_whole(&folder(&world), name);
        assert_not_carried_on(&mut world, &format!("{name} is missing"));
    }
}

#[test]
fn a_deletion_that_nobody_signed_deletes_nothing() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    stop(&mut world);
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config.replace("[audit]\n", &format!("[audit]\n{SMALL}\n"))).unwrap();
    restart(&mut world);
    for _ in 0..6 {
        change(&world);
    }
    // Killed, so that there is no end behind which nothing may stand.
    wait_for("its checkpoint", || !verify(&folder(&world)).1.contains("not signed yet"));
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let segments = files(&folder(&world), ".jsonl");
    let (open, closed) = segments.split_last().unwrap();
    let mut event: Value = serde_json::from_str(&next_record(&world, "event")).unwrap();
    let last: u64 = open.file_stem().unwrap().to_str().unwrap()[6..].parse().unwrap();
    event["event"]["name"] = "segments_deleted".into();
    event["event"]["count"] = (last - 1).into();
    append(open, &(event.to_string() + "\n"));
    for segment in closed {
        fs::remove_file(segment).unwrap();
        fs::remove_file(segment.with_extension("checkpoints")).unwrap();
    }
    assert_not_whole(&folder(&world), "no record says that retention deleted it");
}

#[test]
fn an_empty_file_behind_the_trail_hides_no_segment() {
    let world = ended_trail(SMALL);
    let segments = files(&folder(&world), ".jsonl");
    let (open, closed) = segments.split_last().unwrap();
    let altered = fs::read_to_string(open).unwrap().replacen("\"test\"", "\"tesd\"", 1);
    fs::write(open, altered).unwrap();
    let name = closed.last().unwrap().file_stem().unwrap().to_str().unwrap();
    let first: u64 = name[6..].parse().unwrap();
    for planted in
        [format!("audit-{:020}.jsonl", first + 1), "audit-+0000000000000000001.jsonl".into()]
    {
        let planted = folder(&world).join(planted);
        fs::write(&planted, "").unwrap();
        assert_not_whole(&folder(&world), "audit-");
        fs::remove_file(planted).unwrap();
    }
}

#[test]
fn a_segment_that_the_manifest_closes_is_what_it_was_closed_with() {
    let world = ended_trail(SMALL);
    let segments = files(&folder(&world), ".jsonl");
    let (open, closed) = segments.split_last().unwrap();
    let last = closed.last().unwrap();
    let altered = fs::read_to_string(last).unwrap().replacen("\"test\"", "\"tesd\"", 1);
    fs::write(last, altered).unwrap();
    fs::write(open, "").unwrap();
    for segment in [last, open] {
        fs::remove_file(segment.with_extension("checkpoints")).unwrap();
    }
    assert_not_whole(&folder(&world), "is closed, and its last checkpoint is missing");
}

#[test]
fn a_pipe_in_a_files_place_holds_nobody_up() {
    let world = ended_trail("");
    for file in [".jsonl", ".checkpoints", "keys.pub", "manifest"] {
        let found = files(&folder(&world), file).pop();
        let path = found.unwrap_or_else(|| folder(&world).join(file));
        let kept = fs::read(&path).ok();
        let _ = fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (status, words) = verify(&folder(&world));
        assert!(status != 0 && words.contains("regular file"), "{file}: {words}");
        fs::remove_file(&path).unwrap();
        kept.into_iter().for_each(|kept| fs::write(&path, kept).unwrap());
    }
}

/// Wherever a crash tore the last checkpoint or the keys, the trail is whole and carried on.
#[test]
fn what_a_crash_tears_is_no_damage() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    stop(&mut world);
    let checkpoints = files(&folder(&world), ".checkpoints").pop().unwrap();
    let bytes = fs::read(&checkpoints).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let note = text.rfind("cms-gateway/test\n").unwrap();
    // As a gateway that is killed leaves it, which says nothing of its end.
    fs::write(folder(&world).join("lock"), "").unwrap();
    for end in note..bytes.len() {
        fs::write(&checkpoints, &bytes[..end]).unwrap();
        let (status, words) = verify(&folder(&world));
        assert!(status == 0 && words.contains("not signed yet"), "cut at {end}: {words}");
    }
    let dash = text.rfind('\u{2014}').unwrap();
    for end in [note, note + 17, dash - 1, dash, dash + 1, bytes.len() - 1] {
        fs::write(&checkpoints, &bytes[..end]).unwrap();
        fs::write(folder(&world).join("lock"), "").unwrap();
        let key = fs::read(folder(&world).join("keys.pub")).unwrap();
        fs::write(folder(&world).join("keys.pub"), &key[..key.len() / 2]).unwrap();
        restart(&mut world);
        world.gateway.child.kill().unwrap();
        world.gateway.wait();
        assert_whole(&folder(&world));
    }
    restart(&mut world);
    stop(&mut world);
    assert_whole(&folder(&world));
}

#[test]
fn what_the_manifest_says_of_deleted_segments_can_not_be_changed() {
    let mut world = World::with(support::trail::with_audit(
        "segment_size = \"64KiB\"\nretention = { size = \"1MiB\" }\ndurability = \"write\"",
    ));
    world.gateway.wait_until_ready();
    let first = files(&folder(&world), ".jsonl").remove(0);
    while first.exists() {
        change(&world);
    }
    stop(&mut world);
    let folder = folder(&world);
    assert_whole(&folder);
    let manifest = folder.join("manifest");
    let deleted = lines(&manifest).remove(0);
    let text = fs::read_to_string(&manifest).unwrap();
    let value: Value = serde_json::from_str(&deleted).unwrap();
    for (name, forged) in [
        ("from", "2026-01-01T00:00:00.000000Z".into()),
        ("to", "2026-01-01T00:00:00.000000Z".into()),
        ("bytes", 1.into()),
        ("pending", serde_json::json!(["01a20ad8-0dbe-73e1-9511-e680e589735a"])),
    ] {
        let mut value = value.clone();
        value[name] = forged;
        let forged = text.replacen(&deleted, &(value.to_string() + "\n"), 1);
        fs::write(&manifest, forged).unwrap();
        assert_not_whole(&folder, "manifest: manifest.signed is of other lines");
    }
    fs::write(&manifest, text).unwrap();
    for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

/// As [`next_record`], so many places further on.
fn later_record(world: &World, of_kind: &str, further: u64) -> Value {
    let mut record: Value = serde_json::from_str(&next_record(world, of_kind)).unwrap();
    record["sequence"] = (record["sequence"].as_u64().unwrap() + further).into();
    record
}

/// An empty file in the next segment's place does not make the open one a closed one.
#[test]
fn what_is_forged_before_a_planted_segment_is_said_on_record() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    append(&segment, &next_record(&world, "intent"));
    let next = records_in(&folder(&world)).len() + 1;
    fs::write(folder(&world).join(format!("audit-{next:020}.jsonl")), "").unwrap();
    restart(&mut world);
    stop(&mut world);
    let records = records_in(&folder(&world));
    let adopted = events(&records, "unsigned_adopted");
    assert_eq!(adopted.len(), 1);
    let last = format!("to {} were", next - 1);
    assert!(adopted[0]["event"]["detail"].as_str().unwrap().contains(&last), "{adopted:?}");
}

/// Nor does a start that was forged, and a deletion behind it, delete what the gateway wrote.
#[test]
fn a_deletion_that_a_start_adopts_accounts_for_nothing() {
    let mut world = ended_trail(SMALL);
    let segments = files(&folder(&world), ".jsonl");
    let (open, closed) = segments.split_last().unwrap();
    let deleted: u64 = open.file_stem().unwrap().to_str().unwrap()[6..].parse().unwrap();
    let mut begun = later_record(&world, "event", 0);
    begun["event"]["name"] = "start".into();
    let mut deletion = later_record(&world, "event", 1);
    deletion["event"]["name"] = "segments_deleted".into();
    deletion["event"]["count"] = (deleted - 1).into();
    append(open, &format!("{begun}\n{deletion}\n"));
    for segment in closed {
        fs::remove_file(segment).unwrap();
        fs::remove_file(segment.with_extension("checkpoints")).unwrap();
    }
    assert_not_whole(&folder(&world), "ends without the stop");
    // The last gateway said that it has signed everything; until that is taken away as well.
    assert_not_carried_on(&mut world, "has signed everything");
    let failures = || world.gateway.metric("cms_gateway_audit_failures_total").unwrap();
    wait_for("another try", || failures() > 2.0);
    assert_not_whole(&folder(&world), "ends without the stop");
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    fs::write(folder(&world).join("lock"), "").unwrap();
    world.gateway = Gateway::start(serve(&world));
    world.gateway.wait_until_ready();
    stop(&mut world);
    assert_not_whole(&folder(&world), "no record says that retention deleted it");
}

#[test]
fn a_manifest_whose_signature_is_of_other_lines_is_not_carried_on() {
    let harms: [fn(&Path); 3] = [
        |folder| fs::remove_file(folder.join("manifest.signed")).unwrap(),
        |folder| {
            let text = fs::read_to_string(folder.join("manifest")).unwrap();
            let at = text.find("\"to\":\"2").unwrap() + 6;
            let text = format!("{}1{}", &text[..at], &text[at + 1..]);
            fs::write(folder.join("manifest"), text).unwrap();
        },
        |folder| {
            let text = fs::read_to_string(folder.join("manifest.signed")).unwrap();
            fs::write(folder.join("manifest.signed"), text.replace("/test\n", "/tesd\n")).unwrap();
        },
    ];
    for harm in harms {
        let mut world = ended_trail(SMALL);
        harm(&folder(&world));
        assert_not_whole(&folder(&world), "manifest");
        assert_not_carried_on(&mut world, "manifest");
    }
}

/// A key that somebody put into the folder gives the manifest no authority in silence.
#[test]
fn a_manifest_that_another_key_signed_is_on_record() {
    let mut world = ended_trail(SMALL);
    let folder = folder(&world);
    let other = world.folder.path().join("other.pem");
    let other = Signer::load_or_make(&other, "cms-gateway/test").unwrap();
    let keys = fs::read_to_string(folder.join("keys.pub")).unwrap();
    fs::write(folder.join("keys.pub"), format!("{}\n{keys}", other.public())).unwrap();
    let (closed, _) = manifest(&folder).unwrap();
    let sign = |closed: &[Closed]| {
        let note = other.sign(&Digest::of(closed).statement("cms-gateway/test"));
        fs::write(folder.join("manifest.signed"), note).unwrap();
    };
    sign(&closed);
    restart(&mut world);
    stop(&mut world);
    assert_eq!(events(&records_in(&folder), "manifest_adopted").len(), 1);
    // Nor does it make segments old enough for retention.
    let (mut closed, _) = manifest(&folder).unwrap();
    closed[0].from = closed[1].from;
    let text: Vec<u8> = closed.iter().flat_map(Closed::encode).collect();
    fs::write(folder.join("manifest"), text).unwrap();
    sign(&closed);
    assert_not_carried_on(&mut world, "is not what the segment says");
}

#[test]
fn an_end_that_was_cut_is_missed() {
    let world = ended_trail("");
    let segment = files(&folder(&world), ".jsonl").pop().unwrap();
    let all = lines(&segment);
    fs::write(&segment, all[..all.len() - 1].concat()).unwrap();
    let checkpoints = files(&folder(&world), ".checkpoints").pop().unwrap();
    let notes = lines(&checkpoints);
    fs::write(&checkpoints, notes[..notes.len() - 6].concat()).unwrap();
    assert_not_whole(&folder(&world), "ends without the stop that its gateway wrote");
}

#[test]
fn links_in_the_folder_lead_nowhere() {
    for suffix in [".leaves", ".jsonl", ".checkpoints", "lock"] {
        let mut world = ended_trail("");
        let victim = world.folder.path().join("victim");
        fs::write(&victim, "x").unwrap();
        let path = files(&folder(&world), suffix).pop().unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        world.gateway = Gateway::start(serve(&world));
        wait_for("its opinion", || !world.gateway.admin("/readyz").body.contains("keys"));
        let _ = world.put(&world.supervisor(), support::SAMPLE);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "x", "{suffix}");
    }
}
