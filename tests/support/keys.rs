//! What is done with issuers and their keys: other keys published, refreshes counted, tokens signed.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use serde_json::{Value, json};

use super::identity_provider::{Endpoint, IdentityProvider, SigningKey};
use super::{PATH, Reply, World, next_status, wait_for};

/// Changes of a configuration whose first issuer has its keys in `jwks.json`.
pub struct Settings;

impl Settings {
    /// Its keys are fetched from the provider, with this beside the URL.
    pub fn by_url(more: &'static str) -> impl FnOnce(&mut String) {
        move |config| {
            let url = format!("url = \"{}jwks\"", issuer(config));
            Self::keys(config, &format!("{url}, {more}"));
        }
    }

    /// Its keys are had so.
    pub fn keys(config: &mut String, source: &str) {
        *config = config.replacen("{ file = \"jwks.json\" }", &format!("{{ {source} }}"), 1);
    }

    /// This stands among its own.
    pub fn with(lines: &'static str) -> impl FnOnce(&mut String) {
        move |config| {
            *config = config.replacen("[[issuers]]\n", &format!("[[issuers]]\n{lines}\n"), 1)
        }
    }
}

/// The first issuer of a configuration.
pub fn issuer(config: &str) -> &str {
    config.split("issuer = \"").nth(1).unwrap().split('"').next().unwrap()
}

/// One more provider, in the runtime that the caller is in.
pub fn another_provider() -> IdentityProvider {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    IdentityProvider::start(listener).map_err(|it| it.to_string()).unwrap()
}

pub fn new_key(id: &str) -> SigningKey {
    SigningKey::es256(id).map_err(|it| it.to_string()).unwrap()
}

pub fn sign(key: &SigningKey, claims: &Value) -> String {
    key.sign(claims).map_err(|it| it.to_string()).unwrap()
}

/// As [`sign`], under another header than the key's own.
pub fn sign_under(key: &SigningKey, change: impl FnOnce(&mut Header), claims: &Value) -> String {
    let mut header = key.header();
    change(&mut header);
    key.sign_under(&header, claims).map_err(|it| it.to_string()).unwrap()
}

/// The token with this header instead of its own, and the signature that is wrong then.
pub fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// The token as if a key of this name had signed it.
pub fn with_key_id(token: &str, id: &str) -> String {
    with_header(token, &json!({"typ": "at+jwt", "alg": "ES256", "kid": id}))
}

/// A request without a body, on a connection that stays.
pub fn bare_request(token: &str) -> String {
    format!(
        "PUT {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Sends requests in batches on one connection and gives the status of each answer.
pub fn pipelined(world: &World, requests: &[String]) -> Vec<u16> {
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let batches = requests.chunks(32).flat_map(|batch| {
        stream.write_all(batch.concat().as_bytes()).unwrap();
        batch.iter().map(|_| next_status(&mut answers)).collect::<Vec<_>>()
    });
    batches.collect()
}

/// Sends the same sample with each of the tokens at the same time.
pub fn at_once(world: &World, tokens: &[String]) -> Vec<Reply> {
    std::thread::scope(|scope| {
        let puts = tokens.iter().map(|token| scope.spawn(|| world.put(token, super::SAMPLE)));
        let puts: Vec<_> = puts.collect();
        puts.into_iter().map(|put| put.join().unwrap()).collect()
    })
}

impl World {
    pub fn good_claims(&self) -> Value {
        self.provider.claims("test-app", &["campaign-supervisor"])
    }

    /// How often the keys were asked for.
    pub fn fetches(&self) -> u64 {
        self.provider.asked(Endpoint::Jwks)
    }

    pub fn refreshes(&self, result: &str) -> f64 {
        let labels = format!("{{issuer=\"{}\",result=\"{result}\"}}", self.provider.issuer());
        self.gateway.metric(&format!("cms_gateway_jwks_refresh_total{labels}")).unwrap_or_default()
    }

    pub fn refusals(&self, reason: &str) -> f64 {
        let labels = format!("{{reason=\"{reason}\"}}");
        let metric = format!("cms_gateway_token_refusals_total{labels}");
        self.gateway.metric(&metric).unwrap_or_default()
    }

    /// How often a token was known, and how often it was not.
    pub fn cache(&self) -> (f64, f64) {
        let count =
            |name| self.gateway.metric(&format!("cms_gateway_token_cache_{name}_total")).unwrap();
        (count("hits"), count("misses"))
    }

    /// What `/issuers` says of the first one.
    pub fn issuer(&self) -> Value {
        self.gateway.admin("/issuers").json()[0].take()
    }

    pub fn key_ids(&self) -> Vec<String> {
        let issuer = self.issuer();
        let keys = issuer["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap_or("(none)").to_owned()).collect()
    }

    /// What the last refresh failed for.
    pub fn last_error(&self) -> String {
        self.issuer()["last_error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    pub fn wait_for_keys(&self, ids: &[&str]) {
        wait_for("other keys", || self.key_ids() == ids);
    }

    /// The reason for which a token is refused with 401 GW-2002, as it is counted.
    #[track_caller]
    pub fn assert_refused(&self, token: &str, reason: &str) {
        let before = self.refusals(reason);
        let reply = self.put(token, super::SAMPLE);
        assert_eq!((reply.status, reply.code().as_str()), (401, "GW-2002"), "{reason}");
        assert_eq!(self.refusals(reason), before + 1.0, "{reason}");
    }

    #[track_caller]
    pub fn assert_accepted(&self, token: &str) {
        let reply = self.put(token, super::SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Replaces the key file by another one, as a careful writer does.
    pub fn rename_keys(&self, text: &str) -> Instant {
        let new = self.folder.path().join("jwks.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder.path().join("jwks.json")).unwrap();
        Instant::now()
    }
}
