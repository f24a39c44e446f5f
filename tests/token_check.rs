//! `token check` says of each rule whether a token keeps it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::json;
use support::keys::Settings;
use support::sender::PUBLIC_URL as URL;
use support::{BINARY, SAMPLE, World};

/// What the command prints on the token, and its exit status.
fn check(world: &World, token: &str) -> (String, i32) {
    let mut child = Command::new(BINARY)
        .args(["token", "check", "--config"])
        .arg(world.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(token.is_empty() || !text.concat().contains(token), "the token itself is shown");
    (text.concat(), output.status.code().unwrap())
}

/// The rules that failed.
fn failed(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("FAIL  "));
    lines.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn a_good_token_keeps_every_rule() {
    let world = World::start();
    let token = world.supervisor();
    for written in [token.clone(), format!("{token}\n"), format!("Authorization: bearer {token}\n")]
    {
        let (text, status) = check(&world, &written);
        assert_eq!((failed(&text), status), (vec![], 0), "{text}");
        assert!(text.ends_with("the token is accepted\n"), "{text}");
        let rules: Vec<_> =
            text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let expected = [
            "form",
            "jwt",
            "issuer",
            "header",
            "type",
            "algorithm",
            "key",
            "signature",
            "audience",
            "times",
            "max_lifetime",
            "actor",
            "roles",
            "binding",
            "profile",
            "validity",
            "revocation",
            "sender",
            "token",
        ];
        assert_eq!(rules, expected, "{text}");
    }
}

#[test]
fn each_rule_that_is_broken_is_named_and_the_code_is_the_gateways() {
    let world = World::start();
    let claims = world.provider.claims("test-app", &["campaign-supervisor"]);
    let with = |changes: &[(&str, serde_json::Value)]| {
        let mut claims = claims.clone();
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        world.mint(&claims)
    };
    let other_key = {
        let (message, _) =
            world.supervisor().rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let other = with(&[("jti", json!("another"))]);
        format!("{message}.{}", other.rsplit_once('.').unwrap().1)
    };
    for (token, rules, said) in [
        ("not-a-token".to_owned(), vec!["jwt"], "GW-2002, not_compact"),
        ("a.b c.d".to_owned(), vec!["form"], "GW-2002, characters"),
        ("e30.e30.!".to_owned(), vec!["form"], "GW-2002, characters"),
        ("e30.W10.AA".to_owned(), vec!["jwt"], "GW-2002, claims"),
        (with(&[("iss", json!("https://idp.example.com"))]), vec!["issuer"], "unknown_issuer"),
        (with(&[("aud", json!("other"))]), vec!["audience"], "GW-2002, audience"),
        (with(&[("exp", json!(1))]), vec!["validity"], "GW-2003, expired"),
        (with(&[("exp", json!("1"))]), vec!["times"], "GW-2002, time"),
        (with(&[("sub", json!(7)), ("aud", json!([]))]), vec!["audience", "actor"], "audience"),
        (with(&[("roles", json!({}))]), vec!["roles"], "GW-2002, roles"),
        (with(&[("cnf", json!({"kid": "x"}))]), vec!["binding"], "binding_malformed"),
        (other_key, vec!["signature"], "GW-2002, signature"),
    ] {
        let (text, status) = check(&world, &token);
        assert_eq!((failed(&text), status), (rules, 1), "{text}");
        assert!(text.lines().last().unwrap().contains(said), "{said}: {text}");
    }
    // What the command says is what happens.
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&with(&[("exp", json!(1))]), support::SAMPLE).code(), "GW-2003");
}

#[test]
fn a_token_that_is_not_bound_as_its_issuers_are_is_said_to_be_refused() {
    let open = World::start();
    let strict = World::with(|config| {
        *config = config.replacen("[listen]", &format!("[listen]\npublic_url = \"{URL}\""), 1);
        Settings::with("dpop = {}\nrequire_binding = true")(config);
    });
    let bound = |name: &str| json!({name: "A".repeat(43)});
    for (world, confirmation, said) in [
        (&open, Some(bound("x5t#S256")), "GW-2002, binding_not_accepted"),
        (&open, Some(bound("jkt")), "GW-2002, binding_not_accepted"),
        (&strict, Some(bound("x5t#S256")), "GW-2002, binding_not_accepted"),
        (&strict, None, "GW-2002, binding_required"),
        (&strict, Some(bound("jkt")), ""),
    ] {
        let mut claims = world.good_claims();
        if let Some(confirmation) = confirmation {
            claims["cnf"] = confirmation;
        }
        let token = world.mint(&claims);
        let (text, status) = check(world, &token);
        let explained = [
            explain(world, "--token-file", &token),
            explain(world, "--claims-file", &claims.to_string()),
        ];
        if said.is_empty() {
            assert_eq!((failed(&text), status), (vec![], 0), "{text}");
            assert!(explained.iter().all(|(_, status)| *status == 0), "{explained:?}");
            continue;
        }
        assert_eq!((failed(&text), status), (vec!["sender"], 1), "{text}");
        assert!(text.lines().last().unwrap().contains(said), "{said}: {text}");
        for (words, status) in explained {
            assert_eq!(status, 1, "{words}");
            assert!(words.contains("denied, GW-2002: the token is refused"), "{words}");
        }
    }
}

/// What `explain` says of a token, or its claims, and a good change; and its exit status.
fn explain(world: &World, option: &str, who: &str) -> (String, i32) {
    let file = |name: &str, text: &str| {
        let path = world.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (who, body) = (file("who", who), file("body.json", SAMPLE));
    let mut command = Command::new(BINARY);
    command.args(["explain", "--config"]).arg(world.config());
    command.arg(option).arg(who).arg("--body-file").arg(body);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (text.concat(), output.status.code().unwrap())
}

#[test]
fn why_the_keys_can_not_be_had_is_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(|config| {
        Settings::keys(config, &format!("url = \"http://{nobody}/jwks\""));
    });
    let (text, status) = check(&world, &world.supervisor());
    assert_eq!((failed(&text), status), (vec!["key"], 1), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
    assert!(text.lines().last().unwrap().contains("GW-2004"), "{text}");
}

#[test]
fn nothing_on_standard_input_is_wrong_use() {
    let world = World::start();
    let (text, status) = check(&world, "");
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("standard input"), "{text}");
}
