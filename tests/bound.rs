//! A token that is bound to its sender is taken where that can be checked, and from it alone: by
//! its certificate (RFC 8705). Of keys (RFC 9449) tests/dpop.rs tells.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::SAMPLE;
use support::bound::DpopKey;
use support::issuers::challenge;
use support::provider::{DPOP_APP, MTLS_APP, PLAIN_APP, Provider};
use support::sender::{accepting, ask, ask_over_tls, assert_refused, bearer, dpop, proof, tls};

/// What an issuer says to take both kinds.
const BOTH: &str = "mtls = true\ndpop = {}\nrequire_binding = true";

#[test]
fn an_issuer_without_dpop_has_no_tokens_that_are_bound_to_a_key() {
    let provider = Provider::start();
    let world = accepting(&provider, "", "");
    let key = DpopKey::generate();
    let token = provider.dpop_token(&key, "ES256");
    let plain = provider.token("ES256");
    let reason = ("binding_not_accepted", "the issuer's tokens are not accepted with that binding");
    let unbound = ("binding_unbound_dpop", "not bound to a key, and sent as DPoP");
    for (app, head, reason) in [
        (DPOP_APP, dpop(&token, &proof(&key, &token)), reason),
        (DPOP_APP, bearer(&token), reason),
        (PLAIN_APP, dpop(&plain, &proof(&key, &plain)), unbound),
    ] {
        let reply = assert_refused(&world, app, || ask(&world, &head), reason);
        assert_eq!(challenge(&reply, "DPoP"), None, "it is not offered");
    }
    assert_eq!(world.put(&plain, SAMPLE).status, 200);
}

#[test]
fn a_token_that_is_bound_to_a_certificate_comes_with_it_or_is_refused() {
    let provider = Provider::start_with_tls();
    let world = accepting(&provider, "mtls = true", &tls(", client_ca = \"clients.pem\""));
    let head = bearer(&provider.mtls_token("ES256"));
    let own = provider.client_certificate();
    let reply = ask_over_tls(&world, Some(own), &head);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.record_of(&reply).unwrap()["actor"]["client_id"], MTLS_APP);
    let other = provider.client_authority().certificate(MTLS_APP);
    for (certificate, reason) in [
        (
            Some(&other),
            ("binding_other_certificate", "bound to another certificate than the client's"),
        ),
        (None, ("binding_no_certificate", "bound to a certificate, and the client has shown none")),
    ] {
        let asked = || ask_over_tls(&world, certificate, &head);
        assert_refused(&world, MTLS_APP, asked, reason);
    }
    let plain = bearer(&provider.token("ES256"));
    for certificate in [None, Some(own), Some(&other)] {
        assert_eq!(ask_over_tls(&world, certificate, &plain).status, 200, "bound to nothing");
    }
    assert_eq!(ask_over_tls(&world, Some(own), &head).status, 200);
}

#[test]
fn where_certificates_are_not_accepted_a_token_that_is_bound_to_one_is_refused() {
    let provider = Provider::start_with_tls();
    let own = provider.client_certificate();
    let head = bearer(&provider.mtls_token("ES256"));
    let reason = ("binding_not_accepted", "the issuer's tokens are not accepted with that binding");
    for listen in [tls(", client_ca = \"clients.pem\""), tls(""), String::new()] {
        let world = accepting(&provider, "dpop = {}", &listen);
        let asked = || match listen.as_str() {
            "" => ask(&world, &head),
            _ => ask_over_tls(&world, Some(own), &head),
        };
        assert_refused(&world, MTLS_APP, asked, reason);
    }
}

#[test]
fn where_a_binding_is_required_a_token_without_one_is_refused() {
    let provider = Provider::start_with_tls();
    let world = accepting(&provider, BOTH, &tls(", client_ca = \"clients.pem\""));
    let own = Some(provider.client_certificate());
    let (key, plain) = (DpopKey::generate(), provider.token("ES256"));
    for certificate in [own, None] {
        let asked = || ask_over_tls(&world, certificate, &bearer(&plain));
        let reason = ("binding_required", "not bound to its sender");
        assert_refused(&world, PLAIN_APP, asked, reason);
    }
    let token = provider.dpop_token(&key, "ES256");
    let with_a_key = dpop(&token, &proof(&key, &token));
    assert_eq!(ask_over_tls(&world, None, &with_a_key).status, 200);
    assert_eq!(ask_over_tls(&world, own, &bearer(&provider.mtls_token("ES256"))).status, 200);
}
