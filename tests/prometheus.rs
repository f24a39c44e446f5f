//! A real Prometheus scrapes the gateway: each alert fires for what it is there for, and every query of
//! the rules and the dashboard finds something.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::authority::Authority;
use support::cms::Misbehaviour;
use support::collector::{Answer, Collector};
use support::keys::Settings;
use support::prometheus::{Prometheus, deploy, hastened_rules};
use support::{BINARY, SAMPLE, World, wait_for, write_secret};
use time::OffsetDateTime;

/// What is old after 24 hours is so after ten seconds.
fn soon_old(config: &mut String) {
    let freshness = "refresh = \"500ms\"\nmax_stale = \"10s\"\n[audit]";
    *config = config.replace("[audit]", freshness);
}

fn world(change: impl FnOnce(&mut String)) -> World {
    let world = World::with(|config| {
        soon_old(config);
        change(config);
    });
    world.gateway.wait_until_ready();
    world
}

fn serve(config: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(config);
    command
}

/// A gateway whose own certificate is good for two more days, and whose clients' CRL has expired.
fn with_tls() -> World {
    let world = World::with_command(
        |config| {
            soon_old(config);
            let clients = "client_ca = \"ca.pem\", client_crl = \"ca.crl\"";
            let tls =
                format!("tls = {{ certificate = \"tls.crt\", key = \"tls.key\", {clients} }}");
            *config = config.replacen("[[issuers]]\n", &(tls + "\n[[issuers]]\n"), 1);
        },
        |config| {
            let authority = Authority::new();
            fs::write(config.with_file_name("ca.pem"), authority.pem()).unwrap();
            let list = authority.revocation_list(&[], 2021);
            fs::write(config.with_file_name("ca.crl"), list).unwrap();
            let signed = authority.sign("127.0.0.1", |parameters| {
                parameters.not_after = OffsetDateTime::now_utc() + time::Duration::days(2);
            });
            fs::write(config.with_file_name("tls.crt"), &signed.certificate).unwrap();
            write_secret(&config.with_file_name("tls.key"), &signed.key.serialize_pem());
            serve(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

/// A gateway with a revocation list.
fn with_revocations() -> World {
    let world = World::with_command(
        |config| {
            soon_old(config);
            config.push_str("[revocation]\nfile = \"revoked.json\"\n");
        },
        |config| {
            fs::write(config.with_file_name("revoked.json"), "{\"revoked\":[]}").unwrap();
            serve(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

/// A gateway that sends to a collector, and whose standard output is full.
fn with_copies(collector: &Collector) -> World {
    let world = World::with_command(
        |config| {
            soon_old(config);
            *config = config.replace("[audit]\n", "[audit]\nalso = \"stdout\"\n");
            config.push_str(&collector.section(""));
        },
        |config| {
            let mut command = Command::new("sh");
            let script = "exec \"$0\" serve --config \"$1\" > /dev/full";
            command.args(["-c", script, BINARY]).arg(config);
            command
        },
    );
    world.gateway.wait_until_ready();
    world
}

/// Copies of the trail that have gaps, and spans that go on being lost.
fn trouble_with_the_copies(world: &World, collector: &Collector, prometheus: &Prometheus) {
    collector.always(Answer::Says(400, ""));
    let token = world.supervisor();
    prometheus.until("spans that are dropped", || {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        prometheus.firing().iter().any(|(name, _)| name == "CmsGatewaySpansDropped")
    });
    prometheus.wait_for_alert("CmsGatewaySpansDropped", "copies");
    prometheus.wait_for_alert("CmsGatewayAuditNotExported", "copies");
    prometheus.wait_for_alert("CmsGatewayAuditStdoutLost", "copies");
}

/// Clients that take all places but one and send nothing.
fn trouble_with_connections(world: &World, prometheus: &Prometheus) {
    let address = world.gateway.api;
    let _held: Vec<_> = (0..9).map(|_| TcpStream::connect(address).unwrap()).collect();
    prometheus.wait_for_alert("CmsGatewayConnectionsNearLimit", "crowded");
}

/// The CMS's answers that are about its password.
fn trouble_with_the_credential(world: &World, prometheus: &Prometheus) {
    let token = world.supervisor();
    world.cms.misbehave(Misbehaviour::Forbidden);
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-5001");
    prometheus.wait_for_alert("CmsGatewayCredentialForbidden", "credential");
    world.cms.misbehave(Misbehaviour::None);

    // Each wrong password is one more failed login.
    let password = world.folder.path().join("password");
    let mut wrong = 0;
    prometheus.until("a credential that is refused often", || {
        let before = world.cms.refusals();
        wrong += 1;
        write_secret(&password, &format!("wrong-{wrong}"));
        wait_for("one more refusal", || {
            world.put(&token, SAMPLE);
            world.cms.refusals() > before
        });
        prometheus.firing().iter().any(|(name, _)| name == "CmsGatewayCredentialRefusedOften")
    });
    prometheus.wait_for_alert("CmsGatewayCredentialRefusedOften", "credential");
    prometheus.wait_for_alert("CmsGatewayCredentialRefused", "credential");
}

/// A CMS that fails until it is not asked any more.
fn trouble_with_the_cms(world: &World, prometheus: &Prometheus) {
    let token = world.supervisor();
    world.cms.misbehave(Misbehaviour::WrongLead);
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-5004");
    prometheus.wait_for_alert("CmsGatewayAnswerContradicts", "cms");
    world.cms.misbehave(Misbehaviour::CutOff);
    wait_for("the open circuit", || world.put(&token, SAMPLE).code() == "GW-5005");
    for _ in 0..10 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-5005");
    }
    fs::write(world.folder.path().join("ca.pem"), "no certificate").unwrap();
}

/// A disk that fills, and is full.
fn trouble_with_the_disk((world, audit): &(World, PathBuf), prometheus: &Prometheus) {
    let filler = audit.with_file_name("filler");
    fs::write(&filler, vec![0; 3 << 20]).unwrap();
    prometheus.wait_for_alert("CmsGatewayAuditDiskFilling", "disk");
    prometheus.wait_for_alert("CmsGatewayAuditDiskLow", "disk");
    fs::write(audit.with_file_name("rest"), vec![0; 4 << 20]).unwrap_err();
    let token = world.supervisor();
    wait_for("a record without room", || world.put(&token, SAMPLE).code() == "GW-4001");
}

#[test]
fn each_alert_fires_for_what_it_is_there_for() {
    let steady = world(|_| {});
    let credential = world(|_| {});
    let store = world(|_| {});
    let cms = World::with_command(
        |config| {
            soon_old(config);
            let breaker = "breaker = { failures = 2, share = 1, open = \"1m\" }";
            config.push_str(&format!("ca = \"ca.pem\"\n{breaker}\n"));
        },
        |config| {
            fs::write(config.with_file_name("ca.pem"), Authority::new().pem()).unwrap();
            serve(config)
        },
    );
    cms.gateway.wait_until_ready();
    let keys = world(Settings::by_url("refresh = \"1s\", cool_down = \"1s\", max_stale = \"10s\""));
    let disk = World::on_tmpfs("4m");
    disk.0.gateway.wait_until_ready();
    let changed = with_revocations();
    let certificate = with_tls();
    let collector = Collector::start();
    let copies = with_copies(&collector);
    let limits = "[limits]\nconnections = 10\nhead_timeout = \"60s\"\n";
    let crowded = world(|config| config.push_str(limits));
    let mut down = world(|_| {});
    let worlds = [
        ("steady", &steady),
        ("credential", &credential),
        ("store", &store),
        ("cms", &cms),
        ("keys", &keys),
        ("disk", &disk.0),
        ("changed", &changed),
        ("certificate", &certificate),
        ("copies", &copies),
        ("crowded", &crowded),
        ("down", &down),
    ];
    let targets = worlds.map(|(name, world)| (name, world.gateway.admin));
    let prometheus = Prometheus::scraping(&targets, &hastened_rules());

    // Those that take their time are caused first.
    fs::remove_file(store.folder.path().join("password")).unwrap();
    fs::write(changed.config(), "[listen]\nport = 8080\n").unwrap();
    fs::write(changed.folder.path().join("revoked.json"), "nobody").unwrap();
    write_secret(&certificate.folder.path().join("tls.key"), "no key");
    keys.provider.publish_text("no keys".to_owned());
    down.gateway.signal("-KILL");
    down.gateway.wait();
    assert_eq!(steady.put(&steady.supervisor(), SAMPLE).status, 200);
    trouble_with_the_cms(&cms, &prometheus);
    trouble_with_the_disk(&disk, &prometheus);
    trouble_with_the_credential(&credential, &prometheus);
    trouble_with_the_copies(&copies, &collector, &prometheus);
    trouble_with_connections(&crowded, &prometheus);

    for (alert, instance) in [
        ("CmsGatewayDown", "down"),
        ("CmsGatewayConfigRefused", "changed"),
        ("CmsGatewayCertificateExpires", "certificate"),
        ("CmsGatewayCertificateExpiresSoon", "certificate"),
        ("CmsGatewayCrlExpires", "certificate"),
        ("CmsGatewayCrlExpiresSoon", "certificate"),
        ("CmsGatewayTlsNotLoadable", "certificate"),
        ("CmsGatewayRevocationsNotLoadable", "changed"),
        ("CmsGatewayErrorBudgetBurnsFast", ""),
        ("CmsGatewayErrorBudgetBurns", ""),
        ("CmsGatewayAuditNotWritable", "disk"),
        ("CmsGatewayAuditFailed", "disk"),
        ("CmsGatewayKeysNotRefreshed", "keys"),
        ("CmsGatewayKeysOld", "keys"),
        ("CmsGatewayCredentialNotRefreshed", "store"),
        ("CmsGatewayCredentialOld", "store"),
        ("CmsGatewayCircuitOpen", "cms"),
        ("CmsGatewayServerCircuitOpen", "cms"),
        ("CmsGatewayUpstreamTlsNotLoadable", "cms"),
    ] {
        prometheus.wait_for_alert(alert, instance);
    }
    let firing = prometheus.firing();
    assert!(firing.iter().all(|(_, instance)| instance != "steady"), "{firing:?}");

    drop((steady, credential, store, cms, keys, disk, changed, certificate));
    drop((copies, crowded, down));
    prometheus.wait_for_alert("CmsGatewayAbsent", "");
    let shown = prometheus.fired.take();
    let all: BTreeSet<_> = prometheus.rules("alerting").into_iter().map(|it| it.0).collect();
    assert_eq!(shown, all);
}

/// Two gateways that nothing has been asked of.
fn fresh() -> (World, World, Prometheus) {
    let collector = Collector::start();
    let world = World::with_command(
        |config| {
            config.push_str(&collector.section(""));
            let issuer = config.split("issuer = \"").nth(1).unwrap().split('"').next().unwrap();
            let introspection = format!(
                "{{ url = \"{issuer}introspect\", client_id = \"x\", client_secret = \"password\" }}"
            );
            let opaque = format!(
                "[[issuers]]\nissuer = \"https://opaque.example.com/\"\n\
                 audiences = [\"cms-gateway\"]\nroles_claim = \"roles\"\n\
                 introspection = {introspection}\n[roles."
            );
            *config = config.replacen("[roles.", &opaque, 1);
        },
        serve,
    );
    world.gateway.wait_until_ready();
    // What is measured of TLS is there where there is TLS.
    let tls = with_tls();
    let targets = [("gateway", world.gateway.admin), ("tls", tls.gateway.admin)];
    let prometheus = Prometheus::scraping(&targets, &hastened_rules());
    (world, tls, prometheus)
}

/// The names in an expression, each with its labels if it has any.
fn selectors(expression: &str) -> BTreeSet<String> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    let mut selectors = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_of_name) {
        rest = &rest[start..];
        let name = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
        let labels = rest[name..].starts_with('{').then(|| rest.find('}').unwrap() + 1);
        let end = labels.unwrap_or(name);
        let is_metric = ["cms_gateway_", "job:", "process_"];
        if is_metric.iter().any(|prefix| rest.starts_with(prefix)) || &rest[..name] == "up" {
            selectors.insert(rest[..end].to_owned());
        }
        rest = &rest[end..];
    }
    selectors
}

fn is_empty(found: &Value) -> bool {
    found.as_array().unwrap().is_empty()
}

/// Those with the labels of a rule too, before there was anything to count: what appears with its
/// first fault has not increased by it.
#[test]
fn what_the_rules_ask_for_is_there_from_the_start() {
    let (_world, _tls, prometheus) = fresh();
    let kinds = ["alerting", "recording"].map(|kind| prometheus.rules(kind));
    let asked: BTreeSet<_> = kinds.iter().flatten().flat_map(|it| selectors(&it.1)).collect();
    assert!(asked.len() >= 25, "{asked:?}");
    prometheus.until("all that is asked for", || {
        asked.iter().all(|selector| !is_empty(&prometheus.query(selector)))
    });
}

#[test]
fn every_query_of_the_dashboard_finds_something() {
    let (world, _tls, prometheus) = fresh();
    let token = world.supervisor();
    let text = fs::read_to_string(deploy("grafana/cms-gateway.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() >= 40, "{}", queries.len());
    for query in queries {
        let query = query.replace("$instance", ".*").replace("$__rate_interval", "5s");
        assert!(!query.contains('$'), "{query}");
        // Some are rates of what must go on.
        prometheus.until(&query, || {
            assert_eq!(world.put(&token, SAMPLE).status, 200);
            assert_eq!(world.put("e30.e30.AA", SAMPLE).status, 401);
            let found = prometheus.query(&query);
            found.as_array().unwrap().iter().any(|series| series["value"][1] != "NaN")
        });
    }
    let instances = dashboard["templating"]["list"][1]["query"]["query"].as_str().unwrap();
    assert_eq!(instances, "label_values(cms_gateway_build_info, instance)");
}

/// Nothing that the gateway measures is left out of the dashboard.
#[test]
fn every_metric_is_on_the_dashboard() {
    let text = fs::read_to_string(deploy("grafana/cms-gateway.json")).unwrap();
    let world = World::start();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let exposition = world.gateway.admin("/metrics").body;
    let names = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE cms_gateway_"));
    let names = names.map(|line| line.split(' ').next().unwrap());
    let missing: Vec<_> =
        names.filter(|name| !text.contains(&format!("cms_gateway_{name}"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
