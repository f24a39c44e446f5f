//! A stream that comes back from whoever it was given to.
//!
//! hyper closes a client's connection by letting go of it. What is left to do with it then, a last
//! answer and a close that does not reset it, would take a second descriptor for each connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream in another's hands, which goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Lent<S> {
    /// Nothing only as it is dropped.
    stream: Option<S>,
    back: Back<S>,
}

/// Where it comes back.
#[derive(Debug)]
pub(super) struct Back<S>(Arc<Mutex<Option<S>>>);

pub(super) fn lend<S>(stream: S) -> (Lent<S>, Back<S>) {
    let back = Arc::default();
    (Lent { stream: Some(stream), back: Back(Arc::clone(&back)) }, Back(back))
}

impl<S> Back<S> {
    /// The stream, if it is back.
    pub(super) fn take(&self) -> Option<S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

impl<S: Unpin> Lent<S> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
