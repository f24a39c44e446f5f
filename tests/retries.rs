//! What is sent again, how often, and what is refused for want of room.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::cms::Misbehaviour;
use support::faulty::{Act, FaultyCms, html};
use support::{SAMPLE, World, request, wait_for};

/// A world whose `[upstream]` has this as well.
fn with(added: &str) -> World {
    let world = World::with(|config| *config += added);
    world.gateway.wait_until_ready();
    world
}

/// A caller whose change, the second one, the CMS has and does not answer.
fn waiting(world: &World, token: &str) -> TcpStream {
    assert_eq!(world.put(token, SAMPLE).status, 200);
    world.cms.misbehave(Misbehaviour::Slow);
    let mut caller = TcpStream::connect(world.gateway.api).unwrap();
    caller.write_all(request(token, SAMPLE).as_bytes()).unwrap();
    wait_for("the change at the CMS", || world.cms.calls() == 2);
    caller
}

const PATIENT: &str = "breaker = { failures = 1000000 }\n";

#[test]
fn a_failing_cms_is_sent_a_tenth_more_at_the_most() {
    let world = with(&format!("{PATIENT}retry = {{ idempotent = true }}\n"));
    world.cms.misbehave(Misbehaviour::Unavailable);
    let token = world.supervisor();
    for _ in 0..200 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-5005");
    }
    let retries = world.cms.calls() - 200;
    // A tenth, and one a second over ten seconds for those who have little to do.
    assert!((1..=20 + 10).contains(&retries), "{retries} retries");
    let counted = world.gateway.metric("cms_gateway_upstream_retries_total{reason=\"answer\"}");
    assert_eq!(counted, Some(retries as f64));
}

/// What was never sent gives no leave to send something else again.
#[test]
fn what_a_cms_that_is_away_was_not_sent_is_no_budget() {
    let mut cms = FaultyCms::refusing();
    cms.always(Some(Act::Say(html(503))));
    let retry = "connect_timeout = \"10ms\"\nretry = { idempotent = true }\n";
    let world = cms.world(&format!("{PATIENT}{retry}"));
    let token = world.supervisor();
    for _ in 0..100 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-5002");
    }
    cms.listen();
    for _ in 0..30 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-5005");
    }
    // A tenth, and one a second over ten seconds for those who have little to do.
    let retries = cms.requests() - 30;
    assert!((1..=3 + 10).contains(&retries), "{retries} retries");
}

/// A budget of 60 is no budget of 100, where a retry costs one change or two.
#[test]
fn a_budget_is_never_exceeded_by_rounding() {
    let world = with(&format!("{PATIENT}retry = {{ idempotent = true, budget = 60 }}\n"));
    world.cms.misbehave(Misbehaviour::Unavailable);
    let token = world.supervisor();
    for _ in 0..100 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-5005");
    }
    let retries = world.cms.calls() - 100;
    assert!((1..=60 + 10).contains(&retries), "{retries} retries");
}

#[test]
fn without_a_budget_nothing_is_sent_again() {
    let world = with(&format!("{PATIENT}retry = {{ idempotent = true, budget = 0 }}\n"));
    world.cms.misbehave(Misbehaviour::Unavailable);
    let token = world.supervisor();
    for _ in 0..20 {
        assert_eq!(world.put(&token, SAMPLE).code(), "GW-5005");
    }
    assert_eq!(world.cms.calls(), 20);
}

#[test]
fn without_leave_nothing_is_sent_again() {
    let world = with(PATIENT);
    world.cms.misbehave(Misbehaviour::Unavailable);
    assert_eq!(world.put(&world.supervisor(), SAMPLE).code(), "GW-5005");
    assert_eq!(world.cms.calls(), 1);
}

#[test]
fn a_change_that_waits_too_long_for_its_turn_is_refused_and_never_sent() {
    let world = with("concurrency = 1\nqueue_timeout = \"50ms\"\n");
    let token = world.supervisor();
    let first = waiting(&world, &token);
    let reply = world.put(&token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-9001"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(world.cms.calls(), 2);
    let outcome = world.records().pop().unwrap();
    assert_eq!(outcome["upstream"]["code"], "GW-9001");
    assert_eq!(outcome["upstream"]["attempts"], 0);
    assert_eq!(outcome["upstream"]["tries"], serde_json::json!([]));
    assert_eq!(world.gateway.metric("cms_gateway_shed_total{at=\"queue\"}"), Some(1.0));
    drop(first);
}

#[test]
fn a_change_that_has_its_turn_in_time_is_sent() {
    let world = with("concurrency = 1\nqueue_timeout = \"10s\"\n");
    let token = world.supervisor();
    let text = request(&token, SAMPLE);
    let mut callers: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(world.gateway.api).unwrap()).collect();
    for caller in &mut callers {
        caller.write_all(text.as_bytes()).unwrap();
    }
    for mut caller in callers {
        let mut answer = String::new();
        caller.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(world.cms.calls(), 20);
}

#[test]
fn whoever_hangs_up_leaves_an_outcome_behind() {
    let world = with("head_timeout = \"500ms\"\n");
    let caller = waiting(&world, &world.supervisor());
    drop(caller);
    wait_for("the outcome", || world.records().len() == 4);
    let outcome = world.records().pop().unwrap();
    assert_eq!(outcome["kind"], "outcome");
    assert_eq!(outcome["upstream"]["code"], "GW-5003");
    assert_eq!(outcome["upstream"]["attempts"], 1);
    let in_flight = || world.gateway.metric("cms_gateway_in_flight");
    wait_for("its place", || in_flight() == Some(0.0));
}
