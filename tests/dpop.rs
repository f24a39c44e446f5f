//! A token that is bound to a key (RFC 9449, DPoP) is of use to whoever proves to have it, for one
//! request each time.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use support::bound::{DpopKey, hash};
use support::issuers::{challenge, refusals};
use support::provider::{DPOP_APP, PLAIN_APP, Provider};
use support::sender::{accepting, ask, assert_refused, bearer, dpop, proof, proof_but, url};
use support::{PATH, Reply, SAMPLE, World, write_secret};

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

#[test]
fn a_proof_lets_its_token_be_used_once() {
    let provider = Provider::start();
    let world = accepting(&provider, "dpop = {}", "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let once = dpop(&token, &proof(&key, &token));
    let reply = ask(&world, &once);
    assert_eq!((reply.status, reply.header("dpop-nonce")), (200, None), "{reply:?}");
    let record = world.record_of(&reply).unwrap();
    assert_eq!(record["kind"], "outcome");
    assert_eq!(record["actor"]["issuer"], provider.issuer());
    assert_eq!(record["actor"]["client_id"], DPOP_APP);
    for _ in 0..2 {
        let reason = ("dpop_replayed", "DPoP proof sent again");
        assert_refused(&world, DPOP_APP, || ask(&world, &once), reason);
    }
    assert_eq!(ask(&world, &dpop(&token, &proof(&key, &token))).status, 200);
    // What a query or fragment would say does not count (RFC 9449, section 4.3), nor how the host
    // is written.
    for target in [format!("{}?a=b#c", url()), format!("https://GATEWAY.example.com:443{PATH}")] {
        let proof = key.proof_with("PUT", &target, &token);
        assert_eq!(ask(&world, &dpop(&token, &proof)).status, 200, "{target}");
    }
    let other_scheme = dpop(&token, &proof(&key, &token)).replace(" DPoP ", " dpop ");
    assert_eq!(ask(&world, &other_scheme).status, 200);
    assert_eq!(world.put(&provider.token("ES256"), SAMPLE).status, 200, "a Bearer token still is");
}

#[test]
fn of_one_proof_sent_many_times_at_once_one_is_accepted() {
    let provider = Provider::start();
    let world = accepting(&provider, "dpop = {}", "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    for _ in 0..5 {
        let once = dpop(&token, &proof(&key, &token));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let begun: Vec<_> =
                (0..20).map(|_| scope.spawn(|| ask(&world, &once).status)).collect();
            begun.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        let accepted = statuses.iter().filter(|status| **status == 200).count();
        let refused = statuses.iter().filter(|status| **status == 401).count();
        assert_eq!((accepted, refused), (1, 19), "{statuses:?}");
    }
    assert_eq!(world.cms.calls(), 5);
}

#[test]
fn a_bound_token_without_a_good_proof_is_refused() {
    let provider = Provider::start();
    let world = accepting(&provider, "dpop = {}", "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let good = || proof(&key, &token);
    let but = |others| dpop(&token, &proof_but(&key, &token, others));
    let api = world.gateway.api;
    let of_another = good();
    let (_, signature) = of_another.rsplit_once('.').unwrap();
    let forged = format!("{}.{signature}", good().rsplit_once('.').unwrap().0);
    let two = format!("{}DPoP: {}\r\n", dpop(&token, &good()), good());
    let other_url = ("dpop_target", "DPoP proof for another URL");
    let other_token = ("dpop_token_hash", "DPoP proof for another token");
    let rows = [
        (format!("Authorization: DPoP {token}\r\n"), ("dpop_missing", "no DPoP proof")),
        (two, ("dpop_two_headers", "more than one DPoP header")),
        (dpop(&token, "nonsense"), ("dpop_malformed", "DPoP proof malformed")),
        (dpop(&token, &token), ("dpop_type", "DPoP proof of another typ")),
        (dpop(&token, &forged), ("dpop_signature", "DPoP proof's signature is wrong")),
        (
            dpop(&token, &proof(&DpopKey::generate(), &token)),
            ("dpop_other_key", "DPoP proof by another key than the token's"),
        ),
        (but(json!({"htm": "POST"})), ("dpop_method", "DPoP proof for another method")),
        (but(json!({"htm": "put"})), ("dpop_method", "DPoP proof for another method")),
        (but(json!({"htu": format!("https://evil.example.com{PATH}")})), other_url),
        (but(json!({"htu": format!("http://gateway.example.com{PATH}")})), other_url),
        (but(json!({"htu": format!("http://{api}{PATH}")})), other_url),
        (but(json!({"htu": format!("{}/", url())})), other_url),
        (but(json!({"htu": PATH})), other_url),
        (but(json!({"ath": hash(b"another")})), other_token),
        (but(json!({"ath": null})), other_token),
        (but(json!({"iat": seconds_from_now(-70)})), ("dpop_expired", "DPoP proof too old")),
        (
            but(json!({"iat": seconds_from_now(60)})),
            ("dpop_not_yet_valid", "DPoP proof not yet valid"),
        ),
        (but(json!({"iat": null})), ("dpop_issue_time", "DPoP proof's iat is not acceptable")),
        (but(json!({"jti": ""})), ("dpop_identifier", "DPoP proof's jti is not acceptable")),
    ];
    for (head, reason) in rows {
        let reply = assert_refused(&world, DPOP_APP, || ask(&world, &head), reason);
        let told = challenge(&reply, "DPoP").unwrap();
        assert!(told.contains("error=\"invalid_dpop_proof\""), "{reason:?}: {told}");
        assert!(told.contains("algs=\"") && told.contains("ES256"), "{reason:?}: {told}");
    }
    let bearer_scheme = ("binding_bearer_scheme", "bound to a key, and sent as Bearer");
    let plain = provider.token("ES256");
    let as_bearer = dpop(&token, &good()).replace(" DPoP ", " Bearer ");
    for (app, head, reason) in [
        (DPOP_APP, bearer(&token), bearer_scheme),
        (DPOP_APP, as_bearer, bearer_scheme),
        (
            PLAIN_APP,
            dpop(&plain, &proof(&key, &plain)),
            ("binding_unbound_dpop", "not bound to a key, and sent as DPoP"),
        ),
    ] {
        let reply = assert_refused(&world, app, || ask(&world, &head), reason);
        assert!(challenge(&reply, "DPoP").unwrap().contains("error=\"invalid_token\""));
    }
    // None of them was remembered as used.
    assert_eq!(ask(&world, &dpop(&token, &good())).status, 200);
}

#[test]
fn where_one_issuer_takes_dpop_another_does_not() {
    let (with, without) = (Provider::start(), Provider::start());
    let issuer = format!(
        "[[issuers]]\nissuer = \"{}\"\naudiences = [\"cms-gateway\"]\nalgorithms = [\"ES256\"]\n\
         jwks = {{ discover = true }}\nroles_claim = \"roles\"\ndpop = {{}}\n",
        with.issuer()
    );
    let world = accepting(&without, &issuer, "");
    let key = DpopKey::generate();
    let good = |provider: &Provider| {
        let token = provider.dpop_token(&key, "ES256");
        dpop(&token, &proof(&key, &token))
    };
    let reply = ask(&world, &good(&with));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.record_of(&reply).unwrap()["actor"]["issuer"], with.issuer());
    let reason = ("binding_not_accepted", "the issuer's tokens are not accepted with that binding");
    for head in [good(&without), bearer(&without.dpop_token(&key, "ES256"))] {
        let reply = assert_refused(&world, DPOP_APP, || ask(&world, &head), reason);
        assert_eq!(world.record_of(&reply).unwrap()["actor"]["issuer"], without.issuer());
    }
    assert_eq!(world.put(&without.token("ES256"), SAMPLE).status, 200);
}

#[test]
fn a_proof_with_a_nonce_of_any_gateway_that_shares_the_key_is_good() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let sharing = |name: &str| {
        let file = folder.path().join(name);
        write_secret(&file, &name.repeat(32));
        accepting(&provider, &format!("dpop = {{ nonce_key = {file:?} }}"), "")
    };
    let (one, replica, stranger) = (sharing("a"), sharing("a"), sharing("b"));
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let with = |nonce: Option<&str>| {
        let claims = nonce.map_or(json!({}), |nonce| json!({"nonce": nonce}));
        dpop(&token, &proof_but(&key, &token, claims))
    };
    let nonce_of = |reply: &Reply| reply.header("dpop-nonce").unwrap().to_owned();
    let asked_for_a_nonce = |world: &World, nonce: Option<&str>| {
        let before = refusals(&world.gateway, "dpop_nonce");
        let reply = ask(world, &with(nonce));
        assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2002"), "{reply:?}");
        let told = challenge(&reply, "DPoP").unwrap();
        assert!(told.contains("error=\"use_dpop_nonce\""), "{told}");
        assert_eq!(refusals(&world.gateway, "dpop_nonce"), before + 1.0);
        assert!(world.record_of(&reply).is_none(), "it is how an honest sender begins");
        nonce_of(&reply)
    };
    let first = asked_for_a_nonce(&one, None);
    let reply = ask(&one, &with(Some(&first)));
    assert_eq!(reply.status, 200, "{reply:?}");
    let next = nonce_of(&reply);
    assert_eq!(ask(&one, &with(Some(&next))).status, 200);
    assert_eq!(ask(&replica, &with(Some(&first))).status, 200);
    assert_eq!(ask(&one, &with(Some(&asked_for_a_nonce(&replica, None)))).status, 200);

    let foreign = asked_for_a_nonce(&stranger, Some(&first));
    assert_ne!(foreign, first);
    asked_for_a_nonce(&one, Some(&foreign));
    asked_for_a_nonce(&one, Some("made-up"));
    // A denial has one for the next attempt too.
    let reason = ("dpop_method", "DPoP proof for another method");
    let wrong = dpop(&token, &proof_but(&key, &token, json!({"htm": "GET", "nonce": first})));
    nonce_of(&assert_refused(&one, DPOP_APP, || ask(&one, &wrong), reason));
    let plain = one.put(&provider.token("ES256"), SAMPLE);
    assert_eq!((plain.status, plain.header("dpop-nonce")), (200, None), "it has no use for one");
}

#[test]
fn neither_a_token_nor_a_proof_nor_a_nonces_key_is_told_to_anybody() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (folder.path().join("key"), "a key of nonces, of 32 bytes or more");
    write_secret(&file, secret);
    let world = accepting(&provider, &format!("dpop = {{ nonce_key = {file:?} }}"), "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let early = proof(&key, &token);
    let reply = ask(&world, &dpop(&token, &early));
    let nonce = reply.header("dpop-nonce").unwrap();
    let good = proof_but(&key, &token, json!({"nonce": nonce}));
    let bad = proof_but(&key, &token, json!({"nonce": nonce, "htm": "GET"}));
    for (proof, status) in [(&good, 200), (&good, 401), (&bad, 401)] {
        assert_eq!(ask(&world, &dpop(&token, proof)).status, status);
    }
    let told = world.told();
    for expected in ["\"level\":\"DEBUG\"", "DPoP proof sent again", "dpop_replayed"] {
        assert!(told.contains(expected), "{expected}: all was gathered");
    }
    for hidden in [&token, &early, &good, &bad] {
        for part in hidden.split('.') {
            assert!(!told.contains(part), "{part} was told");
        }
    }
    assert!(!told.contains(secret));
}

#[test]
fn a_proof_counts_over_http_2_as_well_whatever_host_the_request_names() {
    let provider = Provider::start();
    let world = accepting(&provider, "dpop = {}", "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let (good, evil) = (proof(&key, &token), format!("https://evil.example.com{PATH}"));
    let of_evil = key.proof_with("PUT", &evil, &token);
    for (target, proof, status) in [
        (&url(), &good, 200),
        (&url(), &good, 401),
        (&evil, &of_evil, 401),
        (&format!("http://{}{PATH}", world.gateway.api), &proof(&key, &token), 200),
    ] {
        let request = http::Request::put(target)
            .header("authorization", format!("DPoP {token}"))
            .header("dpop", proof)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(SAMPLE)))
            .unwrap();
        let answer = world.block_on(async {
            let stream = tokio::net::TcpStream::connect(world.gateway.api).await.unwrap();
            let (executor, io) = (TokioExecutor::new(), TokioIo::new(stream));
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.unwrap();
            tokio::spawn(connection);
            send.send_request(request).await.unwrap()
        });
        let version = answer.version();
        assert_eq!(
            (answer.status().as_u16(), version),
            (status, http::Version::HTTP_2),
            "{target}"
        );
    }
    for reason in ["dpop_replayed", "dpop_target"] {
        assert_eq!(refusals(&world.gateway, reason), 1.0, "{reason}");
    }
}
