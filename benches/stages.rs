//! What each stage of a request costs by itself, on one thread and with warm caches.
//!
//! ```sh
//! cargo bench --bench stages
//! cargo bench --bench stages -- token    # those whose name has this in it
//! ```
//!
//! A token is looked at from its header to the principal: as one that was never seen (reading,
//! signature, every rule) and as one that was (keyed hash, look-up, the rules of each use). A record
//! is the intent's, encoded and hashed to a leaf; what the journal does with it then is measured by
//! `--bench trail`.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use cms_gateway::audit::tree::Hash;
use cms_gateway::audit::{Audit, Events};
use cms_gateway::config::{self, Config};
use cms_gateway::context::Context;
use cms_gateway::identity::{Call, Identity, Principal};
use cms_gateway::operation::{self, Change};
use cms_gateway::policy::Roles;
use cms_gateway::reply;
use cms_gateway::telemetry::Metrics;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, Request, StatusCode};
use support::identity_provider::{Failed, IdentityProvider};
use support::{SAMPLE, cms, configuration, write_secret};

type Mint = fn(&IdentityProvider, &serde_json::Value) -> Result<String, Failed>;

const ALGORITHMS: [(&str, Mint); 3] = [
    ("RS256", IdentityProvider::mint_rs256),
    ("ES256", IdentityProvider::mint),
    ("EdDSA", IdentityProvider::mint_eddsa),
];
const ROLE: &str = "campaign-supervisor";
const MOST_USERS: usize = 1000;

/// An identity provider and gateways that trust it.
struct Bench {
    runtime: tokio::runtime::Runtime,
    provider: IdentityProvider,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let provider = {
            let _inside = runtime.enter();
            IdentityProvider::start(local).map_err(|it| it.to_string()).unwrap()
        };
        Self { runtime, provider }
    }

    /// A configuration, and the folder that it is in.
    fn config(&self, more: &str) -> (Config, tempfile::TempDir) {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        write_secret(&folder.path().join("username"), cms::ACCOUNT.0);
        write_secret(&folder.path().join("password"), cms::ACCOUNT.1);
        fs::write(folder.path().join("jwks.json"), self.provider.jwks().to_string()).unwrap();
        let jwks = format!("{{ url = \"{}\" }}", self.provider.jwks_url());
        let text = configuration(self.provider.issuer(), "http://127.0.0.1:9")
            .replace("[\"ES256\", \"RS256\"]", "[\"ES256\", \"RS256\", \"EdDSA\"]")
            .replace("{ file = \"jwks.json\" }", &jwks);
        let file = folder.path().join("gateway.toml");
        fs::write(&file, format!("{text}\n{more}")).unwrap();
        (config::load(&file).unwrap(), folder)
    }

    /// Who knows the issuer's keys.
    fn identity(&self, config: &Config) -> Identity {
        let metrics = Arc::new(Metrics::new().unwrap());
        let identity = Arc::new(Identity::new(config, &Events::default(), &metrics).unwrap());
        self.runtime.block_on(async {
            let refreshing = tokio::spawn(Arc::clone(&identity).refresh());
            identity.settle().await;
            refreshing.abort();
            let _ = refreshing.await;
        });
        Arc::into_inner(identity).unwrap()
    }

    fn request(&self, mint: Mint) -> Request<()> {
        let claims = self.provider.claims("supervisor-app", &[ROLE]);
        let token = mint(&self.provider, &claims).map_err(|it| it.to_string()).unwrap();
        let authorization = format!("Bearer {token}");
        Request::put(support::PATH).header("authorization", authorization).body(()).unwrap()
    }
}

/// Keys that are known make nobody wait.
fn principal(identity: &Identity, request: &Request<()>) -> Principal {
    let mut future = pin!(identity.authenticate(Call::of(request, None)));
    match future.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(principal) => principal.unwrap(),
        Poll::Pending => panic!("it waits"),
    }
}

fn token(criterion: &mut Criterion) {
    let bench = Bench::new();
    let (config, _folder) = bench.config("");
    let identity = bench.identity(&config);
    let (forgetful, _folder) = bench.config("[token_cache]\nmax_age = \"0s\"");
    let forgetful = bench.identity(&forgetful);
    for (name, mint) in ALGORITHMS {
        let request = bench.request(mint);
        criterion.bench_function(&format!("token seen again, {name}"), |bencher| {
            bencher.iter(|| principal(&identity, &request));
        });
        criterion.bench_function(&format!("token never seen, {name}"), |bencher| {
            bencher.iter(|| principal(&forgetful, &request));
        });
    }
}

/// A body that names so many users.
fn body(users: usize) -> Vec<u8> {
    let users: Vec<String> = (0..users).map(|user| format!("agent-{user:04}")).collect();
    let body = serde_json::json!({
        "leadId": 2, "campaignId": 1, "assignedUserIds": users, "unassignedUserIds": []
    });
    body.to_string().into_bytes()
}

fn decode(bytes: &[u8]) -> Box<dyn Change> {
    (operation::ALL[0].decode)(bytes, MOST_USERS).unwrap()
}

fn change(criterion: &mut Criterion) {
    for (name, bytes) in [("3 users", SAMPLE.as_bytes().to_vec()), ("1,000 users", body(1000))] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("strict decode", |bencher| bencher.iter(|| decode(&bytes)));
        let change = decode(&bytes);
        group.bench_function("canonical encoding", |bencher| bencher.iter(|| change.encode()));
        group.finish();
    }
}

fn decision(criterion: &mut Criterion) {
    let bench = Bench::new();
    let (config, _folder) = bench.config("");
    let principal = principal(&bench.identity(&config), &bench.request(IdentityProvider::mint));
    criterion.bench_function("decision", |bencher| {
        let input = || (principal.clone(), decode(SAMPLE.as_bytes()));
        bencher.iter_batched(
            input,
            |(principal, change)| config.roles.authorize(principal, change).unwrap(),
            BatchSize::SmallInput,
        );
    });
    let _inside = bench.runtime.enter();
    record(criterion, &config, &config.roles, principal);
}

fn record(criterion: &mut Criterion, config: &Config, roles: &Roles, principal: Principal) {
    let audit = Audit::open(&config.audit, None, &Arc::new(Metrics::new().unwrap())).unwrap();
    let source: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    let permitted = roles.authorize(principal, decode(SAMPLE.as_bytes())).unwrap();
    criterion.bench_function("request's context and id", |bencher| {
        bencher.iter(|| Context::of(&HeaderMap::new(), source.into()));
    });
    let context = Context::of(&HeaderMap::new(), source.into());
    criterion.bench_function("record, encoded", |bencher| {
        bencher.iter(|| audit.intent_line(&context, &permitted));
    });
    let line = audit.intent_line(&context, &permitted);
    criterion.bench_function("record, hashed", |bencher| {
        bencher.iter(|| Hash::of_leaf(black_box(&line)));
    });
}

fn answer(criterion: &mut Criterion) {
    let id = uuid::Uuid::now_v7();
    let body = bytes::Bytes::from_static(br#"{"leadId":2,"campaignId":1}"#);
    criterion.bench_function("reply", |bencher| {
        bencher.iter(|| reply::json(StatusCode::OK, body.clone(), id));
    });
}

criterion_group!(stages, token, change, decision, answer);
criterion_main!(stages);
