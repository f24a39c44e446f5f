//! Callers who ask without a pause, while something happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{SAMPLE, World, put, wait_for};

/// Ends the callers also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets the store, as `write` does it, have another password first, and the CMS follow; no caller
/// notices, since the gateway has an overlap.
pub fn assert_rotates_under_load(world: &World, password: &str, write: impl FnOnce()) {
    let refusals = world.cms.refusals();
    let refused = || world.gateway.metric("cms_gateway_credential_refused");
    let others = under_load(world, |more| {
        write();
        wait_for("the refusal of the new one", || world.cms.refusals() > refusals);
        more(50);
        assert_eq!(refused(), Some(1.0));
        world.cms.change_password(password);
        wait_for("the new one", || refused() == Some(0.0));
    });
    assert_eq!(others, []);
}

/// Lets eight callers ask all the while, and gives the statuses that they saw beside 200.
pub fn under_load(world: &World, meanwhile: impl FnOnce(&dyn Fn(usize))) -> Vec<(u16, String)> {
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
