//! What the trail costs and how fast it is read.
//!
//! ```sh
//! cargo bench --bench trail -- cost              # CPU a request, with 64 in flight
//! cargo bench --bench trail -- cost disk         # one of none, memory, disk
//! cargo bench --bench trail -- read 10000000     # verify and query over so many records
//! ```
//!
//! `cost` decodes and permits changes, and puts both records of each on the trail: encoded, queued,
//! hashed, written, synced and put under checkpoints; on disk, in memory without a sync, and not at
//! all, so that what the trail costs is the difference.
//! `read` writes a trail of the given size (about 0.9 GB a million records) and runs the binary's
//! commands on it. Both use TMPDIR, and end by themselves.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cms_gateway::audit::checkpoint::Checkpoint;
use cms_gateway::audit::line::Head;
use cms_gateway::audit::log::Log;
use cms_gateway::audit::note::Signer;
use cms_gateway::audit::tree::Hash;
use cms_gateway::audit::{Audit, Events, Outcome, folder};
use cms_gateway::config::{self, Durability};
use cms_gateway::context::Context;
use cms_gateway::identity::{Identity, Principal};
use cms_gateway::operation;
use cms_gateway::policy::{Campaigns, Role, Roles};
use cms_gateway::telemetry::Metrics;

const BODY: &[u8] = br#"{"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["exe_gs","madhur1"]}"#;
const IN_FLIGHT: usize = 64;
const SECONDS: u64 = 5;
const SEGMENT: u64 = 64 << 20;

fn main() {
    // Cargo passes --bench as well.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|it| !it.starts_with("--")).collect();
    match arguments.first().map(String::as_str) {
        Some("read") => read(arguments.get(1).map_or(1_000_000, |it| it.parse().unwrap())),
        Some("cost") | None => cost(arguments.get(1).map(String::as_str)),
        Some(other) => panic!("{other}: write cost, or read and a number of records"),
    }
}

fn cost(which: Option<&str>) {
    let disk = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    println!("the disk alone: {:.0} fdatasync/s, each of 512 bytes", disk_alone(disk.path()));
    println!("{IN_FLIGHT} in flight, {SECONDS} s each; a request is an intent and an outcome");
    for _ in 0..3 {
        for (name, trail) in [
            ("none", None),
            ("memory", Some((memory.path(), Durability::Write))),
            ("disk", Some((disk.path(), Durability::Fsync))),
        ] {
            if which.is_none_or(|which| which == name) {
                cost_of(name, trail);
            }
        }
    }
}

/// How often a second the disk takes a small record.
fn disk_alone(directory: &Path) -> f64 {
    let mut file = fs::File::create(directory.join("alone")).unwrap();
    let (start, mut flushes) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(&[b'x'; 512]).unwrap();
        file.sync_data().unwrap();
        flushes += 1;
    }
    f64::from(flushes) / start.elapsed().as_secs_f64()
}

fn cost_of(name: &str, trail: Option<(&Path, Durability)>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let inside = runtime.enter();
    let audit = trail.map(|(directory, durability)| {
        let directory = directory.join(uuid::Uuid::now_v7().to_string());
        let settings = config::Audit {
            signing_key: directory.with_extension("pem"),
            directory,
            segment_size: SEGMENT,
            compress: false,
            retention: None,
            also_stdout: false,
            low_space: 0,
            durability,
            instance: "bench".to_owned(),
        };
        Audit::open(&settings, None, &metrics).unwrap()
    });
    drop(inside);
    let principal = principal();
    let before = cpu();
    let start = Instant::now();
    let requests: u64 = runtime.block_on(async {
        let workers: Vec<_> = (0..IN_FLIGHT)
            .map(|_| tokio::spawn(work(audit.clone(), principal.clone(), start)))
            .collect();
        let mut requests = 0;
        for worker in workers {
            requests += worker.await.unwrap();
        }
        if let Some(audit) = &audit {
            audit.close().await;
        }
        requests
    });
    let (used, elapsed) = (cpu() - before, start.elapsed());
    let flushes = metrics.audit_flush_duration.get_sample_count();
    println!(
        "{name:6}  {:5.1} us CPU a request, {:7.0} requests/s, {:6.0} flushes/s",
        used.as_secs_f64() * 1e6 / requests as f64,
        requests as f64 / elapsed.as_secs_f64(),
        flushes as f64 / elapsed.as_secs_f64(),
    );
}

async fn work(audit: Option<Arc<Audit>>, principal: Principal, start: Instant) -> u64 {
    let roles: Roles = [(
        "campaign-supervisor".to_owned(),
        Role { permissions: operation::ALL[0].permissions.to_vec(), campaigns: Campaigns::Any },
    )]
    .into_iter()
    .collect();
    let source: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    let mut requests = 0;
    while start.elapsed() < Duration::from_secs(SECONDS) {
        let context = Context::of(&http::HeaderMap::new(), source.into());
        let change = (operation::ALL[0].decode)(BODY, 1000).unwrap();
        let permitted = roles.authorize(principal.clone(), change).unwrap();
        requests += 1;
        let Some(audit) = &audit else {
            std::hint::black_box(permitted);
            tokio::task::yield_now().await;
            continue;
        };
        let recorded = audit.intent(&context, permitted).await.unwrap();
        let outcome = Outcome {
            status: Some(200),
            code: None,
            attempts: 1,
            duration_us: 500,
            tries: &[],
            answer: None,
            credential: None,
        };
        audit.outcome(recorded, outcome).await;
    }
    requests
}

fn principal() -> Principal {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, CONFIGURATION).unwrap();
    let environment = ["CMS_USER", "CMS_PASSWORD"].map(|name| (name.to_owned(), "x".to_owned()));
    let config = config::load_with(&file, &environment.into()).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let identity = Identity::new(&config, &Events::default(), &metrics).unwrap();
    let now = SystemTime::now();
    let soon = now.duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = format!(
        r#"{{"iss":"https://idp.example.com/","aud":"cms-gateway","exp":{soon},
            "sub":"supervisor-app","client_id":"supervisor-app",
            "jti":"01a20ad8-0dbe-73e1-9511-e680e589735a","roles":["campaign-supervisor"]}}"#
    );
    identity.rehearse(claims.as_bytes(), now).unwrap()
}

const CONFIGURATION: &str = r#"
[listen]
api = "127.0.0.1:0"
admin = "127.0.0.1:0"
[[issuers]]
issuer = "https://idp.example.com/"
audiences = ["cms-gateway"]
jwks = { url = "http://127.0.0.1:9/" }
algorithms = ["ES256"]
[roles.campaign-supervisor]
permissions = ["lead-users:assign"]
campaigns = "any"
[upstream]
url = "http://127.0.0.1:9"
[credential]
source = "env"
username = "CMS_USER"
password = "CMS_PASSWORD"
[audit]
directory = "audit"
"#;

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn read(records: u64) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let start = Instant::now();
    let bytes = write_trail(directory, records);
    let megabytes = bytes as f64 / 1e6;
    println!("{records} records, {megabytes:.0} MB, written in {:.1?}", start.elapsed());
    let cores = std::thread::available_parallelism().unwrap();
    for arguments in [
        &["verify"][..],
        &["query", "--campaign", "777"],
        &["query", "--campaign", "777", "--newest", "--limit", "10"],
        &["query", "--user", "agent_31415", "--format", "json"],
        &["query", "--since", "2026-02-01T00:00:00Z", "--until", "2026-02-01T00:10:00Z"],
    ] {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cms-gateway"))
            .arg("audit")
            .args(arguments)
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut memory = 0;
        let status = loop {
            memory = memory.max(peak(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let elapsed = start.elapsed();
        assert!(status.success());
        println!(
            "{}: {elapsed:.2?} on {cores} cores, {:.0} MB/s, {memory} MiB at most",
            arguments.join(" "),
            megabytes / elapsed.as_secs_f64(),
        );
    }
}

/// The most memory that a process has had, in MiB.
fn peak(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) / 1024
}

/// A trail as the gateway writes it, faster than it would.
fn write_trail(directory: &Path, records: u64) -> u64 {
    let signer = Signer::load_or_make(&directory.join("key.pem"), "cms-gateway/bench").unwrap();
    fs::write(directory.join(folder::KEYS), format!("{}\n", signer.public())).unwrap();
    let begin = humantime::parse_rfc3339("2026-02-01T00:00:00Z").unwrap();
    let (mut log, mut previous, mut total) = (Log::empty(), 0, 0);
    let mut manifest = fs::File::create(directory.join(folder::MANIFEST)).unwrap();
    while log.size() < records {
        let first = log.segment();
        let name = directory.join(folder::segment_name(first));
        let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(name).unwrap());
        let mut checkpoints = String::new();
        let mut line = String::new();
        loop {
            let sequence = log.size() + 1;
            let is_last = sequence == records;
            let is_closing = !is_last && log.bytes() >= SEGMENT;
            let time = begin + Duration::from_micros(sequence * 250);
            record(&mut line, sequence, time, is_closing);
            let record = line.trim_end().as_bytes();
            log.push(&Head::parse(record).unwrap(), Hash::of_leaf(record), line.len());
            file.write_all(line.as_bytes()).unwrap();
            total += line.len() as u64;
            if is_closing || is_last || sequence % 4000 == 0 {
                let origin = "cms-gateway/bench".to_owned();
                let (size, root) = (log.size(), log.edge().root());
                let note = Checkpoint { origin, size, root, previous }.sign(&signer);
                checkpoints.push_str(&note);
                previous = size;
                if is_closing {
                    manifest.write_all(&log.close(note).encode()).unwrap();
                }
                if is_closing || is_last {
                    break;
                }
            }
        }
        file.flush().unwrap();
        fs::write(folder::checkpoints(directory, first), checkpoints).unwrap();
    }
    total
}

/// Intents and outcomes in turn, over a thousand campaigns and a hundred thousand users.
fn record(line: &mut String, sequence: u64, time: SystemTime, is_closing: bool) {
    line.clear();
    let time = humantime::format_rfc3339_micros(time);
    let request = sequence.div_ceil(2);
    let is_intent = sequence % 2 == 1;
    let kind = if is_closing {
        "event"
    } else if is_intent {
        "intent"
    } else {
        "outcome"
    };
    let id = if is_closing {
        "null".to_owned()
    } else {
        format!("\"{}\"", uuid::Uuid::from_u128(u128::from(request)))
    };
    let (status, attempts) = if is_intent { ("null", "null") } else { ("200", "1") };
    let event = if is_closing { "\"segment_closed\"" } else { "null" };
    let (campaign, user) = (request % 1000, request % 100_000);
    writeln!(
        line,
        r#"{{"time":"{time}","sequence":{sequence},"kind":"{kind}","request_id":{id},"trace_id":null,"operation":"lead-users","actor":{{"issuer":"https://idp.example.com/","subject":"supervisor-app","client_id":"supervisor-app","roles":["campaign-supervisor"],"token_id":"01a20ad8-0dbe-73e1-9511-e680e589735a"}},"source":{{"address":"10.0.0.1","port":40000,"claimed_request_id":null}},"target":{{"campaign":{campaign},"lead":{request}}},"change":{{"assigned":["agent_{user}"],"unassigned":["exe_gs","madhur1"]}},"decision":{{"allow":true,"code":null,"reason":null,"grant":"campaign-supervisor: lead-users:assign, campaign-supervisor: lead-users:unassign"}},"upstream":{{"status":{status},"code":null,"attempts":{attempts},"duration_us":{attempts}}},"credential":{{"source":"file","version":"2026-01-01T00:00:00.000000Z"}},"event":{{"name":{event},"detail":null,"count":null}},"gateway":{{"instance":"bench","version":"0.1.0"}}}}"#
    )
    .unwrap();
}
