//! The connections to the CMS, against servers of the tests' own on loopback.

#[path = "../../../tests/support/authority.rs"]
mod authority;
mod http1;
mod http2;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::authority::{Authority, Signed};
use super::exchange::{Connection, ExchangeFault, Exchanged};
use super::server::Server;
use super::tls::Trust;
use crate::config;
use crate::telemetry::Metrics;

const LARGEST: usize = 1000;
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A server, and the gateway's side of it.
struct Pair {
    server: Server,
    trust: Arc<Trust>,
    metrics: Arc<Metrics>,
    accepted: Arc<AtomicUsize>,
}

/// Where a test's server is, and how many connections it has taken.
struct Listening {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Pair {
    /// A server that does this with each of its connections, which are counted from 0.
    async fn plain<F, D>(serve: F) -> Self
    where
        F: Fn(usize, TcpStream) -> D + Send + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let listening = listen(serve).await;
        let url = format!("http://{}", listening.address);
        Self::new(listening, &url, config::Tls::default())
    }

    fn new(listening: Listening, url: &str, tls: config::Tls) -> Self {
        let settings = settings(url, tls);
        let metrics = Arc::new(Metrics::new().unwrap());
        let trust = Arc::new(Trust::new(&settings.tls, false, &metrics).unwrap());
        let server = Server::new(&settings.targets[0], &settings, Arc::clone(&trust), &metrics);
        Self { server, trust, metrics, accepted: listening.accepted }
    }

    async fn connect(&self) -> Connection {
        self.server.connect(false, soon()).await.unwrap()
    }

    async fn exchange(&self) -> Result<Exchanged, ExchangeFault> {
        exchange(self.connect().await).await
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    async fn wait_for_open(&self, wanted: i64) {
        let what = format!("{wanted} open connections");
        wait_for(&what, || self.metrics.upstream_connections.get() == wanted).await;
    }
}

async fn listen<F, D>(serve: F) -> Listening
where
    F: Fn(usize, TcpStream) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(count.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    Listening { address, accepted }
}

async fn exchange(connection: Connection) -> Result<Exchanged, ExchangeFault> {
    connection.exchange(request(), soon(), soon(), LARGEST).await
}

fn request() -> Request<Full<Bytes>> {
    Request::put("/path").body(Full::new(Bytes::from_static(b"body"))).unwrap()
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Reads a request and gives its head; empty at the end of the connection.
async fn read_request(stream: &mut impl Io) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\nbody") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Answers each request with these words.
async fn answer_all(mut stream: impl Io, words: &str) {
    while !read_request(&mut stream).await.is_empty() {
        stream.write_all(words.as_bytes()).await.unwrap();
    }
}

async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn settings(url: &str, tls: config::Tls) -> config::Upstream {
    let url: http::Uri = url.parse().unwrap();
    let second = Duration::from_secs(1);
    config::Upstream {
        targets: vec![config::Target {
            scheme: url.scheme().unwrap().clone(),
            authority: url.authority().unwrap().clone(),
        }],
        tls,
        connect_timeout: second,
        head_timeout: second,
        response_timeout: second,
        dns_refresh: second,
        concurrency: 8,
        queue_timeout: second,
        breaker: config::Breaker { failures: 1, share: 1, open: second },
        ejection: config::Ejection { failures: 1, time: second },
        probe: None,
        retry: config::Retry { idempotent: false, budget: 0 },
    }
}
