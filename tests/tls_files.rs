//! The files of the API's TLS, which count as they are now.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rcgen::{SerialNumber, date_time_ymd};
use serde_json::Value;
use support::authority::{Authority, Signed};
use support::tls_gateway::{Identity, TlsGateway, of_client, write_pair};
use support::{SAMPLE, next_status, records_in, request, run, wait_for, write_secret};

/// 2040-01-01, in seconds since 1970.
const IN_2040: f64 = 2_208_988_800.0;
const CLIENTS: &str = ", client_ca = \"clients.pem\"";
const REVOKING: &str = ", client_ca = \"clients.pem\", client_crl = \"clients.crl\"";

/// What the trail's events of this name tell.
fn told(gateway: &TlsGateway, name: &str) -> Vec<String> {
    let records = records_in(&gateway.folder().join("audit")).into_iter();
    let events = records.filter(|record| record["event"]["name"] == name);
    let detail = |record: Value| record["event"]["detail"].as_str().unwrap().to_owned();
    events.map(detail).collect()
}

/// A connection that stays, and requests on it.
struct Kept<'a>(&'a TlsGateway, BufReader<support::tls_gateway::TlsStream>);

impl<'a> Kept<'a> {
    fn open(gateway: &'a TlsGateway) -> Self {
        Self(gateway, BufReader::new(gateway.connect(&gateway.client(None)).unwrap()))
    }

    fn ask(&mut self) -> u16 {
        let request = request(&self.0.world.supervisor(), SAMPLE);
        let request = request.replace("Connection: close\r\n", "");
        self.1.get_mut().write_all(request.as_bytes()).unwrap();
        next_status(&mut self.1)
    }

    /// The gateway's own certificate.
    fn shown(&self) -> &[u8] {
        &self.1.get_ref().conn.peer_certificates().unwrap()[0]
    }
}

fn renewed(gateway: &TlsGateway) -> Signed {
    gateway.authority.sign("localhost", |it| it.not_after = date_time_ymd(2040, 1, 1))
}

#[test]
fn a_new_certificate_counts_for_new_connections_and_the_others_go_on() {
    let gateway = TlsGateway::start("", |_| {});
    let mut kept = Kept::open(&gateway);
    assert_eq!(kept.ask(), 200);
    assert_eq!((gateway.loads("success"), gateway.loads("failure")), (1.0, 0.0));
    let new = renewed(&gateway);
    write_pair(gateway.folder(), &new);
    // Between the two files the pair may have been seen as none.
    wait_for("the new certificate", || gateway.loads("success") == 2.0);
    assert_eq!(gateway.warnings(), "");
    let metric = "cms_gateway_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(gateway.world.gateway.metric(metric), Some(IN_2040));
    let mut other = Kept::open(&gateway);
    assert_eq!((kept.ask(), other.ask()), (200, 200));
    assert_eq!(other.shown(), &*new.der);
    assert_ne!(kept.shown(), &*new.der, "the same connection as before");
    let words = "certificate until 2040-01-01T00:00:00Z";
    wait_for("the record", || told(&gateway, "tls_loaded").iter().any(|told| told == words));
}

#[test]
fn under_load_a_change_of_certificate_costs_no_request() {
    let gateway = TlsGateway::start("", |_| {});
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(gateway.status(None), Some(200));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                let mut kept = Kept::open(&gateway);
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(kept.ask(), 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for change in 0..3_u8 {
            let before = served.load(Ordering::Relaxed);
            write_pair(gateway.folder(), &renewed(&gateway));
            let after = f64::from(change) + 2.0;
            wait_for("the change", || gateway.loads("success") >= after);
            wait_for("requests meanwhile", || served.load(Ordering::Relaxed) > before + 20);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_change_that_cannot_be_used_leaves_what_was_in_force_and_is_told() {
    let gateway = TlsGateway::start(CLIENTS, |folder| {
        fs::write(folder.join("clients.pem"), Authority::new().pem()).unwrap();
    });
    let before = Kept::open(&gateway).shown().to_vec();
    let own = |name: &str| gateway.folder().join(name);
    let (key, ca) = (fs::read_to_string(own("tls.key")).unwrap(), own("clients.pem"));
    let good_ca = fs::read_to_string(&ca).unwrap();
    let other = Authority::new().sign("localhost", |_| {}).key.serialize_pem();
    let secret = &other.lines().nth(1).unwrap()[8..];
    let readable = |text: &str| fs::write(own("tls.key"), text).unwrap();
    let mut refusals = 0.0;
    for (change, words) in [
        (&(|| write_secret(&own("tls.key"), &other)) as &dyn Fn(), "key: "),
        (&|| write_secret(&own("tls.key"), &other.replace('M', "N")), "key: "),
        (&|| fs::remove_file(own("tls.key")).unwrap(), "key: "),
        (&|| readable(&other), "key: "),
        (&|| fs::write(&ca, "nobody").unwrap(), "client_ca: "),
    ] {
        change();
        refusals += 1.0;
        wait_for(words, || gateway.loads("failure") >= refusals);
        let warning = gateway.warnings();
        assert!(warning.contains(&format!("tls: {words}")), "{warning}");
        assert_eq!(gateway.status(None), Some(200));
        assert_eq!(Kept::open(&gateway).shown(), before);
        wait_for("the record", || told(&gateway, "tls_refused").len() as f64 >= refusals);
        let config = gateway.world.config();
        let check = run(&["check", "--config", config.to_str().unwrap()]);
        let faults = String::from_utf8(check.stderr).unwrap();
        assert_eq!(check.status.code(), Some(2));
        assert!(faults.contains(&format!("listen.tls.{words}")), "{faults}");
        let said = gateway.world.gateway.log() + &warning + &faults;
        let said = said + &told(&gateway, "tls_refused").concat();
        assert!(!said.contains(secret), "{said}");

        let _ = fs::remove_file(own("tls.key"));
        write_secret(&own("tls.key"), &key);
        fs::write(&ca, &good_ca).unwrap();
        wait_for("its end", || gateway.warnings().is_empty());
        refusals = gateway.loads("failure");
    }
    assert_eq!(gateway.loads("success"), 1.0, "what is in force was never replaced");
}

#[test]
fn other_files_count_once_the_configuration_names_them() {
    let gateway = TlsGateway::start("", |_| {});
    let mut kept = Kept::open(&gateway);
    assert_eq!(kept.ask(), 200);
    let other = gateway.folder().join("other");
    fs::create_dir(&other).unwrap();
    let named = |certificate, key| {
        let config = gateway.world.config();
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace("\"tls.crt\"", certificate).replace("\"tls.key\"", key);
        fs::write(config.with_file_name("new.toml"), text).unwrap();
        fs::rename(config.with_file_name("new.toml"), config).unwrap();
    };
    let new = renewed(&gateway);
    write_pair(&other, &new);
    named("\"other/tls.crt\"", "\"other/tls.key\"");
    wait_for("the other files", || gateway.loads("success") == 2.0);
    wait_for("the other certificate", || Kept::open(&gateway).shown() == &*new.der);
    assert_eq!(kept.ask(), 200);
    let metric = "cms_gateway_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(gateway.world.gateway.metric(metric), Some(IN_2040));

    // Those are watched now, and those of before are not.
    write_pair(gateway.folder(), &renewed(&gateway));
    let newest = renewed(&gateway);
    write_pair(&other, &newest);
    wait_for("the newest", || Kept::open(&gateway).shown() == &*newest.der);
    assert_eq!((kept.ask(), gateway.loads("success")), (200, 3.0));
}

#[test]
fn a_certificate_that_has_expired_is_a_warning() {
    let gateway = TlsGateway::start("", |_| {});
    assert_eq!(gateway.warnings(), "");
    let expired =
        gateway.authority.sign("localhost", |it| it.not_after = date_time_ymd(2020, 1, 1));
    write_pair(gateway.folder(), &expired);
    let words = "certificate: expired at 2020-01-01T00:00:00Z";
    wait_for("the warning", || gateway.warnings().contains(words));
}

#[test]
fn another_ca_of_clients_counts_for_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let gateway = TlsGateway::start(CLIENTS, |folder| {
        fs::write(folder.join("clients.pem"), old.pem()).unwrap();
    });
    let (by_old, by_new) = (of_client(&old, |_| {}).identity(), of_client(&new, |_| {}).identity());
    let statuses = || (gateway.status(Some(&by_old)), gateway.status(Some(&by_new)));
    assert_eq!(statuses(), (Some(200), None));
    fs::write(gateway.folder().join("clients.pem"), new.pem()).unwrap();
    wait_for("the new CA", || gateway.loads("success") == 2.0);
    assert_eq!(statuses(), (None, Some(200)));
}

fn numbered(authority: &Authority, serial: u64) -> Identity {
    let change = |it: &mut rcgen::CertificateParams| {
        it.serial_number = Some(SerialNumber::from(serial));
    };
    of_client(authority, change).identity()
}

#[test]
fn a_certificate_that_was_revoked_is_refused_from_the_next_connection_on() {
    let authority = Authority::new();
    let gateway = TlsGateway::start(REVOKING, |folder| {
        fs::write(folder.join("clients.pem"), authority.pem()).unwrap();
        fs::write(folder.join("clients.crl"), authority.revocation_list(&[7], 2040)).unwrap();
    });
    let (seven, eight) = (numbered(&authority, 7), numbered(&authority, 8));
    let statuses = || (gateway.status(Some(&seven)), gateway.status(Some(&eight)));
    assert_eq!(statuses(), (None, Some(200)));
    assert_eq!(gateway.failures("certificate"), 1.0);
    let metric = "cms_gateway_tls_crl_expiry_timestamp_seconds";
    assert_eq!(gateway.world.gateway.metric(metric), Some(IN_2040));
    let write = |list: &str| fs::write(gateway.folder().join("clients.crl"), list).unwrap();
    write(&authority.revocation_list(&[7, 8], 2040));
    wait_for("the new list", || gateway.loads("success") == 2.0);
    assert_eq!(statuses(), (None, None));
    assert_eq!(gateway.status(None), Some(200), "none is required");

    write("no list");
    wait_for("the refusal", || gateway.warnings().contains("client_crl: "));
    assert_eq!(statuses(), (None, None), "the list before is in force");
    write(&authority.revocation_list(&[], 2040));
    wait_for("an empty list", || gateway.loads("success") == 3.0);
    assert_eq!(statuses(), (Some(200), Some(200)));
}

#[test]
fn what_no_list_that_is_still_good_tells_of_is_refused() {
    let (root, other) = (Authority::new(), Authority::new());
    let between = root.below();
    let direct = numbered(&root, 1);
    let mut indirect = numbered(&between, 1);
    indirect.0.push(between.der());
    let gateway = TlsGateway::start(REVOKING, |folder| {
        fs::write(folder.join("clients.pem"), root.pem()).unwrap();
        fs::write(folder.join("clients.crl"), root.revocation_list(&[], 2021)).unwrap();
    });
    let statuses = || {
        let [direct, indirect] = [Some(&direct), Some(&indirect)].map(|it| gateway.status(it));
        (direct, indirect, gateway.status(None))
    };
    assert_eq!(statuses(), (None, None, Some(200)), "it has expired");
    assert_eq!(gateway.failures("certificate"), 2.0);
    let warning = gateway.warnings();
    assert!(warning.contains("client_crl: expired at 2021-01-01T00:00:00Z"), "{warning}");
    let mut loads = 1.0;
    for (lists, expected) in [
        (vec![root.revocation_list(&[], 2040)], (Some(200), None)),
        (
            vec![root.revocation_list(&[], 2040), between.revocation_list(&[], 2040)],
            (Some(200), Some(200)),
        ),
        (
            vec![root.revocation_list(&[], 2040), between.revocation_list(&[1], 2040)],
            (Some(200), None),
        ),
        (
            vec![root.revocation_list(&[], 2040), between.revocation_list(&[], 2021)],
            (Some(200), None),
        ),
        (vec![other.revocation_list(&[], 2040)], (None, None)),
    ] {
        fs::write(gateway.folder().join("clients.crl"), lists.concat()).unwrap();
        loads += 1.0;
        wait_for("the lists", || gateway.loads("success") == loads);
        assert_eq!(statuses(), (expected.0, expected.1, Some(200)));
    }
}
