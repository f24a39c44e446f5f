//! The strict body: what is refused, where, and that nothing else is.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use cms_gateway::operation::{Change, LeadUsersChange};
use proptest::prelude::*;
use serde_json::{Value, json};

use support::{SAMPLE, World};

#[test]
fn every_refusal_names_its_place() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let change = |from: &str, to: &str| {
        assert!(SAMPLE.contains(from), "{from}");
        SAMPLE.replacen(from, to, 1)
    };
    let lead = "\"leadId\":2";
    let long = "x".repeat(256);
    let many: String = (0..999).map(|index| format!("\"u{index}\",")).collect();
    for (what, body, place) in [
        ("duplicate key", change(lead, "\"leadId\":2,\"leadId\":2"), "/leadId:"),
        ("escaped duplicate", change(lead, "\"leadId\":2,\"lead\\u0049d\":2"), "/leadId:"),
        ("unknown field", change(lead, "\"leadId\":2,\"x\":{\"a\":1,\"a\":2}"), "/x:"),
        ("unknown escaped", change(lead, "\"leadId\":2,\"a/b~c\":1"), "/a~1b~0c:"),
        ("missing lead", change("\"leadId\":2,", ""), "/leadId: is missing"),
        (
            "missing list",
            change(",\"unassignedUserIds\":[\"exe_gs\",\"madhur1\"]", ""),
            "/unassignedUserIds: is missing",
        ),
        ("null", change(lead, "\"leadId\":null"), "/leadId:"),
        ("null list", change("[\"anav_agent\"]", "null"), "/assignedUserIds:"),
        ("null user", change("\"anav_agent\"", "null"), "/assignedUserIds/0:"),
        ("zero", change(lead, "\"leadId\":0"), "/leadId:"),
        ("negative", change(lead, "\"leadId\":-2"), "/leadId:"),
        ("minus zero", change(lead, "\"leadId\":-0"), "/leadId:"),
        ("33 bits", change(lead, "\"leadId\":2147483648"), "/leadId:"),
        ("huge", change(lead, "\"leadId\":99999999999999999999999"), "/leadId:"),
        ("fraction", change(lead, "\"leadId\":2.0"), "/leadId:"),
        ("exponent", change(lead, "\"leadId\":2e0"), "/leadId:"),
        ("leading zero", change(lead, "\"leadId\":02"), "/leadId"),
        ("text", change(lead, "\"leadId\":\"2\""), "/leadId:"),
        ("boolean", change("\"campaignId\":1", "\"campaignId\":true"), "/campaignId:"),
        ("list as object", change("[\"anav_agent\"]", "{\"0\":\"x\"}"), "/assignedUserIds:"),
        ("list as text", change("[\"anav_agent\"]", "\"anav_agent\""), "/assignedUserIds:"),
        ("user as number", change("\"madhur1\"", "7"), "/unassignedUserIds/1:"),
        ("empty user", change("\"madhur1\"", "\"\""), "/unassignedUserIds/1:"),
        ("long user", change("madhur1", &long), "/unassignedUserIds/1:"),
        ("control character", change("madhur1", "a\\u0000b"), "/unassignedUserIds/1:"),
        ("C1 control", change("madhur1", "a\u{0085}b"), "/unassignedUserIds/1:"),
        ("lone surrogate", change("madhur1", "\\ud800"), "/unassignedUserIds/1"),
        ("user in both", change("madhur1", "anav_agent"), "/unassignedUserIds/1:"),
        ("user twice", change("madhur1", "exe_gs"), "/unassignedUserIds/1:"),
        (
            "nobody",
            r#"{"leadId":2,"campaignId":1,"assignedUserIds":[],"unassignedUserIds":[]}"#.into(),
            "\"\" (the whole)",
        ),
        (
            "too many users",
            change("[\"anav_agent\"]", &format!("[{many}\"x\"]")),
            "/unassignedUserIds/0:",
        ),
        (
            "too many in one",
            change("[\"anav_agent\"]", &format!("[{many}\"x\",\"y\"]")),
            "/assignedUserIds/1000:",
        ),
        ("byte-order mark", format!("\u{feff}{SAMPLE}"), "\"\" (the whole)"),
        ("after it", format!("{SAMPLE} x"), "\"\" (the whole)"),
        ("twice", format!("{SAMPLE}{SAMPLE}"), "\"\" (the whole)"),
        ("comma", change("}", ",}"), "\"\" (the whole)"),
        ("cut", SAMPLE[..48].to_owned(), "/assignedUserIds"),
        ("empty", String::new(), "\"\" (the whole)"),
        ("an array", format!("[{SAMPLE}]"), "\"\" (the whole)"),
        ("fields by position", r#"[2,1,["anav_agent"],[]]"#.into(), "\"\" (the whole)"),
        ("deep", "[".repeat(60_000), "\"\" (the whole)"),
    ] {
        let reply = world.put(&token, &body);
        assert_eq!((reply.status, reply.code().as_str()), (400, "GW-1001"), "{what}: {reply:?}");
        let message = reply.json()["errorMessage"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("at {place}")), "{what}: {message}");
        assert!(message.len() < 400, "{what}: {message}");
    }
    let request = support::request(&token, SAMPLE);
    let mut bytes = request.into_bytes();
    let at = bytes.windows(7).position(|window| window == b"madhur1").unwrap();
    bytes[at] = 0xff;
    let reply = support::exchange(world.gateway.api, &bytes);
    assert!(reply.status == 400 && reply.body.contains("not UTF-8"), "{reply:?}");
    assert_eq!(world.cms.calls(), 0);
    assert!(world.records().iter().all(|record| record["kind"] == "denied"));
    assert_eq!(world.put(&token, &format!(" {SAMPLE}\r\n\t")).status, 200, "white space is fine");
}

fn change() -> impl Strategy<Value = Value> {
    let users = proptest::collection::vec("[^\\p{Cc}]{1,20}", 0..6);
    (1..i32::MAX, 1..i32::MAX, users.clone(), users).prop_map(
        |(lead, campaign, assigned, unassigned)| {
            json!({"leadId": lead, "campaignId": campaign,
                   "assignedUserIds": assigned, "unassignedUserIds": unassigned})
        },
    )
}

proptest! {
    #[test]
    fn any_accepted_change_is_encoded_as_it_was_and_decodes_to_itself(value in change()) {
        let text = serde_json::to_vec_pretty(&value).unwrap();
        if let Ok(change) = LeadUsersChange::decode(&text, 1000) {
            let encoded = change.encode();
            prop_assert_eq!(&serde_json::from_slice::<Value>(&encoded).unwrap(), &value);
            prop_assert_eq!(LeadUsersChange::decode(&encoded, 1000).unwrap(), change);
        } else {
            let mut users: Vec<String> = ["assignedUserIds", "unassignedUserIds"]
                .iter()
                .flat_map(|list| value[list].as_array().unwrap())
                .map(|user| user.as_str().unwrap().to_owned())
                .collect();
            let count = users.len();
            users.sort();
            users.dedup();
            prop_assert!(count == 0 || users.len() < count, "refused without a reason");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(LeadUsersChange::decode(&bytes, 10).is_err());
    }

    #[test]
    fn a_changed_byte_never_widens_what_serde_json_sees(at in 0..SAMPLE.len(), byte in any::<u8>()) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(change) = LeadUsersChange::decode(&bytes, 1000) {
            let seen: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(seen, serde_json::from_slice::<Value>(&change.encode()).unwrap());
        }
    }
}
