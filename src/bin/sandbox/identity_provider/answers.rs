//! What the identity provider answers.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::clients::{self, CLIENT_SECRET, CLIENTS, RESOURCE_SERVER};
use super::{Endpoint, IdentityProvider, now, web};

impl IdentityProvider {
    pub(super) async fn answer(&self, request: &Request<Bytes>) -> Response<web::Body> {
        let path = request.uri().path();
        let Some(endpoint) = Endpoint::ALL.iter().find(|known| known.path() == path).copied()
        else {
            return web::text(StatusCode::NOT_FOUND, "no such page");
        };
        if endpoint.method() != request.method() {
            return web::text(StatusCode::METHOD_NOT_ALLOWED, "wrong method");
        }
        let how = {
            let mut state = self.state();
            *state.asked.entry(endpoint).or_default() += 1;
            state.misbehaving.get(&endpoint).copied().unwrap_or_default()
        };
        let good = match endpoint {
            Endpoint::Jwks => self.keys(),
            Endpoint::OpenIdConfiguration | Endpoint::AuthorizationServer => self.metadata(),
            Endpoint::Introspection => self.introspect(request),
            Endpoint::Token => self.token(request),
        };
        how.applied_to(good).await
    }

    fn keys(&self) -> Response<web::Body> {
        let state = self.state();
        let mut response = match &state.jwks {
            Some(text) => web::reply(StatusCode::OK, "application/json", text.clone()),
            None => web::json(StatusCode::OK, self.jwks()),
        };
        if let Some(value) = &state.cache_control {
            response.headers_mut().insert(CACHE_CONTROL, value.clone());
        }
        response
    }

    fn metadata(&self) -> Response<web::Body> {
        web::json(
            StatusCode::OK,
            &json!({
                "issuer": self.issuer(),
                "jwks_uri": self.jwks_url(),
                "token_endpoint": self.token_url(),
                "introspection_endpoint": self.url(Endpoint::Introspection),
                "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256", "RS256", "EdDSA"],
            }),
        )
    }

    /// RFC 7662: what it knows of an opaque token, told to the resource server alone.
    fn introspect(&self, request: &Request<Bytes>) -> Response<web::Body> {
        let known = (RESOURCE_SERVER.0.to_owned(), RESOURCE_SERVER.1.to_owned());
        if clients::basic(request) != Some(known) {
            let mut response = refuse(StatusCode::UNAUTHORIZED, "invalid_client");
            let challenge = HeaderValue::from_static("Basic realm=\"introspection\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return response;
        }
        let Some(token) = clients::field(&clients::form(request), "token") else {
            return refuse(StatusCode::BAD_REQUEST, "invalid_request");
        };
        let claims = self.state().opaque.get(&token).cloned();
        let is_over = |claims: &Value| {
            claims.get("exp").and_then(Value::as_u64).is_some_and(|exp| exp <= now())
        };
        let mut answer = json!({"active": false});
        if let Some(Value::Object(claims)) = claims.filter(|claims| !is_over(claims)) {
            answer = json!({"active": true, "token_type": "Bearer"});
            if let Some(answer) = answer.as_object_mut() {
                answer.extend(claims);
            }
        }
        unkept(web::json(StatusCode::OK, &answer))
    }

    /// RFC 6749, section 4.4: a token for a client's own credentials.
    fn token(&self, request: &Request<Bytes>) -> Response<web::Body> {
        let form = clients::form(request);
        let field = |name| clients::field(&form, name);
        if field("grant_type").as_deref() != Some("client_credentials") {
            return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
        }
        let pair = clients::basic(request)
            .or_else(|| Some((field("client_id")?, field("client_secret")?)));
        let client = pair.filter(|(_, secret)| secret == CLIENT_SECRET);
        let client = client.and_then(|(id, _)| CLIENTS.iter().find(|(known, _)| *known == id));
        let Some((client, role)) = client else {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
        };
        match self.mint(&self.claims(client, &[role])) {
            Ok(token) => {
                let answer =
                    json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
                unkept(web::json(StatusCode::OK, &answer))
            }
            Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        }
    }
}

fn refuse(status: StatusCode, error: &str) -> Response<web::Body> {
    unkept(web::json(status, &json!({"error": error})))
}

fn unkept(mut response: Response<web::Body>) -> Response<web::Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
