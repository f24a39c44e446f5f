//! Good tokens, changed a little.

use std::sync::Arc;

use cms_gateway::audit::Events;
use cms_gateway::config;
use cms_gateway::identity::{Call, Identity};
use cms_gateway::telemetry::Metrics;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::forge::{Forge, changed, decode, encode, good, token};
use super::world;

/// What is done to a token.
#[derive(Debug, Clone)]
enum Mutation {
    /// One byte of a part, as it is signed or decoded, becomes another one.
    Decoded { part: usize, place: prop::sample::Index, mask: u8 },
    /// One byte of the token, as it is sent, becomes another one.
    Encoded { place: prop::sample::Index, mask: u8 },
    /// One byte of the token is left out.
    Shortened { place: prop::sample::Index },
    /// Some of its parts, and not all of them, become those of another good token.
    Swapped { other: prop::sample::Index, parts: u8 },
}

#[test]
fn no_mutation_of_a_good_token_is_accepted() {
    let forge = Forge::new();
    let mut world = world(&forge);
    world.gateway.child.kill().unwrap();
    world.gateway.wait();
    let asked = Asked::of(&world);
    let tokens = good_tokens(&forge);
    for token in &tokens {
        assert!(asked.accepts(token.as_bytes()), "{token}");
    }
    let strategy = (any::<prop::sample::Index>(), mutation());
    let mut runner =
        TestRunner::new(Config { cases: 8_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&strategy, |(of, mutation)| {
        let mutated = mutated(&tokens, of.index(tokens.len()), &mutation);
        prop_assert!(!asked.accepts(&mutated), "{}", String::from_utf8_lossy(&mutated));
        Ok(())
    });
    outcome.unwrap();
}

/// Two of each algorithm, which differ in each of their parts.
fn good_tokens(forge: &Forge) -> Vec<String> {
    let made = |number: usize| {
        let header = |name: &str, kid: &str| {
            format!(r#"{{"alg":"{name}","kid":"{kid}","number":{number}}}"#)
        };
        let claims = |name: &str| changed(good(), "jti", format!("{name}-{number}")).to_string();
        [
            token(header("ES256", "es256"), claims("ES256"), |it| forge.es256(it)),
            token(header("RS256", "rsa"), claims("RS256"), |it| forge.rs256(it)),
            token(header("PS256", "rsa"), claims("PS256"), |it| forge.ps256(it)),
            token(header("EdDSA", "eddsa"), claims("EdDSA"), |it| forge.eddsa(it)),
        ]
    };
    [made(1), made(2)].concat()
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (0..3_usize, place(), 1..=u8::MAX).prop_map(|(part, place, mask)| Mutation::Decoded {
            part,
            place,
            mask
        }),
        (place(), 1..=u8::MAX).prop_map(|(place, mask)| Mutation::Encoded { place, mask }),
        place().prop_map(|place| Mutation::Shortened { place }),
        (place(), 1..7_u8).prop_map(|(other, parts)| Mutation::Swapped { other, parts }),
    ]
}

fn mutated(tokens: &[String], of: usize, mutation: &Mutation) -> Vec<u8> {
    let token = &tokens[of];
    match mutation {
        Mutation::Decoded { part, place, mask } => {
            let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
            let mut bytes = decode(&parts[*part]);
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
            parts[*part] = encode(bytes);
            parts.join(".").into_bytes()
        }
        Mutation::Encoded { place, mask } => {
            let mut bytes = token.clone().into_bytes();
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
            bytes
        }
        Mutation::Shortened { place } => {
            let mut bytes = token.clone().into_bytes();
            bytes.remove(place.index(bytes.len()));
            bytes
        }
        Mutation::Swapped { other, parts } => {
            // One of the others.
            let other = (of + 1 + other.index(tokens.len() - 1)) % tokens.len();
            let pairs = token.split('.').zip(tokens[other].split('.')).enumerate();
            let swapped = pairs.map(
                |(place, (own, others))| {
                    if parts >> place & 1 == 1 { others } else { own }
                },
            );
            swapped.collect::<Vec<_>>().join(".").into_bytes()
        }
    }
}

/// The gateway's own judgement, without its sockets: there are thousands of tokens.
struct Asked {
    runtime: Runtime,
    identity: Arc<Identity>,
}

impl Asked {
    fn of(world: &super::World) -> Self {
        let config = config::load(&world.config()).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let identity = Arc::new(Identity::new(&config, &Events::default(), &metrics).unwrap());
        let runtime = Runtime::new().unwrap();
        runtime.spawn(Arc::clone(&identity).refresh());
        super::support::wait_for("the keys", || {
            identity.issuers().all(|(_, keys)| keys.is_some_and(|keys| keys.are_usable))
        });
        Self { runtime, identity }
    }

    fn accepts(&self, token: &[u8]) -> bool {
        // What is no header does not get past HTTP.
        let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", token].concat()) else {
            return false;
        };
        let request = Request::builder().header(AUTHORIZATION, value).body(()).unwrap();
        self.runtime.block_on(self.identity.authenticate(Call::of(&request, None))).is_ok()
    }
}
