//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/version`, `/issuers`, `/openapi.json`,
//! `/audit/checkpoint`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::bare::Shaped;
use super::listener::{Hold, accept};
use super::shared::Shared;
use super::tls::ListenerTls;
use crate::credential::CredentialError;
use crate::gateway::Gateway;
use crate::openapi::Api;
use crate::version::{COMMIT, VERSION};

/// The most connections, the most bytes of a head, and how long a client may send no head, or take
/// nothing of its answers.
const CONNECTIONS: usize = 64;
const HEAD: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Accepts connections until told to stop; each goes on by itself.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut hold: Hold) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some((stream, source)) = accept(&listener, &mut hold.stop).await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        let stream = Shaped::new(stream, Bytes::new(), PATIENCE, &shared);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&shared, request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%source, %error, "admin connection");
            }
            drop(place);
        });
    }
}

fn answer(shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let gateway = &*shared.gateway();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let (status, media_type, body) = match path {
        "/metrics" => {
            observe(shared, gateway);
            ListenerTls::observe(shared.front.load().tls.as_deref(), &gateway.metrics);
            let exposition = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            (StatusCode::OK, exposition, gateway.metrics.exposition())
        }
        "/livez" => (StatusCode::OK, text, b"ok\n".to_vec()),
        "/readyz" => {
            let lacks = lacks(shared, gateway);
            if lacks.is_empty() {
                let warnings =
                    warnings(shared, gateway).into_iter().map(|it| format!("warning: {it}\n"));
                let body = warnings.fold("ready\n".to_owned(), |body, warning| body + &warning);
                (StatusCode::OK, text, body.into_bytes())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, text, (lacks.join("\n") + "\n").into_bytes())
            }
        }
        "/version" => {
            let version = json!({"version": VERSION, "commit": COMMIT});
            let json = HeaderValue::from_static("application/json");
            (StatusCode::OK, json, format!("{version}\n").into_bytes())
        }
        "/issuers" => {
            let json = HeaderValue::from_static("application/json");
            (StatusCode::OK, json, issuers(gateway))
        }
        "/openapi.json" => {
            let json = HeaderValue::from_static("application/json");
            (StatusCode::OK, json, openapi(shared))
        }
        "/audit/checkpoint" => match gateway.audit.checkpoint() {
            Some(note) => (StatusCode::OK, text, note.as_bytes().to_vec()),
            None => (StatusCode::NOT_FOUND, text, b"there is no checkpoint yet\n".to_vec()),
        },
        _ => {
            let known =
                b"known here: /metrics, /livez, /readyz, /version, /issuers, /openapi.json, \
                  /audit/checkpoint\n";
            (StatusCode::NOT_FOUND, text, known.to_vec())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    if !matches!(*method, Method::GET | Method::HEAD) {
        *response.body_mut() = Full::default();
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// What is not ready, a line each.
fn lacks(shared: &Shared, gateway: &Gateway) -> Vec<String> {
    let draining = shared.is_draining().then(|| "draining: it is about to stop".to_owned());
    let mut lacks: Vec<String> = draining.into_iter().collect();
    let issuers = gateway.identity.issuers().filter_map(|(issuer, keys)| Some((issuer, keys?)));
    let unusable = issuers.filter(|(_, keys)| !keys.are_usable);
    lacks.extend(unusable.map(|(issuer, keys)| match keys.age {
        None => format!("keys: none of issuer {issuer}"),
        Some(_) => format!("keys: those of issuer {issuer} are too old"),
    }));
    if let Some(state) = gateway.identity.revocations()
        && state.in_force.is_none()
    {
        let fault = state.fault.map_or_else(|| "not yet loaded".to_owned(), |it| it.to_string());
        lacks.push(format!("revocation: no list is in force: {fault}"));
    }
    if let Some(trouble @ (CredentialError::Unavailable | CredentialError::Stale)) =
        gateway.credentials.trouble()
    {
        let why = gateway.credentials.fault().map_or_else(String::new, |it| format!(": {it}"));
        lacks.push(format!("credential: {trouble}{why}"));
    }
    if let Some(reason) = gateway.audit.failure() {
        lacks.push(format!("audit: {reason}"));
    }
    lacks
}

/// What is not as it should be and keeps nobody out.
fn warnings(shared: &Shared, gateway: &Gateway) -> Vec<String> {
    let refused = shared.refused();
    let config = refused.map(|it| {
        let first = it.lines().next().unwrap_or_default();
        format!("configuration: the newest is not in force: {first}")
    });
    let fault = gateway.identity.revocations().and_then(|state| state.fault);
    let revocation =
        fault.map(|it| format!("revocation: {it}; the list that was loaded before is in force"));
    let keys = gateway.identity.issuers().filter_map(|(issuer, keys)| {
        let (_, error) = keys.filter(|keys| keys.are_usable)?.last_error?;
        Some(format!("keys: those of issuer {issuer} are not refreshed: {error}"))
    });
    let troubles = gateway.identity.troubles();
    let introspection =
        troubles.map(|(issuer, why)| format!("introspection: issuer {issuer}: {why}"));
    let store = gateway.credentials.fault();
    let store = store.map(|it| format!("credential: {it}; the one that was read before serves"));
    let trouble = gateway.credentials.trouble().map(|it| format!("credential: {it}"));
    let upstream = gateway.upstream.trouble().map(|it| format!("upstream: {it}"));
    let audit = gateway.audit.warning().map(|it| format!("audit: {it}"));
    let cms = store.into_iter().chain(trouble).chain(upstream);
    let front = shared.front.load();
    let tls = front.tls.iter().flat_map(|tls| tls.warnings()).map(|it| format!("tls: {it}"));
    let own = config.into_iter().chain(audit).chain(tls);
    keys.chain(introspection).chain(revocation).chain(cms).chain(own).collect()
}

/// The issuers with their keys, for those who must know whether a new key has arrived.
fn issuers(gateway: &Gateway) -> Vec<u8> {
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    let troubles: Vec<_> = gateway.identity.troubles().collect();
    let issuers: Vec<Value> = gateway
        .identity
        .issuers()
        .map(|(issuer, status)| {
            let Some(status) = status else {
                let trouble = troubles.iter().find(|(of, _)| *of == issuer).map(|(_, why)| why);
                return json!({"issuer": issuer, "introspection": true, "last_error": trouble});
            };
            let keys = status.keys.iter().map(|key| {
                json!({
                    "kid": key.id(),
                    "algorithms": key.algorithms().collect::<Vec<_>>(),
                    "thumbprint": key.thumbprint(),
                    "held_since": time(key.since()),
                })
            });
            let error = status
                .last_error
                .map(|(at, message)| json!({"time": time(at), "message": message}));
            json!({
                "issuer": issuer,
                "usable": status.are_usable,
                "keys": keys.collect::<Vec<_>>(),
                "last_refresh": status.last_refresh.map(time),
                "next_refresh": status.next_refresh.map(time),
                "last_error": error,
            })
        })
        .collect();
    let mut text = serde_json::to_vec_pretty(&issuers).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The API's description, with what is in force.
fn openapi(shared: &Shared) -> Vec<u8> {
    let front = shared.front.load();
    let (limits, takes_dpop) = (front.gateway.limits(), front.gateway.identity.takes_dpop());
    let api = Api { origin: &front.origin, limits, takes_dpop };
    serde_json::to_vec_pretty(&api.document()).unwrap_or_default()
}

/// What is looked up rather than counted.
fn observe(shared: &Shared, gateway: &Gateway) {
    gateway.metrics.config_refused.set(shared.refused().is_some().into());
    // Of the parts that are in force: others, of before a reload or of one that is refused, may be
    // there as well.
    gateway.upstream.show_circuits();
    gateway.metrics.credential_refused.set(gateway.credentials.is_refused().into());
    let revoked = gateway.identity.revocations().and_then(|state| state.in_force);
    let revoked = revoked.map_or(0, |list| list.entries());
    gateway.metrics.revocation_entries.set(i64::try_from(revoked).unwrap_or(i64::MAX));
    gateway.metrics.audit_writable.set(gateway.audit.failure().is_none().into());
    for (issuer, keys) in gateway.identity.issuers() {
        if let Some(age) = keys.and_then(|keys| keys.age) {
            gateway.metrics.jwks_age.with_label_values(&[issuer]).set(age.as_secs_f64());
        }
    }
    if let Some(age) = gateway.credentials.age() {
        let none: [&str; 0] = [];
        gateway.metrics.credential_age.with_label_values(&none).set(age.as_secs_f64());
    }
}
