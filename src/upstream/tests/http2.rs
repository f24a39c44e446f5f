//! HTTP/2, where ALPN says so: one connection for many, and what a server says that it did not do.

use std::convert::Infallible;

use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::*;

const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Stream 1 is refused.
const REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
/// Nothing was worked on; no error, and some words.
const GO_AWAY: &[u8] = b"\0\0\x0e\x07\0\0\0\0\0\0\0\0\0\0\0\0\0secret";

/// A server of HTTP/2 whose connections are worked on by this.
async fn pair<F, D>(folder: &tempfile::TempDir, serve: F) -> Pair
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> D + Clone + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let tls = authority.sign("127.0.0.1", |_| {}).server(None, &["h2"], rustls::ALL_VERSIONS);
    let acceptor = TlsAcceptor::from(tls);
    let listening = listen(move |_, stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await;
    let url = format!("https://{}", listening.address);
    Pair::new(listening, &url, config::Tls { ca: Some(ca), ..config::Tls::default() })
}

/// Answers while the gate lets requests through, so many at the same time.
async fn served(folder: &tempfile::TempDir, gate: &Arc<Semaphore>, most: u32) -> Pair {
    let gate = Arc::clone(gate);
    pair(folder, move |stream| {
        let gate = Arc::clone(&gate);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                assert!(!request.headers().contains_key("host"));
                let uri = request.uri().to_string();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(uri))))
            }
        });
        async move {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(most)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let pair = Arc::new(served(&folder, &gate, 250).await);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let pair = Arc::clone(&pair);
            tokio::spawn(async move { pair.exchange().await.unwrap() })
        })
        .collect();
    gate.add_permits(50);
    for task in tasks {
        let exchanged = task.await.unwrap();
        assert_eq!(exchanged.body, format!("{}/path", pair.server.name()));
    }
    assert!(pair.connect().await.is_reused());
    assert_eq!(pair.accepted(), 1);
    assert_eq!(pair.metrics.upstream_connections.get(), 1);
    let metrics = Arc::clone(&pair.metrics);
    drop(pair);
    wait_for("the end of all", || metrics.upstream_connections.get() == 0).await;
}

#[tokio::test]
async fn another_connection_is_opened_where_one_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(100));
    let pair = served(&folder, &gate, 2).await;
    // Two, since what the server takes may be known only after the first.
    pair.exchange().await.unwrap();
    pair.exchange().await.unwrap();
    let places = [pair.connect().await, pair.connect().await, pair.connect().await];
    assert_eq!(places.each_ref().map(Connection::is_reused), [true, true, false]);
    for place in places {
        exchange(place).await.unwrap();
    }
    assert_eq!(pair.accepted(), 2);
}

#[tokio::test]
async fn what_takes_too_long_is_reset_and_its_connection_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let pair = served(&folder, &gate, 10).await;
    let moment = Instant::now() + Duration::from_millis(100);
    let connection = pair.connect().await;
    let other = pair.connect().await;
    let late = connection.exchange(request(), moment, soon(), LARGEST).await.unwrap_err();
    assert_eq!(late, ExchangeFault::NoHead);
    gate.add_permits(10);
    exchange(other).await.expect("who was on it may end");
    assert!(!pair.connect().await.is_reused());
    wait_for("a second connection", || pair.accepted() == 2).await;
    pair.wait_for_open(1).await;
}

#[tokio::test]
async fn what_the_server_did_nothing_with_was_not_sent() {
    for frame in [REFUSED, GO_AWAY] {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair(&folder, move |mut stream| async move {
            stream.write_all(EMPTY_SETTINGS).await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"body") {
                let Ok(byte) = stream.read_u8().await else { return };
                bytes.push(byte);
            }
            stream.write_all(frame).await.unwrap();
            while stream.read_u8().await.is_ok() {}
        })
        .await;
        let fault = pair.exchange().await.unwrap_err();
        assert!(matches!(fault, ExchangeFault::NotSent(_)), "{fault:?}");
        assert!(!fault.to_string().contains("secret"), "{fault}");
        pair.wait_for_open(0).await;
    }
}

/// A GOAWAY that counts stream 1 among those it may work on, before the end; and other resets.
#[tokio::test]
async fn what_the_server_may_have_begun_was_sent() {
    const INTERNAL: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    const CANCEL: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    const LEAVING: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    const FAILING: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    for frame in [INTERNAL, CANCEL, LEAVING, FAILING] {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair(&folder, move |mut stream| async move {
            stream.write_all(EMPTY_SETTINGS).await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"body") {
                bytes.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(frame).await.unwrap();
            let _ = stream.shutdown().await;
        })
        .await;
        let fault = pair.exchange().await.unwrap_err();
        assert!(matches!(fault, ExchangeFault::Broken(_)), "{frame:?}: {fault:?}");
        pair.wait_for_open(0).await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_may_have_had_its_effect() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair(&folder, |mut stream| async move {
        stream.write_all(EMPTY_SETTINGS).await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"body") {
            bytes.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    let fault = pair.exchange().await.unwrap_err();
    assert!(matches!(fault, ExchangeFault::Broken(_) | ExchangeFault::CutOff(..)), "{fault:?}");
    pair.wait_for_open(0).await;
}
