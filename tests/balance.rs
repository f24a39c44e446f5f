//! A CMS of several servers: those that fail are left out, and no caller notices.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use support::cms::{Misbehaviour, ReferenceCms};
use support::faulty::{Act, FaultyCms, good};
use support::{SAMPLE, World, wait_for};
use tokio::runtime::Runtime;

/// A world whose CMS is the world's own and another one beside it.
fn with_two(added: &str) -> (Runtime, ReferenceCms, World) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let other = {
        let _inside = runtime.enter();
        ReferenceCms::start(listener).unwrap()
    };
    let world = beside(&other.url(), added);
    (runtime, other, world)
}

fn beside(other: &str, added: &str) -> World {
    let world = World::with(|config| {
        let (before, own) = config.split_once("url = ").unwrap();
        *config = format!("{before}url = [{}, \"{other}\"]\n{added}", own.trim());
    });
    world.gateway.wait_until_ready();
    world
}

fn served(world: &World, count: usize) {
    let token = world.supervisor();
    for _ in 0..count {
        let reply = world.put(&token, SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[test]
fn the_servers_share_the_changes() {
    let (_runtime, other, world) = with_two("");
    served(&world, 100);
    assert_eq!(world.cms.calls() + other.calls(), 100);
    // By chance all of a hundred go to one of two in less than one of 10^29 runs.
    assert!(world.cms.calls() > 0 && other.calls() > 0);
}

/// Of two, the one with less to do.
#[test]
fn a_server_that_is_busy_is_sent_nothing_while_the_other_is_idle() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let busy = FaultyCms::start([]);
    busy.always(Some(Act::Await(Arc::clone(&gate), good())));
    let world = beside(&busy.url(), "");
    let token = world.supervisor();
    std::thread::scope(|scope| {
        let mut held = Vec::new();
        wait_for("the busy one's first change", || {
            held.push(scope.spawn(|| world.put(&token, SAMPLE)));
            let sent = || world.cms.calls() as usize + busy.requests();
            wait_for("the change", || sent() == held.len());
            busy.requests() == 1
        });
        let before = world.cms.calls();
        served(&world, 50);
        assert_eq!((world.cms.calls() - before, busy.requests()), (50, 1));
        drop(closed);
        for one in held {
            assert_eq!(one.join().unwrap().status, 200);
        }
    });
}

#[test]
fn a_server_that_cannot_be_reached_is_noticed_by_no_caller_and_left_out() {
    let closed = FaultyCms::refusing();
    let other = closed.url();
    let world = beside(&other, "ejection = { failures = 3, time = \"1h\" }\n");
    served(&world, 50);
    assert_eq!(world.cms.calls(), 50);
    let ejections = format!("cms_gateway_upstream_ejections_total{{server=\"{other}\"}}");
    assert_eq!(world.gateway.metric(&ejections), Some(1.0));
    let outcomes = world.records().into_iter().filter(|record| record["kind"] == "outcome");
    let (mut went_on, mut total) = (0, 0);
    for outcome in outcomes {
        total += 1;
        assert_eq!(outcome["upstream"]["attempts"], 1);
        let tries = outcome["upstream"]["tries"].as_array().unwrap();
        went_on += usize::from(tries.len() == 2);
        if let [first, _] = tries.as_slice() {
            assert_eq!(first["server"], other);
            assert!(first["error"].as_str().unwrap().contains("refused"), "{first}");
        }
    }
    assert_eq!((total, went_on), (50, 3), "it was tried three times, and then no more");
}

#[test]
fn a_server_that_fails_is_left_out_until_it_is_well() {
    let (_runtime, other, world) = with_two("ejection = { failures = 2, time = \"300ms\" }\n");
    other.misbehave(Misbehaviour::HtmlError);
    let token = world.supervisor();
    let ejected = || {
        let name = format!("cms_gateway_upstream_ejections_total{{server=\"{}\"}}", other.url());
        world.gateway.metric(&name).unwrap_or_default()
    };
    wait_for("the ejection", || {
        world.put(&token, SAMPLE);
        ejected() > 0.0
    });
    other.misbehave(Misbehaviour::None);
    let before = other.calls();
    wait_for("its return", || {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        other.calls() > before
    });
}

#[test]
fn a_server_that_the_probe_finds_ill_is_sent_nothing() {
    let probe = "probe = { path = \"/cms/health\", interval = \"20ms\" }\n";
    let (_runtime, other, world) = with_two(probe);
    let puts = |cms: &ReferenceCms| {
        let received = cms.received();
        received.iter().filter(|request| request.method == "PUT").count()
    };
    other.misbehave(Misbehaviour::HtmlError);
    wait_for("the probe", || world.gateway.log().contains("what the probe says has changed"));
    let before = puts(&other);
    served(&world, 50);
    assert_eq!(puts(&other), before);
    other.misbehave(Misbehaviour::None);
    wait_for("its return", || {
        served(&world, 1);
        puts(&other) > before
    });
    let asked = other.received();
    let probed = asked.iter().find(|request| request.target == "/cms/health").unwrap();
    assert!(!probed.headers.iter().any(|(name, _)| name == "authorization"));
}

#[test]
fn when_every_circuit_is_open_callers_are_told_when_to_come_back() {
    let breaker = "breaker = { failures = 1, share = 1, open = \"1h\" }\n";
    let (_runtime, other, world) = with_two(breaker);
    let token = world.supervisor();
    world.cms.misbehave(Misbehaviour::HtmlError);
    other.misbehave(Misbehaviour::HtmlError);
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-5004");
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(0.0), "one is left");
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-5004");
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(1.0));
    let reply = world.put(&token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-5005"));
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&seconds), "{seconds}");
    assert_eq!(world.cms.calls() + other.calls(), 2);
    let records = world.records();
    let outcome = records.iter().rfind(|record| record["kind"] == "outcome").unwrap();
    assert_eq!(outcome["request_id"].as_str(), reply.header("x-request-id"));
    let upstream = &outcome["upstream"];
    let got = (&upstream["status"], &upstream["code"], &upstream["attempts"]);
    assert_eq!(got, (&Value::Null, &json!("GW-5005"), &json!(0)), "{outcome}");
    for server in [world.cms.url(), other.url()] {
        let own = format!("cms_gateway_upstream_circuit_open{{server=\"{server}\"}}");
        assert_eq!(world.gateway.metric(&own), Some(1.0), "{server}");
    }
}

#[test]
fn a_circuit_closes_with_the_one_that_tries() {
    let world = World::with(|config| {
        *config += "breaker = { failures = 1, share = 1, open = \"200ms\" }\n";
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    world.cms.misbehave(Misbehaviour::HtmlError);
    assert_eq!(world.put(&token, SAMPLE).code(), "GW-5004");
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(1.0));
    let mut refused = 0;
    wait_for("another try", || {
        refused += usize::from(world.put(&token, SAMPLE).code() == "GW-5005");
        world.cms.calls() == 2
    });
    assert!(refused > 0);
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(1.0), "it failed again");
    world.cms.misbehave(Misbehaviour::None);
    wait_for("service", || world.put(&token, SAMPLE).status == 200);
    assert_eq!(world.gateway.metric("cms_gateway_circuit_open"), Some(0.0));
}
