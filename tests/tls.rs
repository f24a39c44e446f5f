//! The API's TLS: which clients are let in, by their certificates.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use support::authority::Authority;
use support::tls_gateway::{Identity, TlsGateway, of_client, with_tls};
use support::{BINARY, write_secret};

fn client(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    of_client(authority, change).identity()
}

/// A gateway whose TLS has these keys besides, and the client CA `clients.pem`.
fn start(clients: &Authority, keys: &str) -> TlsGateway {
    TlsGateway::start(keys, |folder| {
        fs::write(folder.join("clients.pem"), clients.pem()).unwrap();
    })
}

/// What a client with this certificate gets on connections one after the other.
fn statuses(gateway: &TlsGateway, identity: Option<&Identity>, count: usize) -> Vec<Option<u16>> {
    let tls = gateway.client(identity);
    let ask = |_| {
        let mut stream = gateway.connect(&tls).ok()?;
        let kind = stream.conn.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full), "no session is resumed");
        gateway.ask(&mut stream)
    };
    (0..count).map(ask).collect()
}

#[test]
fn where_a_certificate_is_required_nobody_gets_an_answer_without_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let keys = ", client_ca = \"clients.pem\", client_certificate = \"required\"";
    let gateway = start(&ours, keys);
    assert_eq!(gateway.status(None), None);
    assert_eq!(gateway.status(Some(&client(&theirs, |_| {}))), None);
    assert_eq!(gateway.world.records().len(), 0, "no request came in");
    assert_eq!(gateway.status(Some(&client(&ours, |_| {}))), Some(200));
}

#[test]
fn where_a_certificate_is_requested_none_will_do_and_a_bad_one_will_not() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for keys in [
        ", client_ca = \"clients.pem\"",
        ", client_ca = \"clients.pem\", client_certificate = \"requested\"",
    ] {
        let gateway = start(&ours, keys);
        assert_eq!(gateway.status(None), Some(200));
        assert_eq!(gateway.status(Some(&client(&ours, |_| {}))), Some(200));
        assert_eq!(gateway.status(Some(&client(&theirs, |_| {}))), None);
        let expired = client(&ours, |parameters| parameters.not_after = date_time_ymd(2020, 1, 1));
        assert_eq!(gateway.status(Some(&expired)), None);
        let server = client(&ours, |parameters| {
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert_eq!(gateway.status(Some(&server)), None);
    }
}

#[test]
fn a_certificate_is_looked_at_on_each_connection() {
    let authority = Authority::new();
    let gateway = start(&authority, ", client_ca = \"clients.pem\"");
    let client = client(&authority, |_| {});
    assert_eq!(statuses(&gateway, Some(&client), 3), [Some(200); 3]);
}

#[test]
fn what_makes_no_sense_is_told_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("tls.crt"), signed.cert.pem()).unwrap();
    write_secret(&folder.path().join("tls.key"), &signed.signing_key.serialize_pem());
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    let list = Authority::new().revocation_list(&[], 2040);
    fs::write(folder.path().join("good.crl"), &list).unwrap();
    let broken = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
    fs::write(folder.path().join("bad.crl"), broken).unwrap();
    let good = support::configuration("https://idp.example.com/", "https://cms.example.com");
    for (keys, public_url, expected) in [
        (
            ", client_certificate = \"required\"",
            "",
            "listen.tls.client_certificate: needs client_ca",
        ),
        (
            ", client_ca = \"tls.crt\", client_certificate = \"wanted\"",
            "",
            "listen.tls.client_certificate: \"wanted\" is not known",
        ),
        (", client_ca = \"missing.pem\"", "", "listen.tls.client_ca: "),
        (", client_crl = \"good.crl\"", "", "listen.tls.client_crl: needs client_ca"),
        (", client_ca = \"tls.crt\", client_crl = \"missing.crl\"", "", "listen.tls.client_crl: "),
        (
            ", client_ca = \"tls.crt\", client_crl = \"tls.crt\"",
            "",
            "tls.crt holds no revocation list in PEM",
        ),
        (", client_ca = \"tls.crt\", client_crl = \"bad.crl\"", "", "listen.tls.client_crl: "),
        (", client_ca = \"empty.pem\"", "", "listen.tls.client_ca: "),
        (", client_ca = \"tls.key\"", "", "listen.tls.client_ca: "),
        ("", "gateway.example.com", "listen.public_url: is no scheme"),
        ("", "ftp://gateway.example.com", "listen.public_url: is no scheme"),
        ("", "https://user@gateway.example.com", "listen.public_url: is no scheme"),
        ("", "https://gateway.example.com/cms", "listen.public_url: names a path"),
        ("", "https://gateway.example.com?x", "listen.public_url: names a path"),
        ("", "http://gateway.example.com", "listen.public_url: is http, and not loopback"),
        ("", "https://gateway example.com", "listen.public_url: \"https://gateway example.com\""),
    ] {
        let mut text = with_tls(&good, keys);
        if !public_url.is_empty() {
            text = text.replacen("admin", &format!("public_url = \"{public_url}\"\nadmin"), 1);
        }
        let faults = check(folder.path(), &text);
        let about_listen: Vec<_> =
            faults.lines().filter(|line| line.contains(": listen")).collect();
        assert!(
            about_listen.len() == 1 && about_listen[0].contains(expected),
            "{keys} {public_url}: {faults}"
        );
    }
    for public_url in ["https://gateway.example.com", "http://127.0.0.1:8080", "http://localhost/"]
    {
        let text = good.replacen("admin", &format!("public_url = \"{public_url}\"\nadmin"), 1);
        let faults = check(folder.path(), &text);
        assert!(!faults.contains("listen"), "{public_url}: {faults}");
    }
}

/// What `check` says of a configuration.
fn check(folder: &Path, text: &str) -> String {
    let file = folder.join("gateway.toml");
    fs::write(&file, text).unwrap();
    let output = Command::new(BINARY).args(["check", "--config"]).arg(file).output().unwrap();
    let words = [output.stdout, output.stderr].concat();
    String::from_utf8(words).unwrap()
}
