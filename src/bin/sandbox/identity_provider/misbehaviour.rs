//! The ways in which an endpoint of an identity provider goes wrong.

use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};

use super::web;

/// What an endpoint does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Misbehaviour {
    /// Nothing: it behaves.
    #[default]
    None,
    /// Refuses the one who asks, with 401.
    Unauthorized,
    /// Has no such page, with 404.
    NotFound,
    /// Fails with 500.
    Error,
    /// Points back to itself, with 302.
    Redirect,
    /// Answers after half a minute, as it should.
    Slow,
    /// Answers 200 with what is no JSON.
    Garbage,
    /// Answers 200 with a JSON object that says nothing.
    Empty,
    /// Answers 200 with 2 MiB of JSON.
    Huge,
    /// Answers as it should, and calls it a page.
    WrongType,
    /// Hangs up in the middle of its answer.
    HangUp,
}

impl Misbehaviour {
    /// All in which the answer is none, with a good one's type at most.
    pub(crate) const ALL: &[Self] = &[
        Self::Unauthorized,
        Self::NotFound,
        Self::Error,
        Self::Redirect,
        Self::Slow,
        Self::Garbage,
        Self::Empty,
        Self::Huge,
        Self::WrongType,
        Self::HangUp,
    ];

    /// What becomes of the answer that there should be.
    pub(crate) async fn applied_to(self, good: Response<web::Body>) -> Response<web::Body> {
        match self {
            Self::None => good,
            Self::Unauthorized => web::text(StatusCode::UNAUTHORIZED, "told to refuse"),
            Self::NotFound => web::text(StatusCode::NOT_FOUND, "no such page"),
            Self::Error => web::text(StatusCode::INTERNAL_SERVER_ERROR, "told to fail"),
            Self::Redirect => {
                let mut response = web::text(StatusCode::FOUND, "told to point elsewhere");
                response.headers_mut().insert(LOCATION, HeaderValue::from_static("?again"));
                response
            }
            Self::Slow => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                good
            }
            Self::Garbage => web::reply(StatusCode::OK, "application/json", "{\"active\":true,"),
            Self::Empty => web::reply(StatusCode::OK, "application/json", "{}"),
            Self::Huge => {
                let filler = "x".repeat(2 << 20);
                web::json(StatusCode::OK, &serde_json::json!({"active": true, "filler": filler}))
            }
            Self::WrongType => {
                let (status, body) = (good.status(), good.into_body());
                let mut response = web::reply(status, "text/html; charset=utf-8", "");
                *response.body_mut() = body;
                response
            }
            Self::HangUp => web::cut_off(),
        }
    }
}
