//! Accepting connections, until told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::shared::Shared;

/// A listener at work.
pub(super) struct Listening {
    pub(super) local: SocketAddr,
    stop: watch::Sender<bool>,
    /// Nothing ever comes; it ends with the last connection.
    connections: mpsc::Receiver<Infallible>,
}

/// What a listener and its connections hold of it.
#[derive(Clone)]
pub(super) struct Hold {
    pub(super) stop: watch::Receiver<bool>,
    _connection: mpsc::Sender<Infallible>,
}

impl Listening {
    /// Serves there, as `serve` does, until it is told to stop.
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        listener: TcpListener,
        shared: &Arc<Shared>,
        tasks: &mut JoinSet<()>,
        serve: impl FnOnce(TcpListener, Arc<Shared>, Hold) -> F,
    ) -> Self {
        let local = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
        let (stop, stopping) = watch::channel(false);
        let (connection, connections) = mpsc::channel(1);
        let hold = Hold { stop: stopping, _connection: connection };
        tasks.spawn(serve(listener, Arc::clone(shared), hold));
        Self { local, stop, connections }
    }

    /// Accepts nothing more, and closes connections as soon as they have no request.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the last connection has ended.
    pub(super) async fn ended(&mut self) {
        let _ = self.connections.recv().await;
    }

    pub(super) fn has_connections(&self) -> bool {
        !self.connections.is_closed()
    }
}

/// Accepts a connection; nothing once it is time to stop.
pub(super) async fn accept(
    listener: &TcpListener,
    stop: &mut watch::Receiver<bool>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let _ = stream.set_nodelay(true);
                return Some((stream, address));
            }
            Err(error) => {
                // Out of file descriptors, mostly. Accepting again at once would only spin.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
