//! What a collector of OpenTelemetry's is told: the spans of a request, and the audit records.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value as Json;

use support::authority::Authority;
use support::cms::Misbehaviour;
use support::collector::{Answer, Collector, attribute, hex};
use support::faulty::{Act, FaultyCms, error};
use support::{PATH, Reply, SAMPLE, World, exchange, request, wait_for, write_secret};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const STAGES: &[&str] = &[
    "authenticate",
    "read",
    "authorize",
    "record intent",
    "connect",
    "credential",
    CLIENT,
    "record outcome",
];
const CLIENT: &str = "PUT /cms/configuration/voice/campaignLeadUserMapping";
const OK: i32 = 0;
const ERROR: i32 = 2;

fn world(collector: &Collector, more: &str) -> World {
    let world = World::with(|config| *config += &collector.section(more));
    world.gateway.wait_until_ready();
    world
}

/// The sample, with these lines in its head.
fn put_with(world: &World, token: &str, lines: &str) -> Reply {
    let request = request(token, SAMPLE).replacen("\r\n", &format!("\r\n{lines}"), 1);
    exchange(world.gateway.api, request.as_bytes())
}

fn traced(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

/// A header of the newest request that the CMS got.
fn at_the_cms(world: &World, name: &str) -> Option<String> {
    let received = world.cms.received().last().unwrap().clone();
    let mut own = received.headers.into_iter().filter(|(own, _)| own == name);
    own.next().map(|(_, value)| value)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut own = spans.iter().filter(|span| span.name == name && span.kind != 2);
    let found = own.next().unwrap_or_else(|| panic!("no {name}: {spans:?}"));
    assert!(own.next().is_none(), "{name} twice");
    found
}

fn server(spans: &[Span]) -> &Span {
    spans.iter().find(|span| span.kind == 2).unwrap()
}

fn code(span: &Span) -> i32 {
    span.status.as_ref().map_or(OK, |status| status.code)
}

fn dropped(world: &World, signal: &str, reason: &str) -> f64 {
    let labels = format!("{{reason=\"{reason}\",signal=\"{signal}\"}}");
    world.gateway.metric(&format!("cms_gateway_otlp_dropped_total{labels}")).unwrap()
}

fn sent(world: &World, signal: &str) -> f64 {
    let name = format!("cms_gateway_otlp_sent_total{{signal=\"{signal}\"}}");
    world.gateway.metric(&name).unwrap()
}

/// The lines of the trail, as they stand there.
fn lines(world: &World) -> Vec<String> {
    let files = fs::read_dir(world.folder.path().join("audit")).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

// === spans ===

#[test]
fn a_change_is_one_trace_from_the_caller_to_the_cms() {
    let collector = Collector::start();
    let world = world(&collector, "");
    let before = std::time::SystemTime::now();
    let lines = traced("01") + "tracestate: rojo=1,congo=2\r\n";
    let token = world.supervisor();
    let reply = put_with(&world, &token, &lines);
    assert_eq!(reply.status, 200, "{reply:?}");
    let spans = collector.trace(TRACE);
    let names: Vec<&str> = spans.iter().skip(1).map(|span| span.name.as_str()).collect();
    assert_eq!(names, STAGES);

    let whole = server(&spans);
    assert_eq!(whole.name, format!("PUT {PATH}"));
    assert_eq!(hex(&whole.parent_span_id), PARENT);
    assert_eq!((whole.flags, code(whole)), (0x301, OK), "sampled, with a parent that is elsewhere");
    let own = |key: &str| attribute(&whole.attributes, key).unwrap_or_default();
    let port = own("client.port");
    for (key, value) in [
        ("http.request.method", "PUT"),
        ("url.path", PATH),
        ("url.scheme", "http"),
        ("http.route", PATH),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("client.port", &port),
        ("cms_gateway.request_id", reply.header("x-request-id").unwrap()),
        ("cms_gateway.operation", "lead-users"),
        ("cms_gateway.decision", "allow"),
    ] {
        assert_eq!(own(key), value, "{key}");
    }
    assert_eq!(whole.attributes.len(), 11);

    let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), spans.len());
    let nanoseconds = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    };
    let now = nanoseconds(std::time::SystemTime::now());
    assert!(nanoseconds(before) <= whole.start_time_unix_nano && whole.end_time_unix_nano <= now);
    let mut last = whole.start_time_unix_nano;
    for stage in &spans[1..] {
        assert_eq!(stage.parent_span_id, whole.span_id, "{stage:?}");
        assert_eq!((stage.flags, code(stage)), (0x101, OK), "{stage:?}");
        assert_eq!(stage.kind, if stage.name == CLIENT { 3 } else { 1 }, "{stage:?}");
        assert!(last <= stage.start_time_unix_nano, "one behind the other: {spans:?}");
        assert!(stage.start_time_unix_nano <= stage.end_time_unix_nano);
        last = stage.end_time_unix_nano;
    }
    assert!(last <= whole.end_time_unix_nano);
    assert!(spans.iter().all(|span| span.trace_state == "rojo=1,congo=2"));

    let call = named(&spans, CLIENT);
    let parent = format!("00-{TRACE}-{}-01", hex(&call.span_id));
    assert_eq!(at_the_cms(&world, "traceparent"), Some(parent));
    assert_eq!(at_the_cms(&world, "tracestate").as_deref(), Some("rojo=1,congo=2"));
    let cms = world.cms.url();
    let (_, port) = cms.rsplit_once(':').unwrap();
    let own = |key: &str| attribute(&call.attributes, key).unwrap_or_default();
    for (key, value) in [
        ("http.request.method", "PUT"),
        ("server.address", "127.0.0.1"),
        ("server.port", port),
        ("url.full", &format!("{cms}{PATH}")),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(own(key), value, "{key}");
    }
    assert_eq!(call.attributes.len(), 5);

    let (resource, scope, _) = &collector.traces()[0];
    for (key, value) in [
        ("service.name", "cms-gateway"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", "test"),
    ] {
        assert_eq!(attribute(&resource.attributes, key).as_deref(), Some(value));
    }
    assert_eq!(scope.name, "cms-gateway");
    let export = &collector.exports("/v1/traces")[0];
    assert!(export.head.contains("\r\ncontent-type: application/x-protobuf\r\n"));
    assert_eq!(sent(&world, "traces"), spans.len() as f64);
}

#[test]
fn nothing_in_a_span_is_a_secret_or_a_user() {
    let collector = Collector::start();
    let world = world(&collector, "");
    let token = world.supervisor();
    put_with(&world, &token, &traced("01"));
    put_with(&world, &format!("{token}x"), &traced("01"));
    world.cms.misbehave(Misbehaviour::Unauthorized);
    put_with(&world, &token, &traced("01"));
    let query = request(&token, SAMPLE).replacen(PATH, &format!("{PATH}?token={token}"), 1);
    exchange(world.gateway.api, query.as_bytes());
    wait_for("four traces", || collector.spans().iter().filter(|it| it.kind == 2).count() == 4);
    let told: Vec<u8> =
        collector.exports("/v1/traces").into_iter().flat_map(|it| it.body).collect();
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains(PATH), "the bodies were gathered");
    let signature = token.rsplit('.').next().unwrap();
    for secret in [support::cms::ACCOUNT.1, signature, "Bearer", "anav_agent", "exe_gs", "test-app"]
    {
        assert!(!told.contains(secret), "{secret} leaked");
    }
    let logs: Vec<u8> = collector.exports("/v1/logs").into_iter().flat_map(|it| it.body).collect();
    let logs = String::from_utf8_lossy(&logs);
    for secret in [support::cms::ACCOUNT.1, signature, "Bearer"] {
        assert!(!logs.contains(secret), "{secret} leaked");
    }
}

#[test]
fn what_fails_is_told_where_it_fails() {
    let collector = Collector::start();
    let world = world(&collector, "");
    let dialer = world.token(&["north-dialer"]);
    let supervisor = world.supervisor();
    let trace = |number: u8| format!("{number:032x}");
    let ask = |number: u8, token: &str| {
        let parent = format!("traceparent: 00-{}-{PARENT}-01\r\n", trace(number));
        put_with(&world, token, &parent).status
    };
    assert_eq!(ask(1, "e30.e30.AA"), 401);
    assert_eq!(ask(2, &dialer), 403);
    world.cms.misbehave(Misbehaviour::Garbage);
    assert_eq!(ask(3, &supervisor), 502);
    world.cms.misbehave(Misbehaviour::CutOff);
    assert_eq!(ask(4, &supervisor), 502);
    for (number, status, failed, decision, gateways) in [
        (1, "401", vec!["authenticate"], "deny", "GW-2002"),
        (2, "403", vec!["authorize"], "deny", "GW-3001"),
        (3, "502", vec![], "allow", "GW-5004"),
        (4, "502", vec![CLIENT], "allow", "GW-5004"),
    ] {
        let spans = collector.trace(&trace(number));
        let whole = server(&spans);
        let is_ours = status.starts_with('5');
        assert_eq!(code(whole), if is_ours { ERROR } else { OK }, "{number}");
        let own = |key: &str| attribute(&whole.attributes, key);
        assert_eq!(own("http.response.status_code").as_deref(), Some(status));
        assert_eq!(own("cms_gateway.decision").as_deref(), Some(decision));
        assert_eq!(own("cms_gateway.error_code").as_deref(), Some(gateways));
        assert_eq!(own("error.type").as_deref(), is_ours.then_some(gateways));
        let wrong = spans[1..].iter().filter(|span| code(span) == ERROR);
        assert_eq!(wrong.map(|span| span.name.as_str()).collect::<Vec<_>>(), failed, "{number}");
    }
    let denied = collector.trace(&trace(2));
    assert_eq!(code(named(&denied, "record denial")), OK);
    let broken = collector.trace(&trace(4));
    let call = named(&broken, CLIENT);
    assert_eq!(attribute(&call.attributes, "error.type").as_deref(), Some("cut_off"));
    // What is no operation has no route, whatever its method.
    let odd = format!("BREW /pot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", traced("01"));
    assert_eq!(exchange(world.gateway.api, odd.as_bytes()).status, 404);
    let spans = collector.trace(TRACE);
    let whole = server(&spans);
    assert_eq!((spans.len(), whole.name.as_str()), (1, "HTTP"));
    let method = attribute(&whole.attributes, "http.request.method");
    assert_eq!(method.as_deref(), Some("_OTHER"));
    assert_eq!(attribute(&whole.attributes, "http.route"), None);
}

#[test]
fn each_request_to_the_cms_is_a_span_of_its_own() {
    let collector = Collector::start();
    let busy = Act::Say(error(503, "CONF-9", ""));
    let cms = FaultyCms::start([busy]);
    let section = collector.section("");
    let world = cms.world_with("retry = { idempotent = true }\n", |config| *config += &section);
    let reply = put_with(&world, &world.supervisor(), &traced("01"));
    assert_eq!(reply.status, 200, "{reply:?}");
    let spans = collector.trace(TRACE);
    let calls: Vec<&Span> = spans.iter().filter(|span| span.kind == 3).collect();
    let told = |span: &Span, key: &str| attribute(&span.attributes, key);
    assert_eq!(calls.len(), 2);
    assert_eq!((code(calls[0]), code(calls[1])), (ERROR, OK));
    assert_eq!(told(calls[0], "error.type").as_deref(), Some("503"));
    assert_eq!(told(calls[0], "http.request.resend_count"), None);
    assert_eq!(told(calls[1], "http.request.resend_count").as_deref(), Some("1"));
    for (request, call) in cms.received().iter().zip(calls) {
        let parent = format!("traceparent: 00-{TRACE}-{}-01\r\n", hex(&call.span_id));
        assert!(String::from_utf8_lossy(request).contains(&parent));
    }
}

#[test]
fn a_change_whose_client_hung_up_is_told_to_its_end() {
    let collector = Collector::start();
    let cms = FaultyCms::start([]);
    let section = collector.section("");
    let world = cms.world_with("", |config| *config += &section);
    let gate = std::sync::Arc::new(std::sync::Mutex::new(()));
    let held = gate.lock().unwrap();
    cms.script([Act::Await(gate.clone(), support::faulty::good())]);
    let mut client = TcpStream::connect(world.gateway.api).unwrap();
    let text =
        request(&world.supervisor(), SAMPLE).replacen("\r\n", &format!("\r\n{}", traced("01")), 1);
    client.write_all(text.as_bytes()).unwrap();
    wait_for("the change at the CMS", || cms.requests() == 1);
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    let hung_up = || world.gateway.metric("cms_gateway_connections") == Some(0.0);
    wait_for("the end of the connection", hung_up);
    drop(held);
    let spans = collector.trace(TRACE);
    let names: Vec<&str> = spans.iter().skip(1).map(|span| span.name.as_str()).collect();
    assert_eq!(names, STAGES);
    let whole = server(&spans);
    assert_eq!(code(whole), ERROR);
    assert_eq!(attribute(&whole.attributes, "error.type").as_deref(), Some("cancelled"));
    assert_eq!(whole.end_time_unix_nano, spans.last().unwrap().end_time_unix_nano);
}

#[test]
fn whoever_began_a_trace_decides_whether_it_is_recorded() {
    let collector = Collector::start();
    let world = world(&collector, "sample_ratio = 0.0");
    let token = world.supervisor();
    put_with(&world, &token, &traced("00"));
    let unsampled = at_the_cms(&world, "traceparent").unwrap();
    assert!(unsampled.starts_with(&format!("00-{TRACE}-")) && unsampled.ends_with("-00"));
    assert!(!unsampled.contains(PARENT));
    // A trace that begins here, of which none is to be recorded.
    put_with(&world, &token, "");
    let own = at_the_cms(&world, "traceparent").unwrap();
    assert!(own.ends_with("-00") && !own.contains(TRACE), "{own}");
    put_with(&world, &token, &traced("01"));
    collector.trace(TRACE);
    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert_eq!(spans.len(), 1 + STAGES.len(), "of the one that is sampled: {spans:?}");
}

#[test]
fn a_trace_begins_here_where_none_comes_or_a_malformed_one() {
    let collector = Collector::start();
    let world = world(&collector, "");
    let token = world.supervisor();
    for lines in ["", "traceparent: 00-1-2-01\r\n", &format!("{0}{0}", traced("01"))] {
        put_with(&world, &token, &format!("{lines}tracestate: rojo=1\r\n"));
        let parent = at_the_cms(&world, "traceparent").unwrap();
        let id = parent.split('-').nth(1).unwrap();
        assert_ne!(id, TRACE);
        assert_eq!(at_the_cms(&world, "tracestate"), None, "it belongs to another trace");
        let spans = collector.trace(id);
        assert_eq!(server(&spans).parent_span_id, Vec::<u8>::new());
        assert_eq!(server(&spans).flags, 0x101);
        let record = world.records().pop().unwrap();
        assert_eq!(record["trace_id"], id);
    }
}

// === audit records ===

#[test]
fn the_collector_has_the_trail_line_by_line() {
    let collector = Collector::start();
    let mut world = world(&collector, "");
    put_with(&world, &world.supervisor(), &traced("01"));
    put_with(&world, &world.token(&["north-dialer"]), &traced("00"));
    let spans = collector.trace(TRACE);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    let (trail, logs) = (lines(&world), collector.logs());
    let bodies: Vec<String> = logs
        .iter()
        .map(|log| match log.body.clone().unwrap().value.unwrap() {
            Value::StringValue(line) => line,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, trail, "to the last one, which tells of the stop");
    let mut kinds = Vec::new();
    for (log, line) in logs.iter().zip(&trail) {
        let record: Json = serde_json::from_str(line).unwrap();
        let own = |key: &str| attribute(&log.attributes, key);
        let kind = record["kind"].as_str().unwrap();
        assert_eq!(log.event_name, format!("cms_gateway.audit.{kind}"));
        assert_eq!(own("cms_gateway.audit.kind").as_deref(), Some(kind));
        assert_eq!(own("cms_gateway.audit.sequence"), Some(record["sequence"].to_string()));
        assert_eq!(own("cms_gateway.request_id").as_deref(), record["request_id"].as_str());
        let time = humantime::parse_rfc3339(record["time"].as_str().unwrap()).unwrap();
        let time = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        assert_eq!(u128::from(log.time_unix_nano), time);
        let severity = if kind == "denied" { (13, "WARN") } else { (9, "INFO") };
        assert_eq!((log.severity_number, log.severity_text.as_str()), severity);
        let trace = record["trace_id"].as_str().unwrap_or_default();
        assert_eq!(hex(&log.trace_id), trace);
        match kind {
            "intent" | "outcome" => {
                assert_eq!(log.span_id, server(&spans).span_id);
                assert_eq!(log.flags, 1);
            }
            // Its trace is not recorded.
            _ => assert_eq!((log.span_id.len(), log.flags), (0, 0)),
        }
        kinds.push(kind.to_owned());
    }
    kinds.retain(|kind| kind != "event");
    assert_eq!(kinds, ["intent", "outcome", "denied"]);
}

#[test]
fn what_is_not_durable_is_not_sent() {
    let collector = Collector::start();
    let mut world = world(&collector, "");
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    let both = || collector.logs().iter().filter(|log| !log.trace_id.is_empty()).count() == 2;
    wait_for("both records", both);
    let audit = world.folder.path().join("audit");
    fs::rename(&audit, audit.with_file_name("gone")).unwrap();
    fs::write(&audit, "").unwrap();
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-4001");
    // Its spans come, and no record.
    let failed = |spans: &[Span]| {
        spans.iter().any(|span| span.name == "record intent" && code(span) == ERROR)
    };
    wait_for("the spans of the failure", || failed(&collector.spans()));
    // What waits to be sent is sent at the end.
    world.gateway.signal("-TERM");
    world.gateway.wait();
    assert!(both(), "{:?}", collector.logs());
}

// === a collector that is down, slow, or does not want it ===

#[test]
fn a_collector_that_is_down_costs_no_request_and_what_is_lost_is_counted() {
    let collector = Collector::start();
    // Nobody listens there.
    let mut world = World::with(|config| {
        *config += "[telemetry.otlp]\nendpoint = \"http://127.0.0.1:1\"\nschedule_delay = \"10ms\"\n\
                    queue = \"4KiB\"\n";
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    wait_for("drops", || {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        dropped(&world, "traces", "queue_full") > 0.0 && dropped(&world, "logs", "queue_full") > 0.0
    });
    let said = || world.gateway.log().matches("telemetry can't be sent").count();
    assert_eq!(said(), 2, "once for each signal");
    wait_for("tries to be over", || {
        dropped(&world, "traces", "failed") > 0.0 && dropped(&world, "logs", "failed") > 0.0
    });
    assert_eq!((sent(&world, "traces"), collector.connections()), (0.0, 0));
    let start = Instant::now();
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(lines(&world).last().unwrap().contains("\"stop\""), "the trail has it all");
}

#[test]
fn a_collector_that_does_not_answer_holds_up_no_request_and_no_stop() {
    let collector = Collector::start();
    collector.always(Answer::Nothing);
    let mut world = world(&collector, "queue = \"4KiB\"\ntimeout = \"60s\"");
    let token = world.supervisor();
    wait_for("drops", || {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        dropped(&world, "traces", "queue_full") > 0.0 && dropped(&world, "logs", "queue_full") > 0.0
    });
    assert_eq!(collector.exports("/v1/traces").len(), 1, "one at a time");
    let start = Instant::now();
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    assert!(start.elapsed() < Duration::from_secs(10));
    wait_for("the log", || world.gateway.log().contains("the last telemetry was not sent in time"));
}

#[test]
fn an_answer_that_takes_too_long_is_not_waited_for() {
    let collector = Collector::start();
    collector.script([Answer::Nothing]);
    let world = world(&collector, "logs = false\ntimeout = \"100ms\"");
    put_with(&world, &world.supervisor(), &traced("01"));
    let spans = collector.trace(TRACE);
    assert_eq!(spans.len(), 1 + STAGES.len());
    assert_eq!(collector.exports("/v1/traces").len(), 2);
    assert_eq!(dropped(&world, "traces", "failed"), 0.0);
}

#[test]
fn what_is_refused_is_dropped_and_what_may_pass_is_sent_again() {
    let collector = Collector::start();
    collector.script([Answer::Says(500, ""), Answer::Says(400, "")]);
    let world = world(&collector, "logs = false");
    let token = world.supervisor();
    let of_one = (1 + STAGES.len()) as f64;
    for refused in [1.0, 2.0] {
        assert_eq!(put_with(&world, &token, &traced("01")).status, 200);
        wait_for("a drop", || dropped(&world, "traces", "refused") == refused * of_one);
    }
    collector.script([Answer::Says(429, "retry-after: 2\r\n"), Answer::Says(503, "")]);
    assert_eq!(put_with(&world, &token, &traced("01")).status, 200);
    assert_eq!(collector.trace(TRACE).len(), 1 + STAGES.len());
    let exports = collector.exports("/v1/traces");
    assert_eq!(exports.len(), 5);
    assert_eq!(exports[2].body, exports[4].body);
    assert!(exports[3].at - exports[2].at >= Duration::from_secs(2), "as it was told");
    assert!(exports[4].at - exports[3].at >= Duration::from_millis(400), "by itself");
    wait_for("the count", || sent(&world, "traces") == of_one);
    assert_eq!(dropped(&world, "traces", "failed"), 0.0);
    wait_for("the log", || world.gateway.log().contains("telemetry is sent again"));
}

#[test]
fn what_a_collector_says_that_it_did_not_take_is_counted() {
    let collector = Collector::start();
    collector.always(Answer::Rejects(1));
    let world = world(&collector, "traces = false");
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    wait_for("rejections", || dropped(&world, "logs", "refused") > 0.0);
    let of_request = || collector.logs().iter().filter(|log| log.attributes.len() == 3).count();
    wait_for("both records", || of_request() == 2);
    let all = || sent(&world, "logs") + dropped(&world, "logs", "refused");
    wait_for("the counts", || all() == collector.logs().len() as f64);
    wait_for("the log", || world.gateway.log().contains("too old"));
}

// === how it is configured ===

#[test]
fn nothing_is_sent_unless_it_is_asked_for() {
    let collector = Collector::start();
    let off = world(&collector, "traces = false\nlogs = false");
    let without = World::start();
    without.gateway.wait_until_ready();
    for world in [&off, &without] {
        let token = world.supervisor();
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        assert_eq!(at_the_cms(world, "traceparent"), None, "nobody would record it");
        // A trace goes through all the same, for those who record it before and behind.
        let state = "tracestate: rojo=1\r\n";
        assert_eq!(put_with(world, &token, &(traced("01") + state)).status, 200);
        let parent = at_the_cms(world, "traceparent").unwrap();
        assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"));
        assert!(!parent.contains(PARENT));
        assert_eq!(at_the_cms(world, "tracestate").as_deref(), Some("rojo=1"));
        let bad = "tracestate: rojo\r\n";
        assert_eq!(put_with(world, &token, &(traced("01") + bad)).status, 200);
        assert_eq!(at_the_cms(world, "tracestate"), None);
        assert!(!world.gateway.admin("/metrics").body.contains("cms_gateway_otlp"));
        assert_eq!(world.records().len(), 6);
    }
    assert_eq!(collector.connections(), 0);
}

#[test]
fn headers_come_from_files_and_follow_them() {
    let collector = Collector::start();
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("authorization");
    write_secret(&file, "Bearer first\n");
    let more = format!(
        "traces = false\nheaders = {{ x-scope-orgid = \"team-a\", authorization = {{ file = {file:?} }} }}"
    );
    let world = world(&collector, &more);
    let shown = |words: &str| {
        let exports = collector.exports("/v1/logs");
        exports.iter().any(|export| {
            export.head.contains("\r\nx-scope-orgid: team-a\r\n")
                && export.head.contains(&format!("\r\nauthorization: {words}\r\n"))
        })
    };
    wait_for("the first", || shown("Bearer first"));
    write_secret(&file, "Bearer second\n");
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    wait_for("the second", || shown("Bearer second"));
    fs::remove_file(&file).unwrap();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    wait_for("a warning", || world.gateway.log().contains("telemetry can't be sent"));
    assert!(!world.gateway.log().contains("Bearer"));
    write_secret(&file, "Bearer third\n");
    wait_for("the third", || shown("Bearer third"));
}

#[test]
fn a_collector_with_tls_must_be_the_right_one() {
    let authority = Authority::new();
    let signed = authority.sign("localhost", |_| {});
    let good = Collector::start_with(Some(signed.server(None, &[], rustls::ALL_VERSIONS)));
    let folder = tempfile::tempdir().unwrap();
    let start = |ca: &Authority| {
        let file = folder.path().join("collector-ca.pem");
        fs::write(&file, ca.pem()).unwrap();
        let port = good.address.port();
        World::with(|config| {
            *config += &format!(
                "[telemetry.otlp]\nendpoint = \"https://localhost:{port}/\"\nca = {file:?}\n\
                 schedule_delay = \"10ms\"\n"
            );
        })
    };
    let trusting = start(&authority);
    wait_for("a record", || !good.logs().is_empty());
    drop(trusting);
    let before = good.logs().len();
    let other = start(&Authority::new());
    wait_for("a warning", || other.gateway.log().contains("telemetry can't be sent"));
    assert_eq!(good.logs().len(), before);
}
