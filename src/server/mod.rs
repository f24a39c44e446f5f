//! The running gateway: its listeners, its background work, and its end.

mod admin;
mod api;
mod bare;
mod certificate;
mod connection;
mod lent;
mod listener;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::{Audit, OpenError};
use crate::config::Config;
use crate::credential::Credentials;
use crate::gateway::Gateway;
use crate::identity::{Identity, IdentityError};
use crate::telemetry::Metrics;
use crate::upstream::{TlsError, Upstream};

/// How long what runs in the background may take to end, at a stop.
const LAST: Duration = Duration::from_secs(1);

/// A gateway that serves.
#[derive(Debug)]
pub struct Server {
    api: SocketAddr,
    admin: SocketAddr,
    gateway: Arc<Gateway>,
    drain: Duration,
    stopping: watch::Sender<bool>,
    listeners: JoinSet<()>,
    /// All that runs in the background; ended when dropped.
    background: JoinSet<()>,
}

/// Why a gateway can't start although its configuration is good.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or the address is not this machine's.
    #[error("{key}: can't listen on {address}: {error}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The audit trail has another writer.
    #[error(transparent)]
    Audit(#[from] OpenError),
    /// What TLS to the CMS needs can't be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Tokens can't be checked.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The signals that end it can't be heard.
    #[error("signals can't be waited for: {0}")]
    Signal(io::Error),
    /// The metrics contradict each other.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Opens the trail, starts the listeners and the background work.
    ///
    /// # Errors
    ///
    /// When a port is taken, or the audit trail has another writer.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let (api, api_address) = bind("listen.api", config.listen.api).await?;
        let (admin, admin_address) = bind("listen.admin", config.listen.admin).await?;

        let metrics = Arc::new(Metrics::new()?);
        let audit = Audit::open(&config.audit, &metrics)?;
        let identity = Arc::new(Identity::new(config, &audit.events(), &metrics)?);
        let credentials =
            Arc::new(Credentials::new(&config.credential, audit.events(), Arc::clone(&metrics)));
        let upstream = Arc::new(Upstream::new(&config.upstream, Arc::clone(&metrics))?);
        let gateway = Arc::new(Gateway::new(
            config,
            Arc::clone(&identity),
            Arc::clone(&credentials),
            Arc::clone(&upstream),
            Arc::clone(&audit),
            metrics,
        ));

        let mut background = JoinSet::new();
        background.spawn(identity.refresh());
        background.spawn(async move { credentials.refresh_for_ever().await });
        background.spawn(async move { upstream.look_after().await });
        background.spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            loop {
                second.tick().await;
                audit.record_anonymous();
                audit.watch_disk().await;
            }
        });

        let (stopping, stop) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let tls = config.listen.tls.clone();
        listeners.spawn(api::serve(api, tls, Arc::clone(&gateway), stop.clone()));
        listeners.spawn(admin::serve(admin, Arc::clone(&gateway), stop));
        tracing::info!(api = %api_address, admin = %admin_address, "listening");
        Ok(Self {
            api: api_address,
            admin: admin_address,
            gateway,
            drain: config.drain.timeout,
            stopping,
            listeners,
            background,
        })
    }

    /// Where the API listens.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where the admin endpoints listen.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Stops accepting, lets what is in flight end within the drain's time, writes out the trail.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        let _ = self.stopping.send(true);
        let ended = async {
            while self.listeners.join_next().await.is_some() {}
            self.gateway.idle().await;
        };
        if tokio::time::timeout(self.drain, ended).await.is_err() {
            tracing::warn!("requests are still in flight at the end of drain.timeout");
        }
        self.gateway.audit.close().await;
        // Only the end of the task that waits for a program ends the program too.
        let ended = tokio::time::timeout(LAST, self.background.shutdown()).await;
        if ended.is_err() {
            tracing::warn!("something in the background does not end");
        }
        tracing::info!("stopped");
    }
}

async fn bind(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { key, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
