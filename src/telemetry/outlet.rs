//! A way out that holds up nobody who gives to it.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long what waits may take at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// A thread that writes what it is given, one piece after the other. What finds no room among those
/// that wait is lost, and whoever gave it is told so.
#[derive(Debug)]
pub(crate) struct Outlet {
    queue: Arc<SyncSender<Vec<u8>>>,
    ended: Receiver<()>,
}

/// Where pieces are given.
#[derive(Debug, Clone)]
pub(crate) struct Inlet(Weak<SyncSender<Vec<u8>>>);

impl Outlet {
    /// Starts a thread of this name, before which so many pieces may wait.
    pub(crate) fn start(
        name: &str,
        most_waiting: usize,
        mut write: impl FnMut(&[u8]) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, waiting) = sync_channel::<Vec<u8>>(most_waiting);
        let (end, ended) = sync_channel(1);
        let run = move || {
            waiting.into_iter().for_each(|piece| write(&piece));
            let _ = end.send(());
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { queue: Arc::new(queue), ended })
    }

    /// A way to give to it, as long as it is there.
    pub(crate) fn inlet(&self) -> Inlet {
        Inlet(Arc::downgrade(&self.queue))
    }

    /// Waits until all is out, for a while.
    pub(crate) fn end(self) {
        drop(self.queue);
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

impl Inlet {
    /// Whether there is room for it.
    #[must_use]
    pub(crate) fn give(&self, piece: &[u8]) -> bool {
        self.0.upgrade().is_some_and(|queue| queue.try_send(piece.to_vec()).is_ok())
    }
}
