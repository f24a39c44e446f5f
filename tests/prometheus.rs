//! A real Prometheus scrapes the gateway: each alert fires for what it is there for, and every query of
//! the rules and the dashboard finds something.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::authority::Authority;
use support::cms::Misbehaviour;
use support::keys::Settings;
use support::prometheus::{Prometheus, hastened_rules};
use support::{BINARY, SAMPLE, World, wait_for, write_secret};

/// Alerts that no test can make fire yet, as there is nothing to cause them; promtool shows them
/// (rules.test.yml).
const BY_PROMTOOL_ALONE: &[&str] = &[
    "CmsGatewayCertificateExpires",
    "CmsGatewayCertificateExpiresSoon",
    "CmsGatewayConfigNotReloaded",
];

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
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            command
        },
    );
    cms.gateway.wait_until_ready();
    let keys = world(Settings::by_url("refresh = \"1s\", cool_down = \"1s\", max_stale = \"10s\""));
    let disk = World::on_tmpfs("4m");
    disk.0.gateway.wait_until_ready();
    let mut down = world(|_| {});
    let worlds = [
        ("steady", &steady),
        ("credential", &credential),
        ("store", &store),
        ("cms", &cms),
        ("keys", &keys),
        ("disk", &disk.0),
        ("down", &down),
    ];
    let targets = worlds.map(|(name, world)| (name, world.gateway.admin));
    let prometheus = Prometheus::scraping(&targets, &hastened_rules());

    // Those that take their time are caused first.
    fs::remove_file(store.folder.path().join("password")).unwrap();
    keys.provider.publish_text("no keys".to_owned());
    down.gateway.signal("-KILL");
    down.gateway.wait();
    assert_eq!(steady.put(&steady.supervisor(), SAMPLE).status, 200);
    trouble_with_the_cms(&cms, &prometheus);
    trouble_with_the_disk(&disk, &prometheus);
    trouble_with_the_credential(&credential, &prometheus);

    for (alert, instance) in [
        ("CmsGatewayDown", "down"),
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

    drop((steady, credential, store, cms, keys, disk, down));
    prometheus.wait_for_alert("CmsGatewayAbsent", "");
    let mut shown = prometheus.fired.take();
    shown.extend(BY_PROMTOOL_ALONE.iter().map(ToString::to_string));
    let all: BTreeSet<_> = prometheus.rules("alerting").into_iter().map(|it| it.0).collect();
    assert_eq!(shown, all);
}
