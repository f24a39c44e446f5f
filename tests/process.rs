//! The process: its commands, its signals, its TLS, its sandbox.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use support::{BINARY, PATH, SAMPLE, World, request, run, wait_for, write_secret};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn a_graceful_stop_under_load_loses_no_answer() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let api = world.gateway.api;
    let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let text = request(&token, SAMPLE).replace("Connection: close\r\n", "");
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(api) else { return };
                    while stream.write_all(text.as_bytes()).is_ok() {
                        let mut buffer = [0; 4096];
                        match stream.read(&mut buffer) {
                            Ok(0) | Err(_) => break,
                            Ok(read) => {
                                assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
        wait_for("some load", || answered.load(Ordering::Relaxed) > 200);
        world.gateway.signal("-TERM");
        let status = world.gateway.wait();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(status.code(), Some(0));
    });
    assert_eq!(world.cms.calls() as usize, answered.load(Ordering::Relaxed));
    let records = support::records_in(&world.folder.path().join("audit"));
    let count = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
    assert_eq!((count("intent"), count("outcome")), (world.cms.calls() as usize, count("intent")));
    assert_eq!(records.last().unwrap()["event"]["name"], "stop");
}

#[test]
fn an_interrupt_stops_it_too() {
    let mut world = World::start();
    world.gateway.signal("-INT");
    assert_eq!(world.gateway.wait().code(), Some(0));
}

#[test]
fn the_admin_listener_tells_how_it_is() {
    let world = World::start();
    world.gateway.wait_until_ready();
    world.put(&world.supervisor(), SAMPLE);
    let metric = |line: &str| world.gateway.metric(&format!("cms_gateway_{line}"));
    let requests = "requests_total{decision=\"allow\",operation=\"lead-users\",status=\"200\"}";
    assert_eq!(metric(requests), Some(1.0));
    assert_eq!(metric("request_duration_seconds_count{operation=\"lead-users\"}"), Some(1.0));
    assert_eq!(metric("upstream_duration_seconds_count"), Some(1.0));
    assert_eq!(metric("audit_records_total{kind=\"intent\"}"), Some(1.0));
    assert_eq!(metric("credential_refresh_total{result=\"success\"}"), Some(1.0));
    assert_eq!(metric("build_info{commit=\"unknown\",version=\"0.1.0\"}"), Some(1.0));
    assert!(metric("credential_age_seconds").is_some());
    assert!(world.gateway.metric("process_resident_memory_bytes").unwrap() > 0.0);
    assert_eq!(world.gateway.admin("/livez").body, "ok\n");
    assert_eq!(
        world.gateway.admin("/version").json(),
        json!({"version": "0.1.0", "commit": "unknown"})
    );
    assert_eq!(world.gateway.admin("/other").status, 404);
}

#[test]
fn check_names_every_fault_in_one_run_and_serve_refuses_the_same() {
    let world = World::start();
    let file = world.config();
    let config = file.to_str().unwrap();
    let good = run(&["check", "--config", config]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));

    let folder = world.folder.path();
    write_secret(&folder.join("username"), "with:colon");
    fs::set_permissions(
        folder.join("password"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .unwrap();
    let bad = fs::read_to_string(&file)
        .unwrap()
        .replace("api = \"127.0.0.1:0\"", "api = \"0.0.0.0:8080\"")
        .replace("[\"ES256\", \"RS256\"]", "[\"ES256\", \"HS256\", \"none\"]")
        .replace("jwks.json", "nothing.json")
        .replace("campaigns = [1, 2]", "campaigns = [0]\ncampaign = 1")
        .replace("[\"lead-users:unassign\"]", "[]")
        .replace("source = \"file\"", "source = \"file\"\nrefresh = \"-1s\"")
        .replace("directory = \"audit\"", "directry = \"audit\"\nsigning_key = \"jwks.json\"")
        .replace("instance = \"test\"", "instance = \"a b\"\nalso = \"stderr\"\nretention = {}")
        .replace("\"a b\"", "\"a b\"\nsegment_size = \"1B\"")
        .replace("url = \"http://127", "connect_timeout = 2\nurl = \"http://cms.example.com\" # ");
    fs::write(&file, &bad).unwrap();
    let checked = run(&["check", "--config", config]);
    assert_eq!(checked.status.code(), Some(2));
    let words = text(&checked);
    let line = |start: &str| bad.lines().position(|it| it.starts_with(start)).unwrap() + 1;
    for (line, key, what) in [
        (line("api"), "listen.api", "is not loopback"),
        (line("algorithms"), "issuers[0].algorithms", "HS256 is symmetric"),
        (line("algorithms"), "issuers[0].algorithms", "\"none\" is not an algorithm"),
        (line("jwks"), "issuers[0].jwks.file", "nothing.json can't be read"),
        (line("campaigns = [0]"), "roles.north-dialer.campaigns", "0 is not a number from 1"),
        (line("campaign ="), "roles.north-dialer.campaign", "did you mean campaigns?"),
        (line("permissions = []"), "roles.remover.permissions", "is missing"),
        (line("refresh"), "credential.refresh", "\"-1s\" is not a time"),
        (line("username"), "credential.username", "holds a colon"),
        (line("password"), "credential.password", "has mode 0640"),
        (line("[audit]"), "audit.directory", "is missing"),
        (line("directry"), "audit.directry", "did you mean directory?"),
        (line("signing_key"), "audit.signing_key", "has mode 0644"),
        (line("instance"), "audit.instance", "more than a log's name may"),
        (line("also"), "audit.also", "write one of \"stdout\""),
        (line("retention"), "audit.retention.age", "is missing"),
        (line("segment_size"), "audit.segment_size", "is not a size from 4.0 KiB"),
        (line("connect_timeout"), "upstream.connect_timeout", "2 is not a time"),
        (line("url"), "upstream.url", "is not loopback"),
    ] {
        let found = words
            .lines()
            .any(|own| own.starts_with(&format!("{config}:{line}: {key}: ")) && own.contains(what));
        assert!(found, "no {line} {key} {what} in:\n{words}");
    }
    let served = run(&["serve", "--config", config]);
    assert_eq!((served.status.code(), text(&served)), (Some(2), words));

    let named = fs::read_to_string(&file).unwrap().replace("signing_key = ", "# ");
    fs::write(&file, named.replace("directry", "directory")).unwrap();
    write_secret(&folder.join("audit.signing-key.pem"), "no key");
    let words = text(&run(&["check", "--config", config]));
    assert!(words.contains("audit.signing_key: "), "the key that none is named: {words}");
    assert!(words.contains("audit.signing-key.pem is not an Ed25519 private key"), "{words}");

    fs::write(&file, "[listen\napi = 1").unwrap();
    let broken = run(&["check", "--config", config]);
    assert!(text(&broken).contains("gateway.toml:1: not TOML"), "{}", text(&broken));
    assert_eq!(run(&["check", "--config", "/nonexistent"]).status.code(), Some(2));
    assert_eq!(run(&["check"]).status.code(), Some(2));
}

/// A fault is told once, and no key beside it is called unknown or missing because of it.
#[test]
fn a_fault_is_told_alone() {
    let world = World::start();
    let file = world.config();
    let good = fs::read_to_string(&file).unwrap();
    let upstream =
        "client_key = 7\nclient_certificate = \"a\"\nserver_name = \"a\"\nmin_tls = \"1.2\"";
    for (sound, wrong, told) in [
        ("source = \"file\"", "source = \"flie\"", "credential.source: \"flie\" is not known"),
        ("source = \"file\"", "source = 7", "credential.source: 7 is not a text"),
        ("[\"ES256\", \"RS256\"]", "[\"es256\"]", "issuers[0].algorithms: \"es256\" is not an"),
        ("[upstream]", &format!("[upstream]\n{upstream}"), "upstream.client_key: 7 is not a text"),
        ("[upstream]", "[upstream]\nprobe = true", "upstream.probe: true is not a table"),
        ("[audit]", "[audit]\nretention = \"1d\"", "audit.retention: \"1d\" is not a table"),
        ("[listen]", "[listen]\ntls = \"tls.crt\"", "listen.tls: \"tls.crt\" is not a table"),
        (
            "{ file = \"jwks.json\" }",
            "\"jwks.json\"",
            "issuers[0].jwks: \"jwks.json\" is not a table",
        ),
        (
            "[upstream]",
            "[upstream]\nport = 1",
            "upstream.port: is not a known key; known here: allow_plaintext, breaker, ca, client_certificate, client_key, concurrency, connect_timeout, dns_refresh, ejection, head_timeout, min_tls, probe, queue_timeout, response_timeout, retry, server_name, url",
        ),
    ] {
        assert!(good.contains(sound), "{sound}");
        fs::write(&file, good.replacen(sound, wrong, 1)).unwrap();
        let checked = run(&["check", "--config", file.to_str().unwrap()]);
        let words = text(&checked);
        assert_eq!(checked.status.code(), Some(2), "{wrong}: {words}");
        assert!(words.contains(told), "{wrong}: {words}");
        assert_eq!(words.trim().lines().count(), 1, "{wrong}: {words}");
    }
}

/// Whoever has the log and does not read it holds up nobody, and is told what it missed.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let mut world = World::start();
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success(), "it leaves the trail to others");
    let serve = || {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(world.config()).env("CMS_GATEWAY_LOG", "debug");
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut api = None;
        while api.is_none() {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0);
            let event: Value = serde_json::from_str(&line).unwrap();
            api = event["api"].as_str().map(|api| api.parse::<SocketAddr>().unwrap());
        }
        // More lines than a pipe and the gateway hold.
        let mut stream = TcpStream::connect(api.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let anonymous = format!("PUT {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(100);
        for _ in 0..20 {
            stream.write_all(anonymous.as_bytes()).unwrap();
            for _ in 0..100 {
                assert_eq!(support::next_status(&mut answers), 401);
            }
        }
        (child, lines)
    };
    let stop = |child: &mut Child| {
        let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(status.unwrap().success());
        wait_for("the end", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success());
    };
    let (mut child, lines) = serve();
    stop(&mut child);
    drop(lines);

    let (mut child, lines) = serve();
    let log = Arc::new(Mutex::new(String::new()));
    let copy = Arc::clone(&log);
    let reading = std::thread::spawn(move || {
        for line in lines.lines() {
            *copy.lock().unwrap() += &(line.unwrap() + "\n");
        }
    });
    wait_for("what is missing", || log.lock().unwrap().contains("is not whole"));
    stop(&mut child);
    reading.join().unwrap();
    let log = log.lock().unwrap();
    assert!(log.contains("\"message\":\"stopped\""), "the end is told");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered = lines.iter().filter(|line| line["message"] == "answered").count() as u64;
    let missing: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
    assert!(answered < 2000 && answered + missing >= 2000, "{answered} and {missing} of 2000");
}

#[test]
fn each_key_can_be_overridden_by_an_environment_variable() {
    let world = World::start();
    let check = |name: &str, value: &str| {
        let mut command = Command::new(BINARY);
        let command = command.args(["check", "--config"]).arg(world.config()).env(name, value);
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    let list = "CMS_GATEWAY__ISSUERS__0__AUDIENCES";
    assert_eq!(check(list, "[\"a\", \"b\"]").0, Some(0));
    assert_eq!(check("CMS_GATEWAY__ROLES__NORTH_DIALER__CAMPAIGNS", "any").0, Some(0));
    for (name, value, key) in [
        ("CMS_GATEWAY__UPSTREAM__CONNECT_TIMEOUT", "never", "upstream.connect_timeout"),
        ("CMS_GATEWAY__LISTEN__API", "0.0.0.0:1", "listen.api"),
        ("CMS_GATEWAY__LISTEN__APY", "0.0.0.0:1", "listen.apy"),
        (list, "7", "issuers[0].audiences"),
    ] {
        let (status, words) = check(name, value);
        assert_eq!(status, Some(2), "{name}");
        assert!(words.starts_with(&format!("environment {name}: {key}: ")), "{words}");
    }
    assert_eq!(check("CMS_GATEWAY_LOG", "").0, Some(0), "as if it were not there");
    let (status, words) = check("CMS_GATEWAY_LOG", "loud");
    assert_eq!(status, Some(2), "{words}");
    assert!(words.starts_with("CMS_GATEWAY_LOG: \"loud\" is no level"), "{words}");
}

#[test]
fn the_credential_may_come_from_the_environment() {
    let world = World::with_command(
        |config| {
            *config = config
                .replace("source = \"file\"", "source = \"env\"")
                .replace("username = \"username\"", "username = \"CMS_USERNAME\"")
                .replace("password = \"password\"", "password = \"CMS_PASSWORD\"");
        },
        |config| {
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            let (name, password) = support::cms::ACCOUNT;
            command.env("CMS_USERNAME", name).env("CMS_PASSWORD", password);
            command
        },
    );
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    assert_eq!(world.records().pop().unwrap()["credential"]["source"], "env");
}

#[test]
fn explain_says_what_would_be_decided_and_why() {
    let world = World::start();
    let folder = world.folder.path();
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let config = world.config().to_str().unwrap().to_owned();
    let body = write("body.json", SAMPLE);
    let explain = |option: &str, who: &str, body: &str| {
        let output = run(&["explain", "--config", &config, option, who, "--body-file", body]);
        (output.status.code(), text(&output))
    };
    let token = world.supervisor();
    let good = write("token", &format!("{token}\n"));
    let (status, words) = explain("--token-file", &good, &body);
    assert_eq!(status, Some(0), "{words}");
    assert!(words.contains("role campaign-supervisor grants lead-users:assign"), "{words}");
    assert!(words.contains("role campaign-supervisor grants lead-users:unassign"), "{words}");
    assert!(!words.contains(&token));

    let claims = write("claims.json", r#"{"sub":"x","roles":["north-dialer"]}"#);
    let (status, words) = explain("--claims-file", &claims, &body);
    assert_eq!(status, Some(1), "{words}");
    assert!(words.contains("denied, GW-3001"), "{words}");
    assert!(words.contains("role north-dialer does not grant lead-users:unassign"), "{words}");
    assert!(!words.contains("lead-users:assign\n"), "what is granted is no lack: {words}");

    let broken = write("broken", &format!("{token}x"));
    let (status, words) = explain("--token-file", &broken, &body);
    assert_eq!(status, Some(1));
    assert!(words.contains("GW-2002") && !words.contains(&token), "{words}");
    let (status, words) = explain("--token-file", &good, &write("bad.json", "{}"));
    assert!(status == Some(1) && words.contains("GW-1001"), "{words}");
    let large = format!("{SAMPLE}{}", " ".repeat(64 << 10));
    let (status, words) = explain("--token-file", &good, &write("large.json", &large));
    assert!(status == Some(1) && words.contains("GW-1004: the body is larger"), "{words}");
    assert_eq!(explain("--token-file", "/nonexistent", &body).0, Some(2));
    let (status, words) = explain("--claims-file", &good, &body);
    assert!(status == Some(2) && words.contains(&format!("{good}: not strict JSON")), "{words}");

    let text_of = fs::read_to_string(&config).unwrap();
    let away = text_of.replace("file = \"jwks.json\"", "url = \"http://127.0.0.1:1/jwks\"");
    let away = write("away.toml", &away);
    let output = run(&["explain", "--config", &away, "--token-file", &good, "--body-file", &body]);
    let words = text(&output);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("nothing can be said of the token, GW-2004"), "{words}");
}

#[test]
fn tls_speaks_both_http_versions_by_alpn() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let world = World::with_command(
        |config| {
            *config = config.replace(
                "admin = ",
                "tls = { certificate = \"tls.crt\", key = \"tls.key\" }\nadmin = ",
            );
        },
        |config| {
            fs::write(config.with_file_name("tls.crt"), &certificate).unwrap();
            write_secret(&config.with_file_name("tls.key"), &key);
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            command
        },
    );
    world.gateway.wait_until_ready();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let token = world.supervisor();
    for (alpn, version) in [("h2", http::Version::HTTP_2), ("http/1.1", http::Version::HTTP_11)] {
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.into()];
        let (api, token) = (world.gateway.api, token.clone());
        let answer = world.block_on(async move {
            let stream = tokio::net::TcpStream::connect(api).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
            let name = "localhost".try_into().unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
            let io = hyper_util::rt::TokioIo::new(stream);
            let uri = format!("https://localhost{}", support::PATH);
            let request = http::Request::put(if alpn == "h2" { &uri } else { support::PATH })
                .header("host", "localhost")
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .body(http_body_util::Full::new(bytes::Bytes::from(SAMPLE)))
                .unwrap();
            if alpn == "h2" {
                let executor = hyper_util::rt::TokioExecutor::new();
                let (mut send, connection) =
                    hyper::client::conn::http2::handshake(executor, io).await.unwrap();
                tokio::spawn(connection);
                send.send_request(request).await.unwrap()
            } else {
                let (mut send, connection) =
                    hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                send.send_request(request).await.unwrap()
            }
        });
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
}

#[test]
fn the_sandbox_tells_a_taken_port_clearly() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_sandbox"))
        .args(["--once", "--cms-port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = text(&output);
    assert!(words.contains("--cms-port") && words.contains(&port), "{words}");
}

#[test]
fn the_sandbox_tour_goes_well_within_80_columns() {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbox")).arg("--once").output().unwrap();
    let words = text(&output);
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(!words.contains("WRONG") && words.contains("ok      "));
    assert!(!words.contains('\u{1b}'), "no colours where there is no terminal");
    for line in words.lines().filter(|line| !line.contains("all files")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!Path::new("audit").exists());
}

#[test]
fn the_sandbox_stays_up_with_lines_to_try_until_it_is_interrupted() {
    let mut sandbox =
        Command::new(env!("CARGO_BIN_EXE_sandbox")).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(sandbox.stdout.take().unwrap()).lines();
    let lines: Vec<String> =
        lines.map(Result::unwrap).take_while(|line| line != "Ctrl-C ends it").collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("curl -i -X PUT")).count(), 2);
    for line in &lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let status = Command::new("kill").args(["-INT", &sandbox.id().to_string()]).status();
    assert!(status.unwrap().success());
    assert_eq!(sandbox.wait().unwrap().code(), Some(0));
}

#[test]
fn the_example_configuration_has_no_faults_once_its_secrets_exist() {
    let folder = tempfile::tempdir().unwrap();
    let (username, password) = (folder.path().join("username"), folder.path().join("password"));
    let check = || {
        Command::new(BINARY)
            .args(["check", "--config", "config/gateway.toml"])
            .env("CMS_GATEWAY__CREDENTIAL__USERNAME", &username)
            .env("CMS_GATEWAY__CREDENTIAL__PASSWORD", &password)
            .output()
            .unwrap()
    };
    assert_eq!(check().status.code(), Some(2));
    write_secret(&username, "cms-service");
    write_secret(&password, "secret");
    let output = check();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}
