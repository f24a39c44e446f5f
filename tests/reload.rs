//! A configuration that is changed while the gateway serves.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use sha2::{Digest, Sha256};

use support::load::under_load;
use support::{SAMPLE, World, next_status, put, records_in, request, wait_for, write_secret};

const SUCCESS: &str = "cms_gateway_config_reload_total{result=\"success\"}";
const FAILURE: &str = "cms_gateway_config_reload_total{result=\"failure\"}";

impl World {
    fn count(&self, metric: &str) -> f64 {
        self.gateway.metric(metric).unwrap_or_default()
    }

    /// Puts another configuration into the file's place, as an editor does.
    fn replace(&self, text: &str) {
        let new = self.folder.path().join("new.toml");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.config()).unwrap();
    }

    /// Changes the configuration, and waits until that is in force.
    fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from}");
        let before = self.count(SUCCESS);
        self.replace(&text.replacen(from, to, 1));
        wait_for("the new configuration", || self.count(SUCCESS) > before);
    }

    /// Changes the configuration, and waits until that is refused; gives the reason on record.
    fn change_in_vain(&self, from: &str, to: &str) -> String {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from}");
        let before = self.count(FAILURE);
        let changed = text.replacen(from, to, 1);
        self.replace(&changed);
        wait_for("the refusal", || self.count(FAILURE) > before);
        let event = self.last_event("config_refused");
        let (name, reason) = event.split_once(": ").unwrap();
        assert_eq!(name, format!("sha256:{}", sha256(&changed)));
        self.replace(&text);
        wait_for("the one in force", || !self.gateway.admin("/readyz").body.contains("warning"));
        reason.to_owned()
    }

    fn last_event(&self, name: &str) -> String {
        let mut found = None;
        wait_for(name, || {
            let mut records = records_in(&self.folder.path().join("audit"));
            records.retain(|record| record["event"]["name"] == name);
            found = records.pop();
            found.is_some()
        });
        found.unwrap()["event"]["detail"].as_str().unwrap().to_owned()
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

const UNASSIGN: &str =
    r#"{"leadId":2,"campaignId":1,"assignedUserIds":[],"unassignedUserIds":["madhur1"]}"#;
const NORTH: &str = "[roles.north-dialer]\npermissions = [\"lead-users:assign\"";

#[test]
fn a_changed_file_is_in_force_for_the_next_request_on_an_open_connection() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let text = fs::read_to_string(world.config()).unwrap();
    assert_eq!(world.last_event("start"), format!("configuration sha256:{}", sha256(&text)));
    let token = world.token(&["north-dialer"]);
    let ask = request(&token, UNASSIGN).replacen("Connection: close\r\n", "", 1);
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    stream.write_all(ask.as_bytes()).unwrap();
    assert_eq!(next_status(&mut answers), 403);
    let line = "cms_gateway_config_last_reload_success_timestamp_seconds";
    let started = world.count(line);
    assert!(started > 1.7e9);
    world.change(NORTH, &format!("{NORTH}, \"lead-users:unassign\""));
    stream.write_all(ask.as_bytes()).unwrap();
    assert_eq!(next_status(&mut answers), 200);
    assert!(world.count(line) > started);
    let text = fs::read_to_string(world.config()).unwrap();
    assert_eq!(world.last_event("config_loaded"), format!("sha256:{}", sha256(&text)));
    // The token is known still, and the keys were not read anew for it.
    assert_eq!(world.count("cms_gateway_token_cache_misses_total"), 1.0);
    assert_eq!(world.count(FAILURE), 0.0);
}

#[test]
fn a_hangup_loads_the_file_though_it_is_the_same() {
    let world = World::start();
    world.gateway.wait_until_ready();
    world.gateway.signal("-HUP");
    wait_for("the reload", || world.count(SUCCESS) == 1.0);
    assert_eq!(put(world.gateway.api, &world.supervisor(), SAMPLE).status, 200);
    fs::remove_file(world.config()).unwrap();
    wait_for("the refusal", || world.count(FAILURE) == 1.0);
    assert!(world.last_event("config_refused").contains("No such file"));
    world.gateway.signal("-HUP");
    wait_for("another refusal", || world.count(FAILURE) == 2.0);
    assert_eq!(put(world.gateway.api, &world.supervisor(), SAMPLE).status, 200);
}

#[test]
fn a_faulty_file_changes_nothing_and_is_told_of_in_full() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.token(&["north-dialer"]);
    let text = fs::read_to_string(world.config()).unwrap();
    let faulty = text.replacen(NORTH, &format!("{NORTH}, \"lead-users:unassign\""), 1).replacen(
        "[audit]",
        "[limits]\nin_fligth = 1\nbody = \"many\"\n[audit]",
        1,
    );
    world.replace(&faulty);
    wait_for("the refusal", || world.count(FAILURE) == 1.0);
    let told = [
        "gateway.toml:24: limits.in_fligth: is not a known key; did you mean in_flight?",
        "gateway.toml:25: limits.body: \"many\" is not",
    ];
    let event = world.last_event("config_refused");
    assert!(event.starts_with(&format!("sha256:{}: ", sha256(&faulty))), "{event}");
    for fault in told {
        assert!(event.contains(fault), "{event}");
        let is_told = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["level"] == "ERROR"
                && line["sha256"] == sha256(&faulty).as_str()
                && line["reason"].as_str().is_some_and(|reason| reason.contains(fault))
        };
        wait_for(fault, || world.gateway.log().lines().any(is_told));
    }
    let ready = world.gateway.admin("/readyz");
    assert_eq!(ready.status, 200);
    assert!(
        ready.body.contains("warning: configuration: the newest is not in force: "),
        "{ready:?}"
    );
    assert_eq!(put(world.gateway.api, &token, UNASSIGN).status, 403);
    world.replace(&text);
    wait_for("no warning", || world.gateway.admin("/readyz").body == "ready\n");
    assert_eq!((world.count(SUCCESS), world.count(FAILURE)), (0.0, 1.0));
}

#[test]
fn what_can_t_be_changed_at_run_time_says_so() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let reason = world.change_in_vain("directory = \"audit\"", "directory = \"other\"");
    assert_eq!(reason, "audit: can't be changed while the gateway runs; restart it for that");
    assert!(!world.folder.path().join("other").exists());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let reason = world.change_in_vain("api = \"127.0.0.1:0\"", &format!("api = \"{address}\""));
    assert!(reason.starts_with(&format!("listen.api: can't listen on {address}: ")), "{reason}");
    assert_eq!(put(world.gateway.api, &world.supervisor(), SAMPLE).status, 200);
}

#[test]
fn every_request_is_decided_by_one_configuration() {
    // One of them lets the caller do it and takes no two users, the other the other way round.
    let allowing = "permissions = [\"lead-users:assign\", \"lead-users:unassign\"]\n\
                    campaigns = \"any\"\n[limits]\nusers = 1\n";
    let denying = "permissions = [\"lead-users:unassign\"]\ncampaigns = \"any\"\n\
                   [limits]\nusers = 1000\n";
    let two = r#"{"leadId":2,"campaignId":1,"assignedUserIds":["madhur1","exe_gs"],"unassignedUserIds":[]}"#;
    let world = World::with(|config| *config += &format!("[roles.odd]\n{allowing}"));
    world.gateway.wait_until_ready();
    let (token, is_over) = (world.token(&["odd"]), AtomicBool::new(false));
    let statuses = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut statuses = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        statuses.push(put(world.gateway.api, &token, two).status);
                    }
                    statuses
                })
            })
            .collect();
        for _ in 0..10 {
            world.change(allowing, denying);
            world.change(denying, allowing);
        }
        is_over.store(true, Ordering::Relaxed);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
    });
    for status in [400, 403] {
        assert!(statuses.contains(&status), "no answer was {status}");
    }
    assert!(statuses.iter().all(|status| [400, 403].contains(status)), "{statuses:?}");
    assert_eq!(world.cms.calls(), 0);
}

#[test]
fn no_request_fails_while_every_part_is_changed() {
    let world = World::start();
    world.gateway.wait_until_ready();
    for (name, from) in [("username-2", "username"), ("password-2", "password")] {
        let from = fs::read_to_string(world.folder.path().join(from)).unwrap();
        write_secret(&world.folder.path().join(name), &from);
    }
    fs::copy(world.folder.path().join("jwks.json"), world.folder.path().join("jwks-2.json"))
        .unwrap();
    let others = under_load(&world, |more| {
        for (from, to) in [
            ("password = \"password\"", "password = \"password-2\""),
            ("username = \"username\"", "username = \"username-2\""),
            ("\"jwks.json\"", "\"jwks-2.json\""),
            ("[upstream]", "[upstream]\nresponse_timeout = \"9s\""),
            ("[audit]", "[limits]\nin_flight = 100\nhead_timeout = \"9s\"\n[audit]"),
            ("[audit]", "[token_cache]\nsize = \"1MiB\"\n[audit]"),
            ("[audit]", "[log]\nlevel = \"debug\"\n[audit]"),
            ("in_flight = 100", "in_flight = 200"),
        ] {
            world.change(from, to);
            more(20);
        }
    });
    assert_eq!(others, []);
    assert_eq!((world.count(SUCCESS), world.count(FAILURE)), (8.0, 0.0));
}

#[test]
fn what_is_gone_has_no_metrics_any_more() {
    let world = World::with(|config| {
        *config = config.replacen("[roles.campaign", &format!("{}[roles.campaign", ISSUER), 1);
    });
    world.gateway.wait_until_ready();
    let shown = |what: &str| world.gateway.admin("/metrics").body.contains(what);
    let age = "cms_gateway_jwks_age_seconds{issuer=\"https://other.example.com/\"}";
    let circuit = format!("cms_gateway_upstream_circuit_open{{server=\"{}\"}}", world.cms.url());
    assert!(shown(age) && shown(&circuit));
    world.change(ISSUER, "");
    assert!(!shown(age) && shown(&circuit));
    world.change(&format!("url = \"{}\"", world.cms.url()), "url = \"http://127.0.0.1:9\"");
    assert!(!shown(&circuit) && shown("upstream_circuit_open{server=\"http://127.0.0.1:9\"}"));
}

const ISSUER: &str = "[[issuers]]\nissuer = \"https://other.example.com/\"\n\
    audiences = [\"cms-gateway\"]\njwks = { file = \"jwks.json\" }\nalgorithms = [\"RS256\"]\n";

#[test]
fn the_log_tells_more_as_soon_as_it_is_told_to() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let answered = || world.gateway.log().matches("\"message\":\"answered\"").count();
    put(world.gateway.api, &world.supervisor(), SAMPLE);
    world.change("[audit]", "[log]\nlevel = \"debug\"\n[audit]");
    assert_eq!(answered(), 0);
    put(world.gateway.api, &world.supervisor(), SAMPLE);
    wait_for("the answer in the log", || answered() == 1);
    world.change("\"debug\"", "\"info\"");
    put(world.gateway.api, &world.supervisor(), SAMPLE);
    world.change("\"info\"", "\"warn\"");
    assert_eq!(answered(), 1);
}

#[test]
fn new_addresses_are_listened_on_and_old_ones_no_more() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    // On a connection of before, what is in flight ends.
    let mut old = TcpStream::connect(world.gateway.api).unwrap();
    let text = request(&token, SAMPLE).replacen("Connection: close\r\n", "", 1);
    let (head, rest) = text.split_at(60);
    old.write_all(head.as_bytes()).unwrap();
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (api, admin): (SocketAddr, SocketAddr) = (free(), free());
    let config = fs::read_to_string(world.config()).unwrap();
    let config = config.replacen("api = \"127.0.0.1:0\"", &format!("api = \"{api}\""), 1);
    world.replace(&config.replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{admin}\""), 1));
    wait_for("the new address", || TcpStream::connect(admin).is_ok());
    assert_eq!(put(api, &token, SAMPLE).status, 200);
    wait_for("the old address", || TcpStream::connect(world.gateway.api).is_err());
    old.write_all(rest.as_bytes()).unwrap();
    let reply = support::parse(&{
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut old, &mut answer).unwrap();
        answer
    });
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
}

#[test]
fn issuers_whose_keys_and_stores_whose_secret_can_t_be_had_are_not_taken() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let unused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let issuer = format!(
        "[[issuers]]\nissuer = \"http://{unused}/\"\naudiences = [\"cms-gateway\"]\n\
         jwks = {{ url = \"http://{unused}/jwks\" }}\nalgorithms = [\"RS256\"]\n[roles.campaign"
    );
    let reason = world.change_in_vain("[roles.campaign", &issuer);
    let told = format!("issuers: the keys of http://{unused}/ can't be had: ");
    assert!(reason.starts_with(&told), "{reason}");
    let files = "source = \"file\"\nusername = \"username\"\npassword = \"password\"\n";
    let program = "source = \"exec\"\ncommand = [\"/bin/false\"]\n";
    let reason = world.change_in_vain(files, program);
    assert!(reason.starts_with("credential: the source has given none"), "{reason}");
    assert_eq!(put(world.gateway.api, &world.supervisor(), SAMPLE).status, 200);
    assert_eq!(world.count("cms_gateway_credential_refused"), 0.0);
}
