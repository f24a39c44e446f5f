//! TLS to the CMS: who is trusted, what the gateway shows of itself, and files that change.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::date_time_ymd;
use rustls::{ALL_VERSIONS, ServerConfig};
use serde_json::{Value, json};
use support::authority::{Authority, Signed};
use support::{BINARY, SAMPLE, SAMPLE_ANSWER, World, wait_for, write_secret};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// A CMS with TLS, whose settings may be replaced.
struct Cms {
    address: SocketAddr,
    tls: Arc<Mutex<Arc<ServerConfig>>>,
    seen: Arc<Mutex<Seen>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Seen {
    names: Vec<Option<String>>,
    versions: Vec<Version>,
}

impl Cms {
    fn start(tls: Arc<ServerConfig>) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, seen) = (Arc::new(Mutex::new(tls)), Arc::<Mutex<Seen>>::default());
        let (current, noted) = (Arc::clone(&tls), Arc::clone(&seen));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&current.lock().unwrap()));
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    noted.lock().unwrap().names.push(name);
                    let service = service_fn(move |request: Request<Incoming>| {
                        let noted = Arc::clone(&noted);
                        async move {
                            noted.lock().unwrap().versions.push(request.version());
                            let _ = request.into_body().collect().await;
                            let body = Full::new(Bytes::from_static(SAMPLE_ANSWER.as_bytes()));
                            let answer = Response::builder();
                            let answer = answer.header("content-type", "application/json");
                            Ok::<_, Infallible>(answer.body(body).unwrap())
                        }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, tls, seen, _runtime: runtime }
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().names.len()
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().versions.len()
    }

    /// A gateway before it, which trusts this CA, has these keys besides, and finds these files.
    fn gateway(&self, ca: &Authority, keys: &str, write: impl FnOnce(&Path)) -> World {
        let world = World::with_command(
            |config| {
                let (before, _) = config.split_once("url = \"").unwrap();
                let url = format!("url = \"https://{}\"", self.address);
                *config = format!("{before}{url}\nca = \"cms-ca.pem\"\n{keys}\n");
            },
            |config| {
                fs::write(config.with_file_name("cms-ca.pem"), ca.pem()).unwrap();
                write(config.parent().unwrap());
                let mut command = Command::new(BINARY);
                command.args(["serve", "--config"]).arg(config);
                command
            },
        );
        world.gateway.wait_until_ready();
        world
    }
}

fn write(folder: &Path, signed: &Signed) {
    fs::write(folder.join("client.crt"), &signed.certificate).unwrap();
    write_secret(&folder.join("client.key"), &signed.key.serialize_pem());
}

const IDENTITY: &str = "client_certificate = \"client.crt\"\nclient_key = \"client.key\"";

#[test]
fn one_connection_carries_all_requests_where_the_cms_speaks_http2() {
    let authority = Authority::new();
    let signed = authority.sign("127.0.0.1", |_| {});
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"][..], Version::HTTP_11),
        (&[][..], Version::HTTP_11),
    ] {
        let cms = Cms::start(signed.server(None, alpn, ALL_VERSIONS));
        let world = cms.gateway(&authority, "", |_| {});
        let token = world.supervisor();
        let round = || assert_eq!(world.put(&token, SAMPLE).status, 200);
        round();
        if version == Version::HTTP_2 {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..5).for_each(|_| round()));
                }
            });
        } else {
            (0..5).for_each(|_| round());
        }
        assert_eq!(cms.connections(), 1, "{alpn:?}");
        assert!(cms.seen.lock().unwrap().versions.iter().all(|seen| *seen == version));
        assert_eq!(world.gateway.metric("cms_gateway_upstream_connections"), Some(1.0));
    }
}

#[test]
fn a_cms_whose_certificate_is_no_good_hears_nothing_and_the_record_says_why() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let expired = ours.sign("127.0.0.1", |it| it.not_after = date_time_ymd(2020, 1, 1));
    let elsewhere = ours.sign("other.example.com", |_| {});
    for (signed, words) in [
        (expired, "the CMS's certificate has expired"),
        (elsewhere, "other.example.com"),
        (theirs.sign("127.0.0.1", |_| {}), "from a CA that is not trusted"),
    ] {
        let cms = Cms::start(signed.server(None, &["h2"], ALL_VERSIONS));
        let world = cms.gateway(&ours, "", |_| {});
        let reply = world.put(&world.supervisor(), SAMPLE);
        assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5002"), "{words}");
        assert!(!reply.body.contains(words), "the caller need not know: {reply:?}");
        assert_eq!(cms.requests(), 0);
        let told = || format!("{}{:?}", world.gateway.log(), world.records());
        wait_for(words, || told().contains(words));
    }
}

#[test]
fn a_cms_whose_tls_is_too_old_hears_nothing() {
    let authority = Authority::new();
    let signed = authority.sign("127.0.0.1", |_| {});
    let cms = Cms::start(signed.server(None, &["http/1.1"], &[&rustls::version::TLS12]));
    for (keys, status) in [("", 200), ("min_tls = \"1.2\"", 200), ("min_tls = \"1.3\"", 502)] {
        let world = cms.gateway(&authority, keys, |_| {});
        let before = cms.requests();
        let reply = world.put(&world.supervisor(), SAMPLE);
        assert_eq!((reply.status, cms.requests() - before), (status, usize::from(status == 200)));
    }
}

#[test]
fn a_handshake_without_an_end_is_given_up_and_nothing_was_sent() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let authority = Authority::new();
    let world = World::with_command(
        |config| {
            let (before, _) = config.split_once("url = \"").unwrap();
            *config = format!(
                "{before}url = \"{url}\"\nca = \"cms-ca.pem\"\nconnect_timeout = \"300ms\"\n\
                 response_timeout = \"10m\"\n"
            );
        },
        |config| {
            fs::write(config.with_file_name("cms-ca.pem"), authority.pem()).unwrap();
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            command
        },
    );
    world.gateway.wait_until_ready();
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5002"));
    let upstream = &world.records()[1]["upstream"];
    let got = (&upstream["status"], &upstream["code"], &upstream["attempts"]);
    assert_eq!(got, (&Value::Null, &json!("GW-5002"), &json!(0)));
    assert!(upstream["tries"][0]["error"].as_str().unwrap().contains("in time"), "{upstream}");
    let took = upstream["duration_us"].as_u64().unwrap();
    assert!(took >= 300_000, "{took}");
}

#[test]
fn the_certificates_name_can_be_another_than_the_urls_host() {
    let authority = Authority::new();
    let cms =
        Cms::start(authority.sign("cms.example.com", |_| {}).server(None, &["h2"], ALL_VERSIONS));
    let world = cms.gateway(&authority, "server_name = \"cms.example.com\"", |_| {});
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    assert_eq!(cms.seen.lock().unwrap().names, [Some("cms.example.com".to_owned())]);
}

#[test]
fn a_cms_that_wants_a_certificate_and_gets_none_hears_nothing() {
    let authority = Authority::new();
    let signed = authority.sign("127.0.0.1", |_| {});
    let cms = Cms::start(signed.server(Some(&authority), &["http/1.1"], ALL_VERSIONS));
    let world = cms.gateway(&authority, "", |_| {});
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5002"));
    assert_eq!(cms.requests(), 0);
}

#[test]
fn certificates_rotate_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = |authority: &Authority| {
        authority.sign("127.0.0.1", |_| {}).server(Some(authority), &["http/1.1"], ALL_VERSIONS)
    };
    let cms = Cms::start(server(&old));
    let world = cms
        .gateway(&old, IDENTITY, |folder| write(folder, &old.sign("client.example.com", |_| {})));
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let loads = |result: &str| {
        let name = format!("cms_gateway_upstream_tls_load_total{{result=\"{result}\"}}");
        world.gateway.metric(&name).unwrap_or_default()
    };
    assert_eq!((loads("success"), loads("failure")), (1.0, 0.0));

    // The certificate comes before its key: what was in force serves on.
    let renewed = new.sign("client.example.com", |_| {});
    fs::write(world.folder.path().join("client.crt"), &renewed.certificate).unwrap();
    wait_for("the failure", || loads("failure") == 1.0);
    wait_for("the log", || world.gateway.log().contains("is not the key of"));
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_eq!(cms.connections(), 1);

    write(world.folder.path(), &renewed);
    wait_for("the new certificate", || loads("success") == 2.0);
    fs::write(world.folder.path().join("cms-ca.pem"), new.pem()).unwrap();
    wait_for("the new CA", || loads("success") == 3.0);
    *cms.tls.lock().unwrap() = server(&new);
    assert_eq!(world.put(&token, SAMPLE).status, 200, "with the new ones on both sides");
    assert_eq!(cms.connections(), 2, "what was made under the old ones is not used");
}

#[test]
fn what_is_wrong_with_the_files_is_told_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    write(folder.path(), &authority.sign("client.example.com", |_| {}));
    let other = authority.sign("other.example.com", |_| {});
    write_secret(&folder.path().join("other.key"), &other.key.serialize_pem());
    fs::write(folder.path().join("open.key"), other.key.serialize_pem()).unwrap();
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    let good = support::configuration("https://idp.example.com/", "https://cms.example.com");
    let mismatched = IDENTITY.replace("client.key", "other.key");
    let readable = IDENTITY.replace("client.key", "open.key");
    for (keys, expected) in [
        ("ca = \"missing.pem\"", "upstream.ca: "),
        ("ca = \"empty.pem\"", "holds no certificate in PEM"),
        (mismatched.as_str(), "is not the key of the certificate"),
        (readable.as_str(), "set 0600"),
        ("client_key = \"client.key\"", "upstream.client_certificate: is missing"),
        ("server_name = \"no name\"", "upstream.server_name: "),
        ("min_tls = \"1.1\"", "upstream.min_tls: "),
    ] {
        let path = folder.path().join("gateway.toml");
        fs::write(&path, format!("{good}{keys}\n")).unwrap();
        let output = support::run(&["check", "--config", path.to_str().unwrap()]);
        let text = [output.stdout, output.stderr].concat();
        let faults = String::from_utf8_lossy(&text);
        let found =
            faults.lines().any(|line| line.contains("upstream.") && line.contains(expected));
        assert!(found && output.status.code() == Some(2), "{keys}: {faults}");
        assert!(!faults.contains("BEGIN"), "{faults}");
    }
}
