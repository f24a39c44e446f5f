//! Every row of the reply table, and every request that has no operation.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::cms::Misbehaviour;
use support::{
    PATH, RawCms, Reply, SAMPLE, SAMPLE_ANSWER, World, exchange, next_status, request, wait_for,
};

/// Status, code, the shape of the body, the request's id in both places.
#[track_caller]
fn assert_is(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (status, code), "{reply:?}");
    let body = reply.json();
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["statusCode", "status", "errorCode", "errorMessage", "requestId"]);
    assert_eq!(body["statusCode"], status);
    assert_eq!(body["requestId"].as_str(), reply.header("x-request-id"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    if status == 503 || status == 429 {
        assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    }
}

/// How many errors of a code are counted.
fn errors(world: &World, code: &str) -> Option<f64> {
    world.gateway.metric(&format!("cms_gateway_errors_total{{code=\"{code}\"}}"))
}

#[test]
fn requests_that_are_no_operation_are_refused_and_never_reach_the_cms() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let good = request(&world.supervisor(), SAMPLE);
    let target = format!("PUT {PATH} HTTP/1.1");
    for (what, from, to, status, code) in [
        ("unknown path", PATH, "/cms/other", 404, "GW-1002"),
        ("trailing slash", &target, &*format!("PUT {PATH}/ HTTP/1.1"), 404, "GW-1002"),
        ("doubled slash", &target, &*format!("PUT /{PATH} HTTP/1.1"), 404, "GW-1002"),
        ("encoded letter", "PUT /cms", "PUT /%63ms", 404, "GW-1002"),
        ("dot segment", "PUT /cms", "PUT /./cms", 404, "GW-1002"),
        ("case", "PUT /cms", "PUT /CMS", 404, "GW-1002"),
        ("parameter", "Mapping HTTP", "Mapping;x=y HTTP", 404, "GW-1002"),
        ("query", "Mapping HTTP", "Mapping?x=y HTTP", 400, "GW-1001"),
        ("GET", "PUT ", "GET ", 405, "GW-1003"),
        ("POST", "PUT ", "POST ", 405, "GW-1003"),
        ("OPTIONS", "PUT ", "OPTIONS ", 405, "GW-1003"),
        ("TRACE", "PUT ", "TRACE ", 405, "GW-1003"),
        ("OPTIONS *", &target, "OPTIONS * HTTP/1.1", 405, "GW-1003"),
        ("CONNECT", &target, "CONNECT gateway:443 HTTP/1.1", 405, "GW-1003"),
        ("lower case", "PUT ", "put ", 405, "GW-1003"),
        ("absolute form", "PUT /", "PUT http://gateway/", 400, "GW-1001"),
        ("no Host", "Host: gateway\r\n", "", 400, "GW-1001"),
        ("two Hosts", "Host: gateway\r\n", "Host: a\r\nHost: a\r\n", 400, "GW-1001"),
        (
            "upgrade",
            "Connection: close",
            "Connection: upgrade\r\nUpgrade: websocket",
            400,
            "GW-1001",
        ),
        (
            "h2c",
            "Connection: close",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
            400,
            "GW-1001",
        ),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{what}");
        let changed = changed.replace("Connection: upgrade", "Connection: close, upgrade");
        let changed = changed.replace("Connection: Upgrade", "Connection: close, Upgrade");
        let reply = exchange(world.gateway.api, changed.as_bytes());
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        assert_is(&reply, status, code);
        assert_eq!(reply.header("allow"), (status == 405).then_some("PUT"), "{what}");
    }
    let head = exchange(world.gateway.api, good.replacen("PUT ", "HEAD ", 1).as_bytes());
    assert_eq!((head.status, head.body.as_str()), (405, ""));
    assert_eq!(world.cms.calls(), 0);
    assert_eq!(exchange(world.gateway.api, good.as_bytes()).status, 200);
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let good = request(&world.supervisor(), SAMPLE);
    let with = |headers: &str| {
        let text = good.replacen("Connection:", &format!("{headers}Connection:"), 1);
        exchange(world.gateway.api, text.as_bytes())
    };
    let many: String = (0..60).map(|index| format!("X-{index}: 1\r\n")).collect();
    assert_is(&with(&many), 431, "GW-1007");
    assert_is(&with(&format!("X-Large: {}\r\n", "x".repeat(17 << 10))), 431, "GW-1007");
    assert_is(&with(&"X-Y: 1\r\n".repeat(500)), 431, "GW-1007");
    assert_is(&with(&format!("X-Large: {}\r\n", "x".repeat(100 << 10))), 431, "GW-1007");
    assert_is(&with("X Y: 1\r\n"), 400, "GW-1001");
    assert_is(&with("Content-Length: +101\r\n"), 400, "GW-1001");
    assert_is(&exchange(world.gateway.api, b"\x16\x03\x01\r\n\r\n"), 400, "GW-1001");
    assert_eq!(world.cms.calls(), 0);
    // Those too that never became a request.
    assert_eq!(errors(&world, "GW-1007"), Some(4.0));
    assert_eq!(errors(&world, "GW-1001"), Some(3.0));
}

#[test]
fn bodies_that_are_too_large_of_another_type_or_too_slow_are_refused() {
    let world =
        World::with(|config| *config += "[limits]\nbody_timeout = \"1s\"\nhead_timeout = \"1s\"\n");
    world.gateway.wait_until_ready();
    let good = request(&world.supervisor(), SAMPLE);
    let changed =
        |from: &str, to: &str| exchange(world.gateway.api, good.replacen(from, to, 1).as_bytes());
    let token = world.supervisor();
    assert_is(&world.put(&token, &" ".repeat((64 << 10) + 1)), 413, "GW-1004");
    assert_is(&changed("Content-Length: 101", "Content-Length: 99999999"), 413, "GW-1004");
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n20000\r\n{}", " ".repeat(0x20000));
    assert_is(&changed(&format!("Content-Length: 101\r\n\r\n{SAMPLE}"), &chunked), 413, "GW-1004");
    for media_type in ["text/plain", "application/jsonp", "application/json; charset=utf-16", ""] {
        let reply = changed("application/json", media_type);
        assert_is(&reply, 415, "GW-1005");
    }
    assert_is(&changed("Content-Type: application/json\r\n", ""), 415, "GW-1005");
    let encoded = changed("Connection:", "Content-Encoding: gzip\r\nConnection:");
    assert_is(&encoded, 415, "GW-1005");
    assert_is(&changed("Content-Length: 101", "Content-Length: 102"), 408, "GW-1006");
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    stream.write_all(b"PUT /cms HTTP/1.1\r\nHost:").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_is(&support::parse(&rest), 408, "GW-1006");
    assert_eq!(world.cms.calls(), 0);
    let codes: Vec<Value> =
        world.records().iter().map(|it| it["decision"]["code"].clone()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "GW-1004").count(), 3);
}

#[test]
fn callers_without_an_acceptable_token_are_told_so_after_rfc_6750() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let good = world.supervisor();
    let claims = world.provider.claims("test-app", &["campaign-supervisor"]);
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        world.mint(&claims)
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().shift_remove(name);
        world.mint(&claims)
    };
    let now = claims["iat"].as_u64().unwrap();
    let realm = "Bearer realm=\"cms-gateway\"";
    for header in ["", "Authorization: Basic YTpi\r\n", "Authorization: Bearer\r\n"] {
        let text = request("x", SAMPLE).replacen("Authorization: Bearer x\r\n", header, 1);
        let reply = exchange(world.gateway.api, text.as_bytes());
        assert_is(&reply, 401, "GW-2001");
        assert_eq!(reply.header("www-authenticate"), Some(realm));
    }
    let expired = world.put(&with("exp", json!(now - 60)), SAMPLE);
    assert_is(&expired, 401, "GW-2003");
    assert!(expired.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    let (head, rest) = good.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let large = "x".repeat(8193);
    for (what, token) in [
        ("signature", format!("{}AAAA", &good[..good.len() - 4])),
        ("no signature", format!("{head}.{}.", rest.split_once('.').unwrap().0)),
        ("alg none", format!("{none}.{}.", rest.split_once('.').unwrap().0)),
        ("padding", format!("{good}=")),
        ("two parts", head.to_owned()),
        ("five parts", format!("{good}.x.y")),
        ("garbage", "garbage".to_owned()),
        ("too large", large),
        ("issuer", with("iss", json!(format!("{}x", world.provider.issuer())))),
        ("issuer in a list", with("iss", json!([world.provider.issuer()]))),
        ("audience", with("aud", json!("cms"))),
        ("no audience", without("aud")),
        ("no expiry", without("exp")),
        ("expiry as text", with("exp", json!((now + 60).to_string()))),
        ("not yet", with("nbf", json!(now + 3600))),
        ("issued later", with("iat", json!(now + 3600))),
    ] {
        let reply = world.put(&token, SAMPLE);
        assert_eq!(reply.status, 401, "{what}: {reply:?}");
        assert_is(&reply, 401, "GW-2002");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.starts_with(realm) && challenge.contains("error=\"invalid_token\""));
    }
    let twice = request(&good, SAMPLE).replacen("Host:", "Authorization: Bearer x\r\nHost:", 1);
    assert_is(&exchange(world.gateway.api, twice.as_bytes()), 401, "GW-2002");
    assert_eq!(world.cms.calls(), 0);
    // They are counted, in one record a second for each reason.
    wait_for("the count", || {
        world.records().iter().any(|record| record["decision"]["reason"] == "expired")
    });
}

#[test]
fn keys_that_cannot_be_had_are_the_gateways_fault() {
    let world = World::with(|config| {
        *config = config.replace("file = \"jwks.json\"", "url = \"http://127.0.0.1:1/jwks\"");
    });
    assert_is(&world.put(&world.supervisor(), SAMPLE), 503, "GW-2004");
    let ready = world.gateway.admin("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("keys: none of issuer"), "{}", ready.body);
}

#[test]
fn a_caller_over_its_rate_is_told_when_to_come_back() {
    let world = World::with(|config| {
        *config += "[limits]\nrate = { requests = 1, per = \"1h\", burst = 2 }\n";
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_is(&world.put(&token, SAMPLE), 429, "GW-3003");
    let other = world.mint(&world.provider.claims("another-app", &["campaign-supervisor"]));
    assert_eq!(world.put(&other, SAMPLE).status, 200);
}

#[test]
fn what_the_cms_does_wrong_is_translated() {
    let world = World::with(|config| *config += "response_timeout = \"2s\"\n");
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    for (how, status, code) in [
        (Misbehaviour::Forbidden, 502, "GW-5001"),
        (Misbehaviour::Slow, 504, "GW-5003"),
        (Misbehaviour::CutOff, 502, "GW-5004"),
        (Misbehaviour::Garbage, 502, "GW-5004"),
        (Misbehaviour::Html, 502, "GW-5004"),
        (Misbehaviour::HtmlError, 502, "GW-5004"),
        (Misbehaviour::Huge, 502, "GW-5004"),
        (Misbehaviour::WrongLead, 502, "GW-5004"),
    ] {
        world.cms.misbehave(how);
        let reply = world.put(&token, SAMPLE);
        assert_eq!(reply.status, status, "{how}: {reply:?}");
        assert_is(&reply, status, code);
        assert_eq!(reply.header("www-authenticate"), None);
        let outcome = world.records().pop().unwrap();
        assert_eq!(
            (&outcome["kind"], &outcome["upstream"]["code"]),
            (&json!("outcome"), &json!(code))
        );
    }
    world.cms.misbehave(Misbehaviour::Error);
    let reply = world.put(&token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (500, "CONF-5000"));
    world.cms.misbehave(Misbehaviour::NoContent);
    let reply = world.put(&token, SAMPLE);
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    world.cms.misbehave(Misbehaviour::None);
    let reply = world.put(&token, &SAMPLE.replace("\"leadId\":2", "\"leadId\":99"));
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            404,
            r#"{"statusCode":404,"status":"Not Found","errorCode":"CONF-1001","errorMessage":"Object doesn't exist"}"#
        )
    );
    let reply = world.put(&token, &SAMPLE.replace("madhur1", "nobody"));
    assert_eq!((reply.status, reply.code().as_str()), (400, "CONF-1002"));
    assert_eq!(world.records().pop().unwrap()["upstream"]["code"], "CONF-1002");
}

#[test]
fn answers_that_are_not_http_are_unintelligible() {
    let json = "content-type: application/json\r\nconnection: close\r\n";
    let good = SAMPLE_ANSWER.len();
    for answer in [
        String::new(),
        "garbage\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-ty".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{json}content-length: {}\r\n\r\n{SAMPLE_ANSWER}", good + 1),
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\nxyz\r\n"),
        format!("HTTP/1.1 302 Found\r\n{json}location: /\r\ncontent-length: 0\r\n\r\n"),
        format!("HTTP/1.1 418 Teapot\r\n{json}content-length: 2\r\n\r\n{{}}"),
    ] {
        let cms = RawCms::start(answer.clone().into_bytes());
        let world = World::with_cms(cms.address);
        world.gateway.wait_until_ready();
        let reply = world.put(&world.supervisor(), SAMPLE);
        assert_eq!(reply.status, 502, "{answer:?}: {reply:?}");
        assert_is(&reply, 502, "GW-5004");
        assert_eq!(cms.received.lock().unwrap().len(), 1, "what was sent is not sent again");
    }
}

#[test]
fn a_cms_that_cannot_be_reached_opens_the_circuit() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(|config| {
        let (before, _) = config.split_once("url = \"").unwrap();
        *config = format!(
            "{before}url = \"http://{closed}\"\nbreaker = {{ failures = 2, open = \"1h\" }}\n"
        );
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    assert_is(&world.put(&token, SAMPLE), 502, "GW-5002");
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(0.0));
    assert_is(&world.put(&token, SAMPLE), 502, "GW-5002");
    assert_is(&world.put(&token, SAMPLE), 503, "GW-5005");
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(1.0));
    let outcome = world.records().pop().unwrap();
    assert_eq!(outcome["upstream"]["attempts"], 0);
}

#[test]
fn a_refused_credential_is_not_used_again_until_there_is_another() {
    let world = World::with(|config| {
        *config = config.replace("source = \"file\"", "source = \"file\"\nrefresh = \"1h\"")
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    support::write_secret(&world.folder.path().join("password"), "wrong");
    world.cms.misbehave(Misbehaviour::Unauthorized);
    let reply = world.put(&token, SAMPLE);
    assert_is(&reply, 502, "GW-5001");
    assert_eq!(reply.header("www-authenticate"), None);
    assert_eq!(world.cms.calls(), 2, "the store had another credential: one retry");
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(1.0));
    let ready = world.gateway.admin("/readyz");
    assert_eq!(ready.status, 200, "a restart would not help");
    assert!(ready.body.contains("credential: the CMS has refused the credential"), "{ready:?}");
    let records = support::records_in(&world.folder.path().join("audit"));
    let named = |name: &str| records.iter().find(|record| record["event"]["name"] == name).unwrap();
    let refused = &named("credential_refused")["credential"];
    assert!(refused["version"].is_string());
    assert_eq!(*refused, named("credential_rotated")["credential"], "the version is marked");
    for _ in 0..10 {
        assert_is(&world.put(&token, SAMPLE), 502, "GW-5001");
    }
    assert!(world.cms.calls() <= 3, "{} guesses", world.cms.calls());
    world.cms.misbehave(Misbehaviour::None);
    support::write_secret(&world.folder.path().join("password"), support::cms::ACCOUNT.1);
    wait_for("the next try", || world.put(&token, SAMPLE).status == 200);
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(0.0));
}

#[test]
fn a_credential_that_cannot_be_had_is_the_gateways_fault() {
    let world = World::start();
    let text = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), text.replace("\"audit\"", "\"audit-2\"")).unwrap();
    let config = cms_gateway::config::load(&world.config()).unwrap();
    std::fs::remove_file(world.folder.path().join("password")).unwrap();
    let server =
        world.block_on(cms_gateway::server::Server::start(&config, Default::default())).unwrap();
    wait_for("the keys", || {
        let reply = support::put(server.api(), &world.supervisor(), SAMPLE);
        reply.code() == "GW-4002"
    });
    assert_is(&support::put(server.api(), &world.supervisor(), SAMPLE), 503, "GW-4002");
    assert_eq!(world.cms.calls(), 0);
    world.block_on(server.stop());
}

#[test]
fn requests_beyond_the_places_are_refused_quickly() {
    let world = World::with(|config| {
        *config += "[limits]\nin_flight = 1\n";
        *config = config.replace("[audit]", "[drain]\ntimeout = \"10ms\"\n[audit]");
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    world.cms.misbehave(Misbehaviour::Slow);
    let mut slow = TcpStream::connect(world.gateway.api).unwrap();
    slow.write_all(request(&token, SAMPLE).as_bytes()).unwrap();
    wait_for("the slow request", || world.cms.calls() == 1);
    assert_is(&world.put(&token, SAMPLE), 503, "GW-9001");
    assert_eq!(world.gateway.metric("cms_gateway_in_flight"), Some(1.0));
    let shed = world.gateway.metric("cms_gateway_shed_total{at=\"in_flight\"}");
    assert_eq!(shed, Some(1.0));

    // The next one has to wait a while, on the connection that it has: who does not heed Retry-After,
    // and who does, lest it never be served beside the others.
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let again = request(&token, SAMPLE).replace("Connection: close\r\n", "");
    let start = Instant::now();
    for _ in 0..3 {
        stream.write_all(again.as_bytes()).unwrap();
        assert_eq!(next_status(&mut answers), 503);
    }
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    stream.write_all(again.as_bytes()).unwrap();
    assert_eq!(next_status(&mut answers), 503);
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
}

#[test]
fn connections_beyond_the_places_are_told_so() {
    let world = World::with(|config| *config += "[limits]\nconnections = 1\n");
    world.gateway.wait_until_ready();
    let _held = TcpStream::connect(world.gateway.api).unwrap();
    wait_for("the connection", || world.gateway.metric("cms_gateway_connections") == Some(1.0));
    let mut refused = TcpStream::connect(world.gateway.api).unwrap();
    let mut answer = Vec::new();
    refused.read_to_end(&mut answer).unwrap();
    assert_is(&support::parse(&answer), 503, "GW-9001");
    assert_eq!(errors(&world, "GW-9001"), Some(1.0));
}

/// Who is refused before its body is looked at needs no new connection for its next try, if the body
/// is there and of a size that is read at all.
#[test]
fn a_connection_stays_unless_there_is_more_of_a_body() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let keeping =
        |token: &str, body: &str| request(token, body).replace("Connection: close\r\n", "");
    for (token, body, status) in [
        ("e30.e30.AA".to_owned(), SAMPLE, 401),
        (world.supervisor(), SAMPLE, 200),
        (world.supervisor(), "{", 400),
    ] {
        let mut stream = TcpStream::connect(world.gateway.api).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..2 {
            stream.write_all(keeping(&token, body).as_bytes()).unwrap();
            assert_eq!(next_status(&mut answers), status);
        }
        stream.write_all(keeping(&world.supervisor(), SAMPLE).as_bytes()).unwrap();
        assert_eq!(next_status(&mut answers), 200, "after {status}");
    }
    let refused = keeping("e30.e30.AA", SAMPLE);
    let (head, _) = refused.split_once("\r\n\r\n").unwrap();
    let length =
        |length: &str| head.replace("Content-Length", &format!("Content-Length: {length}\r\nX"));
    for (what, request) in [
        ("one that is too large", format!("{}\r\n\r\n{SAMPLE}", length("70000"))),
        ("one that does not come", format!("{head}\r\n\r\n")),
        ("one that is kept back", format!("{head}\r\nExpect: 100-continue\r\n\r\n")),
    ] {
        let refused = exchange(world.gateway.api, request.as_bytes());
        assert_eq!((refused.status, refused.header("connection")), (401, Some("close")), "{what}");
    }
    let good = keeping(&world.supervisor(), SAMPLE);
    let (head, _) = good.split_once("Content-Length").unwrap();
    let chunked =
        |head: &str, body: &str| format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}");
    let broken = exchange(world.gateway.api, chunked(head, "zz\r\n{}\r\n").as_bytes());
    assert_eq!((broken.status, broken.header("connection")), (400, Some("close")));
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let whole = format!("{:x}\r\n{SAMPLE}\r\n0\r\n\r\n", SAMPLE.len());
    for expecting in ["Expect: 100-continue\r\n", ""] {
        stream.write_all(chunked(&format!("{head}{expecting}"), &whole).as_bytes()).unwrap();
        if !expecting.is_empty() {
            assert_eq!(next_status(&mut answers), 100);
        }
        assert_eq!(next_status(&mut answers), 200);
    }
}
