//! The API's listener: TLS or plain text, HTTP/1.1 and HTTP/2, with a limit on everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::listener::{Hold, accept};
use super::shared::Shared;
use crate::context::Peer;
use crate::reply::{Code, Problem};

/// Accepts connections until told to stop; each goes on by itself.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut hold: Hold) {
    while let Some((stream, address)) = accept(&listener, &mut hold.stop).await {
        let front = shared.front.load();
        let Some(place) = shared.place(front.gateway.limits().connections) else {
            if front.tls.is_none() {
                let problem =
                    Problem::new(Code::Overloaded, "too many connections are open; try again");
                tokio::spawn(refuse(stream, shared.refusal(&problem)));
            }
            continue;
        };
        let protocols = Arc::clone(&front.protocols);
        let (shared, hold) = (Arc::clone(&shared), hold.clone());
        let connection = Connection { peer: Peer::from(address), shared, protocols, hold, place };
        match &front.tls {
            None => {
                tokio::spawn(connection.serve(stream));
            }
            Some(tls) => {
                tokio::spawn(connection.serve_tls(stream, tls.acceptor()));
            }
        }
    }
}

/// Tells a connection that there is no place for it, as HTTP/1.1 would have it.
async fn refuse(mut stream: TcpStream, text: Vec<u8>) {
    let write = async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}
