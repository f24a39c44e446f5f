//! What attackers send: each row of the table is refused for its own reason and no other, counted,
//! and shown nowhere; and no mutation of a good token is one.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

#[path = "hostile/algorithms.rs"]
mod algorithms;
#[path = "hostile/claims.rs"]
mod claims;
#[path = "hostile/encodings.rs"]
mod encodings;
#[path = "hostile/forge.rs"]
mod forge;
#[path = "hostile/mutations.rs"]
mod mutations;
#[path = "hostile/parameters.rs"]
mod parameters;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/row.rs"]
mod row;
#[path = "hostile/signatures.rs"]
mod signatures;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use self::forge::{Forge, MARK};
use self::row::{Row, served};
use support::identity_provider::Endpoint;
use support::{BINARY, PATH, Reply, SAMPLE, World, exchange};

#[test]
fn each_attack_is_refused_for_its_reason_and_leaves_no_trace_of_its_token() {
    let forge = Forge::new();
    let mut world = world(&forge);
    world.gateway.wait_until_ready();
    world.provider.publish(json!({"keys": [forge.strangers_key()]}));
    let mut rows = controls(&world);
    rows.extend(algorithms::rows(&forge, &world.provider.jwks_url()));
    rows.extend(signatures::rows(&forge));
    rows.extend(encodings::rows(&forge));
    rows.extend(parameters::rows(&forge));
    rows.extend(claims::rows(&forge));
    rows.extend(requests::rows(&forge));
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two rows have one name");

    let mut shown = String::new();
    let mut wrong = Vec::new();
    let mut told = BTreeSet::new();
    for row in &rows {
        let (before, calls) = (refusals(&world), world.cms.calls());
        let reply = exchange(world.gateway.api, &row.request);
        let code = if reply.status == 200 { String::new() } else { reply.code() };
        let came = (reply.status, code.as_str(), more(&refusals(&world), &before));
        let reasons: BTreeMap<_, _> = row.reason.iter().map(|it| ((*it).to_owned(), 1)).collect();
        let called = world.cms.calls() - calls;
        if came != (row.status, row.code, reasons) || called != u64::from(row.status == 200) {
            wrong.push(format!("{}: {came:?}, {called} calls", row.name));
        }
        if code == "GW-2002" && row.reason.is_some_and(|reason| !is_of_the_sender(reason)) {
            told.insert(what_is_told(&reply));
        }
        shown += &format!("{:?}{}\n", reply.headers, reply.body);
    }
    assert!(wrong.is_empty(), "of {} rows:\n{}", rows.len(), wrong.join("\n"));
    assert_eq!(told.len(), 1, "the answer gives the reason away: {told:?}");
    // No token has made the gateway fetch a key.
    assert_eq!(world.provider.asked(Endpoint::Jwks), 0);
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);

    shown += &world.gateway.admin("/metrics").body;
    shown += &world.gateway.admin("/issuers").body;
    world.gateway.signal("-TERM");
    world.gateway.wait();
    let records = world.records();
    assert_eq!(on_record(&records), expected(&rows));
    let log = world.gateway.log();
    assert_eq!(in_log(&log), expected(&rows));
    shown += &log;
    shown += &records.iter().map(ToString::to_string).collect::<String>();
    assert_eq!(shown.matches(MARK).count(), 0, "a claim is shown");
    for row in &rows {
        for part in parts_of_tokens(row) {
            assert!(!shown.contains(part), "{}: its token is shown", row.name);
        }
    }
}

#[test]
fn two_authorization_headers_are_refused_over_http_2_too() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let good = format!("Bearer {}", world.supervisor());
    for (headers, status) in [
        (&[good.as_str()][..], 200),
        (&[&good, &good], 401),
        (&[&good, "Basic aG9zdGlsZQ=="], 401),
        (&["Basic aG9zdGlsZQ==", &good], 401),
    ] {
        let calls = world.cms.calls();
        let mut request = http::Request::put(format!("http://{}{PATH}", world.gateway.api))
            .header("content-type", "application/json");
        for value in headers {
            request = request.header("authorization", *value);
        }
        let request = request.body(Full::new(Bytes::from(SAMPLE))).unwrap();
        let answer = world.block_on(async {
            let stream = tokio::net::TcpStream::connect(world.gateway.api).await.unwrap();
            let (executor, io) = (TokioExecutor::new(), TokioIo::new(stream));
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.unwrap();
            tokio::spawn(connection);
            send.send_request(request).await.unwrap()
        });
        assert_eq!((answer.status().as_u16(), answer.version()), (status, http::Version::HTTP_2));
        assert_eq!(world.cms.calls() - calls, u64::from(status == 200));
    }
    assert_eq!(refusals(&world), BTreeMap::from([("two_headers".to_owned(), 3)]));
}

/// Of how a token was sent, an honest sender learns more.
fn is_of_the_sender(reason: &str) -> bool {
    reason.starts_with("binding_") || reason.starts_with("dpop_")
}

/// What an answer says beyond its code.
fn what_is_told(reply: &Reply) -> (String, Vec<String>) {
    let challenges = reply.headers.iter().filter(|(name, _)| name == "www-authenticate");
    let message = reply.json()["errorMessage"].as_str().unwrap().to_owned();
    (message, challenges.map(|(_, value)| value.clone()).collect())
}

fn world(forge: &Forge) -> World {
    let issuers = forge.issuers();
    World::with_command(
        |config| {
            // The sandbox's own issuer takes each algorithm that it has.
            let algorithms = "algorithms = [\"ES256\", \"RS256\", \"EdDSA\"]";
            *config = config.replace("algorithms = [\"ES256\", \"RS256\"]", algorithms);
            *config = config.replacen("[roles.", &format!("{issuers}[roles."), 1);
        },
        |config| {
            let mut command = Command::new(BINARY);
            // The more it says, the more it could give away.
            command.env("CMS_GATEWAY_LOG", "trace").args(["serve", "--config"]).arg(config);
            command
        },
    )
}

/// The sandbox's tokens are good, in each of its algorithms.
fn controls(world: &World) -> Vec<Row> {
    let claims = world.provider.claims("good-app", &["campaign-supervisor"]);
    let minted = [
        ("ES256", world.provider.mint(&claims)),
        ("RS256", world.provider.mint_rs256(&claims)),
        ("EdDSA", world.provider.mint_eddsa(&claims)),
    ];
    let rows = minted.into_iter().map(|(name, token)| {
        served(format!("the sandbox's {name}"), token.map_err(|it| it.to_string()).unwrap())
    });
    rows.collect()
}

/// How many tokens were refused, by reason.
fn refusals(world: &World) -> BTreeMap<String, u64> {
    let text = world.gateway.admin("/metrics").body;
    let lines = text.lines().filter_map(|line| {
        let line = line.strip_prefix("cms_gateway_token_refusals_total{reason=\"")?;
        let (reason, count) = line.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().unwrap()))
    });
    lines.collect()
}

fn more(after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let counts = after.iter().map(|(reason, count)| {
        (reason.clone(), count - before.get(reason).copied().unwrap_or_default())
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The refusals that the trail tells of, by reason.
fn on_record(records: &[serde_json::Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|it| it["event"]["name"] == "anonymous_refusals") {
        let reason = record["event"]["detail"].as_str().unwrap().to_owned();
        *counts.entry(reason).or_default() += record["event"]["count"].as_u64().unwrap();
    }
    counts
}

/// The same, of which the log tells.
fn in_log(log: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("requests without a principal")) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let reason = line["reason"].as_str().unwrap().to_owned();
        *counts.entry(reason).or_default() += line["count"].as_u64().unwrap();
    }
    counts
}

fn expected(rows: &[Row]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for reason in rows.iter().filter_map(|row| row.reason) {
        *counts.entry(reason.to_owned()).or_default() += 1;
    }
    counts
}

/// What of a request's head is so long that it can only be a part of a token.
fn parts_of_tokens(row: &Row) -> impl Iterator<Item = &str> {
    let head = row.request.split(|byte| *byte == b'{').next().unwrap_or_default();
    let words = head.split(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte));
    words.filter(|word| word.len() >= 24).map(|word| std::str::from_utf8(word).unwrap())
}
