//! The connections to a server that can take another request.
//!
//! One of HTTP/1.1 takes one request at a time: it is taken out, the one used last first, and comes
//! back when its answer was read to the end. One of HTTP/2 is shared for as long as it is good.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};

use super::connect::Task;
use super::stream::Traffic;

/// How long a connection that nobody uses is kept; below the idle times of the usual Java servers,
/// so that it is this side that closes it.
pub(super) const IDLE: Duration = Duration::from_secs(15);
/// How long is waited for a connection that has given its answer to get ready for the next request.
const RECOVERY: Duration = Duration::from_millis(20);

/// The connections that can take another request.
pub(super) struct Pool {
    /// The most that are kept.
    most: usize,
    idle: Mutex<Vec<Http1>>,
    shared: Mutex<Vec<Arc<Shared>>>,
}

/// Where a connection goes, and under which TLS settings it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) peer: IpAddr,
    pub(super) generation: u64,
}

/// A connection of HTTP/1.1.
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<Full<Bytes>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) origin: Origin,
    /// When it was last used.
    pub(super) since: Instant,
    pub(super) _task: Task,
}

/// A connection of HTTP/2.
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<Full<Bytes>>,
    /// How many requests the server takes at the same time.
    pub(super) most: Arc<AtomicUsize>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) origin: Origin,
    pub(super) usage: Mutex<Usage>,
    pub(super) _task: Task,
}

/// How a connection of HTTP/2 is used.
pub(super) struct Usage {
    in_flight: usize,
    /// Whether an answer has come on it.
    has_answered: bool,
    /// When it was last used.
    since: Instant,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self { in_flight: 0, has_answered: false, since: Instant::now() }
    }
}

/// One request's place on a connection of HTTP/2.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) is_reused: bool,
}

impl Place {
    fn on(shared: &Arc<Shared>) -> Self {
        let mut usage = shared.usage();
        usage.in_flight += 1;
        Self { shared: Arc::clone(shared), is_reused: usage.has_answered }
    }

    /// An answer has come.
    pub(super) fn note_answer(&self) {
        self.shared.usage().has_answered = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut usage = self.shared.usage();
        usage.in_flight = usage.in_flight.saturating_sub(1);
        usage.since = Instant::now();
    }
}

impl Shared {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server takes another request on it, as far as it has said.
    fn has_place(&self) -> bool {
        self.usage().in_flight < self.most.load(Ordering::Relaxed)
    }

    fn is_good(&self, is_current: impl Fn(&Origin) -> bool) -> bool {
        let usage = self.usage();
        let is_fresh = usage.in_flight > 0 || usage.since.elapsed() < IDLE;
        is_fresh && !self.sender.is_closed() && is_current(&self.origin)
    }
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self { most, idle: Mutex::default(), shared: Mutex::default() }
    }

    /// A place on a connection of HTTP/2.
    pub(super) fn place(&self, is_current: impl Fn(&Origin) -> bool) -> Option<Place> {
        let mut shared = self.shared();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|one| one.is_good(&is_current));
        shared.iter().rev().find(|one| one.has_place()).map(Place::on)
    }

    /// An idle connection of HTTP/1.1 that is ready.
    pub(super) async fn idle(&self, is_current: impl Fn(&Origin) -> bool) -> Option<Http1> {
        loop {
            let mut taken = self.idle_list().pop()?;
            if taken.since.elapsed() >= IDLE || !is_current(&taken.origin) {
                continue;
            }
            if taken.sender.is_ready() {
                return Some(taken);
            }
            // It has just given its answer, or is at its end.
            let ready = tokio::time::timeout(RECOVERY, taken.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Some(taken);
            }
        }
    }

    /// Takes back a connection whose answer was read to the end.
    pub(super) fn put_back(&self, mut http1: Http1) {
        if http1.sender.is_closed() {
            return;
        }
        http1.since = Instant::now();
        let mut idle = self.idle_list();
        if idle.len() < self.most {
            idle.push(http1);
        }
    }

    /// Lets others share a new connection, and gives the first place on it.
    pub(super) fn share(&self, shared: Shared) -> Place {
        let shared = Arc::new(shared);
        let place = Place::on(&shared);
        let mut list = self.shared();
        if list.len() < self.most {
            list.push(shared);
        }
        place
    }

    /// Nobody else is to use this connection; those who do may end.
    pub(super) fn retire(&self, shared: &Arc<Shared>) {
        self.shared().retain(|one| !Arc::ptr_eq(one, shared));
    }

    /// Closes what is not to be used again.
    pub(super) fn sweep(&self, is_current: impl Fn(&Origin) -> bool) {
        self.idle_list().retain(|one| {
            one.since.elapsed() < IDLE && !one.sender.is_closed() && is_current(&one.origin)
        });
        self.shared().retain(|one| one.is_good(&is_current));
    }

    fn idle_list(&self) -> MutexGuard<'_, Vec<Http1>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
