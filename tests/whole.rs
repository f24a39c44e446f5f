//! A trail proves that it is whole, and that it is not when anything in it was changed.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use cms_gateway::audit::note::{Keys, Signer};
use cms_gateway::audit::verify::{NotWhole, Report, Trail, verify};
use cms_gateway::audit::{checkpoint::Checkpoint, line::Head, tree::Edge, tree::Hash};

use support::{BINARY, SAMPLE, World, wait_for};

fn audit(arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("audit").args(arguments).output().unwrap()
}

fn small_segments(config: &mut String) {
    *config = config.replace("[audit]\n", "[audit]\nsegment_size = \"4KiB\"\n");
}

/// A trail of some segments, which a gateway wrote and ended.
fn trail() -> World {
    let mut world = World::with(small_segments);
    world.gateway.wait_until_ready();
    let (supervisor, dialer) = (world.supervisor(), world.token(&["north-dialer"]));
    for token in [&supervisor, &dialer, &supervisor, &dialer, &supervisor] {
        let reply = world.put(token, SAMPLE);
        assert!(reply.header("audit-record").unwrap().starts_with("cms-gateway/test "));
    }
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    world
}

fn folder(world: &World) -> PathBuf {
    world.folder.path().join("audit")
}

fn check(directory: &Path) -> Result<Report, NotWhole> {
    let text = fs::read(directory.join("keys.pub")).unwrap();
    let keys = Keys::parse(&String::from_utf8_lossy(&text)).unwrap_or_default();
    let trail = Trail { directory, keys: &keys, outside: &[] };
    verify(trail, &mut |_| {}, &mut |_| {})
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let read = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    // The leaves are a hint, and no part of what is proved.
    read.filter(|(name, _)| name != "lock" && !name.ends_with(".leaves")).collect()
}

/// A copy of a trail in which files are changed one at a time.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        // What the gateway says at its end.
        fs::write(folder.path().join("lock"), "stopped\n").unwrap();
        Self { folder }
    }

    /// Whether the trail is called whole when these files have other contents, or none.
    fn is_whole_with(&self, changed: &[(&str, Option<&[u8]>)]) -> bool {
        let path = |name: &str| self.folder.path().join(name);
        let before: Vec<_> =
            changed.iter().map(|(name, _)| fs::read(path(name)).unwrap()).collect();
        for (name, bytes) in changed {
            match bytes {
                Some(bytes) => fs::write(path(name), bytes).unwrap(),
                None => fs::remove_file(path(name)).unwrap(),
            }
        }
        let is_whole = path("keys.pub").exists() && check(self.folder.path()).is_ok();
        for ((name, _), bytes) in changed.iter().zip(before) {
            fs::write(path(name), bytes).unwrap();
        }
        is_whole
    }
}

/// Does something for every index below a number, on all cores, each with a copy of its own.
fn for_each(files: &BTreeMap<String, Vec<u8>>, count: usize, work: impl Fn(&Copy, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                let copy = Copy::of(files);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    work(&copy, index);
                }
            });
        }
    });
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_trail_is_whole_and_says_up_to_where() {
    let world = trail();
    let directory = folder(&world);
    let report = check(&directory).unwrap();
    assert!(report.segments >= 3, "{report:?}");
    let records = support::records_in(&directory);
    assert_eq!((report.first, report.last), (1, records.len() as u64));
    assert_eq!(report.newest.unwrap().0.size, report.last);
    assert_eq!((report.pending, report.torn), (0, 0));

    let output = audit(&["verify", directory.to_str().unwrap()]);
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.starts_with(&format!("whole: records 1 to {}, in ", report.last)), "{words}");
    assert!(words.contains("trusts whoever can write it"), "{words}");

    let key = directory.join("keys.pub");
    let with = |arguments: &[&str]| {
        let start = ["verify", directory.to_str().unwrap()];
        audit(&[&start[..], arguments].concat())
    };
    let output = with(&["--key", key.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8(output.stdout).unwrap().contains("trusts"));
    // As PEM, made by OpenSSL from the private key.
    let pem = world.folder.path().join("key.pem");
    let private = world.folder.path().join("audit.signing-key.pem");
    let status = Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(private)
        .arg("-out")
        .arg(&pem)
        .status();
    assert!(status.unwrap().success());
    assert_eq!(with(&["--key", pem.to_str().unwrap()]).status.code(), Some(0));
    let other = Signer::load_or_make(&world.folder.path().join("o.pem"), "cms-gateway/test");
    let other_key = world.folder.path().join("other.pub");
    fs::write(&other_key, other.unwrap().public().to_string()).unwrap();
    let output = with(&["--key", other_key.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(audit(&["verify", "/nonexistent"]).status.code(), Some(2));
}

#[test]
fn every_flipped_byte_is_found() {
    let world = trail();
    let files = files(&folder(&world));
    let places: Vec<(&str, usize)> = files
        .iter()
        .flat_map(|(name, bytes)| (0..bytes.len()).map(|place| (name.as_str(), place)))
        .collect();
    assert!(places.len() > 8000);
    for_each(&files, places.len(), |copy, index| {
        let (name, place) = places[index];
        let mut bytes = files[name].clone();
        bytes[place] ^= 1 << (place % 8);
        let found = !copy.is_whole_with(&[(name, Some(&bytes))]);
        assert!(found, "{name} byte {place}");
    });
}

#[test]
fn every_truncation_is_found() {
    let world = trail();
    let files = files(&folder(&world));
    let places: Vec<(&str, usize)> = files
        .iter()
        .flat_map(|(name, bytes)| (0..bytes.len()).map(|place| (name.as_str(), place)))
        .collect();
    for_each(&files, places.len(), |copy, index| {
        let (name, place) = places[index];
        let found = !copy.is_whole_with(&[(name, Some(&files[name][..place]))]);
        // Without its line feed the one public key is the same.
        let is_same = name == "keys.pub" && place + 1 == files[name].len();
        assert!(found || is_same, "{name} cut at {place}");
    });
}

#[test]
fn lines_that_are_removed_swapped_or_inserted_are_found() {
    let world = trail();
    let files = files(&folder(&world));
    let copy = Copy::of(&files);
    for (name, bytes) in &files {
        let all = lines(bytes);
        let whole_with = |lines: &[Vec<u8>]| copy.is_whole_with(&[(name, Some(&lines.concat()))]);
        assert!(whole_with(&all), "the test changes nothing by itself");
        for from in 0..all.len() {
            for to in from + 1..=all.len() {
                let mut rest = all.clone();
                rest.drain(from..to);
                assert!(!whole_with(&rest), "{name} without lines {from} to {to}");
            }
            for other in 0..from {
                let mut swapped = all.clone();
                swapped.swap(from, other);
                let is_same = all[from] == all[other];
                assert!(is_same || !whole_with(&swapped), "{name} lines {from} and {other}");
            }
            for inserted in &all {
                let mut more = all.clone();
                more.insert(from, inserted.clone());
                // A public key that stands there twice is trusted once, and so is a signature.
                let is_once = name == "keys.pub"
                    || name == "manifest.signed" && inserted.starts_with("\u{2014}".as_bytes());
                assert!(is_once || !whole_with(&more), "{name} line {from} twice");
            }
        }
    }
}

#[test]
fn every_missing_file_is_found_alone_or_with_others() {
    let world = trail();
    let files = files(&folder(&world));
    let copy = Copy::of(&files);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    // In the order of their names each segment stands beside its checkpoints and the next segment.
    for from in 0..names.len() {
        for to in from + 1..=names.len() {
            let missing: Vec<_> = names[from..to].iter().map(|name| (*name, None)).collect();
            assert!(!copy.is_whole_with(&missing), "without {:?}", &names[from..to]);
        }
    }
    let of_kind = |suffix: &str| -> Vec<(&str, Option<&[u8]>)> {
        let named = names.iter().filter(|name| name.ends_with(suffix));
        named.map(|name| (*name, None)).collect()
    };
    for suffix in [".jsonl", ".checkpoints"] {
        let named = of_kind(suffix);
        for pair in named.windows(2) {
            assert!(!copy.is_whole_with(pair), "without {pair:?}");
        }
        assert!(!copy.is_whole_with(&named));
    }
    // The whole end: the newest segment, its checkpoints, and what the manifest says.
    let manifest = lines(&files["manifest"]);
    let newest = of_kind(".jsonl").last().unwrap().0;
    let checkpoints = newest.replace(".jsonl", ".checkpoints");
    for kept in 0..=manifest.len() {
        let text = manifest[..kept].concat();
        let cut = [(newest, None), (&checkpoints, None), ("manifest", Some(text.as_slice()))];
        assert!(!copy.is_whole_with(&cut), "cut at a segment");
    }
}

/// The first bad place is named: segment, line and record.
#[test]
fn what_is_wrong_is_named_with_its_place() {
    let world = trail();
    let files = files(&folder(&world));
    let copy = Copy::of(&files);
    let (name, bytes) = files.iter().filter(|(name, _)| name.ends_with(".jsonl")).nth(1).unwrap();
    let first: u64 = name[6..26].parse().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let said = |contents: &str| {
        fs::write(copy.folder.path().join(name), contents).unwrap();
        let output = audit(&["verify", copy.folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    let without_second = [&all[..1], &all[2..]].concat().concat();
    let (second, third) = (first + 1, first + 2);
    assert_eq!(
        said(&without_second),
        format!("not whole: {name} line 2 (record {second}): has record {third} in its place\n")
    );
    let broken = text.replacen("{\"time\"", "{\"tune\"", 1);
    assert_eq!(
        said(&broken),
        format!("not whole: {name} line 1 (record {first}): is not a record\n")
    );
    // Without the leaves that the gateway kept it is known between which checkpoints; with them,
    // the line.
    let leaves = name.replace(".jsonl", ".leaves");
    for (index, line) in all.iter().enumerate() {
        let instance = "\"instance\":\"test\"";
        let mut altered = all.clone();
        let line = line.replace(instance, "\"instance\":\"tesd\"");
        altered[index] = &line;
        let _ = fs::remove_file(copy.folder.path().join(&leaves));
        let without = said(&altered.concat());
        assert!(
            without.contains("is not what was signed in the checkpoint at record"),
            "{without}"
        );
        fs::copy(folder(&world).join(&leaves), copy.folder.path().join(&leaves)).unwrap();
        let (place, record) = (index + 1, first + index as u64);
        let start = format!("not whole: {name} line {place} (record {record}): is not what was ");
        let with = said(&altered.concat());
        assert!(with.starts_with(&start), "{with}");
    }
}

/// Whoever holds the key can sign anything anew, but not what a checkpoint elsewhere says.
#[test]
fn a_trail_that_was_rewritten_with_the_true_key_is_found_with_an_older_checkpoint() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    for _ in 0..3 {
        assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    }
    let mut kept = String::new();
    wait_for("a checkpoint of all of it", || {
        kept = world.gateway.admin("/audit/checkpoint").body;
        kept.lines().nth(1).is_some_and(|size| size.parse::<u64>().unwrap() >= 7)
    });
    wait_for("it in the log as well", || world.gateway.log().contains("previous-size"));
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());

    let directory = folder(&world);
    let outside = world.folder.path().join("yesterday");
    fs::write(&outside, &kept).unwrap();
    let verify = |with: bool| {
        let mut arguments = vec!["verify", directory.to_str().unwrap()];
        if with {
            arguments.extend(["--checkpoint", outside.to_str().unwrap()]);
        }
        let output = audit(&arguments);
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), words)
    };
    let (status, words) = verify(true);
    assert!(status == Some(0) && words.contains("consistent with the checkpoint in"), "{words}");

    // One record is removed, the others are numbered anew, and everything is signed with the key.
    let segment = directory.join("audit-00000000000000000001.jsonl");
    let signer =
        Signer::load(&world.folder.path().join("audit.signing-key.pem"), "cms-gateway/test")
            .unwrap();
    let mut all = lines(&fs::read(&segment).unwrap());
    let resign = |all: &[Vec<u8>]| {
        let mut edge = Edge::default();
        let mut text = Vec::new();
        for (line, sequence) in all.iter().zip(1..) {
            let line = line.strip_suffix(b"\n").unwrap();
            let was = format!("\"sequence\":{},", Head::parse(line).unwrap().sequence);
            let line = String::from_utf8(line.to_vec()).unwrap();
            let line = line.replacen(&was, &format!("\"sequence\":{sequence},"), 1);
            edge.push(Hash::of_leaf(line.as_bytes()));
            text.extend_from_slice(format!("{line}\n").as_bytes());
        }
        let origin = "cms-gateway/test".to_owned();
        let head = Checkpoint { origin, size: edge.size(), root: edge.root(), previous: 0 };
        fs::write(&segment, text).unwrap();
        fs::write(segment.with_extension("checkpoints"), head.sign(&signer)).unwrap();
        fs::write(directory.join("lock"), "").unwrap();
    };
    let whole = all.clone();
    all.remove(3);
    resign(&all);
    assert_eq!(verify(false).0, Some(0), "the key alone can't show it");
    let (status, words) = verify(true);
    assert!(status == Some(1) && words.contains("the trail was rewritten"), "{words}");
    resign(&whole[..4]);
    let (status, words) = verify(true);
    assert!(status == Some(1) && words.contains("it was cut"), "{words}");
}
