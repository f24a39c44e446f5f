//! From the `Authorization` header to a principal: nothing makes it panic, and of all headers only
//! those are accepted that bring one of the tokens that the known issuers have signed.
//!
//! An input is tried in three ways, because a mutation of base64url seldom is one of the JSON
//! within: as the header's lines, as a token's header in JSON, and as its claims.

#![no_main]

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cms_gateway::audit::Events;
use cms_gateway::config;
use cms_gateway::identity::{Call, Identity, Principal};
use cms_gateway::telemetry::Metrics;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// What the known issuers have signed, one a line. `make_corpus.py` makes them.
const TOKENS: &str = include_str!("../known/tokens");
const KEYS: &str = include_str!("../known/jwks.json");
const CONFIGURATION: &str = include_str!("../known/gateway.toml");

fuzz_target!(|input: &[u8]| {
    // HTTP takes the white space around a value away.
    let lines = input.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    if WORLD.accepts(&lines) {
        let token = lines.concat();
        let token = token.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let is_known = TOKENS.lines().any(|known| known.as_bytes() == token);
        assert!(is_known && lines.len() == 1, "accepted: {}", String::from_utf8_lossy(input));
    }
    let (_, rest) = FIRST.split_once('.').expect("a token has three parts");
    let forged =
        [b"Bearer ", URL_SAFE_NO_PAD.encode(input).as_bytes(), b".", rest.as_bytes()].concat();
    if WORLD.accepts(&[&forged]) {
        let (header, _) = FIRST.split_once('.').expect("a token has three parts");
        assert_eq!(URL_SAFE_NO_PAD.encode(input), header, "accepted with another header");
    }
    if let Ok(principal) = WORLD.identity.rehearse(input, SystemTime::now()) {
        assert!(principal.subject().or(principal.client_id()).is_some_and(|name| name != ""));
    }
});

static FIRST: LazyLock<&str> = LazyLock::new(|| TOKENS.lines().next().expect("there are tokens"));
static WORLD: LazyLock<World> = LazyLock::new(World::new);

struct World {
    runtime: Runtime,
    identity: Arc<Identity>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = identity(folder.path());
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let refresh = tokio::spawn(Arc::clone(&identity).refresh());
            let are_usable =
                || identity.issuers().all(|(_, keys)| keys.is_some_and(|it| it.are_usable));
            while !are_usable() {
                tokio::task::yield_now().await;
            }
            // They stay as they are.
            refresh.abort();
        });
        let world = Self { runtime, identity };
        for token in TOKENS.lines() {
            let header = format!("Bearer {token}");
            assert!(world.accepts(&[header.as_bytes()]), "not accepted: {token}");
        }
        world
    }

    /// Whether a request with these `Authorization` headers has a principal.
    fn accepts(&self, headers: &[&[u8]]) -> bool {
        let mut request = Request::new(());
        for value in headers {
            // What is no header does not get past HTTP.
            let Ok(value) = HeaderValue::from_bytes(value) else { return false };
            request.headers_mut().append(AUTHORIZATION, value);
        }
        let answer = self.runtime.block_on(self.identity.authenticate(Call::of(&request, None)));
        answer.is_ok_and(|principal: Principal| !principal.issuer().is_empty())
    }
}

fn identity(folder: &Path) -> Arc<Identity> {
    let account = [("username", "cms"), ("password", "none")];
    let files = [("jwks.json", KEYS), ("gateway.toml", CONFIGURATION)];
    for (name, text) in files.into_iter().chain(account) {
        let mut options = OpenOptions::new();
        // The configuration takes no account that others may read.
        let file = options.write(true).create(true).mode(0o600).open(folder.join(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    }
    let config = config::load(&folder.join("gateway.toml"));
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    Arc::new(Identity::new(&config, &Events::default(), &metrics).expect("an identity"))
}
