//! The alert rules that ship are sound, and fire when they should by the word of Prometheus's own
//! promtool. That they ask for what is there, a real Prometheus shows (tests/prometheus.rs).

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

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

/// Each alert says what to do.
#[test]
fn each_alert_has_its_words() {
    let rules = fs::read_to_string(rules().join("rules.yml")).unwrap();
    for (name, alert) in alerts(&rules) {
        for part in ["severity: ", "summary: ", "description: ", "runbook: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
    }
}

/// The name of each alert, and what stands in the rules of it.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let parts = rules.split("- alert: ").skip(1);
    let alerts: Vec<_> = parts.map(|alert| (alert.lines().next().unwrap(), alert)).collect();
    assert!(alerts.len() >= 20, "{}", alerts.len());
    alerts
}

/// A test in which it fires has an evaluation of all alerts in which it does not.
#[test]
fn each_alert_has_a_test_in_which_it_fires_and_is_silent() {
    let of_all = "ALERTS{alertstate=\"firing\"}\n";
    let [rules, tests] =
        ["rules.yml", "rules.test.yml"].map(|it| fs::read_to_string(rules().join(it)).unwrap());
    for (name, _) in alerts(&rules) {
        let label = format!("alertname=\"{name}\"");
        let is_shown = tests.split("\n  - name: ").skip(1).any(|test| {
            let evaluations = test.split("- expr: ").skip(1);
            let (firing, others): (Vec<_>, Vec<_>) =
                evaluations.partition(|evaluation| evaluation.contains(&label));
            !firing.is_empty() && others.iter().any(|other| other.starts_with(of_all))
        });
        assert!(is_shown, "{name} has no test in which it fires and one in which it does not");
    }
}
