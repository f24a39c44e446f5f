//! What is made for people: completions, man pages, and the word which build it is.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::{BINARY, run};

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_loads_the_completions_and_completes() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("cms-gateway");
    fs::write(&script, text(run(&["completions", "bash"]))).unwrap();
    text(Command::new("bash").arg("-n").arg(&script).output().unwrap());
    for (words, expected) in [
        ("cms-gateway exp", "explain"),
        ("cms-gateway audit che", "check-proof\ncheck-receipt"),
        ("cms-gateway serve --conf", "--config"),
    ] {
        let complete = "source \"$1\"; read -ra COMP_WORDS <<<\"$2\"; \
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
            function=$(complete -p cms-gateway | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
            \"$function\" cms-gateway \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", complete, "bash"]).arg(&script).arg(words);
        assert_eq!(text(bash.output().unwrap()).trim_end(), expected, "{words}");
    }
}

#[test]
fn other_shells_have_theirs() {
    for (shell, sign) in [
        ("zsh", "#compdef cms-gateway"),
        ("fish", "complete -c cms-gateway"),
        ("elvish", "set edit"),
    ] {
        assert!(text(run(&["completions", shell])).contains(sign), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn each_command_has_a_man_page_that_groff_has_nothing_to_say_of() {
    let folder = tempfile::tempdir().unwrap();
    text(run(&["man", folder.path().to_str().unwrap()]));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut groff = Command::new("groff");
        groff.args(["-man", "-ww", "-Tutf8", "-P-cbou"]).arg(&path);
        let page = text(groff.output().unwrap());
        assert!(page.contains("SYNOPSIS"), "{}: {page}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in ["cms-gateway.1", "cms-gateway-serve.1", "cms-gateway-audit-verify.1"] {
        assert!(names.iter().any(|own| own == name), "{name} of {names:?}");
    }
    let page = fs::read_to_string(folder.path().join("cms-gateway.1")).unwrap();
    assert!(page.contains("CMS_GATEWAY_LOG"), "{page}");
    let missing = run(&["man", "/missing"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("/missing: "), "{missing:?}");
}

/// The command lines of the documents: each has a command that there is, and options that it takes.
#[test]
fn the_documents_name_no_command_that_there_is_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for document in
        ["README.md", "docs/runbook.md", "docs/threat-model.md", "docs/upgrading.md", "SECURITY.md"]
    {
        let markdown = fs::read_to_string(root.join(document)).unwrap();
        for line in markdown.lines() {
            let line = line.trim_start().trim_start_matches("./");
            let Some(line) =
                line.strip_prefix("cms-gateway").filter(|it| it.starts_with([' ', '-']))
            else {
                continue;
            };
            let line = line.strip_prefix("-new").unwrap_or(line);
            let line = line.split(['#', '|', '>', '<']).next().unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_command =
                |word: &&&str| word.bytes().all(|it| it.is_ascii_lowercase() || it == b'-');
            let nested = ["audit", "token"].contains(&words[0]);
            let commands = words.iter().take(if nested { 2 } else { 1 }).filter(is_command);
            let commands: Vec<&str> =
                commands.copied().filter(|word| !word.starts_with('-')).collect();
            let help = text(run(&[&commands[..], &["--help"]].concat()));
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{document}: {option} of {line}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn the_version_names_its_commit() {
    assert_eq!(text(run(&["--version"])), "cms-gateway 0.1.0 (commit unknown)\n");
}

/// What the build's script finds out, run as cargo runs it.
#[test]
fn the_commit_is_stated_or_the_repositorys() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("build-script");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    text(rustc.args(["--edition", "2024", "-o"]).arg(&script).arg(source).output().unwrap());
    let repository = folder.path().join("repository");
    let inner = repository.join("inner");
    fs::create_dir_all(&inner).unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(arguments);
        text(git.current_dir(&repository).output().unwrap()).trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "first"]);
    let head = git(&["rev-parse", "--short=12", "HEAD"]);
    let said = |folder: &Path, profile: &str, stated: Option<&str>| {
        let mut command = Command::new(&script);
        command.current_dir(folder).env("PROFILE", profile).env_remove("CMS_GATEWAY_COMMIT");
        command.envs(stated.map(|stated| ("CMS_GATEWAY_COMMIT", stated)));
        text(command.output().unwrap())
    };
    let commit = |folder: &Path, profile: &str, stated: Option<&str>| {
        let said = said(folder, profile, stated);
        let line = said.lines().find_map(|line| line.split_once("CMS_GATEWAY_COMMIT="));
        line.unwrap().1.to_owned()
    };
    assert_eq!(commit(&repository, "release", None), head);
    assert_eq!(commit(&repository, "release", Some("")), head);
    assert_eq!(commit(&repository, "release", Some("stated")), "stated");
    assert_eq!(commit(&repository, "debug", None), "unknown");
    assert_eq!(commit(&inner, "release", None), "unknown", "of another repository");
    // Cargo asks again when another commit is made or checked out.
    let said = said(&repository, "release", None);
    for path in [".git/HEAD", ".git/refs/heads/main"] {
        assert!(said.contains(&format!("cargo::rerun-if-changed={path}\n")), "{path}: {said}");
    }
    let built = text(Command::new(BINARY).arg("--help").output().unwrap());
    assert!(built.contains("Exit status"), "{built}");
}
