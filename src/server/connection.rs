//! A client's connection, from its first byte to its last.
//!
//! hyper keeps buffers for a connection as long as it has it. One that rests, because its client has
//! nothing to ask for the moment, is taken from hyper until there is a byte to read, so that
//! thousands of them cost little.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::bare::Shaped;
use super::certificate;
use super::lent::lend;
use super::listener::Hold;
use super::shared::{Place, Shared};
use super::tls::failure;
use crate::config::Limits;
use crate::context::Peer;
use crate::gateway::Line;
use crate::reply::{Code, Problem};

/// The most requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// How much of a body is taken on HTTP/2 before somebody reads it, in bytes.
const WINDOW: u32 = 64 << 10;
/// How many requests may wait on an HTTP/2 connection that their client has taken back already
/// (CVE-2023-44487), before it is told to go away.
const TAKEN_BACK: usize = 20;
/// How often a client may break the rules of HTTP/2 in one request (CVE-2025-8671), or ask for more
/// than `STREAMS` at a time, before its connection is told to go away.
const FAULTS: usize = 128;
/// How often an HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
/// How long a connection stays with hyper after its last request.
const REST: Duration = Duration::from_secs(1);
/// How long, and how many bytes, a client may still send to a connection that is at its end.
const LINGERING: Duration = Duration::from_secs(1);
const MOST_DISCARDED: usize = 1 << 20;
/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// hyper's two halves, with its own limits on heads above the configured ones, up to which the
/// gateway answers in its own shape.
pub(super) struct Protocols {
    head_timeout: Duration,
    idle_timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(super) fn new(limits: &Limits) -> Self {
        let head = limits.head * 2 + (8 << 10);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_headers(limits.headers * 2)
            .max_buf_size(head);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .max_pending_accept_reset_streams(TAKEN_BACK)
            .max_local_error_reset_streams(FAULTS)
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let Limits { head_timeout, idle_timeout, .. } = *limits;
        Self { head_timeout, idle_timeout, http1, http2 }
    }
}

/// A connection and what it needs.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) shared: Arc<Shared>,
    /// As they were configured when it began.
    pub(super) protocols: Arc<Protocols>,
    /// Let go of when every request on it is answered.
    pub(super) hold: Hold,
    /// Let go of when it is closed.
    pub(super) place: Place,
}

/// How a connection goes on.
enum Next<S> {
    /// It rests. What was read of the next request comes with it.
    Rests(S, Bytes),
    Ends(S, Ended),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its time was over before a whole head had come.
    WithoutRequest,
    /// In any other way.
    Otherwise,
}

impl Connection {
    pub(super) async fn serve_tls(mut self, stream: TcpStream, acceptor: TlsAcceptor) {
        let within = self.protocols.head_timeout;
        match timeout(within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                self.peer.certificate = certificate::digest_of(stream.get_ref().1);
                self.serve(stream).await;
            }
            Ok(Err(error)) => self.count_failure(failure(&error), &error.to_string()),
            Err(_) => self.count_failure("too_slow", "it took too long"),
        }
    }

    fn count_failure(&self, reason: &str, error: &str) {
        tracing::debug!(source = %self.peer.address, reason, error, "TLS handshake");
        self.shared.gateway().metrics.tls_handshake_failures.with_label_values(&[reason]).inc();
    }

    pub(super) async fn serve<S>(mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, ended) = self.serve_all(stream).await;
        let Self { shared, hold, place, .. } = self;
        drop(hold);
        if let Some(stream) = stream {
            // Not in this future, which is as large as long as the connection is open.
            Box::pin(finish(stream, ended, shared)).await;
        }
        drop(place);
    }

    /// Serves each request, and gives the stream back, if hyper does.
    async fn serve_all<S>(&mut self, mut stream: S) -> (Option<S>, Ended)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let session = Arc::new(Session::new(self));
        let mut first = Bytes::new();
        loop {
            if first.is_empty() {
                let has_begun = session.begun() > 0;
                let Protocols { head_timeout, idle_timeout, .. } = *self.protocols;
                let patience = if has_begun { idle_timeout } else { head_timeout };
                let read = tokio::select! {
                    biased;
                    read = timeout(patience, first_bytes(&mut stream)) => read,
                    _ = self.hold.stop.wait_for(|stop| *stop) => return (Some(stream), Ended::Otherwise),
                };
                first = match read {
                    Ok(Ok(first)) if !first.is_empty() => first,
                    Err(_) if !has_begun => return (Some(stream), Ended::WithoutRequest),
                    Ok(_) | Err(_) => return (Some(stream), Ended::Otherwise),
                };
            }
            if first == PREFACE && session.begun() == 0 {
                return (Box::pin(self.http2(&session, stream, first)).await, Ended::Otherwise);
            }
            match Box::pin(self.http1(&session, stream, first)).await {
                Next::Rests(resting, read) => (stream, first) = (resting, read),
                Next::Ends(stream, ended) => return (Some(stream), ended),
            }
        }
    }

    /// Serves HTTP/1.1 until the connection rests or ends.
    async fn http1<S>(&mut self, session: &Arc<Session>, stream: S, first: Bytes) -> Next<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Shaped::new(stream, first, self.protocols.idle_timeout, &self.shared);
        let service = service_fn(|request| Arc::clone(session).answer(request));
        let connection = self.protocols.http1.serve_connection(TokioIo::new(stream), service);
        let mut connection = Box::new(connection);
        let before = session.begun();
        let (mut seen, mut rests, mut is_stopping) = (before, false, false);
        let Protocols { head_timeout, idle_timeout, .. } = *self.protocols;
        // It is noticed within two of them, long before hyper takes the next head for late.
        let (deadline, rest) = (Instant::now() + head_timeout, REST.min(head_timeout / 4));
        let mut due = pin!(sleep(rest));
        let mut stop = pin!(self.hold.stop.wait_for(|stop| *stop));
        let ended = loop {
            tokio::select! {
                biased;
                // Before hyper, which would close one that rests when its own time has come as well.
                () = due.as_mut() => {
                    let (begun, now) = (session.begun(), Instant::now());
                    // No request has come in its time, or the client doesn't take its answer.
                    if rests || begun == before && now >= deadline {
                        break Err(None);
                    }
                    rests = begun == seen && session.rests();
                    seen = begun;
                    let next = now + rest;
                    due.as_mut().reset(if begun == before { next.min(deadline) } else { next });
                }
                ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                    break ended.map_err(Some);
                }
                _ = stop.as_mut(), if !is_stopping => {
                    is_stopping = true;
                    if session.begun() == before {
                        // It is told with the answer to the request that is on its way.
                        continue;
                    }
                    rests = session.rests();
                    Pin::new(&mut *connection).graceful_shutdown();
                }
            }
            if rests {
                // hyper is done with it once the last answer is written.
                Pin::new(&mut *connection).graceful_shutdown();
                due.as_mut().reset(Instant::now() + idle_timeout);
            }
        };
        let parts = connection.into_parts();
        let (stream, unread) = parts.io.into_inner().into_inner();
        let is_slow = match ended {
            Ok(()) if rests => return Next::Rests(stream, joined(parts.read_buf, unread)),
            Ok(()) => false,
            // hyper's own deadline for the head may come first.
            Err(error) => error.is_none_or(|error| {
                tracing::debug!(source = %self.peer.address, %error, "connection");
                error.is_timeout()
            }),
        };
        let is_without_request = is_slow && session.begun() == before;
        let ended = if is_without_request { Ended::WithoutRequest } else { Ended::Otherwise };
        Next::Ends(stream, ended)
    }

    /// Serves HTTP/2 until the connection ends.
    async fn http2<S>(&mut self, session: &Arc<Session>, stream: S, first: Bytes) -> Option<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, back) =
            lend(Shaped::new(stream, first, self.protocols.idle_timeout, &self.shared));
        let service = service_fn(|request| Arc::clone(session).answer(request));
        let connection = self.protocols.http2.serve_connection(TokioIo::new(stream), service);
        let mut connection = Box::pin(connection);
        let (mut seen, mut is_ending, mut is_stopping) = (0, false, false);
        let Protocols { head_timeout, idle_timeout, .. } = *self.protocols;
        let mut due = pin!(sleep(head_timeout));
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(source = %self.peer.address, %error, "connection");
                    }
                    break;
                }
                () = due.as_mut() => {
                    let begun = session.begun();
                    if begun == seen && session.is_idle() {
                        if begun == 0 || is_ending {
                            break;
                        }
                        is_ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    seen = begun;
                    due.as_mut().reset(Instant::now() + idle_timeout);
                }
                _ = self.hold.stop.wait_for(|stop| *stop), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
        drop(connection);
        Some(back.take()?.into_inner().0)
    }
}

/// What is known of a connection's requests.
struct Session {
    shared: Arc<Shared>,
    peer: Peer,
    line: Arc<Line>,
    stop: watch::Receiver<bool>,
    begun: AtomicU64,
    done: AtomicU64,
    /// Whether another request may follow the last answer.
    persists: AtomicBool,
}

impl Session {
    fn new(connection: &Connection) -> Self {
        Self {
            shared: Arc::clone(&connection.shared),
            peer: connection.peer,
            line: Arc::default(),
            stop: connection.hold.stop.clone(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            persists: AtomicBool::new(false),
        }
    }

    /// How many requests there have been.
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.begun() == self.done.load(Ordering::Relaxed)
    }

    /// Whether the last request was read to its end and has its answer, and another may follow it.
    fn rests(&self) -> bool {
        self.persists.load(Ordering::Relaxed)
    }

    /// Counts the request at once, and answers it.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Pin<Box<impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.persists.store(false, Ordering::Relaxed);
        let session = UnderWay(self);
        Box::pin(async move {
            let Session { shared, peer, line, stop, persists, .. } = &*session.0;
            let version = request.version();
            let is_head = request.method() == Method::HEAD;
            let may_persist = may_persist(version, request.headers());
            // One configuration decides on the whole request.
            let gateway = shared.gateway();
            let mut response = gateway.answer(request, *peer, Arc::clone(line)).await;
            let is_at_its_end = shared.is_draining() || *stop.borrow();
            if version < Version::HTTP_2 && is_at_its_end {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if is_head && version == Version::HTTP_2 {
                leave_content_out(&mut response);
            }
            let is_last = response.headers().contains_key(CONNECTION);
            persists.store(may_persist && !is_last, Ordering::Relaxed);
            Ok(response)
        })
    }
}

/// A request that has come and is not answered.
struct UnderWay(Arc<Session>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says how long the content would be, as an answer to HEAD does. hyper does it for HTTP/1.1 alone,
/// and clients of HTTP/2 refuse one with content.
fn leave_content_out(response: &mut Response<Full<Bytes>>) {
    let length = response.body().size_hint().lower();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    *response.body_mut() = Full::default();
}

/// Whether a client may have more to ask after this. Where it can't be told for sure, it is left to
/// hyper: also after chunks, since it doesn't show whether there was a length as well, with which the
/// connection ends (RFC 9112, section 6.1).
fn may_persist(version: Version, headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(CONNECTION).iter();
    version == Version::HTTP_11
        && !headers.contains_key(TRANSFER_ENCODING)
        && options.all(|option| option.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// The first bytes of what comes next: enough to tell which HTTP it is. None when there is no more.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut first = BytesMut::new();
    loop {
        let missing = PREFACE.len() - first.len();
        let read = stream.read_buf(&mut (&mut first).limit(missing)).await?;
        if read == 0 || read == missing || !PREFACE.starts_with(&first) {
            return Ok(first.freeze());
        }
    }
}

/// One after the other. Where there is none, it holds on to neither one's buffer.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, true) => Bytes::new(),
        (false, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}

/// Ends a connection of which hyper has let go, so that the client gets what it was answered.
async fn finish<S>(mut stream: S, ended: Ended, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ending = async {
        if ended == Ended::WithoutRequest {
            let problem = Problem::new(Code::TooSlow, "the request's head did not arrive in time");
            stream.write_all(&shared.refusal(&problem)).await?;
        }
        stream.shutdown().await?;
        discard(&mut stream).await
    };
    let _ = timeout(LINGERING, ending).await;
}

/// Reads what the client still sends after the last answer.
///
/// A connection that is closed with bytes unread is reset, and the client would lose the answer
/// that refuses them (RFC 9112, section 9.6).
async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut left = MOST_DISCARDED;
    let mut bytes = [0; 4 << 10];
    while left > 0 {
        match stream.read(&mut bytes).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
