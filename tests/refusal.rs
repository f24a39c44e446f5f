//! A credential that the CMS refuses is not guessed with, so that the account is not locked.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::cms::Misbehaviour;
use support::{Reply, SAMPLE, World, request, wait_for, write_secret};

/// A thousand callers who ask at once, and what they are told.
fn thousand(world: &World, token: &str) -> Vec<String> {
    ask(connected(world), token)
}

fn connected(world: &World) -> Vec<TcpStream> {
    (0..1000).map(|_| TcpStream::connect(world.gateway.api).unwrap()).collect()
}

fn ask(mut callers: Vec<TcpStream>, token: &str) -> Vec<String> {
    let text = request(token, support::SAMPLE);
    for caller in &mut callers {
        caller.write_all(text.as_bytes()).unwrap();
    }
    let answer = |mut caller: TcpStream| {
        let mut text = String::new();
        caller.read_to_string(&mut text).unwrap();
        text
    };
    callers.into_iter().map(answer).collect()
}

fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut String)) -> World {
    let world = World::with(|config| {
        *config += "concurrency = 2000\n[limits]\nin_flight = 2000\n";
        change(config);
    });
    world.gateway.wait_until_ready();
    world
}

/// In which the credential before serves for an hour.
fn overlapping_world() -> World {
    world_with(|config| {
        *config = config.replace("source = \"file\"", "source = \"file\"\noverlap = \"1h\"");
    })
}

/// Gives the store this password, and waits until the gateway has it.
fn rotate(world: &World, password: &str) {
    let rotations = || world.gateway.log().matches("credential_rotated").count();
    let before = rotations();
    write_secret(&world.folder.path().join("password"), password);
    wait_for("the rotation", || rotations() > before);
}

fn assert_refused(answers: &[String]) {
    assert_eq!(answers.len(), 1000);
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("GW-5001"), "{answer}");
    }
}

/// Since then, when the CMS had heard so many.
fn assert_few_guesses(world: &World, since: Instant, before: u64) {
    let probes = world.gateway.metric("cms_gateway_credential_probes_total{result=\"failure\"}");
    let probes = probes.unwrap_or_default() as u64;
    let guesses = world.cms.refusals() - before - probes;
    assert!(guesses <= 2, "{guesses} guesses and {probes} probes");
    // The first probe comes a second after the refusal, the next ones later and later.
    assert!(Duration::from_secs(probes) <= since.elapsed(), "{probes} probes");
}

#[test]
fn a_thousand_requests_with_a_wrong_password_cost_two_logins_at_the_most() {
    let world = world();
    world.cms.change_password("another");
    let since = Instant::now();
    assert_refused(&thousand(&world, &world.supervisor()));
    assert_few_guesses(&world, since, 0);
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(1.0));
    let counted = world.gateway.metric("cms_gateway_credential_refusals_total");
    assert_eq!(counted, Some(world.cms.refusals() as f64));
}

#[test]
fn nor_do_they_when_the_password_was_right_a_moment_before() {
    let world = world();
    let token = world.supervisor();
    let callers = connected(&world);
    assert_eq!(world.put(&token, support::SAMPLE).status, 200);
    world.cms.change_password("another");
    let since = Instant::now();
    assert_refused(&ask(callers, &token));
    assert_few_guesses(&world, since, 0);
}

#[test]
fn nor_do_they_while_the_one_before_hangs() {
    let world = world();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    world.cms.misbehave(Misbehaviour::Slow);
    let mut slow = TcpStream::connect(world.gateway.api).unwrap();
    slow.write_all(request(&token, SAMPLE).as_bytes()).unwrap();
    wait_for("the slow request", || world.cms.calls() == 2);
    world.cms.misbehave(Misbehaviour::None);
    world.cms.change_password("another");
    let since = Instant::now();
    assert_refused(&thousand(&world, &token));
    assert_few_guesses(&world, since, 0);
}

#[test]
fn nor_do_they_in_an_overlap_of_two_wrong_ones() {
    let world = overlapping_world();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    rotate(&world, "second");
    world.cms.change_password("third");
    let since = Instant::now();
    assert_refused(&thousand(&world, &token));
    assert_few_guesses(&world, since, 0);
}

#[test]
fn nor_do_they_when_the_store_went_back_to_the_one_before() {
    let world = overlapping_world();
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    rotate(&world, "second");
    assert_eq!(world.put(&token, SAMPLE).status, 200, "the one before serves");
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(1.0));
    rotate(&world, "cms-password");
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    assert_eq!(world.cms.refusals(), 1, "of the second");
    let since = Instant::now();
    world.cms.change_password("third");
    assert_refused(&thousand(&world, &token));
    assert_few_guesses(&world, since, 1);
}

#[test]
fn a_thousand_requests_with_a_right_password_are_all_served() {
    let world = world();
    let answers = thousand(&world, &world.supervisor());
    let served = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count();
    assert_eq!(served, 1000);
    assert_eq!(world.cms.calls(), 1000);
}

#[test]
fn a_new_password_in_the_store_ends_the_refusal_within_a_second() {
    let world = world();
    let token = world.supervisor();
    world.cms.change_password("another");
    assert_eq!(world.put(&token, support::SAMPLE).code(), "GW-5001");
    let before = world.cms.refusals();
    write_secret(&world.folder.path().join("password"), "another");
    wait_for("the new password", || world.put(&token, support::SAMPLE).status == 200);
    assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(0.0));
    let probes = world.gateway.metric("cms_gateway_credential_probes_total{result=\"failure\"}");
    assert_eq!(world.cms.refusals() - before, probes.unwrap_or_default() as u64);
}

#[test]
fn who_waits_in_vain_for_another_ones_verdict_is_told_that_nothing_was_sent() {
    let world = World::with(|config| *config += "response_timeout = \"900ms\"\n");
    world.gateway.wait_until_ready();
    world.cms.misbehave(Misbehaviour::Slow);
    let token = world.supervisor();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..20).map(|_| scope.spawn(|| world.put(&token, SAMPLE))).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let records = world.records();
    let mut sent = 0;
    for reply in &replies {
        assert_eq!((reply.status, reply.code().as_str()), (504, "GW-5003"), "{reply:?}");
        let was_sent = !reply.body.contains("nothing of yours was sent");
        assert_eq!(was_sent, reply.body.contains("the change may have been made"), "{reply:?}");
        let id = reply.header("x-request-id").unwrap();
        let own = records.iter().rfind(|record| record["request_id"] == id).unwrap();
        let upstream = &own["upstream"];
        let got = (&upstream["status"], &upstream["code"], &upstream["attempts"]);
        assert_eq!(got, (&Value::Null, &json!("GW-5003"), &json!(u32::from(was_sent))), "{own}");
        sent += u64::from(was_sent);
    }
    assert!((1..20).contains(&sent), "{sent}");
    // Of one whose time was over as it was written, the CMS may have heard nothing.
    assert!((1..=sent).contains(&world.cms.calls()), "{} of {sent}", world.cms.calls());
}
