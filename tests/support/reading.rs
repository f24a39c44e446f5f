//! For the tests of those who read a trail: trails, real and made up, and the commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cms_gateway::audit::line::Head;
use cms_gateway::audit::log::Log;
use cms_gateway::audit::tree::Hash;
use serde_json::Value;
use tempfile::TempDir;

use super::{BINARY, Reply, SAMPLE, World};

/// A trail of some segments, which a gateway wrote and ended.
pub struct Trail {
    pub world: World,
    pub folder: PathBuf,
    /// The sample by a supervisor; the same denied; another lead denied in its campaign; the
    /// sample again. Then somebody without a token was refused.
    pub replies: Vec<Reply>,
}

pub fn trail() -> Trail {
    trail_with("segment_size = \"4KiB\"")
}

/// With these lines in the configuration's `[audit]`.
pub fn trail_with(settings: &str) -> Trail {
    const OTHER: &str =
        r#"{"leadId":9,"campaignId":7,"assignedUserIds":["agent_four"],"unassignedUserIds":[]}"#;
    let mut world = World::with(|config| {
        *config = config.replace("[audit]\n", &format!("[audit]\n{settings}\n"));
    });
    world.gateway.wait_until_ready();
    let (supervisor, dialer) = (world.supervisor(), world.token(&["north-dialer"]));
    let calls = [(&supervisor, SAMPLE), (&dialer, SAMPLE), (&dialer, OTHER), (&supervisor, SAMPLE)];
    let replies = calls.iter().map(|(token, body)| world.put(token, body)).collect();
    assert_eq!(world.put("nonsense", SAMPLE).status, 401);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    Trail { folder: world.folder.path().join("audit"), world, replies }
}

/// What an `audit` command says of a folder: its exit status, standard output, standard error.
pub fn audit_apart(command: &str, folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut program = Command::new(BINARY);
    program.args(["audit", command]).arg(folder).args(arguments).env_remove("COLUMNS");
    let output = program.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The exit status and all words.
pub fn audit(command: &str, folder: &Path, arguments: &[&str]) -> (i32, String) {
    let (status, said, complained) = audit_apart(command, folder, arguments);
    (status, said + &complained)
}

/// A record's line as the gateway writes it, with other values at some JSON pointers.
pub fn line(
    sequence: u64,
    time: &str,
    kind: &str,
    request: u64,
    other: &[(&str, Value)],
) -> String {
    let mut record = serde_json::json!({
        "time": format!("2026-01-31T{time}.000000Z"), "sequence": sequence, "kind": kind,
        "request_id": format!("00000000-0000-7000-8000-{request:012}"), "trace_id": null,
        "operation": "lead-users",
        "actor": {"issuer": "https://idp.example.com/", "subject": "app", "client_id": "app",
            "roles": ["campaign-supervisor"], "token_id": null},
        "source": {"address": "192.0.2.1", "port": 40000, "claimed_request_id": null},
        "target": {"campaign": 1, "lead": 2},
        "change": {"assigned": ["anav_agent"], "unassigned": ["exe_gs", "madhur1"]},
        "decision": {"allow": true, "code": null, "reason": null, "grant": "campaign-supervisor"},
        "upstream": {"status": null, "code": null, "attempts": null, "duration_us": null},
        "credential": {"source": null, "version": null},
        "event": {"name": null, "detail": null, "count": null},
        "gateway": {"instance": "test", "version": "0.1.0"},
    });
    if kind == "outcome" {
        let upstream = serde_json::json!({
            "status": 200, "code": null, "attempts": 1, "duration_us": 1500
        });
        record["upstream"] = upstream;
    }
    for (pointer, value) in other {
        *record.pointer_mut(pointer).unwrap() = value.clone();
    }
    format!("{record}\n")
}

/// A folder with segments that hold these lines, each after the other's last record.
pub fn folder_of(segments: &[&[String]]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut first = 1;
    for lines in segments {
        let name = format!("audit-{first:020}.jsonl");
        fs::write(folder.path().join(name), lines.concat()).unwrap();
        first += lines.len();
    }
    folder
}

/// Says in a folder's manifest that these segments are closed.
pub fn close(folder: &Path, segments: &[&[String]]) {
    let (mut log, mut manifest) = (Log::empty(), Vec::new());
    for lines in segments {
        for line in lines.iter().map(|line| line.trim_end().as_bytes()) {
            log.push(&Head::parse(line).unwrap(), Hash::of_leaf(line), line.len() + 1);
        }
        manifest.extend(log.close("no checkpoint\n".to_owned()).encode());
    }
    fs::write(folder.join("manifest"), manifest).unwrap();
}

/// The interpreter that tests/run installs for checks by others' programs.
pub fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/test-tools/bin/python");
    assert!(python.exists(), "tests/run installs what the tests need");
    let mut command = Command::new(python);
    command.arg(root.join("tests/support").join(script));
    command
}
