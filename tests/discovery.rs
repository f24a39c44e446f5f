//! Where an issuer's keys are is what its own metadata says, and when that says nothing, the keys
//! stay as they are.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::identity_provider::{Endpoint, Misbehaviour};
use support::keys::{Settings, another_provider, issuer};
use support::{World, wait_for};

#[test]
fn metadata_of_another_issuer_is_refused() {
    // The provider's own name ends with a slash.
    let world = World::with(|config| {
        let own = issuer(config).to_owned();
        *config =
            config.replace(&format!("\"{own}\""), &format!("{:?}", own.trim_end_matches('/')));
        Settings::keys(config, "discover = true, refresh = \"1s\", cool_down = \"1s\"");
    });
    let name = world.provider.issuer().trim_end_matches('/').to_owned();
    wait_for("the fault", || world.last_error().contains("its issuer is not"));
    let labels = format!("{{issuer=\"{name}\",result=\"failure\"}}");
    let failures = world.gateway.metric(&format!("cms_gateway_jwks_refresh_total{labels}"));
    assert!(failures.unwrap() >= 1.0);
    let mut claims = world.good_claims();
    claims["iss"] = json!(name);
    let reply = world.put(&world.mint(&claims), support::SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-2004"));
    let expected = format!("keys: none of issuer {name}\n");
    wait_for("this reason alone", || world.gateway.admin("/readyz").body == expected);
    assert_eq!(world.fetches(), 0);
}

#[test]
fn metadata_that_is_none_takes_no_key_away() {
    let world = World::with(|config| {
        Settings::keys(config, "discover = true, refresh = \"1s\", cool_down = \"1s\"");
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let tell = |how| {
        world.provider.misbehave(Endpoint::OpenIdConfiguration, how);
        let other = if how == Misbehaviour::None { how } else { Misbehaviour::NotFound };
        world.provider.misbehave(Endpoint::AuthorizationServer, other);
    };
    for (how, words) in [
        (Misbehaviour::Slow, "no whole answer within 2s"),
        (Misbehaviour::Huge, "the answer is larger than 524288 bytes"),
        (Misbehaviour::Garbage, "metadata is not JSON"),
        (Misbehaviour::HangUp, "the answer is broken"),
        (Misbehaviour::Empty, "its issuer is not"),
        (Misbehaviour::NotFound, "the answer was 404"),
    ] {
        let failures = world.refreshes("failure");
        tell(how);
        wait_for(words, || world.refreshes("failure") > failures);
        wait_for(words, || world.last_error().contains(words));
        let address = "/.well-known/openid-configuration: ";
        assert!(world.last_error().contains(address), "{}", world.last_error());
        for token in [&token, &world.supervisor()] {
            world.assert_accepted(token);
        }
        assert_eq!(world.key_ids(), ["es256", "rs256", "eddsa"], "{how:?}");
        assert_eq!(world.gateway.admin("/readyz").status, 200, "{how:?}");
        tell(Misbehaviour::None);
        wait_for("good metadata", || world.issuer()["last_error"].is_null());
    }
}

#[test]
fn metadata_is_had_from_its_second_address_while_the_first_one_hangs() {
    let mut other = None;
    let world = World::with(|config| {
        let provider = other.insert(another_provider());
        provider.misbehave(Endpoint::OpenIdConfiguration, Misbehaviour::Slow);
        let table = format!(
            "[[issuers]]\nissuer = \"{}\"\naudiences = [\"cms-gateway\"]\n\
             algorithms = [\"ES256\"]\njwks = {{ discover = true }}\n",
            provider.issuer()
        );
        *config = config.replacen("[roles.", &format!("{table}[roles."), 1);
    });
    let provider = other.unwrap();
    let begun = Instant::now();
    world.gateway.wait_until_ready();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let token = provider.mint(&provider.claims("test-app", &["campaign-supervisor"]));
    world.assert_accepted(&token.map_err(|it| it.to_string()).unwrap());
    let asked = [Endpoint::OpenIdConfiguration, Endpoint::AuthorizationServer, Endpoint::Jwks];
    assert_eq!(asked.map(|endpoint| provider.asked(endpoint)), [1, 1, 1]);
    assert_eq!(world.gateway.admin("/issuers").json()[1]["last_error"], Value::Null);
}
