//! What a token costs: seen for the first time, and seen again.
//!
//! ```sh
//! cargo bench --bench token
//! ```
//!
//! One thread asks for the principal of each of many tokens, once when none of them is known and then
//! again and again. The figure is the processor time of this thread for each token: header, reading,
//! signature and rules the first time, header, keyed hash, look-up and the rules of each use after
//! that. It ends by itself, after some seconds.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cms_gateway::audit::Events;
use cms_gateway::config;
use cms_gateway::identity::{Call, Identity};
use cms_gateway::telemetry::Metrics;
use http::Request;
use support::identity_provider::IdentityProvider;
use support::{cms, configuration, write_secret};

const TOKENS: usize = 2000;
const ROUNDS: usize = 5;
const REPEATS: usize = 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let _inside = runtime.enter();
    let provider = IdentityProvider::start(local).map_err(|it| it.to_string()).unwrap();
    println!("{TOKENS} tokens, medians of {ROUNDS} rounds, us of CPU a token");
    println!("algorithm  bytes  first seen  seen again");
    for (name, mint) in [
        ("RS256", IdentityProvider::mint_rs256 as Mint),
        ("ES256", IdentityProvider::mint),
        ("EdDSA", IdentityProvider::mint_eddsa),
    ] {
        let requests: Vec<Request<()>> = (0..TOKENS)
            .map(|_| {
                let claims = provider.claims("supervisor-app", &["campaign-supervisor"]);
                let token = mint(&provider, &claims).map_err(|it| it.to_string()).unwrap();
                let authorization = format!("Bearer {token}");
                Request::put(support::PATH).header("authorization", authorization).body(()).unwrap()
            })
            .collect();
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // A gateway that has seen nothing.
            let identity = identity(&provider);
            runtime.block_on(async {
                let refreshing = tokio::spawn(Arc::clone(&identity).refresh());
                identity.settle().await;
                first.push(cost(&identity, &requests, 1).await);
                again.push(cost(&identity, &requests, REPEATS).await);
                refreshing.abort();
            });
        }
        let bytes = requests[0].headers()["authorization"].len() - "Bearer ".len();
        println!("{name:9}  {bytes:5}  {:10.1}  {:10.2}", median(first), median(again));
    }
}

type Mint =
    fn(&IdentityProvider, &serde_json::Value) -> Result<String, support::identity_provider::Failed>;

/// Microseconds for each token.
async fn cost(identity: &Identity, requests: &[Request<()>], repeats: usize) -> f64 {
    let before = thread_time();
    for _ in 0..repeats {
        for request in requests {
            let principal = identity.authenticate(Call::of(request, None)).await;
            std::hint::black_box(principal.unwrap());
        }
    }
    let used = thread_time() - before;
    used.as_secs_f64() * 1e6 / (requests.len() * repeats) as f64
}

fn identity(provider: &IdentityProvider) -> Arc<Identity> {
    let folder = tempfile::tempdir().unwrap();
    write_secret(&folder.path().join("username"), cms::ACCOUNT.0);
    write_secret(&folder.path().join("password"), cms::ACCOUNT.1);
    fs::write(folder.path().join("jwks.json"), provider.jwks().to_string()).unwrap();
    let text = configuration(provider.issuer(), "http://127.0.0.1:9")
        .replace("[\"ES256\", \"RS256\"]", "[\"ES256\", \"RS256\", \"EdDSA\"]")
        .replace("{ file = \"jwks.json\" }", &format!("{{ url = \"{}\" }}", provider.jwks_url()));
    let file = folder.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    let config = config::load(&file).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    Arc::new(Identity::new(&config, &Events::default(), &metrics).unwrap())
}

/// The processor time of this thread, from the scheduler's account.
fn thread_time() -> Duration {
    let account = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(account.split(' ').next().unwrap().parse().unwrap())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
