//! The API's listener: TLS or plain text, HTTP/1.1 and HTTP/2, with a limit on everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::connection::{Connection, Protocols};
use super::listener::accept;
use crate::context::Peer;
use crate::gateway::Gateway;
use crate::reply::{Code, Problem};
use crate::telemetry::Metrics;

/// Serves until told to stop, and until every connection has ended.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    gateway: Arc<Gateway>,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let protocols = Arc::new(Protocols::new(gateway.limits()));
    let (serving, mut all_served) = mpsc::channel(1);
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
            protocols: Arc::clone(&protocols),
            stop: stop.clone(),
            serving: serving.clone(),
            place: Place::new(place, &gateway.metrics),
        };
        match acceptor.clone() {
            None => {
                tokio::spawn(connection.serve(stream));
            }
            Some(acceptor) => {
                tokio::spawn(connection.serve_tls(stream, acceptor));
            }
        }
    }
    drop((listener, serving));
    // Nothing is ever sent: this is until every connection has let go of its end.
    let _ = all_served.recv().await;
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
