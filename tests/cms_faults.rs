//! A CMS that misbehaves: what its caller is told, what goes on record, which metric moves, and
//! that the next good answer is relayed by the same gateway. Each row of the table is a test.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use support::cms::{ACCOUNT, ReferenceCms};
use support::faulty::{
    Act, FaultyCms, ServerAuthority, answer, error, good, good_of, head, html, json as cms_json,
    read_request,
};
use support::{Reply, SAMPLE, SAMPLE_ANSWER, World, records_in, wait_for};

/// The most that an answer of the CMS may have.
const LARGEST: usize = 1 << 20;
const JSON: &str = "content-type: application/json\r\n";

/// What the CMS does, and all that comes of it. What a row does not say is as in
/// [`Row::default`]: the one request is relayed, and nothing else happens.
struct Row {
    /// With the first requests; it answers well after them.
    cms: Vec<Act>,
    /// In the gateway's section of the CMS.
    config: &'static str,
    /// How many good requests go before.
    before: usize,
    /// What the client gets; the code is empty where its answer has none.
    client: (u16, &'static str),
    retry_after: Option<std::ops::RangeInclusive<u64>>,
    /// The outcome's `upstream.status`, `upstream.code` and `upstream.attempts`.
    upstream: (Option<u16>, Option<&'static str>, u32),
    /// The statuses of `upstream.tries`.
    tries: Vec<Option<u16>>,
    /// How `upstream.answer` begins.
    words: Option<&'static str>,
    /// An event of this name has the request's id.
    event: Option<&'static str>,
    /// Beside `requests_total`, these sums of metrics.
    metrics: &'static [(&'static str, f64)],
    /// How many whole requests the CMS got, those before included.
    requests: usize,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            cms: vec![],
            config: "",
            before: 0,
            client: (200, ""),
            retry_after: None,
            upstream: (Some(200), None, 1),
            tries: vec![Some(200)],
            words: None,
            event: None,
            metrics: &[
                ("upstream_contradictions_total", 0.0),
                ("credential_refusals_total", 0.0),
                ("upstream_retries_total", 0.0),
                ("credential_refused", 0.0),
            ],
            requests: 1,
        }
    }
}

/// Each row as a test of its name.
macro_rules! table {
    ($($(#[$about:meta])* $name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        $($(#[$about])* #[test]
        fn $name() {
            Row { $($field: $value,)* ..Row::default() }.holds();
        })*
    };
}

const SOON: &str = "head_timeout = \"1s\"\nresponse_timeout = \"10m\"\n";
const WHOLE_SOON: &str = "head_timeout = \"10m\"\nresponse_timeout = \"1s\"\n";
const TWICE: &str = "retry = { idempotent = true, budget = 100 }\n";
const STALE: &[(&str, f64)] =
    &[("upstream_retries_total", 1.0), ("upstream_retries_total{reason=\"stale\"}", 1.0)];
const RESET: &[(&str, f64)] =
    &[("upstream_retries_total", 1.0), ("upstream_retries_total{reason=\"reset\"}", 1.0)];
const ANSWER: &[(&str, f64)] =
    &[("upstream_retries_total", 1.0), ("upstream_retries_total{reason=\"answer\"}", 1.0)];

table! {
    // It says nothing, or stops.
    says_nothing {
        cms: vec![Act::Hold(vec![])], config: SOON, client: (504, "GW-5003"),
        upstream: (None, Some("GW-5003"), 1), tries: vec![None],
    }
    hangs_after_the_head {
        cms: vec![Act::Hold(format!("{}content-length: 10\r\n\r\n", head(200, JSON)).into())],
        config: WHOLE_SOON, client: (504, "GW-5003"),
        upstream: (Some(200), Some("GW-5003"), 1), tries: vec![Some(200)],
    }
    hangs_in_the_body {
        cms: vec![Act::Hold(unfinished(good(), 1))], config: WHOLE_SOON, client: (504, "GW-5003"),
        upstream: (Some(200), Some("GW-5003"), 1), tries: vec![Some(200)],
    }
    says_100_and_then_nothing {
        cms: vec![Act::Hold(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())], config: SOON,
        client: (504, "GW-5003"), upstream: (None, Some("GW-5003"), 1), tries: vec![None],
    }
    says_100_and_then_answers {
        cms: vec![Act::Say([b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), good()].concat())],
    }
    /// The peer is gone, and no packet says so.
    goes_silent_on_a_connection_that_was_good {
        cms: vec![Act::Say(good()), Act::Hold(vec![])], before: 1, config: SOON,
        client: (504, "GW-5003"), upstream: (None, Some("GW-5003"), 1), tries: vec![None],
        requests: 2,
    }
    /// It has said that nothing will come, so nobody waits for it.
    half_closes_the_connection_before_its_answer {
        cms: vec![Act::Half(vec![])], client: (502, "GW-5004"),
        upstream: (None, Some("GW-5004"), 1), tries: vec![None],
    }
    half_closes_the_connection_after_its_answer { cms: vec![Act::Half(good())] }

    // It breaks off.
    closes_without_an_answer {
        cms: vec![Act::Close(vec![])], client: (502, "GW-5004"),
        upstream: (None, Some("GW-5004"), 1), tries: vec![None],
    }
    resets_after_it_has_read_the_request {
        cms: vec![Act::Reset], client: (502, "GW-5004"),
        upstream: (None, Some("GW-5004"), 1), tries: vec![None],
    }
    closes_in_the_middle_of_the_head {
        cms: vec![Act::Close(b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec())], client: (502, "GW-5004"),
        upstream: (None, Some("GW-5004"), 1), tries: vec![None],
    }
    closes_in_the_middle_of_the_body {
        cms: vec![Act::Close(unfinished(good(), SAMPLE_ANSWER.len() / 2))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
    }
    promises_one_byte_too_many {
        cms: vec![Act::Close(unfinished(cms_json(200, &format!("{SAMPLE_ANSWER} ")), 1))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
    }
    promises_one_byte_too_few {
        cms: vec![Act::Say(promising(SAMPLE_ANSWER.len() - 1))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1),
    }
    /// The next request must not get what stands behind this answer.
    says_another_answer_behind_its_own {
        cms: vec![Act::Say([good(), error(500, "CONF-6666", "")].concat())],
    }
    breaks_off_between_two_chunks {
        cms: vec![Act::Close(chunked(&format!("{:x}\r\n{SAMPLE_ANSWER}\r\n", SAMPLE_ANSWER.len())))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
    }

    // It says what is no answer.
    is_no_http {
        cms: vec![Act::Close(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())], client: (502, "GW-5004"),
        upstream: (None, Some("GW-5004"), 1), tries: vec![None],
    }
    says_chunks_that_are_none {
        cms: vec![Act::Close(chunked("xyz\r\n{}\r\n0\r\n\r\n"))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1),
    }
    says_chunks_of_an_absurd_size {
        cms: vec![Act::Close(chunked("ffffffffffffffffff\r\n{}\r\n"))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1),
    }
    says_two_lengths {
        cms: vec![Act::Close(answer(200, &format!("{JSON}content-length: 1\r\n"), "{}"))],
        client: (502, "GW-5004"), upstream: (None, Some("GW-5004"), 1), tries: vec![None],
    }
    says_exactly_1_mib { cms: vec![Act::Say(good_of(LARGEST))] }
    says_1_mib_and_one_byte {
        cms: vec![Act::Say(good_of(LARGEST + 1))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1),
    }
    /// Without a promise of its length, which could be refused by itself.
    says_1_mib_and_one_byte_until_it_closes {
        cms: vec![Act::Close(format!(
            "{}connection: close\r\n\r\n{SAMPLE_ANSWER}{}", head(200, JSON),
            " ".repeat(LARGEST + 1 - SAMPLE_ANSWER.len()),
        ).into())],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
    }
    says_200_with_a_page {
        cms: vec![Act::Say(html(200))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1),
        words: Some("<html>"),
    }
    says_200_with_good_json_of_another_type {
        cms: vec![Act::Say(answer(200, "content-type: text/json\r\n", SAMPLE_ANSWER))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
    }
    says_200_with_half_a_json {
        cms: vec![Act::Say(cms_json(200, "{\"leadId\":2,"))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1),
        words: Some("{\"leadId\":2,"),
    }
    says_200_with_json_of_another_shape {
        cms: vec![Act::Say(cms_json(200, "{\"leadId\":2,\"campaignId\":1}"))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
    }
    says_204 {
        cms: vec![Act::Say(format!("{}\r\n", head(204, "")).into())],
        client: (204, ""), upstream: (Some(204), None, 1), tries: vec![Some(204)],
    }
    says_302 {
        cms: vec![Act::Say(answer(302, "location: /login\r\n", ""))], client: (502, "GW-5004"),
        upstream: (Some(302), Some("GW-5004"), 1), tries: vec![Some(302)],
    }

    // It says that it has done something else.
    says_200_for_another_lead {
        cms: vec![Act::Say(cms_json(200, OTHER_LEAD))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1), words: Some(OTHER_LEAD),
        event: Some("answer_contradicts"), metrics: &[("upstream_contradictions_total", 1.0)],
    }
    says_200_for_another_campaign {
        cms: vec![Act::Say(cms_json(200, OTHER_CAMPAIGN))], client: (502, "GW-5004"),
        upstream: (Some(200), Some("GW-5004"), 1), words: Some(OTHER_CAMPAIGN),
        event: Some("answer_contradicts"), metrics: &[("upstream_contradictions_total", 1.0)],
    }
    says_200_for_a_lead_that_there_can_not_be {
        cms: vec![Act::Say(cms_json(200, &OTHER_LEAD.replace(":3,", ":3000000000,")))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1), words: Some("{"),
        event: Some("answer_contradicts"), metrics: &[("upstream_contradictions_total", 1.0)],
    }
    says_200_for_another_lead_and_not_all_in_utf_8 {
        cms: vec![Act::Say(not_utf_8(cms_json(200, &OTHER_LEAD.replace('{', "{\"note\":\"é\","))))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1), words: Some("{"),
        event: Some("answer_contradicts"), metrics: &[("upstream_contradictions_total", 1.0)],
    }
    says_200_for_another_lead_and_nothing_else {
        cms: vec![Act::Say(cms_json(200, r#"{"leadId":3}"#))],
        client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1), words: Some("{"),
        event: Some("answer_contradicts"), metrics: &[("upstream_contradictions_total", 1.0)],
    }
    /// It is not tried again, which could do more harm.
    says_much_of_another_lead {
        cms: vec![Act::Say(cms_json(200, &format!("{OTHER_LEAD}{}", " ".repeat(9000))))],
        config: TWICE, client: (502, "GW-5004"), upstream: (Some(200), Some("GW-5004"), 1),
        words: Some(OTHER_LEAD), event: Some("answer_contradicts"),
        metrics: &[("upstream_contradictions_total", 1.0), ("upstream_retries_total", 0.0)],
    }

    // It refuses.
    /// The account may not: the password is right, so there is nothing to guess.
    says_403 {
        cms: vec![Act::Say(error(403, "CONF-1004", ""))], client: (502, "GW-5001"),
        upstream: (Some(403), Some("GW-5001"), 1), tries: vec![Some(403)],
        metrics: &[("credential_forbidden_total", 1.0), ("credential_refusals_total", 0.0)],
    }
    says_429 {
        cms: vec![Act::Say(error(429, "CONF-4290", "retry-after: 7\r\n"))],
        client: (503, "GW-5005"), retry_after: Some(7..=7),
        upstream: (Some(429), Some("GW-5005"), 1), tries: vec![Some(429)],
    }
    says_429_without_a_time {
        cms: vec![Act::Say(html(429))], client: (503, "GW-5005"), retry_after: Some(1..=1),
        upstream: (Some(429), Some("GW-5005"), 1), tries: vec![Some(429)],
    }
    says_503_with_seconds {
        cms: vec![Act::Say(busy("30"))], client: (503, "GW-5005"), retry_after: Some(30..=30),
        upstream: (Some(503), Some("GW-5005"), 1), tries: vec![Some(503)],
    }
    says_503_with_a_date {
        cms: vec![Act::Say(busy(&date(30)))], client: (503, "GW-5005"), retry_after: Some(1..=30),
        upstream: (Some(503), Some("GW-5005"), 1), tries: vec![Some(503)],
    }
    says_503_with_a_date_long_past {
        cms: vec![Act::Say(busy("Sun, 06 Nov 1994 08:49:37 GMT"))], client: (503, "GW-5005"),
        retry_after: Some(1..=1), upstream: (Some(503), Some("GW-5005"), 1),
        tries: vec![Some(503)],
    }
    says_503_with_a_date_far_away {
        cms: vec![Act::Say(busy(&date(7200)))], client: (503, "GW-5005"),
        retry_after: Some(60..=60), upstream: (Some(503), Some("GW-5005"), 1),
        tries: vec![Some(503)],
    }
    says_503_with_no_second_at_all {
        cms: vec![Act::Say(busy("0"))], client: (503, "GW-5005"), retry_after: Some(1..=1),
        upstream: (Some(503), Some("GW-5005"), 1), tries: vec![Some(503)],
    }
    says_503_with_many_seconds {
        cms: vec![Act::Say(busy("99999999999999999999"))], client: (503, "GW-5005"),
        retry_after: Some(1..=60), upstream: (Some(503), Some("GW-5005"), 1),
        tries: vec![Some(503)],
    }
    says_503_with_a_time_that_is_none {
        cms: vec![Act::Say(busy("later\u{ff}"))], client: (503, "GW-5005"),
        retry_after: Some(1..=1), upstream: (Some(503), Some("GW-5005"), 1),
        tries: vec![Some(503)],
    }

    // It fails.
    says_500_in_its_own_shape {
        cms: vec![Act::Say(error(500, "CONF-5000", ""))], client: (500, "CONF-5000"),
        upstream: (Some(500), Some("CONF-5000"), 1), tries: vec![Some(500)],
    }
    says_500_with_a_page {
        cms: vec![Act::Say(html(500))], client: (502, "GW-5004"),
        upstream: (Some(500), Some("GW-5004"), 1), tries: vec![Some(500)],
        words: Some("<html>"),
    }
    says_502_with_a_page {
        cms: vec![Act::Say(html(502))], client: (502, "GW-5004"),
        upstream: (Some(502), Some("GW-5004"), 1), tries: vec![Some(502)],
    }
    says_504_with_a_page {
        cms: vec![Act::Say(html(504))], client: (502, "GW-5004"),
        upstream: (Some(504), Some("GW-5004"), 1), tries: vec![Some(504)],
    }

    // It is sent the change once more.
    closes_an_idle_connection_as_the_next_request_arrives {
        cms: vec![Act::Say(good()), Act::Close(vec![])], before: 1,
        upstream: (Some(200), None, 2), tries: vec![None, Some(200)], metrics: STALE,
        requests: 3,
    }
    resets_an_idle_connection_as_the_next_request_arrives {
        cms: vec![Act::Say(good()), Act::Reset], before: 1,
        upstream: (Some(200), None, 2), tries: vec![None, Some(200)], metrics: STALE,
        requests: 3,
    }
    /// The second connection was fresh, so what became of the change is not known.
    closes_an_idle_connection_and_the_next_one {
        cms: vec![Act::Say(good()), Act::Close(vec![]), Act::Close(vec![])], before: 1,
        client: (502, "GW-5004"), upstream: (None, Some("GW-5004"), 2), tries: vec![None, None],
        metrics: STALE, requests: 3,
    }
    says_502_once_to_an_idempotent_change {
        cms: vec![Act::Say(html(502))], config: TWICE, upstream: (Some(200), None, 2),
        tries: vec![Some(502), Some(200)], metrics: ANSWER, requests: 2,
    }
    says_503_once_to_an_idempotent_change {
        cms: vec![Act::Say(busy("1"))], config: TWICE, upstream: (Some(200), None, 2),
        tries: vec![Some(503), Some(200)], metrics: ANSWER, requests: 2,
    }
    says_504_once_to_an_idempotent_change {
        cms: vec![Act::Say(html(504))], config: TWICE, upstream: (Some(200), None, 2),
        tries: vec![Some(504), Some(200)], metrics: ANSWER, requests: 2,
    }
    resets_once_an_idempotent_change {
        cms: vec![Act::Reset], config: TWICE, upstream: (Some(200), None, 2),
        tries: vec![None, Some(200)], metrics: RESET, requests: 2,
    }
    says_502_twice_to_an_idempotent_change {
        cms: vec![Act::Say(html(502)), Act::Say(html(502))], config: TWICE,
        client: (502, "GW-5004"), upstream: (Some(502), Some("GW-5004"), 2),
        tries: vec![Some(502), Some(502)], metrics: ANSWER, requests: 2,
    }
    /// The first one may have been made all the same.
    resets_an_idempotent_change_and_then_says_503 {
        cms: vec![Act::Reset, Act::Say(busy("7"))], config: TWICE,
        client: (502, "GW-5004"), upstream: (Some(503), Some("GW-5004"), 2),
        tries: vec![None, Some(503)], metrics: RESET, requests: 2,
    }
    /// The account is what must be mended, however it came to light.
    resets_an_idempotent_change_and_then_says_403 {
        cms: vec![Act::Reset, Act::Say(error(403, "CONF-1004", ""))], config: TWICE,
        client: (502, "GW-5001"), upstream: (Some(403), Some("GW-5001"), 2),
        tries: vec![None, Some(403)], requests: 2,
        metrics: &[("upstream_retries_total", 1.0), ("credential_forbidden_total", 1.0)],
    }
    /// What was understood is not asked for again.
    says_500_once_to_an_idempotent_change {
        cms: vec![Act::Say(error(500, "CONF-5000", ""))], config: TWICE,
        client: (500, "CONF-5000"), upstream: (Some(500), Some("CONF-5000"), 1),
        tries: vec![Some(500)],
    }
}

const OTHER_LEAD: &str = r#"{"campaignLeadId":2,"assignedCampaignUserIds":[],"unassignedCampaignUserIds":[],"leadId":3,"campaignId":1,"assignedUserIds":[],"unassignedUserIds":[]}"#;
const OTHER_CAMPAIGN: &str = r#"{"campaignLeadId":2,"assignedCampaignUserIds":[],"unassignedCampaignUserIds":[],"leadId":2,"campaignId":7,"assignedUserIds":[],"unassignedUserIds":[]}"#;

/// An answer in which each é is no text.
fn not_utf_8(mut answer: Vec<u8>) -> Vec<u8> {
    answer.iter_mut().filter(|byte| **byte == 0xc3).for_each(|byte| *byte = b'x');
    answer
}

/// An answer without its last bytes.
fn unfinished(mut answer: Vec<u8>, bytes: usize) -> Vec<u8> {
    answer.truncate(answer.len() - bytes);
    answer
}

/// The good answer under this length.
fn promising(length: usize) -> Vec<u8> {
    format!("{}content-length: {length}\r\n\r\n{SAMPLE_ANSWER}", head(200, JSON)).into()
}

fn chunked(body: &str) -> Vec<u8> {
    format!("{}transfer-encoding: chunked\r\n\r\n{body}", head(200, JSON)).into()
}

fn busy(retry_after: &str) -> Vec<u8> {
    answer(503, &format!("content-type: text/html\r\nretry-after: {retry_after}\r\n"), "busy")
}

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

impl Row {
    fn holds(self) {
        let cms = FaultyCms::start(self.cms.clone());
        let world = cms.world(self.config);
        let token = world.supervisor();
        for _ in 0..self.before {
            assert_eq!(world.put(&token, SAMPLE).status, 200);
        }
        let reply = world.put(&token, SAMPLE);
        self.assert_told(&reply);
        assert_eq!(cms.requests(), self.requests, "requests at the CMS");
        self.assert_counted(&world);
        self.assert_on_record(&world, &cms, &reply);
        let next = world.put(&token, SAMPLE);
        assert_eq!((next.status, next.body.as_str()), (200, SAMPLE_ANSWER), "the next one");
    }

    fn assert_told(&self, reply: &Reply) {
        let (status, code) = self.client;
        assert_eq!(reply.status, status, "{reply:?}");
        match status {
            200 => assert_eq!(reply.body.trim_end(), SAMPLE_ANSWER),
            204 => assert_eq!(reply.body, ""),
            _ => assert_eq!(reply.code(), code, "{reply:?}"),
        }
        assert_eq!(reply.header("www-authenticate"), None);
        let told = reply.header("retry-after").map(|value| value.parse::<u64>().unwrap());
        let is_as_it_should = match &self.retry_after {
            None => told.is_none(),
            Some(range) => told.is_some_and(|told| range.contains(&told)),
        };
        assert!(is_as_it_should, "Retry-After: {told:?} and not {:?}", self.retry_after);
    }

    fn assert_counted(&self, world: &World) {
        let status = self.client.0;
        let labels = format!("{{decision=\"allow\",operation=\"lead-users\",status=\"{status}\"}}");
        let answered = world.gateway.metric(&format!("cms_gateway_requests_total{labels}"));
        let good = if status == 200 { self.before } else { 0 };
        assert_eq!(answered, Some((good + 1) as f64), "{labels}");
        for (name, expected) in self.metrics {
            assert_eq!(sum(world, name), *expected, "{name}");
        }
    }

    fn assert_on_record(&self, world: &World, cms: &FaultyCms, reply: &Reply) {
        let outcome = outcome(world, reply);
        let upstream = &outcome["upstream"];
        let (status, code, attempts) = self.upstream;
        assert_eq!(
            (&upstream["status"], &upstream["code"], &upstream["attempts"]),
            (&json!(status), &json!(code), &json!(attempts)),
            "{outcome}"
        );
        assert!(upstream["duration_us"].as_u64().is_some_and(|micros| micros > 0), "{outcome}");
        let events = events(world, "answer_contradicts");
        let about: Vec<_> = events.iter().map(|event| &event["request_id"]).collect();
        match self.event {
            None => assert_eq!(events, Vec::<Value>::new()),
            Some(_) => assert_eq!(about, [&outcome["request_id"]]),
        }
        match self.words {
            // What can't be understood is kept too, as far as it came.
            None if self.client.1 == "GW-5004" => {}
            None => assert_eq!(upstream["answer"], Value::Null, "{outcome}"),
            Some(words) => {
                let kept = upstream["answer"].as_str().unwrap();
                assert!(kept.starts_with(words) && kept.len() <= 1024, "{kept}");
            }
        }
        assert_eq!(statuses(upstream), self.tries, "{outcome}");
        for one in tries(upstream) {
            assert_eq!(one["server"], json!(cms.url()), "{one}");
        }
    }
}

/// The sum of a metric over its labels.
fn sum(world: &World, name: &str) -> f64 {
    let text = world.gateway.admin("/metrics").body;
    let own = text.lines().filter_map(|line| line.strip_prefix("cms_gateway_")?.strip_prefix(name));
    let values = own.filter(|rest| rest.starts_with(['{', ' ']));
    values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The last record of the request that this answers.
fn outcome(world: &World, reply: &Reply) -> Value {
    let id = reply.header("x-request-id").unwrap();
    let records = world.records();
    let own = records.into_iter().rfind(|record| record["request_id"] == id).unwrap();
    assert_eq!(own["kind"], "outcome");
    own
}

fn events(world: &World, name: &str) -> Vec<Value> {
    let records = records_in(&world.folder.path().join("audit")).into_iter();
    records.filter(|record| record["event"]["name"] == name).collect()
}

/// `upstream.tries`, each of the shape that it must have.
fn tries(upstream: &Value) -> Vec<Value> {
    let tries = upstream["tries"].as_array().unwrap_or_else(|| panic!("no tries: {upstream}"));
    assert!(tries.len() <= 8, "{upstream}");
    for one in tries {
        let names: Vec<&String> = one.as_object().unwrap().keys().collect();
        assert_eq!(names, ["server", "status", "error", "duration_us"], "{one}");
        assert!(one["duration_us"].is_u64(), "{one}");
        let has_words = one["error"].as_str().is_some_and(|error| !error.is_empty());
        assert!(one["status"].is_u64() || has_words, "{one}");
    }
    tries.clone()
}

fn statuses(upstream: &Value) -> Vec<Option<u16>> {
    let status = |one: &Value| one["status"].as_u64().map(|status| status as u16);
    tries(upstream).iter().map(status).collect()
}

#[test]
fn repeats_the_password_in_the_escapes_of_json() {
    let encoded = STANDARD.encode(format!("{}:{}", ACCOUNT.0, ACCOUNT.1));
    let (first, rest) = encoded.split_at(1);
    let escaped = format!("\\u{:04x}{rest}", first.as_bytes()[0]);
    let said = String::from_utf8(error(500, "CONF-5000", "")).unwrap();
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    let body = body.replace("something", &escaped);
    let cms = FaultyCms::start([Act::Say(cms_json(500, &body))]);
    let world = cms.world("");
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5004"), "{reply:?}");
    assert!(!reply.body.contains(rest), "{reply:?}");
    let outcome = outcome(&world, &reply);
    assert!(!outcome.to_string().contains(rest), "{outcome}");
    assert!(outcome["upstream"]["answer"].as_str().unwrap().contains("withheld"), "{outcome}");
    assert_next_is_good(&world);
}

// === no connection ===

/// Nothing was sent: this is so for all of a request's tries, and the next request is good.
fn assert_not_sent(world: &World, cms: &FaultyCms, reply: &Reply, reason: &[&str]) {
    assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5002"), "{reply:?}");
    assert_eq!(cms.requests(), 0);
    let outcome = outcome(world, reply);
    let upstream = &outcome["upstream"];
    assert_eq!(
        (&upstream["status"], &upstream["code"], &upstream["attempts"]),
        (&Value::Null, &json!("GW-5002"), &json!(0)),
        "{outcome}"
    );
    let tries = tries(upstream);
    assert!(!tries.is_empty(), "{outcome}");
    for one in &tries {
        assert_eq!((&one["server"], &one["status"]), (&json!(cms.url()), &Value::Null), "{one}");
        let error = one["error"].as_str().unwrap().to_lowercase();
        assert!(reason.iter().any(|reason| error.contains(reason)), "{one}");
    }
    let labels = "{decision=\"allow\",operation=\"lead-users\",status=\"502\"}";
    let answered = world.gateway.metric(&format!("cms_gateway_requests_total{labels}"));
    assert_eq!(answered, Some(1.0));
}

fn assert_next_is_good(world: &World) {
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, reply.body.as_str()), (200, SAMPLE_ANSWER), "{reply:?}");
}

#[test]
fn refuses_the_connection() {
    let mut cms = FaultyCms::refusing();
    let world = cms.world("connect_timeout = \"300ms\"\n");
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_not_sent(&world, &cms, &reply, &["refused"]);
    let outcome = outcome(&world, &reply);
    assert!(tries(&outcome["upstream"]).len() >= 2, "once only: {outcome}");
    cms.listen();
    assert_next_is_good(&world);
}

#[test]
fn refuses_the_connection_for_a_while() {
    let mut cms = FaultyCms::refusing();
    let world = cms.world("connect_timeout = \"20s\"\n");
    let token = world.supervisor();
    let reply = std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.put(&token, SAMPLE));
        wait_for("the request", || world.gateway.metric("cms_gateway_in_flight") == Some(1.0));
        wait_for("the intent", || !world.records().is_empty());
        cms.listen();
        asked.join().unwrap()
    });
    assert_eq!(reply.status, 200, "{reply:?}");
    let outcome = outcome(&world, &reply);
    assert_eq!(outcome["upstream"]["attempts"], 1, "{outcome}");
    assert_eq!(statuses(&outcome["upstream"]).last(), Some(&Some(200)), "{outcome}");
}

#[test]
fn refuses_the_connection_for_long_and_fails_once_when_it_is_back() {
    let mut cms = FaultyCms::refusing();
    cms.script([Act::Say(html(502))]);
    let world =
        cms.world(&format!("connect_timeout = \"20s\"\nresponse_timeout = \"20s\"\n{TWICE}"));
    let token = world.supervisor();
    let reply = std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.put(&token, SAMPLE));
        // For more tries than a record has room for.
        std::thread::sleep(Duration::from_secs(3));
        cms.listen();
        asked.join().unwrap()
    });
    assert_eq!(reply.status, 200, "{reply:?}");
    let outcome = outcome(&world, &reply);
    assert_eq!(outcome["upstream"]["attempts"], 2, "{outcome}");
    let statuses = statuses(&outcome["upstream"]);
    assert_eq!(statuses.len(), 8, "{outcome}");
    assert!(statuses.ends_with(&[None, Some(502), Some(200)]), "{outcome}");
}

/// A gateway before a CMS with this certificate, and another one that is good.
fn with_certificate(
    identity: impl FnOnce(&ServerAuthority) -> support::faulty::ServerIdentity,
    reason: &[&str],
) {
    let authority = ServerAuthority::generate();
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let cms = FaultyCms::start_with(&identity(&authority));
    let world = cms.world(&format!("ca = {ca:?}\n"));
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_not_sent(&world, &cms, &reply, reason);
    assert!(cms.connections() >= 1);
    cms.present(&authority.identity("127.0.0.1"));
    assert_next_is_good(&world);
}

#[test]
fn has_an_expired_certificate() {
    with_certificate(|authority| authority.expired("127.0.0.1"), &["expired"]);
}

#[test]
fn has_a_certificate_of_another_name() {
    with_certificate(|authority| authority.identity("cms.example.com"), &["name"]);
}

#[test]
fn has_a_certificate_of_somebody_else() {
    let stranger = ServerAuthority::generate();
    with_certificate(|_| stranger.identity("127.0.0.1"), &["not trusted"]);
}

// === gone after it was sent something ===

const OPEN: (u16, &str, &str) = (502, "GW-5004", "may have been made");

/// A CMS that answers so many requests well, says this to the next one, and is gone.
fn going_away(good_ones: usize, last: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..good_ones {
            read_request(&mut stream).unwrap();
            stream.write_all(&good()).unwrap();
        }
        read_request(&mut stream).unwrap();
        drop(listener);
        // The port stays its own, so that no other test's server is met there.
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind(address).unwrap();
        stream.write_all(&last).unwrap();
        std::mem::forget(held);
    });
    address
}

/// That it can't be sent again says nothing of what the first one did.
fn assert_left_open(
    cms: SocketAddr,
    before: usize,
    config: &str,
    status: Option<u16>,
    told: (u16, &str, &str),
) {
    let world = World::with(|all| {
        let (head, _) = all.split_once("url = \"").unwrap();
        *all = format!("{head}url = \"http://{cms}\"\nconnect_timeout = \"300ms\"\n{config}");
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    for _ in 0..before {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
    let reply = world.put(&token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (told.0, told.1), "{reply:?}");
    assert!(reply.body.contains(told.2), "{reply:?}");
    let outcome = outcome(&world, &reply);
    let upstream = &outcome["upstream"];
    assert_eq!(
        (&upstream["status"], &upstream["code"], &upstream["attempts"]),
        (&json!(status), &json!(told.1), &json!(1)),
        "{outcome}"
    );
    // The one that was sent is there, however many could not be.
    let tries = tries(upstream);
    assert_eq!(tries[0]["status"], json!(status), "{outcome}");
    assert!(tries.last().unwrap()["error"].as_str().unwrap().contains("refused"), "{outcome}");
}

#[test]
fn is_gone_after_it_closed_a_connection_that_was_good() {
    assert_left_open(going_away(1, vec![]), 1, "", None, OPEN);
}

#[test]
fn is_gone_after_an_idempotent_change_had_a_502() {
    let last = answer(502, "connection: close\r\n", "");
    assert_left_open(going_away(0, last), 0, TWICE, Some(502), OPEN);
}

#[test]
fn is_gone_after_an_idempotent_change_had_a_503() {
    let last = answer(503, "connection: close\r\n", "");
    let told = (503, "GW-5005", "the CMS answered 503");
    assert_left_open(going_away(0, last), 0, TWICE, Some(503), told);
}

// === its 401 ===

/// The store has no other credential, and is not asked again by itself.
fn without_another_credential(cms: &FaultyCms) -> World {
    cms.world_with("", |config| {
        *config = config.replace("source = \"file\"", "source = \"file\"\nrefresh = \"1h\"");
    })
}

#[test]
fn says_401_once() {
    let cms = FaultyCms::start([Act::Say(error(401, "CONF-1003", ""))]);
    let world = without_another_credential(&cms);
    let token = world.supervisor();
    let start = Instant::now();
    let refused = world.put(&token, SAMPLE);
    assert_eq!((refused.status, refused.code().as_str()), (502, "GW-5001"), "{refused:?}");
    assert_eq!(refused.header("www-authenticate"), None);
    let first = outcome(&world, &refused);
    assert_eq!(
        (&first["upstream"]["status"], &first["upstream"]["code"], &first["upstream"]["attempts"]),
        (&json!(401), &json!("GW-5001"), &json!(1)),
        "{first}"
    );
    let second = world.put(&token, SAMPLE);
    let is_refused_now = world.gateway.metric("cms_gateway_credential_refused");
    // On a machine that is too slow for this, it may have been tried again by now.
    if start.elapsed() < Duration::from_secs(1) {
        assert_eq!((second.status, second.code().as_str()), (502, "GW-5001"), "{second:?}");
        assert_eq!(is_refused_now, Some(1.0));
        assert_eq!(cms.requests(), 1, "the CMS heard of it");
        let outcome = outcome(&world, &second);
        assert_eq!(
            (&outcome["upstream"]["status"], &outcome["upstream"]["attempts"]),
            (&Value::Null, &json!(0)),
            "{outcome}"
        );
    }
    wait_for("the next try", || world.put(&token, SAMPLE).status == 200);
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(0.0));
    assert_eq!(cms.requests(), 2, "401, and the try that was good");
    assert_eq!(events(&world, "credential_refused").len(), 1);
    assert_eq!(events(&world, "credential_accepted").len(), 1);
    assert_next_is_good(&world);
    assert_eq!(statuses(&first["upstream"]), [Some(401)]);
    assert_eq!(sum(&world, "credential_refusals_total"), 1.0);
    assert_eq!(sum(&world, "credential_probes_total"), 1.0);
}

#[test]
fn says_401_for_ever() {
    let cms = FaultyCms::start([]);
    let world = without_another_credential(&cms);
    cms.always(Some(Act::Say(error(401, "CONF-1003", ""))));
    let token = world.supervisor();
    let start = Instant::now();
    for tries in 1..=2 {
        wait_for("a try", || {
            let reply = world.put(&token, SAMPLE);
            assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5001"), "{reply:?}");
            cms.requests() == tries
        });
        assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(1.0));
    }
    assert!(start.elapsed() >= Duration::from_millis(700), "two guesses at once");
    cms.always(None);
    wait_for("the end of it", || world.put(&token, SAMPLE).status == 200);
    assert_eq!(cms.requests(), 3, "two refusals, and the try that was good");
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(0.0));
    assert_eq!(events(&world, "credential_refused").len(), 1);
    let of_401 = |record: &&Value| record["upstream"]["status"] == 401;
    let own = outcomes(&world);
    assert_eq!(own.iter().filter(of_401).count(), 2, "one record of each guess");
    for outcome in own.iter().filter(|outcome| outcome["upstream"]["status"] != 200) {
        let upstream = &outcome["upstream"];
        let attempts = u32::from(upstream["status"] == 401);
        assert_eq!(
            (&upstream["code"], &upstream["attempts"]),
            (&json!("GW-5001"), &json!(attempts)),
            "{outcome}"
        );
    }
    assert_next_is_good(&world);
    assert_eq!(sum(&world, "credential_refusals_total"), 2.0);
    assert_eq!(sum(&world, "credential_probes_total"), 2.0);
}

#[test]
fn says_401_whose_body_is_broken() {
    let error = |length: usize| answer(401, JSON, &" ".repeat(length));
    for act in [
        Act::Close(unfinished(error(10), 1)),
        Act::Close(error(LARGEST + 1)),
        Act::Hold(unfinished(error(10), 1)),
        Act::Close(answer(401, "transfer-encoding: chunked\r\n", "xyz\r\n")),
    ] {
        let cms = FaultyCms::start([]);
        let world = cms.world_with(&format!("{WHOLE_SOON}{TWICE}"), |config| {
            *config = config.replace("source = \"file\"", "source = \"file\"\nrefresh = \"1h\"");
        });
        cms.always(Some(act));
        let token = world.supervisor();
        for _ in 0..10 {
            let reply = world.put(&token, SAMPLE);
            assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5001"), "{reply:?}");
        }
        let probes = sum(&world, "credential_probes_total");
        assert_eq!(cms.requests() as f64 - probes, 1.0, "{probes} probes");
        assert_eq!(sum(&world, "credential_refused"), 1.0);
    }
}

// === a restart ===

/// How many callers ask without pause.
const CALLERS: usize = 8;
/// For how long the CMS is away.
const AWAY: Duration = Duration::from_millis(700);

/// What the callers were told while the CMS was restarted: replies, and how often `200`.
fn restarted_under_load(more: &str) -> (World, Vec<Reply>) {
    let mut runtime = tokio::runtime::Runtime::new().unwrap();
    let start = |runtime: &tokio::runtime::Runtime, address: &str| {
        let _inside = runtime.enter();
        let mut listener = None;
        wait_for("the port", || {
            listener = runtime.block_on(tokio::net::TcpListener::bind(address)).ok();
            listener.is_some()
        });
        ReferenceCms::start(listener.unwrap()).unwrap()
    };
    let cms = start(&runtime, "127.0.0.1:0");
    let url = cms.url();
    let world = World::with(|config| {
        let (before, _) = config.split_once("url = \"").unwrap();
        *config = format!("{before}url = \"{url}\"\nconnect_timeout = \"10s\"\n{more}");
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let answered = std::sync::atomic::AtomicUsize::new(0);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let replies = std::thread::scope(|scope| {
        let ask = || {
            let mut replies = Vec::new();
            while !is_over.load(relaxed) {
                replies.push(world.put(&token, SAMPLE));
                answered.fetch_add(1, relaxed);
            }
            replies
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(ask)).collect();
        let wait_for_more = |what| {
            let before = answered.load(relaxed);
            wait_for(what, || answered.load(relaxed) >= before + 10 * CALLERS);
        };
        wait_for_more("the load");
        std::mem::replace(&mut runtime, tokio::runtime::Runtime::new().unwrap())
            .shutdown_background();
        std::thread::sleep(AWAY);
        let again = start(&runtime, url.strip_prefix("http://").unwrap());
        wait_for("the CMS", || again.calls() > 0);
        wait_for_more("the load after the restart");
        is_over.store(true, relaxed);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    (world, replies)
}

/// The longest that a change took shows that the restart was met.
fn assert_met(outcomes: &[Value]) {
    let longest = outcomes.iter().filter_map(|it| it["upstream"]["duration_us"].as_u64()).max();
    assert!(longest.unwrap() >= AWAY.as_micros() as u64 / 2, "nobody noticed the restart");
}

fn outcomes(world: &World) -> Vec<Value> {
    world.records().into_iter().filter(|record| record["kind"] == "outcome").collect()
}

#[test]
fn restarts_under_load() {
    let (world, replies) = restarted_under_load("");
    let outcomes = outcomes(&world);
    assert_met(&outcomes);
    assert_eq!(outcomes.len(), replies.len());
    let mut lost = 0;
    for reply in &replies {
        let id = reply.header("x-request-id").unwrap();
        let own = outcomes.iter().find(|record| record["request_id"] == id).unwrap();
        if reply.status == 200 {
            continue;
        }
        // Only what was sent and not answered, of each caller, and perhaps once more on a
        // connection that the old listener had not taken yet.
        assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5004"), "{own}");
        let upstream = &own["upstream"];
        assert_eq!((&upstream["status"], &upstream["code"]), (&Value::Null, &json!("GW-5004")));
        assert!(upstream["attempts"].as_u64().unwrap() >= 1, "{own}");
        lost += 1;
    }
    let served = replies.len() - lost;
    for (status, count) in [(200, served), (502, lost)] {
        let labels = format!("{{decision=\"allow\",operation=\"lead-users\",status=\"{status}\"}}");
        let counted = world.gateway.metric(&format!("cms_gateway_requests_total{labels}"));
        assert_eq!(counted.unwrap_or_default(), count as f64, "{status}");
    }
    assert!(lost <= 2 * CALLERS, "{lost} of {} were lost", replies.len());
}

#[test]
fn restarts_under_an_idempotent_load() {
    let (world, replies) = restarted_under_load(TWICE);
    assert_met(&outcomes(&world));
    for reply in &replies {
        assert_eq!(reply.status, 200, "{reply:?}: {}", outcome(&world, reply));
    }
}
