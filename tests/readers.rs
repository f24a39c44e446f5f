//! What every reader of a trail does: it refuses what is no trail, tells damage, says when it could
//! not be heard, and follows a trail that goes on.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use cms_gateway::audit::query::{Filter, query};
use serde_json::Value;

use support::reading::{Trail, audit, audit_apart, folder_of, line, trail, trail_with};
use support::{BINARY, Gateway, SAMPLE, wait_for};

const REQUEST: &str = "00000000-0000-7000-8000-000000000001";

/// Every command that reads a trail, with what it needs.
fn readers<'a>(roles: &'a str, receipt: &'a str, request: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["query"],
        vec!["query", "--events"],
        vec!["query", "--format", "csv"],
        vec!["query", "--newest", "--format", "json"],
        vec!["summary"],
        vec!["export", "--format", "ecs"],
        vec!["export", "--format", "ocsf"],
        vec!["replay", "--config", roles],
        vec!["tail", "--no-follow"],
        vec!["verify"],
        vec!["prove", "--request", request],
        vec!["check-receipt", receipt],
    ]
}

fn roles(folder: &Path) -> String {
    let path = folder.join("roles.toml");
    let role = "[roles.campaign-supervisor]\npermissions = [\"lead-users:assign\"]\n\
                campaigns = [7]\n";
    fs::write(&path, role).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_folder_without_a_trail_is_refused_and_not_called_quiet() {
    let trail = trail();
    let empty = tempfile::tempdir().unwrap();
    let (roles, missing) = (roles(empty.path()), empty.path().join("missing"));
    let receipt = trail.replies[0].header("audit-record").unwrap();
    let key = trail.folder.join("keys.pub");
    for reader in readers(&roles, receipt, REQUEST) {
        for (folder, reason) in
            [(empty.path(), "holds no segment of a trail"), (&missing, "No such")]
        {
            let mut arguments = reader[1..].to_vec();
            for with_key in [false, true] {
                if with_key && !["verify", "prove", "check-receipt"].contains(&reader[0]) {
                    continue;
                }
                if with_key {
                    arguments.extend(["--key", key.to_str().unwrap()]);
                }
                let (status, said, complaint) = audit_apart(reader[0], folder, &arguments);
                assert_eq!((status, said.as_str()), (2, ""), "{reader:?}: {complaint}");
                assert!(complaint.contains(reason), "{reader:?}: {complaint}");
            }
        }
    }
    // To follow it there must be one.
    let (status, words) = audit("tail", empty.path(), &[]);
    assert!(status == 2 && words.contains("holds no segment"), "{words}");
}

/// An answer that could not be written is not given; one that nobody wants to read to its end is.
#[test]
fn what_can_t_be_written_is_said() {
    let trail = trail();
    let roles = roles(trail.world.folder.path());
    let reply = &trail.replies[0];
    let receipt = reply.header("audit-record").unwrap();
    let run = |reader: &[&str], out: Stdio| {
        let mut command = Command::new(BINARY);
        command.args(["audit", reader[0]]).arg(&trail.folder).args(&reader[1..]).stdout(out);
        let output: Output =
            command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let answers = readers(&roles, receipt, reply.header("x-request-id").unwrap());
    for reader in answers {
        let (status, words) = run(&reader, File::create("/dev/full").unwrap().into());
        assert!(status == 2 && words.contains("standard output: "), "{reader:?}: {words}");
        let (closed, out) = std::io::pipe().unwrap();
        drop(closed);
        let (status, words) = run(&reader, out.into());
        let answer = i32::from(reader[0] == "replay");
        assert_eq!(status, answer, "{reader:?}: {words}");
        assert!(!words.contains("pipe") && !words.contains("output"), "{reader:?}: {words}");
    }
    let mut check = Command::new(BINARY);
    check.args(["check", "--config"]).arg(trail.world.config());
    let check = check.stdout(File::create("/dev/full").unwrap()).output().unwrap();
    assert_eq!(check.status.code(), Some(2), "check says so too");
}

/// Searching proves nothing, but what it comes across it tells.
#[test]
fn damage_is_told() {
    let lines: Vec<String> = (1..=6)
        .map(|it| {
            line(
                it,
                "10:00:00",
                if it % 2 == 1 { "intent" } else { "outcome" },
                it.div_ceil(2),
                &[],
            )
        })
        .collect();
    let (first, second, third) = (&lines[..2], &lines[2..4], &lines[4..]);
    let folder = folder_of(&[first, second, third]);
    let roles = roles(folder.path());
    let path = |first: u64| folder.path().join(format!("audit-{first:020}.jsonl"));
    let readers: Vec<_> = readers(&roles, "", "")
        .into_iter()
        .filter(|it| ["query", "summary", "export", "replay"].contains(&it[0]))
        .collect();
    let expect = |what: &str| {
        for reader in &readers {
            let (status, _, complaint) = audit_apart(reader[0], folder.path(), &reader[1..]);
            assert_eq!(status, 1, "{reader:?}");
            assert!(complaint.contains(what), "{reader:?}: {complaint}");
            assert!(complaint.contains("run audit verify"), "{reader:?}: {complaint}");
        }
    };
    let query = |arguments: &[&str]| audit("query", folder.path(), arguments);
    assert_eq!(query(&["--campaign", "1"]).0, 0);
    fs::write(path(3), second.concat().replacen("\"sequence\"", "\"sequenze\"", 1)).unwrap();
    expect("1 line is no record");
    fs::write(path(3), second.concat().replace(",\"gateway\"", "\n")).unwrap();
    let (status, words) = query(&["--campaign", "7"]);
    assert!(status == 1 && words.contains("2 lines are no records"), "{words}");
    fs::write(path(3), &second[0]).unwrap();
    expect("audit-00000000000000000003.jsonl has 1 of 2 lines");
    fs::remove_file(path(3)).unwrap();
    expect("audit-00000000000000000001.jsonl has 2 of 4 lines");
    // What is only begun is being written.
    fs::write(path(3), second.concat()).unwrap();
    fs::write(path(5), third.concat() + "{\"time\":").unwrap();
    assert_eq!(query(&[]).0, 0);
    fs::remove_file(path(3)).unwrap();
    fs::write(path(3).with_extension("jsonl.zst"), "no zstd").unwrap();
    let (status, words) = query(&[]);
    assert!(status == 2 && words.contains("audit-00000000000000000003.jsonl.zst: "), "{words}");
}

#[test]
fn a_closed_segment_that_is_gone_is_named() {
    let mut trail = trail();
    go_on(&mut trail, 4);
    let mut segments: Vec<_> =
        fs::read_dir(&trail.folder).unwrap().map(|it| it.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|it| it == "jsonl"));
    segments.sort();
    assert!(segments.len() > 2);
    fs::remove_file(&segments[1]).unwrap();
    let name = segments[1].file_name().unwrap().to_str().unwrap();
    for arguments in [&[][..], &["--newest", "--limit", "1"], &["--until", "2020-01-01"]] {
        let (status, words) = audit("query", &trail.folder, arguments);
        assert!(status == 1 && words.contains(&format!("{name} is missing")), "{words}");
    }
}

/// What retention deletes while it is searched is no damage; what is gone otherwise is.
#[test]
fn a_search_goes_on_after_what_retention_deletes_meanwhile() {
    let call = |it: u64| {
        [
            line(2 * it - 1, "10:00:00", "intent", it, &[]),
            line(2 * it, "10:00:01", "outcome", it, &[]),
        ]
    };
    let calls = [call(1), call(2), call(3)];
    for (deleted, goes_on) in [(&[1, 3][..], true), (&[3], false)] {
        let folder = folder_of(&[&calls[0], &calls[1], &calls[2]]);
        let mut found = 0;
        let result = query(folder.path(), &Filter::default(), false, &mut |_| {
            for first in deleted {
                let name = format!("audit-{first:020}.jsonl");
                let _ = fs::remove_file(folder.path().join(name));
            }
            found += 1;
            true
        });
        let is_good = result.is_ok_and(|damage| damage.is_none());
        assert_eq!((is_good, found), (goes_on, if goes_on { 2 } else { 1 }));
    }
}

/// What has no end is no line, and is not taken into memory as a whole.
#[test]
fn a_file_without_lines_is_not_read_to_its_end() {
    let folder = folder_of(&[&[line(1, "10:00:00", "intent", 1, &[])]]);
    let segment = folder.path().join("audit-00000000000000000001.jsonl");
    File::options().write(true).open(segment).unwrap().set_len(1 << 40).unwrap();
    for (command, arguments) in [("tail", &["--no-follow"][..]), ("query", &[])] {
        let (status, words) = audit(command, folder.path(), arguments);
        assert!(status == 2 && words.contains("000001.jsonl: a line has no end"), "{words}");
    }
}

struct Tail {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Tail {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["audit", "tail"]).arg(folder).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn stop(mut self) {
        self.child.kill().unwrap();
        wait_for("the end of tail", || self.child.try_wait().unwrap().is_some());
    }
}

fn go_on(trail: &mut Trail, calls: u32) {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(trail.world.config());
    trail.world.gateway = Gateway::start(command);
    trail.world.gateway.wait_until_ready();
    let token = trail.world.supervisor();
    for _ in 0..calls {
        assert_eq!(trail.world.put(&token, SAMPLE).status, 200);
    }
}

#[test]
fn tail_follows_across_rotation() {
    let mut trail = trail();
    let mut tail = Tail::start(&trail.folder, &["-n", "1"]);
    let first = tail.next();
    assert_eq!(first["event"]["name"], "stop");
    go_on(&mut trail, 6);
    let mut last = first["sequence"].as_u64().unwrap();
    let (mut outcomes, mut rotations) = (0, 0);
    while outcomes < 6 {
        let line = tail.next();
        assert_eq!(line["sequence"], last + 1);
        last += 1;
        outcomes += u32::from(line["kind"] == "outcome");
        rotations += u32::from(line["event"]["name"] == "segment_closed");
    }
    assert!(rotations > 1);
    tail.stop();
}

/// A tail that nobody reads for a while falls behind; what it has not read is compressed meanwhile.
#[test]
fn tail_loses_nothing_to_compression_and_doubles_nothing() {
    let mut trail = trail_with("segment_size = \"4KiB\"\ncompress = true");
    let mut tail = Tail::start(&trail.folder, &["-n", "1"]);
    let mut last = tail.next()["sequence"].as_u64().unwrap();
    // More than a pipe holds, so that it must wait for its reader.
    go_on(&mut trail, 60);
    let names = || fs::read_dir(&trail.folder).unwrap().map(|it| it.unwrap().file_name());
    let count = |end: &str| names().filter(|it| it.to_str().unwrap().ends_with(end)).count();
    wait_for("the compression", || count(".jsonl") <= 1);
    let mut outcomes = 0;
    while outcomes < 60 {
        let line = tail.next();
        assert_eq!(line["sequence"], last + 1);
        last += 1;
        outcomes += u32::from(line["kind"] == "outcome");
    }
    tail.stop();
    // Back into segments that are compressed.
    let (status, lines, _) = audit_apart("tail", &trail.folder, &["-n", "30", "--no-follow"]);
    let lines: Vec<Value> = lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!((status, lines.len()), (0, 30));
    let newest = lines[29]["sequence"].as_u64().unwrap();
    assert!(lines.iter().zip(newest - 29..).all(|(line, wanted)| line["sequence"] == wanted));
}
