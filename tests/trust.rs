//! A provider is believed over TLS alone with a certificate for its own host, from an authority that
//! is trusted: a configured one, or else the system's.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use support::issuers::{issuer_of, replace_issuers, serve_with_a_full_log};
use support::provider::{GATEWAY, Provider, SECRET};
use support::{SAMPLE, World, wait_for, write_secret};

/// A certificate that no provider has, of an authority with the name of theirs.
fn another_authority() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.crt");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&file, other.cert.pem()).unwrap();
    (folder, file)
}

/// Trusts this file, in the issuer's table.
fn ca(file: Option<&Path>) -> String {
    file.map(|file| format!(", ca = {file:?}")).unwrap_or_default()
}

/// A gateway that discovers the provider's keys with this authority, in a system with these roots,
/// or its own.
fn discovering(provider: &Provider, authority: Option<&Path>, roots: Option<&Path>) -> World {
    let freshness = "refresh = \"1s\", cool_down = \"1s\"";
    let issuers = format!(
        "[[issuers]]\nissuer = \"{}\"\naudiences = [\"cms-gateway\"]\nalgorithms = [\"ES256\"]\n\
         jwks = {{ discover = true{}, {freshness} }}\nroles_claim = \"roles\"\n",
        provider.issuer(),
        ca(authority)
    );
    World::with_command(
        |config| replace_issuers(config, &issuers),
        |config| {
            let mut command = serve_with_a_full_log(config);
            command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
            command.envs(roots.map(|file| ("SSL_CERT_FILE", file)));
            command
        },
    )
}

/// The keys are not had, so that this token, which may be good, is not judged.
fn assert_not_believed(world: &World, provider: &Provider, token: &str, words: &str) {
    wait_for("the fault", || !world.issuer()["last_error"].is_null());
    let error = world.last_error();
    assert!(error.contains("certificate") && error.contains(words), "{words}: {error}");
    let reply = world.put(token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-2004"), "{words}: {reply:?}");
    assert_eq!(world.gateway.admin("/readyz").status, 503, "{words}");
    assert_eq!(world.issuer()["keys"], json!([]), "{words}");
    assert_eq!((provider.discovery_requests(), provider.jwks_requests()), (0, 0), "{words}");
    assert_eq!(world.cms.calls(), 0, "{words}");
}

#[test]
fn discovery_trusts_the_configured_authority_and_no_other() {
    let provider = Provider::start_with_tls();
    let token = provider.token("ES256");
    let (_folder, other) = another_authority();
    let own = provider.ca();
    // What the system trusts does not count where an authority is configured.
    for roots in [None, Some(own.as_path())] {
        let world = discovering(&provider, Some(&other), roots);
        assert_not_believed(&world, &provider, &token, "invalid peer certificate");
    }
    let world = discovering(&provider, Some(&own), Some(&other));
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn without_a_configured_authority_discovery_trusts_the_systems() {
    let provider = Provider::start_with_tls();
    let token = provider.token("ES256");
    let (_folder, other) = another_authority();
    for roots in [None, Some(other.as_path())] {
        let world = discovering(&provider, None, roots);
        assert_not_believed(&world, &provider, &token, "invalid peer certificate");
    }
    let world = discovering(&provider, None, Some(&provider.ca()));
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
}

#[test]
fn discovery_does_not_believe_a_certificate_for_another_host() {
    let provider = Provider::start_with_certificate_for("idp.example.com");
    let world = discovering(&provider, Some(&provider.ca()), None);
    let mut claims = world.provider.claims("test-app", &["campaign-supervisor"]);
    claims["iss"] = json!(provider.issuer());
    assert_not_believed(&world, &provider, &world.mint(&claims), "not valid for");
}

#[test]
fn introspection_trusts_the_configured_authority_and_no_other() {
    let provider = Provider::start_with_tls();
    let (_folder, other) = another_authority();
    let own = provider.ca();
    for (authority, status) in [(&own, 200), (&other, 503)] {
        let introspected = format!(
            "[[issuers]]\nissuer = \"{}\"\naudiences = [\"cms-gateway\"]\n\
             roles_claim = \"roles\"\nintrospection = {{ url = \"{}\", \
             client_id = \"{GATEWAY}\", client_secret = \"secret\"{} }}\n",
            provider.issuer(),
            provider.introspection_url(),
            ca(Some(authority))
        );
        let world = World::with_command(
            |config| {
                assert_ne!(issuer_of(config), provider.issuer());
                replace_issuers(config, &introspected);
            },
            |config| {
                write_secret(&config.with_file_name("secret"), SECRET);
                serve_with_a_full_log(config)
            },
        );
        world.gateway.wait_until_ready();
        let reply = world.put(&provider.token("opaque"), SAMPLE);
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(world.cms.calls(), u64::from(status == 200));
        if status == 503 {
            assert_eq!(reply.code(), "GW-2004");
            let is_told = || world.gateway.log().contains("invalid peer certificate");
            wait_for("the reason in the log", is_told);
        }
    }
}
