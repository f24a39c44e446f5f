//! One base URL of the CMS: its addresses and its connections.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::addresses::Addresses;
use super::connect::{ConnectError, Opened, Plan, Sender};
use super::exchange::{Base, Connection, Kind};
use super::pool::{Http1, Origin, Pool, Shared, Usage};
use super::tls::Trust;
use crate::config;
use crate::telemetry::Metrics;

/// The time between two looks for idle connections that are to be closed.
const SWEEP: Duration = Duration::from_secs(5);

/// One base URL of the CMS: its addresses and its connections.
pub(super) struct Server {
    name: String,
    url: Uri,
    base: Arc<Base>,
    /// The name that its certificate must have; nothing where it can have none.
    server_name: Option<ServerName<'static>>,
    addresses: Addresses,
    pool: Arc<Pool>,
    trust: Arc<Trust>,
    metrics: Arc<Metrics>,
    /// Whether its connections may turn out to be such that all can share one.
    may_share: AtomicBool,
    /// Held while such a connection is opened.
    opening: Mutex<()>,
}

impl Server {
    /// Knows where it is and opens no connection yet.
    pub(super) fn new(
        target: &config::Target,
        settings: &config::Upstream,
        trust: Arc<Trust>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (scheme, authority) = (target.scheme.clone(), target.authority.clone());
        let is_tls = scheme == Scheme::HTTPS;
        let host = authority.host();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let named = || ServerName::try_from(bare.to_owned()).ok();
        let name = target.name();
        Self {
            url: name.parse().unwrap_or_default(),
            name,
            server_name: settings.tls.server_name.clone().or_else(named),
            addresses: Addresses::new(host, port, settings.dns_refresh),
            pool: Arc::new(Pool::new(settings.concurrency)),
            trust,
            metrics: Arc::clone(metrics),
            may_share: AtomicBool::new(is_tls),
            opening: Mutex::default(),
            base: Arc::new(Base {
                host: HeaderValue::from_str(authority.as_str())
                    .unwrap_or_else(|_| HeaderValue::from_static("")),
                scheme,
                authority,
            }),
        }
    }

    /// Scheme and authority, for records.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Looks the host's name up again and again, and closes what nobody is to use again; for ever.
    pub(super) async fn refresh(&self) {
        let sweep = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.pool.sweep(self.is_current());
            }
        };
        tokio::join!(self.addresses.refresh(), sweep);
    }

    /// A connection that is ready: an idle one unless it must be `fresh`, else a new one. One try,
    /// which takes until then at the longest.
    pub(super) async fn connect(
        &self,
        fresh: bool,
        by: Instant,
    ) -> Result<Connection, ConnectError> {
        if !fresh && let Some(connection) = self.used().await {
            return Ok(connection);
        }
        // Not in this future, which would be many times larger for it and is moved about.
        Box::pin(self.open_one(fresh, by)).await
    }

    /// A new connection, or another's that came meanwhile and can be shared.
    async fn open_one(&self, fresh: bool, by: Instant) -> Result<Connection, ConnectError> {
        if fresh || !self.may_share.load(Ordering::Relaxed) {
            return self.open(by).await;
        }
        let opening = timeout_at(by.into(), self.opening.lock()).await;
        let opening = opening.map_err(|_| ConnectError::TimedOut("others were before it"))?;
        if let Some(connection) = self.used().await {
            return Ok(connection);
        }
        if !self.may_share.load(Ordering::Relaxed) {
            drop(opening);
        }
        self.open(by).await
    }

    /// A place on a connection that is open.
    async fn used(&self) -> Option<Connection> {
        let kind = match self.pool.place(self.is_current()) {
            Some(place) => Kind::Http2(place),
            None => {
                let http1 = self.pool.idle(self.is_current()).await?;
                Kind::Http1 { http1, is_reused: true }
            }
        };
        Some(self.connection(kind))
    }

    async fn open(&self, by: Instant) -> Result<Connection, ConnectError> {
        let addresses = self.addresses.known(by).await?;
        let (generation, settings) = self.trust.current();
        let tls = if self.base.scheme == Scheme::HTTPS {
            let no_name = || ConnectError::Tls("the host is no name for a certificate".to_owned());
            Some((settings, self.server_name.clone().ok_or_else(no_name)?))
        } else {
            None
        };
        let first = addresses.first().copied();
        let open = &self.metrics.upstream_connections;
        let opened = Plan { base: &self.url, addresses, tls, open }.open(by).await;
        if matches!(opened, Err(ConnectError::Io(_) | ConnectError::TimedOut(_))) {
            self.addresses.doubt();
        }
        if let (Err(_), Some(first)) = (&opened, first) {
            self.addresses.pass_over(first);
        }
        let Opened { sender, peer, traffic, task: _task } = opened?;
        let origin = Origin { peer, generation };
        Ok(match sender {
            Sender::Http1(sender) => {
                self.may_share.store(false, Ordering::Relaxed);
                let http1 = Http1 { sender, traffic, origin, since: Instant::now(), _task };
                self.connection(Kind::Http1 { http1, is_reused: false })
            }
            Sender::Http2 { sender, most } => {
                self.may_share.store(true, Ordering::Relaxed);
                let usage = Usage::new().into();
                let shared = Shared { sender, most, traffic, origin, usage, _task };
                self.connection(Kind::Http2(self.pool.share(shared)))
            }
        })
    }

    #[cfg(test)]
    pub(super) fn resolve_to(&self, addresses: Vec<std::net::SocketAddr>) {
        self.addresses.keep(addresses);
    }

    fn connection(&self, kind: Kind) -> Connection {
        Connection { kind, base: Arc::clone(&self.base), pool: Arc::clone(&self.pool) }
    }

    /// Whether a connection goes to an address that is still the host's, and was made under the TLS
    /// settings that are in force.
    fn is_current(&self) -> impl Fn(&Origin) -> bool {
        let generation = self.trust.generation();
        move |origin| origin.generation == generation && self.addresses.include(origin.peer)
    }
}

impl Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}
