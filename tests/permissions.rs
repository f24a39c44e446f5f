//! Who may do what: every role against every kind of change and campaign.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::json;

use support::World;

#[test]
fn the_permission_matrix_holds_and_a_denied_change_never_reaches_the_cms() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let assign = |lead: i32, campaign: i32| json!({"leadId": lead, "campaignId": campaign, "assignedUserIds": ["agent_four"], "unassignedUserIds": []});
    let unassign = |lead: i32, campaign: i32| json!({"leadId": lead, "campaignId": campaign, "assignedUserIds": [], "unassignedUserIds": ["agent_four"]});
    let both = |lead: i32, campaign: i32| json!({"leadId": lead, "campaignId": campaign, "assignedUserIds": ["agent_four"], "unassignedUserIds": ["agent_five"]});
    let (here, there) = ((2, 1), (9, 7));
    let ok = (200, "");
    let (no, elsewhere) = ((403, "GW-3001"), (403, "GW-3002"));
    for (roles, expected) in [
        // assign, unassign, both in campaign 1; the same in campaign 7
        (&["campaign-supervisor"][..], [ok, ok, ok, ok, ok, ok]),
        (&["north-dialer"], [ok, no, no, elsewhere, no, no]),
        (&["remover"], [no, ok, no, no, elsewhere, no]),
        (&["north-dialer", "remover"], [ok, ok, ok, elsewhere, elsewhere, elsewhere]),
        (&["north-dialer", "campaign-supervisor"], [ok, ok, ok, ok, ok, ok]),
        (&["unknown"], [no, no, no, no, no, no]),
        (&["CAMPAIGN-SUPERVISOR"], [no, no, no, no, no, no]),
        (&[], [no, no, no, no, no, no]),
    ] {
        let mut claims = world.provider.claims("test-app", roles);
        claims["campaigns"] = json!([1, 2]);
        let token = world.mint(&claims);
        let bodies = [here, there].map(|(lead, campaign)| {
            [assign(lead, campaign), unassign(lead, campaign), both(lead, campaign)]
        });
        for (body, (status, code)) in bodies.iter().flatten().zip(expected) {
            let calls = world.cms.calls();
            let reply = world.put(&token, &body.to_string());
            assert_eq!(reply.status, status, "{roles:?} {body}: {reply:?}");
            let record = world.records().pop().unwrap();
            if status == 200 {
                assert_eq!(world.cms.calls(), calls + 1);
                assert_eq!(
                    (&record["kind"], &record["decision"]["allow"]),
                    (&json!("outcome"), &json!(true))
                );
            } else {
                assert_eq!(reply.code(), code, "{roles:?} {body}: {reply:?}");
                let challenge = reply.header("www-authenticate").unwrap();
                assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
                assert_eq!(world.cms.calls(), calls, "a denied change reached the CMS");
                assert_eq!(
                    (&record["kind"], &record["decision"]["allow"]),
                    (&json!("denied"), &json!(false))
                );
                assert_eq!(record["decision"]["code"], code);
                assert_eq!(record["target"]["campaign"], body["campaignId"]);
                assert_eq!(record["change"]["assigned"], body["assignedUserIds"]);
            }
        }
    }
}

#[test]
fn the_message_names_the_role_and_the_permission() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let reply = world.put(&world.token(&["north-dialer"]), support::SAMPLE);
    assert_eq!(
        reply.json()["errorMessage"],
        "role north-dialer does not grant lead-users:unassign"
    );
}

#[test]
fn roles_are_found_by_a_dotted_path_and_as_words() {
    let world = World::with(|config| {
        *config = config.replace("roles_claim = \"roles\"", "roles_claim = \"realm_access.roles\"");
    });
    world.gateway.wait_until_ready();
    for (roles, status) in [
        (json!({"roles": ["campaign-supervisor"]}), 200),
        (json!({"roles": "x campaign-supervisor"}), 200),
        (json!({"roles": "x-campaign-supervisor"}), 403),
        (json!({"roles": [["campaign-supervisor"]]}), 401),
        (json!({"roles": {"campaign-supervisor": true}}), 401),
        (json!(["campaign-supervisor"]), 403),
    ] {
        let mut claims = world.provider.claims("test-app", &["campaign-supervisor"]);
        claims["realm_access"] = roles.clone();
        let reply = world.put(&world.mint(&claims), support::SAMPLE);
        assert_eq!(reply.status, status, "{roles}: {reply:?}");
    }
}
