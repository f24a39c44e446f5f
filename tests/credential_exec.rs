//! A program gives the CMS's password: it alone, within its limits, and nothing of it stays behind.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use support::{BINARY, SAMPLE, World, run, wait_for};

const GOOD: &str =
    r#"echo '{"username":"cms-service","password":"cms-password","version":"'"$1"'"}'"#;

/// A world whose gateway runs this script, again and again.
fn world(script: &str, timeout: &str) -> World {
    World::with_command(
        |config| {
            let (before, rest) = config.split_once("source = \"file\"\n").unwrap();
            let (_, after) = rest.split_once("[audit]").unwrap();
            let program = "command = [\"FOLDER/program\", \"v-7\"]";
            *config = format!(
                "{before}source = \"exec\"\n{program}\ntimeout = \"{timeout}\"\n\
                 refresh = \"50ms\"\n[audit]{after}"
            );
        },
        |config| {
            let folder = config.parent().unwrap();
            write(folder, script);
            let text = fs::read_to_string(config).unwrap();
            fs::write(config, text.replace("FOLDER", folder.to_str().unwrap())).unwrap();
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config).current_dir(folder);
            command
        },
    )
}

/// Puts a script where the gateway runs it, as a whole.
fn write(folder: &Path, script: &str) {
    let new = folder.join("program.new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(new, folder.join("program")).unwrap();
}

fn wait_for_log(world: &World, words: &str) {
    let before = world.gateway.log().matches(words).count();
    wait_for(words, || world.gateway.log().matches(words).count() > before);
}

/// The processes whose ids the script has written down.
fn noted(world: &World) -> Vec<u32> {
    let notes = fs::read_to_string(world.folder.path().join("notes")).unwrap_or_default();
    notes.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a process runs, or has ended and its parent, this one, has not taken note.
fn is_left(process: u32, parent: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    let mut words = stat.rsplit_once(") ").unwrap().1.split(' ');
    words.next().unwrap() != "Z" || words.next().unwrap() == parent.to_string()
}

#[test]
fn what_a_program_prints_is_the_credential() {
    let world = world(&format!("cat >&2; {GOOD}"), "15s");
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let records = world.records();
    assert_eq!(records[1]["credential"], json!({"source": "exec", "version": "v-7"}));
}

#[test]
fn what_goes_wrong_is_told_without_a_word_of_the_program() {
    let world = world(&format!("echo hunter2 >&2; {GOOD}"), "15s");
    world.gateway.wait_until_ready();
    for (script, words) in [
        ("echo hunter2 >&2; echo hunter2; exit 3", "ended with exit status 3"),
        ("echo hunter2; kill -9 $$", "was ended by signal 9"),
        ("true", "is no JSON"),
        ("echo hunter2", "is no JSON"),
        (r#"echo '{"username":"cms-service","password":"hunter2","hunter2":1}'"#, "another member"),
        (r#"echo '{"username":"cms-service","Password":"hunter2"}'"#, "another member"),
        (r#"echo '{"username":"cms-service","password":["hunter2"]}'"#, "no text"),
        (r#"echo '{"username":"cms-service","password":"hunter2"}{}'"#, "is no JSON"),
        ("yes hunter2", "prints more than 64 KiB"),
    ] {
        write(world.folder.path(), script);
        wait_for_log(&world, words);
    }
    fs::remove_file(world.folder.path().join("program")).unwrap();
    wait_for_log(&world, "can't be started: No such file");
    let trail = json!(support::records_in(&world.folder.path().join("audit"))).to_string();
    for text in [world.gateway.log(), world.gateway.admin("/metrics").body, trail] {
        assert!(!text.contains("hunter2") && !text.contains("cms-password"), "{text}");
    }
    // What was had before goes on meanwhile.
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let hangs = "sleep 1000 & echo $! >> notes; echo $$ >> notes; sleep 1000";
    let mut world = world(hangs, "300ms");
    wait_for_log(&world, "was killed: it did not end within 300ms");
    let gateway = world.gateway.child.id();
    // The last one may be running by right.
    write(world.folder.path(), GOOD);
    world.gateway.wait_until_ready();
    let processes = noted(&world);
    assert!(processes.len() >= 2);
    wait_for("their end", || !processes.iter().any(|process| is_left(*process, gateway)));
    // One that ends without those who write where it wrote is waited for, and then killed as well.
    write(world.folder.path(), "sleep 1000 & echo $! >> notes");
    wait_for_log(&world, "was killed: it did not end within 300ms");
    write(world.folder.path(), GOOD);
    let processes = noted(&world);
    wait_for("their end", || !processes.iter().any(|process| is_left(*process, gateway)));
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
}

#[test]
fn a_gateway_that_stops_leaves_no_program_behind() {
    let hangs = "sleep 1000 & echo $! >> notes; echo $$ >> notes; sleep 1000";
    let mut world = world(hangs, "5m");
    wait_for("the program", || noted(&world).len() == 2);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    let gateway = world.gateway.child.id();
    wait_for("their end", || !noted(&world).iter().any(|process| is_left(*process, gateway)));
}

#[test]
fn a_program_that_can_not_be_run_is_told_before_the_start() {
    let world = world(GOOD, "15s");
    let program = world.folder.path().join("program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).unwrap();
    let config = world.config();
    let checked = run(&["check", "--config", config.to_str().unwrap()]);
    let errors = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(2), "{errors}");
    assert!(errors.contains("credential.command: ") && errors.contains("can't be run"), "{errors}");
}
