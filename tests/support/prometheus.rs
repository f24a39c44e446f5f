//! A real Prometheus that scrapes gateways, and the rules that ship, at sixty times their speed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::exchange;

/// What it scrapes, as the documentation tells operators to name it.
const JOB: &str = "cms-gateway";
/// How long a rule may take to fire: the longest window and `for` that are waited for are a quarter
/// of a minute, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A Prometheus, as long as it is not dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
    /// The alerts that were waited for.
    pub fired: RefCell<BTreeSet<String>>,
}

/// Where the rules and the dashboard are.
pub fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

impl Prometheus {
    /// Scrapes these admin listeners, under these names, four times a second.
    pub fn scraping(gateways: &[(&str, SocketAddr)], rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let targets = gateways.iter().map(|(name, admin)| {
            format!("      - targets: [\"{admin}\"]\n        labels: {{instance: \"{name}\"}}\n")
        });
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n  - job_name: {JOB}\n    static_configs:\n{}",
            targets.collect::<String>()
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/prometheus");
        assert!(program.exists(), "prometheus is missing; tests/run installs it");
        let mut child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut log = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("no Prometheus: {log}"));
            log.push_str(&(line.clone() + "\n"));
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                break address.split(' ').next().unwrap().parse().unwrap();
            }
        };
        // It must not wait for somebody who reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        let prometheus = Self { child, address, _folder: folder, fired: RefCell::default() };
        prometheus.until("every target has been scraped", || {
            prometheus.query("count(up == 1)")[0]["value"][1] == gateways.len().to_string().as_str()
        });
        prometheus
    }

    /// What its API answers, which is no error.
    fn get(&self, path: &str) -> Value {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let reply = exchange(self.address, request.as_bytes());
        // Not yet, right after the start.
        if reply.status == 503 {
            return Value::Null;
        }
        let answer = reply.json();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The series that an expression gives now.
    pub fn query(&self, expression: &str) -> Value {
        let encoded: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        self.get(&format!("/api/v1/query?query={encoded}"))["result"].take()
    }

    /// Every rule's name, with its expression as Prometheus understands it.
    pub fn rules(&self, kind: &str) -> Vec<(String, String)> {
        let groups = self.get("/api/v1/rules");
        let rules = groups["groups"].as_array().unwrap().iter();
        let rules = rules.flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of_kind = rules.filter(|rule| rule["type"] == kind);
        of_kind.map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
    }

    /// The names of the alerts that fire, each with the instance that it is about, if it is about one.
    pub fn firing(&self) -> Vec<(String, String)> {
        let alerts = self.get("/api/v1/alerts");
        let alerts = alerts["alerts"].as_array().into_iter().flatten();
        let text = |label: &Value| label.as_str().unwrap_or_default().to_owned();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["labels"]["instance"])))
            .collect()
    }

    /// Waits until an alert fires for that instance.
    pub fn wait_for_alert(&self, name: &str, instance: &str) {
        let wanted = (name.to_owned(), instance.to_owned());
        self.until(&format!("{wanted:?}"), || self.firing().contains(&wanted));
        self.fired.borrow_mut().insert(wanted.0);
    }

    /// Waits for what comes of scrapes.
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {what}; there is: {:?}",
                self.firing()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rules that ship, sixty times as fast: every duration in brackets and behind `for:` is divided
/// by sixty (a minute becomes a second), as is the horizon of `predict_linear`. Thresholds stay, but
/// for those whose comments say that they are to be changed with the configuration, and are changed
/// to what the tests have there: half of `max_stale` from 12 h to 5 s, open connections from 9,000
/// to 8.
pub fn hastened_rules() -> String {
    let rules = fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    assert!(rules.contains("4 * 3600") && rules.matches("43200").count() == 2);
    assert_eq!(rules.matches("> 9000\n").count(), 1);
    let rules = rules.replace("4 * 3600", "4 * 60").replace("43200", "5").replace("> 9000", "> 8");
    let lines = rules.lines().map(|line| match line.split_once("        for: ") {
        Some((before, duration)) => format!("{before}        for: {}\n", hastened(duration)),
        None => in_brackets(line) + "\n",
    });
    lines.collect()
}

fn in_brackets(line: &str) -> String {
    let mut parts = line.split('[');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |line, part| {
        let changed = part
            .split_once(']')
            .filter(|(inside, _)| inside.starts_with(|letter: char| letter.is_ascii_digit()))
            .map_or_else(|| part.to_owned(), |(inside, rest)| hastened(inside) + "]" + rest);
        line + "[" + &changed
    })
}

fn hastened(duration: &str) -> String {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => panic!("no duration: {duration}"),
    };
    format!("{}ms", number.parse::<u64>().unwrap() * seconds * 1000 / 60)
}
