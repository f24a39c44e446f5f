//! What the trail costs the gateway: the real binary, 64 requests in flight over loopback, its trail
//! on disk and flushed, and beside it the same gateway with its trail in memory and never flushed.
//!
//! ```sh
//! cargo bench --bench gateway
//! ```
//!
//! The figure is the gateway's own CPU a request, from the scheduler's account; the identity
//! provider, the CMS and the load are in this process. The two take turns, so that a neighbour's
//! noise hits both. It ends by itself, after about a minute.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{SAMPLE, World, next_status, request};

const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(5);

fn main() {
    let disk = World::start();
    let memory_folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let memory = World::with(|config| {
        let folder = memory_folder.path().join("audit");
        let settings = format!("directory = {folder:?}\ndurability = \"write\"");
        *config = config.replace("directory = \"audit\"", &settings);
    });
    let worlds = [("memory", &memory), ("disk", &disk)];
    worlds.iter().for_each(|(_, world)| world.gateway.wait_until_ready());
    let mut cost = [Vec::new(), Vec::new()];
    println!("{IN_FLIGHT} in flight, {ROUNDS} rounds of {} s", ROUND.as_secs());
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (place, (name, world)) in worlds.iter().enumerate() {
            let flushes = || {
                let count = "cms_gateway_audit_flush_duration_seconds_count";
                world.gateway.metric(count).unwrap()
            };
            let (flushed, before, start) = (flushes(), cpu(world), Instant::now());
            let requests = load(world);
            let (used, elapsed) = (cpu(world) - before, start.elapsed().as_secs_f64());
            if round > 0 {
                let each = used.as_secs_f64() * 1e6 / requests as f64;
                let (rate, flushes) = (requests as f64 / elapsed, (flushes() - flushed) / elapsed);
                println!(
                    "{name:6}  {each:5.1} us CPU a request, {rate:6.0} requests/s, \
                     {flushes:6.0} flushes/s"
                );
                cost[place].push(each);
            }
        }
    }
    let [memory, disk] = cost.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    let more = disk - memory;
    println!("medians: memory {memory:.1} us, disk {disk:.1} us, the disk costs {more:+.1} us");
}

/// Sends the sample over many connections for a round, and counts the answers.
fn load(world: &World) -> u64 {
    let whole = request(&world.supervisor(), SAMPLE).replace("Connection: close\r\n", "");
    let (whole, api) = (whole.as_bytes(), world.gateway.api);
    let start = Instant::now();
    let connection = || {
        let mut stream = TcpStream::connect(api).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut requests = 0;
        while start.elapsed() < ROUND {
            stream.write_all(whole).unwrap();
            assert_eq!(next_status(&mut answers), 200);
            requests += 1;
        }
        requests
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..IN_FLIGHT).map(|_| scope.spawn(connection)).collect();
        all.into_iter().map(|each| each.join().unwrap()).sum()
    })
}

/// The gateway's CPU time so far.
fn cpu(world: &World) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", world.gateway.child.id())).unwrap();
    let nanoseconds = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
