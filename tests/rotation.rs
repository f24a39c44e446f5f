//! The CMS's password is rotated while callers ask, and none of them notices.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Mutex};

use serde_json::json;

use support::faulty::{Act, FaultyCms, good};
use support::load::assert_rotates_under_load;
use support::{SAMPLE, World, wait_for, write_secret};

fn events(world: &World, name: &str) -> usize {
    let records = support::records_in(&world.folder.path().join("audit"));
    records.iter().filter(|record| record["event"]["name"] == name).count()
}

#[test]
fn the_store_is_first_and_the_cms_follows() {
    let world = World::with(|config| {
        *config = config.replace("source = \"file\"", "source = \"file\"\noverlap = \"1h\"");
    });
    world.gateway.wait_until_ready();
    for password in ["second", "third"] {
        let path = world.folder.path().join("password");
        assert_rotates_under_load(&world, password, || write_secret(&path, password));
    }
    assert_eq!(events(&world, "credential_rotated"), 2);
    assert!(events(&world, "credential_refused") >= 2);
}

#[test]
fn the_records_tell_which_version_was_used() {
    let world = World::start();
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let version = |world: &World| {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        world.records().pop().unwrap()["credential"]["version"].clone()
    };
    let first = version(&world);
    assert!(first.is_string());
    world.cms.change_password("second");
    write_secret(&world.folder.path().join("password"), "second");
    wait_for("the new one", || events(&world, "credential_rotated") == 1);
    assert_ne!(version(&world), first);
}

#[test]
fn what_is_on_its_way_ends_with_the_old_one_while_the_new_one_is_used() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let cms = FaultyCms::start([Act::Say(good()), Act::Await(Arc::clone(&gate), good())]);
    let world = cms.world("");
    let token = world.supervisor();
    assert_eq!(world.put(&token, SAMPLE).status, 200);
    std::thread::scope(|scope| {
        let early = scope.spawn(|| world.put(&token, SAMPLE));
        wait_for("the early one", || cms.requests() == 2);
        write_secret(&world.folder.path().join("password"), "second");
        wait_for("the new one", || events(&world, "credential_rotated") == 1);
        let late = world.put(&token, SAMPLE);
        assert_eq!((late.status, cms.requests()), (200, 3));
        assert!(!early.is_finished());
        drop(closed);
        let early = early.join().unwrap();
        assert_eq!(early.status, 200);
        // cms-service:cms-password twice, and then cms-service:second
        let old = "Basic Y21zLXNlcnZpY2U6Y21zLXBhc3N3b3Jk";
        assert_eq!(cms.authorizations(), [old, old, "Basic Y21zLXNlcnZpY2U6c2Vjb25k"]);
        let records = world.records();
        let version = |reply: &support::Reply| {
            let id = json!(reply.header("x-request-id").unwrap());
            let mut own = records.iter().filter(|record| record["request_id"] == id);
            own.rfind(|record| record["kind"] == "outcome").unwrap()["credential"]["version"]
                .clone()
        };
        assert!(version(&early).is_string());
        assert_ne!(version(&early), version(&late));
    });
    assert_eq!(cms.requests(), 3);
}
