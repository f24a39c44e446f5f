//! The alert rules that ship are sound, fire when they should, and ask for metrics that are there.
//! What judges them is Prometheus's own promtool.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::cms::Misbehaviour;
use support::{SAMPLE, World};

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// Runs promtool among the rules.
fn promtool(arguments: &[&str], input: &str) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promtool = root.join("target/test-tools/promtool");
    assert!(promtool.exists(), "promtool is missing; tests/run installs it");
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(rules()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn assert_passes(arguments: &[&str], input: &str) {
    let output = promtool(arguments, input);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}

/// The metrics of a gateway that has seen what most of them count.
fn exposition() -> String {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_eq!(world.put("e30.e30.AA", SAMPLE).status, 401);
    assert_eq!(world.put(&world.token(&["nobody"]), SAMPLE).status, 403);
    world.cms.misbehave(Misbehaviour::WrongLead);
    assert_eq!(world.put(&token, SAMPLE).status, 502);
    world.cms.misbehave(Misbehaviour::Unauthorized);
    assert_eq!(world.put(&token, SAMPLE).status, 502);
    world.gateway.admin("/metrics").body
}

#[test]
fn the_rules_are_sound() {
    assert_passes(&["check", "rules", "rules.yml"], "");
}

#[test]
fn the_rules_fire_when_they_should() {
    assert_passes(&["test", "rules", "rules.test.yml"], "");
}

#[test]
fn the_metrics_are_as_prometheus_wants_them() {
    let exposition = exposition();
    assert!(exposition.contains("cms_gateway_requests_total"), "{exposition}");
    assert_passes(&["check", "metrics"], &exposition);
}

/// A name that is followed by labels in the rules, with each of them.
fn selectors(rules: &str) -> BTreeSet<String> {
    let expressions = rules.lines().filter(|line| !line.trim_start().starts_with(['#', '-']));
    let text = expressions.collect::<Vec<_>>().join("\n");
    let starts = text.match_indices("cms_gateway_").map(|(start, _)| &text[start..]);
    let selectors = starts.map(|rest| {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let name = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
        let labels = rest[name..].starts_with('{').then(|| rest.find('}').unwrap() + 1);
        rest[..labels.unwrap_or(name)].to_owned()
    });
    selectors.collect()
}

/// Those with the labels of a rule too, before there was anything to count: what appears with its
/// first fault has not increased by it.
#[test]
fn what_the_rules_ask_for_is_there_from_the_start() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let exposition = world.gateway.admin("/metrics").body;
    let is_there = |selector: &str| {
        let (name, labels) = selector.split_once('{').unwrap_or((selector, ""));
        let labels = labels.trim_end_matches('}');
        exposition.lines().any(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && rest.contains(labels)
        })
    };
    let rules = fs::read_to_string(rules().join("rules.yml")).unwrap();
    let selectors = selectors(&rules);
    assert!(selectors.len() >= 7, "{selectors:?}");
    let missing: Vec<_> = selectors.iter().filter(|selector| !is_there(selector)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Each alert says what to do, and its tests are not forgotten.
#[test]
fn each_alert_has_its_words_and_its_test() {
    let rules_and_tests = ["rules.yml", "rules.test.yml"];
    let [rules, tests] = rules_and_tests.map(|it| fs::read_to_string(rules().join(it)).unwrap());
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 8);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "description: ", "runbook: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
}
