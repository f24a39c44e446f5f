//! What listeners and connections look at again and again, because it may have changed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use uuid::Uuid;

use super::connection::Protocols;
use super::tls::ListenerTls;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::part::Part;
use crate::reply::Problem;

/// What one configuration makes of the gateway.
pub(super) struct Front {
    pub(super) gateway: Arc<Gateway>,
    pub(super) protocols: Arc<Protocols>,
    pub(super) tls: Option<Part<ListenerTls>>,
    /// By which scheme, host and port callers know the API.
    pub(super) origin: String,
}

impl Front {
    /// Of an API that listens there.
    pub(super) fn new(
        config: &Config,
        gateway: Arc<Gateway>,
        tls: Option<Part<ListenerTls>>,
        address: SocketAddr,
    ) -> Self {
        let protocols = Arc::new(Protocols::new(gateway.limits()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let public = config.listen.public_url.as_ref().map(|url| url.as_str().to_owned());
        let origin = public.unwrap_or_else(|| format!("{scheme}://{address}"));
        Self { gateway, protocols, tls, origin }
    }
}

/// What there is of one kind for all listeners.
pub(super) struct Shared {
    pub(super) front: ArcSwap<Front>,
    /// How many connections of the API are open.
    open: AtomicUsize,
    is_draining: AtomicBool,
    /// Why the newest configuration is not in force, if it is not.
    refused: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(front: Front) -> Self {
        Self {
            front: ArcSwap::from_pointee(front),
            open: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            refused: Mutex::default(),
        }
    }

    /// The gateway of the configuration that is in force at this moment.
    pub(super) fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.front.load().gateway)
    }

    /// A place among the open connections, if there is one.
    pub(super) fn place(self: &Arc<Self>, most: usize) -> Option<Place> {
        let one_more = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.gateway().metrics.connections.inc();
        Some(Place(Arc::clone(self)))
    }

    /// The answer to what never became a request, as HTTP/1.1 writes it; counted as all errors are.
    pub(super) fn refusal(&self, problem: &Problem) -> Vec<u8> {
        self.gateway().metrics.errors.with_label_values(&[problem.code.as_str()]).inc();
        problem.http_1(Uuid::now_v7())
    }

    /// From here on it is not ready, and every answer is its connection's last.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    pub(super) fn set_refused(&self, reason: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A place among the open connections.
pub(super) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.gateway().metrics.connections.dec();
    }
}
