//! What a scanner that is not ours, and handshakes written by hand, find of the API's TLS.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use support::PATIENCE;
use support::authority::Authority;
use support::tls_gateway::{TlsGateway, write_pair};

/// What the scanner tells, an element a line.
fn scan(address: SocketAddr) -> Vec<String> {
    let target = address.to_string();
    let output = Command::new("sslscan").args(["--xml=-", "--no-colour", &target]).output();
    let output = output.unwrap_or_else(|error| panic!("tests/run installs sslscan: {error}"));
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn elements<'a>(found: &'a [String], name: &str) -> Vec<&'a str> {
    let start = format!("<{name} ");
    found.iter().filter(|line| line.starts_with(&start)).map(String::as_str).collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let (_, rest) =
        element.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{element}"));
    rest.split('"').next().unwrap()
}

/// The protocols that are spoken, as `tls 1.2`.
fn protocols(found: &[String]) -> Vec<String> {
    let spoken = elements(found, "protocol").into_iter();
    let spoken = spoken.filter(|element| attribute(element, "enabled") == "1");
    spoken.map(|it| format!("{} {}", attribute(it, "type"), attribute(it, "version"))).collect()
}

fn suites(found: &[String]) -> Vec<&str> {
    elements(found, "cipher").into_iter().map(|it| attribute(it, "cipher")).collect()
}

fn assert_is_strong(address: SocketAddr, signed_by: &str) {
    let found = scan(address);
    assert_eq!(protocols(&found), ["tls 1.2", "tls 1.3"], "{found:#?}");
    let mut suites = suites(&found);
    suites.sort_unstable();
    let of_1_2 = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"];
    let mut expected = of_1_2.map(|suite| format!("ECDHE-{signed_by}-{suite}")).to_vec();
    let of_1_3 = ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"];
    expected.extend(of_1_3.map(|suite| format!("TLS_{suite}")));
    assert_eq!(suites, expected, "{found:#?}");
    for cipher in elements(&found, "cipher") {
        assert!(["strong", "acceptable"].contains(&attribute(cipher, "strength")), "{cipher}");
    }
    for renegotiation in elements(&found, "renegotiation") {
        assert_eq!(attribute(renegotiation, "supported"), "0");
    }
    assert!(!elements(&found, "heartbleed").is_empty());
    for heartbleed in elements(&found, "heartbleed") {
        assert_eq!(attribute(heartbleed, "vulnerable"), "0");
    }
    for group in elements(&found, "group") {
        assert!(attribute(group, "bits").parse::<u32>().unwrap() >= 128, "{group}");
    }
}

#[test]
fn no_old_protocol_and_no_weak_suite_are_found_with_an_ecdsa_key() {
    let gateway = TlsGateway::start("", |_| {});
    assert_is_strong(gateway.world.gateway.api, "ECDSA");
}

#[test]
fn no_old_protocol_and_no_weak_suite_are_found_with_an_rsa_key() {
    let gateway = TlsGateway::start("", |folder| {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        write_pair(folder, &Authority::new().sign_with(key, "localhost", |_| {}));
    });
    assert_is_strong(gateway.world.gateway.api, "RSA");
}

struct Weak(Child);

impl Drop for Weak {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The scanner would see what is not there.
#[test]
fn the_scanner_finds_what_is_weak_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    write_pair(folder.path(), &Authority::new().sign_with(key, "localhost", |_| {}));
    let arguments = "s_server -accept 127.0.0.1:0 -cert tls.crt -key tls.key -www \
                     -cipher ALL:@SECLEVEL=0";
    let mut child = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(folder.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let weak = Weak(child);
    let line = said.find(|line| line.as_ref().unwrap().starts_with("ACCEPT ")).unwrap().unwrap();
    let found = scan(line["ACCEPT ".len()..].parse().unwrap());
    drop(weak);
    let protocols = protocols(&found);
    assert!(protocols.contains(&"tls 1.1".to_owned()), "{found:#?}");
    assert!(suites(&found).contains(&"AES128-SHA"), "{found:#?}");
}

/// What comes back for a `ClientHello` (RFC 5246, section 7.4.1.2).
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// `ServerHello`.
    Chosen { version: u16, suite: u16, compression: u8 },
    /// A fatal alert of this kind.
    Alert(u8),
}

fn prefixed(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[4 - length_bytes..], content].concat()
}

fn say(address: SocketAddr, version: u16, suites: &[u16], compressions: &[u8]) -> Answer {
    let listed =
        |numbers: &[u16]| numbers.iter().flat_map(|it| it.to_be_bytes()).collect::<Vec<_>>();
    let extension =
        |kind: u16, content: &[u8]| [&kind.to_be_bytes()[..], &prefixed(2, content)].concat();
    let groups = extension(10, &prefixed(2, &listed(&[0x001d, 0x0017])));
    let formats = extension(11, &prefixed(1, &[0]));
    let signatures = extension(13, &prefixed(2, &listed(&[0x0403, 0x0804, 0x0401, 0x0203])));
    let hello = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &[0],
        &prefixed(2, &listed(suites)),
        &prefixed(1, compressions),
        &prefixed(2, &[groups, formats, signatures].concat()),
    ];
    let message = [&[1][..], &prefixed(3, &hello.concat())].concat();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[&[22, 3, 1][..], &prefixed(2, &message)].concat()).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut record).unwrap();
    if head[0] == 21 {
        return Answer::Alert(record[1]);
    }
    assert_eq!((head[0], record[0]), (22, 2), "a ServerHello");
    let number = |at: usize| u16::from_be_bytes([record[at], record[at + 1]]);
    let after = 39 + usize::from(record[38]);
    Answer::Chosen { version: number(4), suite: number(after), compression: record[after + 2] }
}

#[test]
fn what_is_old_or_weak_is_not_agreed_on() {
    let gateway = TlsGateway::start("", |_| {});
    let say = |version, suites: &[u16], compressions: &[u8]| {
        say(gateway.world.gateway.api, version, suites, compressions)
    };
    let (strong, tls_1_2) = (0xc02b, 0x0303);
    // RC4, 3DES, CBC, RSA without forward secrecy, none at all.
    let weak = [0x0005, 0x000a, 0x002f, 0xc009, 0xc023, 0x009c, 0x0000];
    let good = Answer::Chosen { version: tls_1_2, suite: strong, compression: 0 };
    assert_eq!(say(tls_1_2, &[strong], &[0]), good);
    assert_eq!(say(tls_1_2, &[&weak[..], &[strong]].concat(), &[0]), good);
    assert_eq!(say(tls_1_2, &[strong], &[1, 0]), good, "no compression");
    let illegal_parameter = Answer::Alert(47);
    let refused = say(tls_1_2, &[strong], &[1]);
    assert!([illegal_parameter, Answer::Alert(40)].contains(&refused), "{refused:?}");
    let handshake_failure = Answer::Alert(40);
    assert_eq!(say(tls_1_2, &weak, &[0]), handshake_failure);
    for version in [0x0300, 0x0301, 0x0302] {
        let protocol_version = Answer::Alert(70);
        assert_eq!(say(version, &[strong, 0x002f, 0xc009], &[0]), protocol_version, "{version:x}");
    }
    assert_eq!(gateway.status(None), Some(200));
    assert!(gateway.failures("protocol") >= 5.0, "of those");
}
