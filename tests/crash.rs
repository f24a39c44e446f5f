//! Killed at any moment, under load: every change that the CMS heard of has its intent on disk,
//! every answer that a caller got has its outcome, and the trail is whole each time.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{BINARY, Gateway, SAMPLE, World, records_in};

const KILLS: usize = 1000;
const CALLERS: usize = 4;

#[test]
fn a_thousand_kills_lose_nothing() {
    let kills = KILLS / 2;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| kill_often(kills));
        }
    });
}

fn kill_often(kills: usize) {
    let mut world = World::with(|config| {
        *config = config.replace("[audit]\n", "[audit]\nsegment_size = \"64KiB\"\n");
    });
    let token = world.supervisor();
    let audit = world.folder.path().join("audit");
    let (mut answered, mut heard) = (BTreeSet::new(), BTreeSet::new());
    // Not random, and yet never the same moment: it depends on how fast everything is just then.
    for kill in 0..kills {
        let moment = Duration::from_micros((kill as u64 * 7919) % 30_000);
        // Every fifth one may come while it is still starting.
        if kill % 5 != 0 {
            world.gateway.wait_until_ready();
        }
        let api = world.gateway.api;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut answered = Vec::new();
                        while !is_over.load(Ordering::Relaxed) {
                            match support::try_put(api, &token, SAMPLE) {
                                Some(reply) if reply.status == 200 => {
                                    answered.push(reply.header("x-request-id").unwrap().to_owned());
                                }
                                _ => {}
                            }
                        }
                        answered
                    })
                })
                .collect();
            let start = Instant::now();
            while start.elapsed() < moment {
                std::hint::spin_loop();
            }
            world.gateway.child.kill().unwrap();
            world.gateway.child.wait().unwrap();
            is_over.store(true, Ordering::Relaxed);
            callers.into_iter().for_each(|it| answered.extend(it.join().unwrap()));
        });
        heard.extend(world.cms.received().iter().map(|request| {
            let id = request.headers.iter().find(|(name, _)| name == "x-request-id");
            id.unwrap().1.clone()
        }));
        let output = Command::new(BINARY).args(["audit", "verify"]).arg(&audit).output().unwrap();
        let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(0), "kill {kill}: {words}");
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(world.config());
        world.gateway = Gateway::start(command);
    }
    world.gateway.wait_until_ready();
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());

    let records = records_in(&audit);
    let of_kind = |kind: &str, name: Value| -> BTreeSet<String> {
        let of_kind = records.iter().filter(|it| it["kind"] == kind && it["event"]["name"] == name);
        of_kind.map(|it| it["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let intents = of_kind("intent", Value::Null);
    let outcomes = of_kind("outcome", Value::Null);
    let unknown = of_kind("event", "outcome_unknown".into());
    let load = (heard.len(), answered.len());
    assert!(load.0 > kills && load.1 > kills / 2, "{load:?} were heard and answered");
    assert!(heard.is_subset(&intents), "the CMS heard of a change that is on no record");
    assert!(answered.is_subset(&outcomes), "a caller was answered without an outcome on record");
    assert!(outcomes.is_disjoint(&unknown));
    let closed: BTreeSet<String> = outcomes.union(&unknown).cloned().collect();
    assert_eq!(closed, intents, "every intent has an outcome, or is said to have none");
}
