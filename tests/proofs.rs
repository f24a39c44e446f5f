//! Evidence, receipts and checkpoints stand for themselves, and nothing else passes for them.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use support::reading::{Trail, audit, audit_apart, python, trail};
use support::{BINARY, Reply, SAMPLE, World, wait_for};

fn id(reply: &Reply) -> &str {
    reply.header("x-request-id").unwrap()
}

/// Evidence in a file, and the keys to check it with.
struct Check {
    file: PathBuf,
    key: PathBuf,
}

impl Check {
    fn of(trail: &Trail) -> Self {
        let file = trail.world.folder.path().join("evidence.json");
        Self { file, key: trail.folder.join("keys.pub") }
    }

    fn ours(&self, evidence: &str) -> (i32, String) {
        fs::write(&self.file, evidence).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["audit", "check-proof"]).arg(&self.file).arg("--key").arg(&self.key);
        finish(command)
    }

    fn theirs(&self, evidence: &str) -> (i32, String) {
        fs::write(&self.file, evidence).unwrap();
        let mut command = python("check_proof.py");
        command.arg(&self.file).arg(&self.key);
        finish(command)
    }
}

fn finish(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), words)
}

fn prove(folder: &Path, request: &str) -> String {
    let (status, evidence, complaint) = audit_apart("prove", folder, &["--request", request]);
    assert_eq!(status, 0, "{complaint}");
    assert!(complaint.contains("the folder's own, which trusts"), "{complaint}");
    evidence
}

#[test]
fn evidence_stands_alone() {
    let trail = trail();
    let check = Check::of(&trail);
    for (reply, records) in trail.replies.iter().zip([2, 1, 1, 2]) {
        let evidence = prove(&trail.folder, id(reply));
        let (status, words) = check.ours(&evidence);
        assert!(status == 0 && words.starts_with("proved: request "), "{words}");
        assert!(words.lines().all(|line| line.chars().count() <= 80), "{words}");
        let says: &[&str] = if records == 2 {
            &["allowed by ", "result: the CMS answered 200", "+anav_agent -exe_gs -madhur1"]
        } else {
            &["denied GW-300"]
        };
        assert!(says.iter().all(|says| words.contains(says)), "{words}");
        assert_eq!(check.theirs(&evidence), (0, format!("proved {records}\n")));

        let json: Value = serde_json::from_str(&evidence).unwrap();
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
            let (status, words) = check.ours(&altered);
            assert!(status == 1 && words.starts_with("refused: "), "{from}: {words}");
            let (status, words) = check.theirs(&altered);
            assert!(status == 1 && words.starts_with("refused: "), "{from}: {words}");
        }
    }
    let unknown = "00000000-0000-7000-8000-000000000000";
    let (status, words) = audit("prove", &trail.folder, &["--request", unknown]);
    assert!(status == 1 && words.contains("no record of request"), "{words}");
    let (status, words) = audit("prove", &trail.folder, &["--request", "nosuch"]);
    assert!(status == 2 && words.contains("not a UUID"), "{words}");
    // Keys of older gateways may stand before the one that signed.
    let older = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n";
    fs::write(&check.key, older.to_owned() + &fs::read_to_string(&check.key).unwrap()).unwrap();
    assert_eq!(check.theirs(&prove(&trail.folder, id(&trail.replies[0]))).0, 0);
}

/// Half of the truth is said to be that; the same twice, or in another order, is refused.
#[test]
fn evidence_says_what_it_does_not_have() {
    let trail = trail();
    let check = Check::of(&trail);
    let evidence: Value =
        serde_json::from_str(&prove(&trail.folder, id(&trail.replies[0]))).unwrap();
    let records = evidence["records"].as_array().unwrap();
    let with = |records: Vec<&Value>| {
        let mut evidence = evidence.clone();
        evidence["records"] = json!(records);
        evidence.to_string()
    };
    let both = check.ours(&with(vec![&records[0], &records[1]])).1;
    assert!(both.contains("not that it has no others of") && !both.contains("in this evidence"));
    let (status, words) = check.ours(&with(vec![&records[0]]));
    assert!(status == 0 && words.contains("no outcome in this evidence"), "{words}");
    let (status, words) = check.ours(&with(vec![&records[1]]));
    assert!(status == 0 && words.contains("no intent in this evidence"), "{words}");
    for wrong in [vec![&records[1], &records[0]], vec![&records[0], &records[0]]] {
        let wrong = with(wrong);
        let (status, words) = check.ours(&wrong);
        assert!(status == 1 && words.contains("does not come after"), "{words}");
        let (status, words) = check.theirs(&wrong);
        assert!(status == 1 && words.contains("not in their order"), "{words}");
    }
}

/// The evidence of a caller whose name a terminal would obey is evidence as any other.
#[test]
fn evidence_holds_each_line_as_it_was_signed() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let name = "a\u{7f}b\u{85}c\u{9b}2Jd\u{202e}e\u{e0001}\n";
    let token = world.mint(&world.provider.claims(name, &["campaign-supervisor"]));
    let reply = world.put(&token, SAMPLE);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    let folder = world.folder.path().join("audit");
    let trail = Trail { folder, world, replies: vec![reply] };
    let check = Check::of(&trail);
    let evidence = prove(&trail.folder, id(&trail.replies[0]));
    assert!(!evidence.contains(|it: char| it.is_control() && it != '\n'), "{evidence:?}");
    let (status, words) = check.ours(&evidence);
    assert!(status == 0 && !words.contains(['\u{7f}', '\u{85}', '\u{202e}']), "{words:?}");
    assert_eq!(check.theirs(&evidence), (0, "proved 2\n".to_owned()));
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
        assert!(words.contains("the folder's own, which trusts"), "{words}");
        let parts: Vec<&str> = receipt.split(' ').collect();
        let sequence: u64 = parts[1].parse().unwrap();
        for (wrong, reason) in [
            (
                format!("cms-gateway/other {} {}", parts[1], parts[2]),
                "this folder is the log cms-gateway/test".to_owned(),
            ),
            (
                format!("{} {} {}", parts[0], sequence + 1, parts[2]),
                format!("record {} has another hash", sequence + 1),
            ),
            (
                format!("{} {} {}", parts[0], parts[1], other_hash(parts[2])),
                format!("record {sequence} has another hash"),
            ),
            (format!("{} 4000 {}", parts[0], parts[2]), "the trail ends at ".to_owned()),
        ] {
            let (status, words) = audit("check-receipt", &trail.folder, &[&wrong]);
            assert!(status == 1 && words.starts_with("missing: "), "{wrong}: {words}");
            assert!(words.contains(&reason), "{wrong}: {words}");
        }
        for number in ["0", "-1", &format!("0{sequence}")] {
            let wrong = format!("{} {number} {}", parts[0], parts[2]);
            assert_eq!(audit("check-receipt", &trail.folder, &[&wrong]).0, 2, "{wrong}");
        }
    }
    assert_eq!(audit("check-receipt", &trail.folder, &["nonsense"]).0, 2);
}

/// A gateway that is given another name goes on with its trail; what it gave before stays good.
#[test]
fn an_old_receipt_is_found_after_the_gateway_was_renamed() {
    let mut trail = trail();
    let config = trail.world.config();
    let text = fs::read_to_string(&config).unwrap().replace("\"test\"", "\"renamed\"");
    fs::write(&config, text).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(&config);
    trail.world.gateway = support::Gateway::start(command);
    trail.world.gateway.wait_until_ready();
    let reply = trail.world.put(&trail.world.supervisor(), SAMPLE);
    trail.world.gateway.signal("-TERM");
    assert!(trail.world.gateway.wait().success());
    for receipt in [trail.replies[0].header("audit-record"), reply.header("audit-record")] {
        let (status, words) = audit("check-receipt", &trail.folder, &[receipt.unwrap()]);
        assert!(status == 0 && words.contains("found: record"), "{receipt:?}: {words}");
    }
    let receipt = reply.header("audit-record").unwrap().replace("/renamed", "/test");
    let (status, words) = audit("check-receipt", &trail.folder, &[&receipt]);
    assert!(status == 1 && words.contains("the log cms-gateway/renamed"), "{words}");
}

/// Several checkpoints may be kept in one file; what is none says nothing of the trail.
#[test]
fn checkpoints_kept_elsewhere_are_all_compared() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let size = |note: &str| note.lines().nth(1).map_or(0, |size| size.parse::<u64>().unwrap());
    let mut notes: Vec<String> = Vec::new();
    for _ in 0..3 {
        let reply = world.put(&world.supervisor(), SAMPLE);
        let record = reply.header("audit-record").unwrap().split(' ').nth(1).unwrap().to_owned();
        let mut note = String::new();
        wait_for("a checkpoint", || {
            note = world.gateway.admin("/audit/checkpoint").body;
            size(&note) >= record.parse().unwrap()
        });
        notes.push(note);
    }
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    let folder = world.folder.path().join("audit");
    let file = world.folder.path().join("kept");
    let verify = |text: &str| {
        fs::write(&file, text).unwrap();
        audit("verify", &folder, &["--checkpoint", file.to_str().unwrap()])
    };
    let (status, words) = verify(&notes[0]);
    assert!(status == 0 && words.contains("consistent with the checkpoint in"), "{words}");
    let (status, words) = verify(&[&*notes[2], &notes[0], &notes[1]].concat());
    assert!(status == 0 && words.contains("consistent with 3 of 3 checkpoints in"), "{words}");
    // Another history that the same key has signed: the oldest alone tells.
    let signer = cms_gateway::audit::note::Signer::load(
        &world.folder.path().join("audit.signing-key.pem"),
        "cms-gateway/test",
    )
    .unwrap();
    let text: Vec<&str> = notes[0].lines().collect();
    let other = format!("{}\n{}\n{}\n{}\n", text[0], text[1], other_hash(text[2]), text[3]);
    let (status, words) = verify(&[&*signer.sign(&other), &notes[1], &notes[2]].concat());
    assert!(status == 1 && words.contains("the trail was rewritten"), "{words}");
    // As from a program, in the shell's <(...).
    let mut piped = Command::new("sh");
    piped.args([
        "-c",
        "cat \"$3\" | \"$0\" audit verify \"$1\" --key \"$2\" --checkpoint /dev/stdin",
    ]);
    piped.arg(BINARY).arg(&folder).arg(folder.join("keys.pub")).arg(&file);
    fs::write(&file, &notes[1]).unwrap();
    let (status, words) = finish(piped);
    assert!(status == 0 && words.contains("consistent with the checkpoint in"), "{words}");
    let smaller = notes[0].replacen(&format!("\n{}\n", text[1]), "\n1\n", 1);
    for (wrong, reason) in [
        ("".to_owned(), "holds no checkpoint"),
        ("no note\n".to_owned(), "checkpoint 1 is not a signed note"),
        (smaller, "signature that is wrong"),
        (notes[0].replace("cms-gateway/test", "cms-gateway/other"), "not signed by a trusted key"),
        (notes[1].clone() + &notes[0][..20], "checkpoint 2 is not a signed note"),
    ] {
        let (status, words) = verify(&wrong);
        assert!(status == 2 && words.contains(reason), "{reason}: {words}");
    }
}
