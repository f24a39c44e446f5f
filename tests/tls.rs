//! The API's TLS: which clients are let in, by their certificates.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use support::authority::Authority;
use support::{BINARY, SAMPLE, World, request, write_secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client's certificate and its key.
type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn client(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let own = authority.sign("client.example.com", |parameters| {
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(parameters);
    });
    let key = own.private_key();
    (own.der, key)
}

/// A gateway whose TLS has these keys besides, and the client CA `clients.pem`.
struct Gateway {
    world: World,
    roots: RootCertStore,
}

impl Gateway {
    fn start(clients: &Authority, keys: &str) -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let world = World::with_command(
            |config| *config = with_tls(config, keys),
            |config| {
                let write = |name, text: String| fs::write(config.with_file_name(name), text);
                write("tls.crt", signed.cert.pem()).unwrap();
                write_secret(
                    &config.with_file_name("tls.key"),
                    &signed.signing_key.serialize_pem(),
                );
                write("clients.pem", clients.pem()).unwrap();
                let mut command = Command::new(BINARY);
                command.args(["serve", "--config"]).arg(config);
                command
            },
        );
        world.gateway.wait_until_ready();
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).unwrap();
        Self { world, roots }
    }

    /// What a client with this certificate gets for a good request: a status, or nothing.
    fn status(&self, client: Option<&Identity>) -> Option<u16> {
        self.statuses(client, 1).pop().flatten()
    }

    /// The same, on connections of one client one after the other.
    fn statuses(&self, client: Option<&Identity>, connections: usize) -> Vec<Option<u16>> {
        let builder = ClientConfig::builder().with_root_certificates(self.roots.clone());
        let tls = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
            }
        };
        let connector = TlsConnector::from(Arc::new(tls));
        let (api, request) = (self.world.gateway.api, request(&self.world.supervisor(), SAMPLE));
        self.world.block_on(async {
            let mut statuses = Vec::new();
            for _ in 0..connections {
                let stream = TcpStream::connect(api).await.unwrap();
                let asked = async {
                    let name = "localhost".try_into().unwrap();
                    let mut stream = connector.connect(name, stream).await.ok()?;
                    assert_eq!(
                        stream.get_ref().1.handshake_kind(),
                        Some(rustls::HandshakeKind::Full),
                        "no session is resumed"
                    );
                    // TLS 1.3 refuses a client's certificate when the client believes to be in.
                    let _ = stream.write_all(request.as_bytes()).await;
                    let mut answer = Vec::new();
                    let _ = stream.read_to_end(&mut answer).await;
                    let head = String::from_utf8_lossy(&answer).into_owned();
                    head.split(' ').nth(1).map(|status| status.parse().unwrap())
                };
                let asked = tokio::time::timeout(support::PATIENCE, asked).await;
                statuses.push(asked.unwrap());
            }
            statuses
        })
    }
}

fn with_tls(config: &str, keys: &str) -> String {
    let tls = format!("tls = {{ certificate = \"tls.crt\", key = \"tls.key\"{keys} }}\nadmin = ");
    config.replacen("admin = ", &tls, 1)
}

#[test]
fn where_a_certificate_is_required_nobody_gets_an_answer_without_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let keys = ", client_ca = \"clients.pem\", client_certificate = \"required\"";
    let gateway = Gateway::start(&ours, keys);
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
        let gateway = Gateway::start(&ours, keys);
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
    let gateway = Gateway::start(&authority, ", client_ca = \"clients.pem\"");
    let client = client(&authority, |_| {});
    assert_eq!(gateway.statuses(Some(&client), 3), [Some(200); 3]);
}

#[test]
fn what_makes_no_sense_is_told_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("tls.crt"), signed.cert.pem()).unwrap();
    write_secret(&folder.path().join("tls.key"), &signed.signing_key.serialize_pem());
    fs::write(folder.path().join("empty.pem"), "").unwrap();
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
