//! The strict decoder of the operation: nothing makes it panic, and what it takes says the same to
//! another reader of JSON and to itself.

#![no_main]

use cms_gateway::operation::{Change, LeadUsersChange};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Few, so that inputs reach the limit.
const MOST_USERS: usize = 5;

fuzz_target!(|body: &[u8]| {
    let change = match LeadUsersChange::decode(body, MOST_USERS) {
        Ok(change) => change,
        Err(fault) => {
            assert!(fault.to_string().len() < 4096, "a fault repeats the body");
            return;
        }
    };
    let encoded = change.encode();
    let again = LeadUsersChange::decode(&encoded, MOST_USERS).expect("what is sent is acceptable");
    assert_eq!(again, change);
    assert_eq!(again.encode(), encoded, "one change has one encoding");
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("it is JSON");
    assert_eq!(value(body), value(&encoded), "what is sent is what was asked");
    assert!(!change.permissions().is_empty(), "a change needs a permission");
});
