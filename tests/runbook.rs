//! What docs/runbook.md says to do, done.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::trail::{assert_whole, change, events, folder, restart, stop};
use support::{BINARY, World, records_in, wait_for};

/// Runs a line of the runbook in a world's folder, with `cms-gateway` on its path.
#[track_caller]
fn play(world: &World, line: &str) -> String {
    let binaries = Path::new(BINARY).parent().unwrap().display();
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-ec", line]).env("PATH", path).current_dir(world.folder.path());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_audit_key_is_rotated() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    play(&world, "cp audit/keys.pub kept.pub");
    play(&world, "(umask 077 && openssl genpkey -algorithm ed25519 -out new.pem)");
    play(&world, "openssl pkey -in new.pem -pubout -out new.pub");
    stop(&mut world);
    play(&world, "mv audit.signing-key.pem retired.pem && mv new.pem audit.signing-key.pem");
    restart(&mut world);
    change(&world);
    stop(&mut world);
    let changed = play(&world, "cms-gateway audit query audit --events | grep signing_key_changed");
    assert_eq!(changed.lines().count(), 1, "{changed}");
    // The newest key of the folder is the host's.
    let key = "openssl pkey -pubin -in new.pub -outform DER | tail -c 32 | base64";
    let own = "tail -n 1 audit/keys.pub | cut -d + -f 3- | base64 -d | tail -c 32 | base64";
    assert_eq!(play(&world, key), play(&world, own));
    play(&world, "tail -n 1 audit/keys.pub >> kept.pub");
    play(&world, "cms-gateway audit verify audit --key kept.pub");
}

#[test]
fn what_came_with_an_issuers_tokens_is_found() {
    let world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    let issuer = world.provider.issuer();
    let query = "cms-gateway audit query audit --since 2d --format json";
    let found = play(&world, &format!("{query} | grep '\"issuer\":\"{issuer}\"'"));
    assert_eq!(found.lines().count(), 1, "{found}");
    let issuers = world.gateway.admin("/issuers").json();
    assert!(issuers.to_string().contains("\"kid\""), "{issuers}");
}

#[test]
fn a_backup_is_checked_and_read_and_another_trail_is_begun() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    change(&world);
    wait_for("a checkpoint", || world.gateway.admin("/audit/checkpoint").status == 200);
    let checkpoint = world.gateway.admin("/audit/checkpoint").body;
    fs::write(world.folder.path().join("kept.checkpoint"), checkpoint).unwrap();
    play(&world, "cp -a audit backup && cp audit/keys.pub kept.pub");
    change(&world);
    // The disk is lost.
    stop(&mut world);
    play(&world, "rm -r audit");
    play(&world, "cms-gateway audit verify backup --key kept.pub --checkpoint kept.checkpoint");
    assert_eq!(play(&world, "cms-gateway audit query backup --format json").lines().count(), 1);
    let config = fs::read_to_string(world.config()).unwrap();
    let renamed = config.replace("instance = \"test\"", "instance = \"test-2\"");
    assert_ne!(renamed, config);
    fs::write(world.config(), renamed).unwrap();
    play(&world, "cms-gateway check --config gateway.toml");
    restart(&mut world);
    change(&world);
    stop(&mut world);
    assert_whole(&folder(&world));
    let records = records_in(&folder(&world));
    assert_eq!((&records[0]["sequence"], events(&records, "start").len()), (&1.into(), 1));
}
