//! Opens a connection to a server of the CMS: TCP, TLS, and the protocol that both agree on.
//!
//! Nothing of a request is sent here, whatever fails.

use std::error::Error;
use std::future::{Ready, poll_fn, ready};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::stream::{Open, Stream, Traffic, Transport};
use super::tls::words;

/// The largest head of an answer, in bytes.
const LARGEST_HEAD: u32 = 64 << 10;
/// How much of one answer and of all answers of an HTTP/2 connection may come unread, in bytes.
const WINDOWS: (u32, u32) = (256 << 10, 4 << 20);
/// When an HTTP/2 connection is asked for a sign of life while it has requests, and how long that
/// may take.
const PING: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// The host's name has no address.
    #[error("the name can't be looked up: {0}")]
    Lookup(String),
    /// No address takes a connection.
    #[error("no connection: {0}")]
    Io(String),
    /// It took too long.
    #[error("no connection in time: {0}")]
    TimedOut(&'static str),
    /// One side does not accept the other.
    #[error("TLS: {0}")]
    Tls(String),
}

impl ConnectError {
    /// Whether it may be another matter in a moment; certificates stay as they are.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }
}

/// What a connection is opened with.
pub(super) struct Plan<'a> {
    pub(super) base: &'a Uri,
    pub(super) addresses: Arc<Vec<SocketAddr>>,
    /// The TLS settings and the name that the certificate must have; nothing for plain text.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) open: &'a IntGauge,
}

/// A new connection.
pub(super) struct Opened {
    pub(super) sender: Sender,
    pub(super) peer: IpAddr,
    pub(super) traffic: Arc<Traffic>,
    pub(super) task: Task,
}

/// The end that takes requests.
pub(super) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2 {
        sender: http2::SendRequest<Full<Bytes>>,
        /// How many requests the server takes at the same time, by what it last said.
        most: Arc<AtomicUsize>,
    },
}

/// What works on a connection: it ends, and the connection with it, when this is dropped.
pub(super) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Plan<'_> {
    /// Opens a connection, which takes until then at the longest.
    pub(super) async fn open(self, by: Instant) -> Result<Opened, ConnectError> {
        let mut stage = "no address took it";
        let opening = self.open_in_stages(by, &mut stage);
        let opened = tokio::time::timeout_at(by.into(), opening).await;
        opened.unwrap_or(Err(ConnectError::TimedOut(stage)))
    }

    async fn open_in_stages(
        self,
        by: Instant,
        stage: &mut &'static str,
    ) -> Result<Opened, ConnectError> {
        let tcp = connect(self.base, self.addresses, by).await?;
        let peer = tcp.peer_addr().map_err(|error| ConnectError::Io(error.to_string()))?.ip();
        let open = Open::new(self.open);
        let Some((settings, name)) = self.tls else {
            return http1(Stream::new(Transport::Plain(tcp), open), peer).await;
        };
        *stage = "the TLS handshake did not end";
        let tls = TlsConnector::from(settings).connect(name, tcp).await;
        let tls = tls.map_err(|error| ConnectError::Tls(words::of_io(&error)))?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Stream::new(Transport::Tls(Box::new(tls)), open);
        if is_http2 { http2(stream, peer).await } else { http1(stream, peer).await }
    }
}

/// Goes through the addresses, those of the one family a little after those of the other
/// (RFC 8305), each with its share of the time.
async fn connect(
    base: &Uri,
    addresses: Arc<Vec<SocketAddr>>,
    by: Instant,
) -> Result<TcpStream, ConnectError> {
    let mut connector = HttpConnector::new_with_resolver(Known(addresses));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(by.saturating_duration_since(Instant::now())));
    match connector.call(base.clone()).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => {
            let innermost = innermost(&error);
            let io = innermost.downcast_ref::<std::io::Error>();
            let elapsed = innermost.is::<tokio::time::error::Elapsed>();
            if elapsed || io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) {
                return Err(ConnectError::TimedOut("no address took it"));
            }
            Err(ConnectError::Io(innermost.to_string()))
        }
    }
}

async fn http1(stream: Stream, peer: IpAddr) -> Result<Opened, ConnectError> {
    let traffic = stream.traffic();
    let shaken = http1::Builder::new()
        // The most headers are 100; to say so would cost an allocation for each answer.
        .max_header_size(LARGEST_HEAD as usize)
        .max_buf_size(2 * LARGEST_HEAD as usize)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = shaken.map_err(|error| ConnectError::Io(error.to_string()))?;
    let task = tokio::spawn(connection).abort_handle();
    Ok(Opened { sender: Sender::Http1(sender), peer, traffic, task: Task(task) })
}

async fn http2(stream: Stream, peer: IpAddr) -> Result<Opened, ConnectError> {
    let traffic = stream.traffic();
    let tasks = Tasks::default();
    let shaken = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .max_header_list_size(LARGEST_HEAD)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, mut connection) = shaken.map_err(|error| ConnectError::Io(error.to_string()))?;
    let most = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let told = Arc::clone(&most);
    let dispatch = tokio::spawn(poll_fn(move |context| {
        let polled = Pin::new(&mut connection).poll(context);
        told.store(connection.current_max_send_streams(), Ordering::Relaxed);
        polled
    }));
    let dispatch = dispatch.abort_handle();
    // What holds the stream is the task that hyper started; the one here ends with it.
    let task = tasks.0.get().cloned().unwrap_or(dispatch);
    Ok(Opened { sender: Sender::Http2 { sender, most }, peer, traffic, task: Task(task) })
}

/// The innermost cause says the most: "connection refused" rather than "client error".
pub(super) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// Runs what an HTTP/2 connection needs run, and keeps hold of the first: that on the stream.
#[derive(Clone, Default)]
struct Tasks(Arc<OnceLock<AbortHandle>>);

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future);
        if self.0.get().is_none() {
            let _ = self.0.set(task.abort_handle());
        }
    }
}

/// Answers with what has been looked up already.
#[derive(Clone)]
struct Known(Arc<Vec<SocketAddr>>);

impl Service<Name> for Known {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok((*self.0).clone().into_iter()))
    }
}
