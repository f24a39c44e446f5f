//! A connection's bytes, plain or in TLS, and how many of them went each way.
//!
//! hyper says that a request failed, and not whether a byte of it had been sent or a byte of an
//! answer had come; a change may be sent once more only where that is known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection's bytes; counted as open for as long as it is there.
pub(super) struct Stream {
    transport: Transport,
    traffic: Arc<Traffic>,
    _open: Open,
}

/// What carries them.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How many bytes of HTTP have gone each way.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    written: AtomicU64,
    read: AtomicU64,
}

/// Both counts at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) written: u64,
    pub(super) read: u64,
}

/// One more in the number of open connections.
pub(super) struct Open(IntGauge);

impl Open {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Traffic {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            written: self.written.load(Ordering::Acquire),
            read: self.read.load(Ordering::Acquire),
        }
    }
}

impl Stream {
    pub(super) fn new(transport: Transport, open: Open) -> Self {
        Self { transport, traffic: Arc::default(), _open: open }
    }

    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    fn note_written(&self, written: &io::Result<usize>) {
        let count = match (written, &self.transport) {
            (Ok(written), _) => *written as u64,
            (Err(_), Transport::Plain(_)) => 0,
            // One record may have gone before the next one failed: at least a byte, for all we know.
            (Err(_), Transport::Tls(_)) => 1,
        };
        self.traffic.written.fetch_add(count, Ordering::Release);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        let read = buffer.filled().len().saturating_sub(before);
        self.traffic.read.fetch_add(read as u64, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

/// Not in several pieces: for a head and a short body, to copy them together is less than what the
/// kernel does to gather them.
impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        });
        self.note_written(&written);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
