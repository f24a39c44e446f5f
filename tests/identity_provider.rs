//! What the sandbox's identity provider does for the other tests.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use support::identity_provider::{
    AUDIENCE, Endpoint, IdentityProvider, Misbehaviour, RESOURCE_SERVER, SigningKey,
};
use support::{Reply, exchange};

struct Provider {
    _runtime: Runtime,
    provider: IdentityProvider,
}

impl Provider {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let _inside = runtime.enter();
        let provider = IdentityProvider::start(listener).map_err(|it| it.to_string()).unwrap();
        drop(_inside);
        Self { _runtime: runtime, provider }
    }

    fn ask(&self, method: &str, endpoint: Endpoint, headers: &str, body: &str) -> Reply {
        let url = self.provider.url(endpoint);
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let length = body.len();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: idp\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        exchange(address.parse().unwrap(), request.as_bytes())
    }

    fn fetch(&self, endpoint: Endpoint) -> Reply {
        self.ask("GET", endpoint, "", "")
    }

    fn introspect(&self, token: &str) -> Reply {
        let pair = STANDARD.encode("cms%3Agateway:introspection+secret%3A+100%25%2B%26%3D");
        let headers = format!("Authorization: Basic {pair}\r\n");
        self.ask("POST", Endpoint::Introspection, &headers, &format!("token={token}"))
    }
}

#[test]
fn it_tells_the_resource_server_alone_about_opaque_tokens() {
    let world = Provider::start();
    assert_eq!(RESOURCE_SERVER, ("cms:gateway", "introspection secret: 100%+&="));
    let mut claims = world.provider.claims("app", &["campaign-supervisor"]);
    let token = world.provider.mint_opaque(&claims);
    let told = world.introspect(&token);
    assert_eq!((told.status, told.header("content-type")), (200, Some("application/json")));
    let told = told.json();
    assert_eq!((&told["active"], &told["sub"]), (&json!(true), &json!("app")));

    let inactive = json!({"active": false});
    world.provider.revoke(&token);
    assert_eq!(world.introspect(&token).json(), inactive);
    assert_eq!(world.introspect("unknown").json(), inactive);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    claims["exp"] = json!(now - 1);
    let expired = world.provider.mint_opaque(&claims);
    assert_eq!(world.introspect(&expired).json(), inactive);

    let refused = world.ask("POST", Endpoint::Introspection, "", &format!("token={token}"));
    assert_eq!(refused.status, 401);
    assert_eq!(world.provider.asked(Endpoint::Introspection), 5);
}

#[test]
fn its_keys_verify_its_tokens_and_can_be_replaced() {
    let world = Provider::start();
    let provider = &world.provider;
    let claims = provider.claims("app", &[]);
    let verify = |key_id: &str, algorithm: Algorithm, token: &str| {
        let published = world.fetch(Endpoint::Jwks).body;
        let published: JwkSet = serde_json::from_str(&published).unwrap();
        let key = DecodingKey::from_jwk(published.find(key_id).unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[AUDIENCE]);
        jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims
    };
    let minted = |token: Result<String, _>| token.map_err(|_| "not minted").unwrap();
    for (key_id, algorithm, token) in [
        ("es256", Algorithm::ES256, minted(provider.mint(&claims))),
        ("rs256", Algorithm::RS256, minted(provider.mint_rs256(&claims))),
        ("eddsa", Algorithm::EdDSA, minted(provider.mint_eddsa(&claims))),
    ] {
        assert_eq!(verify(key_id, algorithm, &token), claims, "{key_id}");
    }
    assert_eq!(world.fetch(Endpoint::Jwks).header("cache-control"), None);

    let new = SigningKey::es256("new").map_err(|it| it.to_string()).unwrap();
    provider.publish(json!({"keys": [new.public()]}));
    provider.cache_control("max-age=7");
    assert_eq!(verify("new", Algorithm::ES256, &minted(new.sign(&claims))), claims);
    let published = world.fetch(Endpoint::Jwks);
    assert_eq!(published.header("cache-control"), Some("max-age=7"));
    assert_eq!(published.json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(provider.asked(Endpoint::Jwks), 6);
}

#[test]
fn both_paths_have_its_metadata() {
    let world = Provider::start();
    for endpoint in [Endpoint::OpenIdConfiguration, Endpoint::AuthorizationServer] {
        let metadata = world.fetch(endpoint).json();
        assert_eq!(metadata["issuer"], world.provider.issuer());
        assert_eq!(metadata["jwks_uri"], world.provider.jwks_url());
        assert_eq!(metadata["introspection_endpoint"], world.provider.url(Endpoint::Introspection));
        assert_eq!(world.provider.asked(endpoint), 1);
    }
}

#[test]
fn each_endpoint_misbehaves_as_it_is_told() {
    let world = Provider::start();
    let token = world.provider.mint_opaque(&world.provider.claims("app", &[]));
    for endpoint in [Endpoint::Jwks, Endpoint::Introspection] {
        let ask = || match endpoint {
            Endpoint::Introspection => world.introspect(&token),
            other => world.fetch(other),
        };
        for how in Misbehaviour::ALL {
            world.provider.misbehave(endpoint, *how);
            if *how == Misbehaviour::Slow {
                continue;
            }
            let told = ask();
            let is_json = told.header("content-type") == Some("application/json");
            let is_as_told = match how {
                Misbehaviour::None | Misbehaviour::Slow => false,
                Misbehaviour::Unauthorized => told.status == 401,
                Misbehaviour::NotFound => told.status == 404,
                Misbehaviour::Error => told.status == 500,
                Misbehaviour::Redirect => told.status == 302 && told.header("location").is_some(),
                Misbehaviour::Garbage => serde_json::from_str::<Value>(&told.body).is_err(),
                Misbehaviour::Empty => is_json && told.body == "{}",
                Misbehaviour::Huge => told.body.len() > 2 << 20,
                Misbehaviour::WrongType => !is_json && told.json().is_object(),
                Misbehaviour::HangUp => {
                    told.header("content-length") == Some("100") && told.body.len() < 100
                }
            };
            assert!(is_as_told, "{endpoint:?} {how:?}: {} {}", told.status, told.body.len());
        }
        world.provider.misbehave(endpoint, Misbehaviour::None);
        assert!(ask().json().is_object());
    }
}
