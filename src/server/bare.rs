//! Gives hyper's own refusals the gateway's shape, and a client its time to take an answer.
//!
//! A head that is no HTTP never becomes a request: hyper answers it itself, with an empty 400, 414
//! or 431, and closes the connection. Callers were promised one shape for every error, so this
//! stream, which lies under hyper, writes that answer in its stead. The gateway's own answers of
//! these statuses always have a body, by which the two are told apart.
//!
//! hyper waits for ever for a client that doesn't read; here, that is an error in the end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::shared::Shared;
use crate::reply::{Code, Problem};

/// A client's connection, below hyper.
pub(super) struct Shaped<S> {
    stream: S,
    shared: Arc<Shared>,
    /// What was read of it before hyper had it.
    before: Bytes,
    /// What is written in the stead of hyper's answer, and how much of it has been.
    instead: Option<(Vec<u8>, usize)>,
    /// How long it may take nothing of what is written.
    patience: Duration,
    /// The end of that, while it takes nothing.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Shaped<S> {
    pub(super) fn new(stream: S, before: Bytes, patience: Duration, shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        Self { stream, shared, before, instead: None, patience, until: None }
    }

    /// The stream, and what hyper has not read of what was read before.
    pub(super) fn into_inner(self) -> (S, Bytes) {
        (self.stream, self.before)
    }

    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((text, written)) = &mut self.instead {
            let rest = text.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            let polled = Pin::new(&mut self.stream).poll_write(context, rest);
            let more = ready!(bounded(polled, &mut self.until, self.patience, context))?;
            if more == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += more;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shaped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let fits = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before.copy_to_bytes(fits));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shaped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        if let Some(problem) = bare_refusal(bytes) {
            self.instead = Some((self.shared.refusal(&problem), 0));
            // hyper's answer is taken whole; ours is written by the flush that follows it.
            return Poll::Ready(Ok(bytes.len()));
        }
        let own = &mut *self;
        let polled = Pin::new(&mut own.stream).poll_write(context, bytes);
        bounded(polled, &mut own.until, own.patience, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        let own = &mut *self;
        let polled = Pin::new(&mut own.stream).poll_flush(context);
        bounded(polled, &mut own.until, own.patience, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        let own = &mut *self;
        let polled = Pin::new(&mut own.stream).poll_shutdown(context);
        bounded(polled, &mut own.until, own.patience, context)
    }
}

/// An error where it has been pending for too long.
fn bounded<T>(
    polled: Poll<io::Result<T>>,
    until: &mut Option<Pin<Box<Sleep>>>,
    patience: Duration,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if polled.is_ready() {
        *until = None;
        return polled;
    }
    let until = until.get_or_insert_with(|| Box::pin(sleep(patience)));
    until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

/// What hyper refuses with these bytes, if they are such an answer of its own.
fn bare_refusal(bytes: &[u8]) -> Option<Problem> {
    let status = bytes.strip_prefix(b"HTTP/1.1 4").or_else(|| bytes.strip_prefix(b"HTTP/1.0 4"))?;
    let empty = b"\r\ncontent-length: 0\r\n";
    bytes.windows(empty.len()).find(|window| window == empty)?;
    Some(match status.get(..2)? {
        b"31" => Problem::new(Code::HeadTooLarge, "the request's line or headers are too large"),
        b"14" => Problem::new(Code::HeadTooLarge, "the request's target is too long"),
        b"00" => Problem::new(Code::Malformed, "the request's head is not HTTP/1.1 (RFC 9112)"),
        _ => return None,
    })
}
