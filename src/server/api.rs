//! The API's listener: TLS or plain text, HTTP/1.1 and HTTP/2, with a limit on everything.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::bare::Shaped;
use super::certificate;
use super::lent::lend;
use super::listener::accept;
use crate::config::Limits;
use crate::context::Peer;
use crate::gateway::{Gateway, Line};
use crate::reply::{Code, Problem};
use crate::telemetry::Metrics;

/// The most requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// How often an HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
/// How long, and how many bytes, a client may still send to a connection that is at its end.
const LINGERING: Duration = Duration::from_secs(1);
const MOST_DISCARDED: usize = 1 << 20;

/// Serves until told to stop, and until every connection has ended.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    gateway: Arc<Gateway>,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let builder = Arc::new(builder(gateway.limits()));
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(gateway.limits().connections));
    while let Some((stream, address)) = accept(&listener, &mut stop).await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if acceptor.is_none() {
                tokio::spawn(refuse(stream));
            }
            continue;
        };
        let connection = Connection {
            peer: Peer::from(address),
            gateway: Arc::clone(&gateway),
            builder: Arc::clone(&builder),
            watcher: graceful.watcher(),
            _place: Place::new(place, &gateway.metrics),
        };
        match acceptor.clone() {
            None => {
                tokio::spawn(connection.serve_plain(stream));
            }
            Some(acceptor) => {
                tokio::spawn(connection.serve_tls(stream, acceptor));
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// hyper's own limits on heads lie above the configured ones, up to which the gateway answers in
/// its own shape.
fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let head = limits.head * 2 + (8 << 10);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.headers * 2)
        .max_buf_size(head)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

struct Connection {
    peer: Peer,
    gateway: Arc<Gateway>,
    builder: Arc<auto::Builder<TokioExecutor>>,
    watcher: Watcher,
    _place: Place,
}

impl Connection {
    async fn serve_tls(mut self, stream: TcpStream, acceptor: TlsAcceptor) {
        let within = self.gateway.limits().head_timeout;
        match tokio::time::timeout(within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                self.peer.certificate = certificate::digest_of(stream.get_ref().1);
                self.serve(stream).await;
            }
            Ok(Err(error)) => tracing::debug!(source = %self.peer.address, %error, "TLS handshake"),
            Err(_) => tracing::debug!(source = %self.peer.address, "TLS handshake took too long"),
        }
    }

    async fn serve_plain(self, stream: TcpStream) {
        let (stream, back) = lend(stream);
        let ended = self.serve(stream).await;
        if let Some(stream) = back.take() {
            // Not in this future: every open connection would be larger for it.
            Box::pin(finish(stream, ended)).await;
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Ended {
        let Self { peer, gateway, builder, watcher, _place } = self;
        let head_timeout = gateway.limits().head_timeout;
        let has_begun = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_begun);
        let line = Arc::new(Line::default());
        // hyper keeps room for such a future as long as the connection is open.
        let service = service_fn(move |request| {
            begun.store(true, Ordering::Relaxed);
            let answer = Box::pin(Arc::clone(&gateway).answer(request, peer, Arc::clone(&line)));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let stream = TokioIo::new(Shaped::new(stream));
        let connection = builder.serve_connection(stream, service).into_owned();
        let mut connection = Box::pin(watcher.watch(connection));
        // hyper has no deadline before it knows which HTTP is spoken, so this is its first one.
        let ended = match tokio::time::timeout(head_timeout, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) if has_begun.load(Ordering::Relaxed) => connection.await,
            Err(_) => {
                tracing::debug!(source = %peer.address, "no request came in time");
                return Ended::WithoutRequest;
            }
        };
        match ended {
            Ok(()) => Ended::Otherwise,
            Err(error) => {
                tracing::debug!(source = %peer.address, %error, "connection");
                // hyper's own deadline for the head may come first.
                let is_slow =
                    error.downcast_ref().is_some_and(|error: &hyper::Error| error.is_timeout());
                let has_begun = has_begun.load(Ordering::Relaxed);
                if is_slow && !has_begun { Ended::WithoutRequest } else { Ended::Otherwise }
            }
        }
    }
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// Its time was over before a whole head had come.
    WithoutRequest,
    /// In any other way.
    Otherwise,
}

/// Ends a connection of which hyper has let go, so that the client gets what it was answered.
async fn finish(mut stream: TcpStream, ended: Ended) {
    if ended == Ended::WithoutRequest {
        let problem = Problem::new(Code::TooSlow, "the request's head did not arrive in time");
        let _ = stream.try_write(&problem.http_1(Uuid::now_v7()));
    }
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(LINGERING, discard(&stream)).await;
}

/// Reads what the client still sends after the last answer.
///
/// A connection that is closed with bytes unread is reset, and the client would lose the answer
/// that refuses them (RFC 9112, section 9.6).
async fn discard(stream: &TcpStream) {
    let mut left = MOST_DISCARDED;
    while left > 0 && stream.readable().await.is_ok() {
        match stream.try_read(&mut [0; 4 << 10]) {
            Ok(0) => return,
            Ok(read) => left = left.saturating_sub(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Tells a connection that there is no place for it, as HTTP/1.1 would have it.
async fn refuse(mut stream: TcpStream) {
    let problem = Problem::new(Code::Overloaded, "too many connections are open; try again");
    let text = problem.http_1(Uuid::now_v7());
    let write = async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}

/// A place among the open connections.
struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self { _permit: permit, metrics: Arc::clone(metrics) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
