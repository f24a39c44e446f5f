//! Tells the program of which commit it is: `CMS_GATEWAY_COMMIT`, where that is set, as it should be
//! for a build without the repository; in release builds the repository's.
//!
//! Builds for development have none, lest each commit build all the tests anew.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CMS_GATEWAY_COMMIT");
    let stated = std::env::var("CMS_GATEWAY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = stated.or_else(of_repository).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CMS_GATEWAY_COMMIT={commit}");
}

fn of_repository() -> Option<String> {
    // Where this is no repository of its own, git would look in the folders above.
    if std::env::var("PROFILE").ok()? != "release" || !Path::new(".git").exists() {
        return None;
    }
    // What changes with a commit: what is checked out, and where that branch is.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for part in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", part])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
