//! What is done with a world's trail: its gateway ended and begun again, its folder looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::{BINARY, Gateway, World};

pub fn serve(world: &World) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(world.config());
    command
}

pub fn restart(world: &mut World) {
    world.gateway = Gateway::start(serve(world));
    world.gateway.wait_until_ready();
}

pub fn stop(world: &mut World) {
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
}

pub fn with_audit(lines: &str) -> impl FnOnce(&mut String) {
    move |config| *config = config.replace("[audit]\n", &format!("[audit]\n{lines}\n"))
}

pub fn folder(world: &World) -> PathBuf {
    world.folder.path().join("audit")
}

/// The exit status and words of `audit verify`.
pub fn verify(folder: &Path) -> (i32, String) {
    let output = Command::new(BINARY).args(["audit", "verify"]).arg(folder).output().unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), words)
}

pub fn assert_whole(folder: &Path) -> String {
    let (status, words) = verify(folder);
    assert_eq!(status, 0, "{words}");
    words
}

pub fn events<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"]["name"] == name).collect()
}

pub fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

/// The library of faults, made once by the C compiler.
pub fn faults() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().unwrap().success());
        library
    })
}

pub fn with_fault(variable: &'static str) -> World {
    World::with_command(|_| {}, |config| serve_with_fault(config, variable))
}

/// A gateway that a fault can be done to: it is there while the file `fault` beside the
/// configuration is.
pub fn serve_with_fault(config: &Path, variable: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(config);
    command.env("LD_PRELOAD", faults()).env(variable, config.with_file_name("fault"));
    command
}

/// The lines of a file.
pub fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// Sends a sample and fails if it does not go through.
pub fn change(world: &World) -> super::Reply {
    let reply = world.put(&world.supervisor(), super::SAMPLE);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

/// A trail of some segments, whose gateway has ended.
pub fn ended_trail(settings: &str) -> World {
    let mut world = World::with(with_audit(settings));
    world.gateway.wait_until_ready();
    for _ in 0..6 {
        change(&world);
    }
    stop(&mut world);
    assert_whole(&folder(&world));
    world
}
