//! The CMS's password is rotated while callers ask, and none of them notices.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::{SAMPLE, World, put, wait_for, write_secret};

/// Ends the callers also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets eight callers ask all the while, and gives the statuses that they saw beside 200.
fn under_load(world: &World, meanwhile: impl FnOnce(&dyn Fn(usize))) -> Vec<(u16, String)> {
    let (served, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let token = world.supervisor();
    let api = world.gateway.api;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut others = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let reply = put(api, &token, SAMPLE);
                        match reply.status {
                            200 => drop(served.fetch_add(1, Ordering::Relaxed)),
                            status => others.push((status, reply.body)),
                        }
                    }
                    others
                })
            })
            .collect();
        let more = |count| {
            let target = served.load(Ordering::Relaxed) + count;
            wait_for("more calls", || served.load(Ordering::Relaxed) >= target);
        };
        {
            let _end = End(&is_over);
            more(50);
            meanwhile(&more);
            more(50);
        }
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

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
        let refusals = world.cms.refusals();
        let others = under_load(&world, |more| {
            write_secret(&world.folder.path().join("password"), password);
            wait_for("the refusal of the new one", || world.cms.refusals() > refusals);
            more(50);
            assert_eq!(world.gateway.metric("cms_gateway_credential_refused"), Some(1.0));
            world.cms.change_password(password);
            wait_for("the new one", || {
                world.gateway.metric("cms_gateway_credential_refused") == Some(0.0)
            });
        });
        assert_eq!(others, []);
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
