//! A Bearer call in, a Basic call out, on record.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use support::cms::{ACCOUNT, basic};
use support::{PATH, RawCms, SAMPLE, SAMPLE_ANSWER, World, exchange};

#[test]
fn the_sample_goes_through_byte_for_byte() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, reply.body.as_str()), (200, SAMPLE_ANSWER));
    assert_eq!(world.cms.assigned(1, 2), ["anav_agent"]);
    let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["content-type", "x-request-id", "audit-record", "connection", "content-length", "date"],
        "no header of the CMS is relayed"
    );
}

#[test]
fn a_token_signed_with_rsa_is_as_good() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let claims = world.provider.claims("test-app", &["campaign-supervisor"]);
    let token = world.provider.mint_rs256(&claims).map_err(|it| it.to_string()).unwrap();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn the_cms_gets_a_request_built_afresh() {
    let cms = RawCms::agreeing();
    let address = cms.address;
    let world = World::with_cms(address);
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let body = SAMPLE.replace(',', " ,\n ");
    let request = format!(
        "PUT {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json; charset=utf-8\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\n\
         X-Request-Id: mine\r\nForwarded: for=1.2.3.4\r\nUser-Agent: curl\r\nAccept: text/html\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         tracestate: a=b\r\nConnection: close, X-Request-Id\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = exchange(world.gateway.api, request.as_bytes());
    assert_eq!((reply.status, reply.body.as_str()), (200, SAMPLE_ANSWER));

    let received = cms.received.lock().unwrap();
    let [received] = received.as_slice() else { panic!("{} requests", received.len()) };
    let received = String::from_utf8(received.clone()).unwrap();
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, SAMPLE, "canonical JSON");
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), format!("PUT {PATH} HTTP/1.1"));
    lines.sort_unstable();
    let id = reply.header("x-request-id").unwrap();
    let trace = lines.iter().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
    assert!(trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{trace}");
    assert!(!trace.contains("00f067aa0ba902b7"), "the parent is the gateway's own");
    assert_eq!(
        lines,
        [
            "accept: application/json",
            &format!("authorization: {}", basic(ACCOUNT.0, ACCOUNT.1)),
            "content-length: 101",
            "content-type: application/json",
            &format!("host: {address}"),
            &format!("traceparent: {trace}"),
            "tracestate: a=b",
            &format!("x-request-id: {id}"),
        ]
    );
}

#[test]
fn a_change_has_its_intent_and_its_outcome_on_record_with_every_field() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let reply = world.put(&world.supervisor(), SAMPLE);
    let records = world.records();
    let [intent, outcome] = records.as_slice() else { panic!("{records:?}") };
    let fields = [
        "time",
        "sequence",
        "kind",
        "request_id",
        "trace_id",
        "operation",
        "actor",
        "source",
        "target",
        "change",
        "decision",
        "upstream",
        "credential",
        "event",
        "gateway",
    ];
    for record in [intent, outcome] {
        let names: Vec<&String> = record.as_object().unwrap().keys().collect();
        assert_eq!(names, fields);
        assert_eq!(record["request_id"].as_str(), reply.header("x-request-id"));
        assert_eq!(record["operation"], "lead-users");
        assert_eq!(record["actor"]["issuer"], world.provider.issuer());
        assert_eq!(record["actor"]["subject"], "test-app");
        assert_eq!(record["actor"]["client_id"], "test-app");
        assert_eq!(record["actor"]["roles"], json!(["campaign-supervisor"]));
        assert!(record["actor"]["token_id"].is_string());
        assert_eq!(record["source"]["address"], "127.0.0.1");
        assert_eq!(record["target"], json!({"campaign": 1, "lead": 2}));
        assert_eq!(
            record["change"],
            json!({"assigned": ["anav_agent"], "unassigned": ["exe_gs", "madhur1"]})
        );
        assert_eq!(record["decision"]["allow"], true);
        assert_eq!(record["gateway"], json!({"instance": "test", "version": "0.1.0"}));
    }
    assert_eq!((&intent["kind"], &outcome["kind"]), (&json!("intent"), &json!("outcome")));
    assert_eq!(intent["sequence"].as_u64().unwrap() + 1, outcome["sequence"].as_u64().unwrap());
    assert_eq!(intent["upstream"]["status"], Value::Null);
    assert_eq!(outcome["upstream"]["status"], 200);
    assert_eq!(outcome["upstream"]["attempts"], 1);
    assert_eq!(outcome["credential"]["source"], "file");
}

#[test]
fn a_callers_own_request_id_is_kept_as_a_claim_and_never_used() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let request = support::request(&world.supervisor(), SAMPLE)
        .replace("Connection:", "X-Request-Id: mine\r\nConnection:");
    let reply = exchange(world.gateway.api, request.as_bytes());
    let id = reply.header("x-request-id").unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(id.as_bytes()[14], b'7', "a UUIDv7: {id}");
    let record = &world.records()[0];
    assert_eq!(record["request_id"], id);
    assert_eq!(record["source"]["claimed_request_id"], "mine");
    let received = &world.cms.received()[0];
    assert!(received.headers.contains(&("x-request-id".to_owned(), id.to_owned())));
}

#[test]
fn http_2_with_prior_knowledge_is_spoken_too() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let request = http::Request::put(format!("http://{}{PATH}", world.gateway.api))
        .header("authorization", format!("Bearer {}", world.supervisor()))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(SAMPLE)))
        .unwrap();
    let body = world.block_on(async {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let answer = client.request(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        answer.into_body().collect().await.unwrap().to_bytes()
    });
    assert_eq!(body, SAMPLE_ANSWER);
}

#[test]
fn no_secret_is_in_any_output_even_at_the_level_trace() {
    let world = World::with_command(
        |_| {},
        |config| {
            let mut command = Command::new(support::BINARY);
            command.args(["serve", "--config"]).arg(config).env("CMS_GATEWAY_LOG", "trace");
            command
        },
    );
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    world.put(&token, SAMPLE);
    world.put(&format!("{token}x"), SAMPLE);
    world.cms.misbehave(support::cms::Misbehaviour::Unauthorized);
    world.put(&token, SAMPLE);
    let mut outputs = world.gateway.log();
    outputs += &world.gateway.admin("/metrics").body;
    outputs += &world.gateway.admin("/readyz").body;
    for record in support::records_in(&world.folder.path().join("audit")) {
        outputs += &record.to_string();
    }
    assert!(outputs.contains("credential_refused"), "the records were gathered");
    assert!(outputs.contains("\"level\":\"DEBUG\""), "the log was gathered");
    let encoded = basic(ACCOUNT.0, ACCOUNT.1);
    for secret in
        [ACCOUNT.1, encoded.strip_prefix("Basic ").unwrap(), &token, "Bearer ey", "leadId"]
    {
        assert!(!outputs.contains(secret), "{secret} leaked");
    }
}
