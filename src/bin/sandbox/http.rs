//! A small HTTP/1.1 server for the parties of the sandbox.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// A body, which may break off where a party is told to misbehave.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The most bytes of a request's body.
const LARGEST: usize = 1 << 20;

/// Serves in the background for as long as the process lives.
pub(crate) fn serve<A, F>(listener: TcpListener, answer: A)
where
    A: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
                        return Ok(text(StatusCode::BAD_REQUEST, "the body can't be read"));
                    };
                    let request = Request::from_parts(head, body.to_bytes());
                    Ok::<_, Infallible>(answer(request).await)
                }
            });
            tokio::spawn(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}

/// An answer with a body of this media type.
pub(crate) fn reply(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    reply(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// An answer in words.
pub(crate) fn text(status: StatusCode, words: &str) -> Response<Body> {
    reply(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

/// Promises a hundred bytes, sends ten, and hangs up.
pub(crate) fn cut_off() -> Response<Body> {
    let mut response = reply(StatusCode::OK, "application/json", "");
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("100"));
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from_static(b"{\"leadId\":")).await;
        sender.abort(std::io::Error::other("told to break off"));
    });
    *response.body_mut() = body.boxed_unsync();
    response
}
