//! What a token must say, and which roles it gives, as its issuer's table has it.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use support::keys::{Settings, new_key, sign_under};
use support::{SAMPLE, World};

fn world(lines: &'static str) -> World {
    let world = World::with(Settings::with(lines));
    world.gateway.wait_until_ready();
    world
}

/// A world whose roles stand in this claim.
fn with_roles(claim: &str, lines: &'static str) -> World {
    let world = World::with(|config| {
        Settings::with(lines)(config);
        *config = config.replace("roles_claim = \"roles\"", &format!("roles_claim = {claim:?}"));
    });
    world.gateway.wait_until_ready();
    world
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

impl World {
    /// Good claims but for these; null takes one away.
    fn but(&self, changed: &Value) -> Value {
        let mut claims = self.good_claims();
        for (name, value) in changed.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().shift_remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    /// Sends a token with these claims; `expected` is a code, or the label of a GW-2002.
    #[track_caller]
    fn assert_told(&self, changed: &Value, expected: &str) {
        let token = self.mint(&self.but(changed));
        match expected {
            "ok" => self.assert_accepted(&token),
            code if code.starts_with("GW-") => {
                assert_eq!(self.put(&token, SAMPLE).code(), code, "{changed}");
            }
            reason => self.assert_refused(&token, reason),
        }
    }
}

#[test]
fn roles_are_found_wherever_the_issuer_puts_them() {
    let role = "campaign-supervisor";
    let cases = |claim: &str| match claim {
        "roles" => vec![
            (json!({"roles": [role]}), "ok"),
            (json!({"roles": ["x", role]}), "ok"),
            (json!({"roles": role}), "ok"),
            (json!({"roles": format!("x  {role} y")}), "ok"),
            (json!({"roles": format!("x,{role}")}), "GW-3001"),
            (json!({"roles": format!("x\t{role}")}), "GW-3001"),
            (json!({"roles": [format!("x {role}")]}), "GW-3001"),
            (json!({"roles": []}), "GW-3001"),
            (json!({"roles": null}), "GW-3001"),
            (json!({"roles": [role, 1]}), "roles"),
            (json!({"roles": [[role]]}), "roles"),
            (json!({"roles": {role: true}}), "roles"),
            (json!({"roles": true}), "roles"),
        ],
        "resource_access.cms.roles" => vec![
            (json!({"resource_access": {"cms": {"roles": [role]}}}), "ok"),
            (json!({"resource_access": {"cms": {"roles": role}}}), "ok"),
            // A claim of that very name is meant before a path.
            (json!({"resource_access.cms.roles": [role]}), "ok"),
            (json!({"resource_access": {"cms.roles": [role]}}), "GW-3001"),
            (json!({"resource_access": [{"cms": {"roles": [role]}}]}), "GW-3001"),
            (json!({"resource_access": {"other": {"roles": [role]}}}), "GW-3001"),
        ],
        "/https:~1~1example.com~1claims/ro~0les" => vec![
            (json!({"https://example.com/claims": {"ro~les": [role]}}), "ok"),
            (json!({"https://example.com/claims": {"ro~0les": [role]}}), "GW-3001"),
        ],
        _ => vec![
            (json!({"https://example.com/roles": [role]}), "ok"),
            (json!({"https://example.com": {"roles": [role]}}), "GW-3001"),
        ],
    };
    for claim in [
        "roles",
        "resource_access.cms.roles",
        "/https:~1~1example.com~1claims/ro~0les",
        "https://example.com/roles",
    ] {
        let world = with_roles(claim, "");
        if claim != "roles" {
            world.assert_told(&json!({}), "GW-3001");
        }
        for (changed, expected) in cases(claim) {
            world.assert_told(&changed, expected);
        }
    }
}

#[test]
fn with_a_mapping_only_what_it_names_gives_roles() {
    let mapping = "roles = { \"CN=Supervisors\" = \"campaign-supervisor\", \
                   \"dialers\" = [\"north-dialer\"], \"both\" = [\"north-dialer\", \"remover\"], \
                   \"remover\" = \"north-dialer\" }";
    let world = with_roles("groups", mapping);
    for (groups, expected, roles) in [
        (json!(["CN=Supervisors"]), "ok", json!(["campaign-supervisor"])),
        (json!("x CN=Supervisors"), "ok", json!(["campaign-supervisor"])),
        // It is a role's name, and none that the mapping has.
        (json!(["campaign-supervisor"]), "GW-3001", json!([])),
        (json!(["cn=supervisors"]), "GW-3001", json!([])),
        (json!(["CN=Supervisors "]), "GW-3001", json!([])),
        // It is a role's name that stands for another role.
        (json!(["remover"]), "GW-3001", json!(["north-dialer"])),
        (json!(["dialers", "both", "dialers"]), "ok", json!(["north-dialer", "remover"])),
        (json!([]), "GW-3001", json!([])),
    ] {
        world.assert_told(&json!({"groups": groups, "campaigns": [1]}), expected);
        let record = world.records().pop().unwrap();
        assert_eq!(record["actor"]["roles"], roles, "{groups}");
    }
    world.assert_told(&json!({"groups": {"CN=Supervisors": 1}}), "roles");
}

#[test]
fn the_campaigns_of_a_role_may_stand_in_a_claim() {
    let world = World::with(|config| {
        *config = config.replace("claim = \"campaigns\"", "claim = \"scope.campaigns\"");
    });
    world.gateway.wait_until_ready();
    let body = json!({"leadId": 2, "campaignId": 1, "assignedUserIds": [],
        "unassignedUserIds": ["agent_four"]});
    for (campaigns, status) in [
        (json!([1]), 200),
        (json!([7, 1]), 200),
        (json!(1), 200),
        (json!([7]), 403),
        (json!([]), 403),
        (json!(null), 403),
        (json!(["1"]), 403),
        (json!("1"), 403),
        (json!([1.0]), 403),
        (json!([4_294_967_297_u64]), 403),
        (json!({"1": true}), 403),
        (json!([[1]]), 403),
    ] {
        let changed = json!({"roles": ["remover"], "scope": {"campaigns": campaigns}});
        let reply = world.put(&world.mint(&world.but(&changed)), &body.to_string());
        assert_eq!(reply.status, status, "{campaigns}: {reply:?}");
        let code = if status == 200 { "" } else { "GW-3002" };
        assert_eq!(reply.code(), code, "{campaigns}");
    }
}

#[test]
fn the_strict_profile_asks_for_all_of_rfc_9068_and_refuses_id_tokens() {
    let (strict, usual) = (world("profile = \"rfc9068\""), world("profile = \"jwt\""));
    for (changed, expected) in [
        (json!({}), "ok"),
        (json!({"sub": null}), "profile"),
        (json!({"client_id": null}), "profile"),
        (json!({"client_id": null, "azp": "test-app"}), "profile"),
        (json!({"jti": null}), "profile"),
        (json!({"iat": null}), "profile"),
        (json!({"nonce": "x"}), "id_token"),
        (json!({"at_hash": "x"}), "id_token"),
        (json!({"c_hash": "x"}), "id_token"),
        (json!({"s_hash": 1}), "id_token"),
        (json!({"nbf": null}), "ok"),
    ] {
        strict.assert_told(&changed, expected);
        usual.assert_told(&changed, "ok");
    }
    for world in [&strict, &usual] {
        world.assert_told(&json!({"exp": null}), "no_expiry");
        world.assert_told(&json!({"sub": null, "client_id": null}), "no_actor");
    }
}

#[test]
fn a_token_has_a_type_that_its_issuer_may_write() {
    for (lines, with_at, with_jwt) in [
        ("", true, true),
        ("profile = \"rfc9068\"", true, false),
        ("types = [\"at+jwt\"]", true, false),
        ("types = [\"JWT\"]", false, true),
        ("types = [\"at+jwt\", \"JWT\"]\nprofile = \"rfc9068\"", true, true),
    ] {
        let world = world(lines);
        let key = new_key("key");
        world.rename_keys(&json!({"keys": [key.public()]}).to_string());
        world.wait_for_keys(&["key"]);
        for (typ, is_accepted) in [
            (Some("at+jwt"), with_at),
            (Some("AT+JWT"), with_at),
            (Some("application/at+jwt"), with_at),
            (Some("JWT"), with_jwt),
            (Some("jwt"), with_jwt),
            (Some("application/jwt"), with_jwt),
            (None, with_jwt),
            (Some("id_token"), false),
            (Some("logout+jwt"), false),
            (Some("dpop+jwt"), false),
            (Some("at+jwt "), false),
            (Some(""), false),
        ] {
            let typed = |header: &mut jsonwebtoken::Header| header.typ = typ.map(str::to_owned);
            let token = sign_under(&key, typed, &world.good_claims());
            match is_accepted {
                true => world.assert_accepted(&token),
                false => world.assert_refused(&token, "type"),
            }
        }
        let within = |header: &mut jsonwebtoken::Header| header.cty = Some("JWT".to_owned());
        world.assert_refused(&sign_under(&key, within, &world.good_claims()), "type");
    }
}

#[test]
fn a_lifetime_is_no_longer_than_the_issuers_max_lifetime() {
    let world = world("max_lifetime = \"10m\"");
    let now = now();
    for (iat, exp, expected) in [
        (json!(now), json!(now + 600), "ok"),
        (json!(now), json!(now + 601), "lifetime"),
        (json!(now - 300), json!(now + 300), "ok"),
        (json!(now - 300), json!(now + 301), "lifetime"),
        (json!(null), json!(now + 60), "lifetime"),
        (json!(now + 20), json!(now + 620), "ok"),
        (json!(now), json!(253_402_300_799_u64), "lifetime"),
    ] {
        world.assert_told(&json!({"iat": iat, "exp": exp, "nbf": null}), expected);
    }
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    // Each with some seconds to spare, for what the test itself may take.
    for (lines, leeway) in [("", 30), ("leeway = \"0s\"", 0), ("leeway = \"5m\"", 300)] {
        let world = world(lines);
        let now = now();
        let (spare, most) = (15, now + 3600);
        world.assert_told(&json!({"exp": now - leeway}), "GW-2003");
        world.assert_told(&json!({"exp": now - leeway + spare}), "ok");
        for name in ["iat", "nbf"] {
            let at = |time: i64| json!({name: time, "exp": most});
            world.assert_told(&at(now + leeway), "ok");
            world.assert_told(&at(now + leeway + spare), "not_yet_valid");
        }
    }
}
