//! The running gateway: its listeners, its background work, its configurations one after the other,
//! and its end.

mod admin;
mod api;
mod bare;
mod certificate;
mod connection;
mod lent;
mod listener;
mod parts;
mod shared;
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::listener::Listening;
use self::parts::Builder;
use self::shared::{Front, Shared};
use crate::audit::{Audit, Event, OpenError};
use crate::client::ClientError;
use crate::config::{Config, Listen};
use crate::gateway::Gateway;
use crate::identity::IdentityError;
use crate::systemd::Listeners;
use crate::telemetry::{Metrics, Otlp};
use crate::tls::TlsError;

/// How long what runs in the background may take to end, at a stop.
const LAST: Duration = Duration::from_secs(1);
/// How much of a reason goes on record, in characters.
const LONGEST_REASON: usize = 2000;

/// A gateway that serves.
pub struct Server {
    config: Config,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    otlp: Otlp,
    shared: Arc<Shared>,
    api: Listening,
    admin: Listening,
    /// Where the API and the admin endpoints listen, of those that the service manager handed over.
    handed: (Option<SocketAddr>, Option<SocketAddr>),
    /// On an address of before, until their connections have ended.
    earlier_apis: Vec<Listening>,
    /// Those that still serve requests of before a reload, perhaps.
    earlier: Vec<Weak<Gateway>>,
    /// All that runs in the background; ended when dropped.
    tasks: JoinSet<()>,
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
    /// The service manager's socket is open to a network for which the configuration has no TLS.
    #[error(
        "listen.api: the service manager's socket is {0}, which is not loopback, and tokens would \
         cross the network in plain text; write that address into listen.api, with listen.tls, or \
         with allow_plaintext = true where something before it does TLS"
    )]
    PlainText(SocketAddr),
    /// The audit trail has another writer.
    #[error(transparent)]
    Audit(#[from] OpenError),
    /// What TLS needs, the API's or that to the CMS, can't be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is nothing to trust a collector of telemetry by.
    #[error("telemetry.otlp: {0}")]
    Otlp(#[from] ClientError),
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

/// Why a configuration does not take the place of the one in force, although it is good.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What can't be changed while the gateway runs is changed.
    #[error("{0}: can't be changed while the gateway runs; restart it for that")]
    NeedsRestart(&'static str),
    /// A part of it can't be built.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What is new can't be used.
    #[error("{0}")]
    Unusable(String),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (api, admin) = (self.api.local, self.admin.local);
        formatter.debug_struct("Server").field("api", &api).field("admin", &admin).finish()
    }
}

impl Server {
    /// Opens the trail, starts the listeners and the background work. A listener that is given is
    /// served instead of the configured address.
    ///
    /// # Errors
    ///
    /// When a port is taken, or the audit trail has another writer.
    pub async fn start(config: &Config, listeners: Listeners) -> Result<Self, StartError> {
        let is_handed = (listeners.api.is_some(), listeners.admin.is_some());
        let api = bind("listen.api", config.listen.api, listeners.api).await?;
        let admin = bind("listen.admin", config.listen.admin, listeners.admin).await?;
        let served = is_handed.0.then(|| api.local_addr().ok()).flatten();
        refuse_plain_text(&config.listen, served)?;

        let metrics = Arc::new(Metrics::new()?);
        let otlp = Otlp::start(config, &metrics)?;
        let audit = Audit::open(&config.audit, otlp.logs(), &metrics)?;
        let mut tasks = JoinSet::new();
        let events = audit.events();
        let start = Event::new("start");
        events.record(start.detail(format!("configuration sha256:{}", config.sha256)));
        let mut builder = Builder { config, events, metrics: &metrics, tasks: &mut tasks };
        let tls = builder.tls()?;
        let parts = builder.build()?;
        let (trail, counted) = (Arc::clone(&audit), Arc::clone(&metrics));
        let gateway = Arc::new(Gateway::new(config, parts, trail, counted, otlp.tracer(), None));
        let address = api.local_addr().unwrap_or(config.listen.api);
        let shared = Arc::new(Shared::new(Front::new(config, gateway, tls, address)));
        tasks.spawn(look_after(Arc::clone(&audit)));

        let api = Listening::start(api, &shared, &mut tasks, api::serve);
        let admin = Listening::start(admin, &shared, &mut tasks, admin::serve);
        let handed = (is_handed.0.then_some(api.local), is_handed.1.then_some(admin.local));
        tracing::info!(api = %api.local, admin = %admin.local, "listening");
        metrics.config_last_reload_success.set(now());
        Ok(Self {
            config: config.clone(),
            metrics,
            audit,
            otlp,
            shared,
            api,
            admin,
            handed,
            earlier_apis: Vec::new(),
            earlier: Vec::new(),
            tasks,
        })
    }

    /// Where the API listens.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.api.local
    }

    /// Where the admin endpoints listen.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin.local
    }

    /// Puts a configuration in the place of the one in force, as a whole or not at all. Each request
    /// is decided by one of them.
    ///
    /// What is new in it must be usable first: addresses free, keys of issuers fetched, the credential
    /// read. That may take ten seconds. Dropped before its end, it has changed nothing.
    ///
    /// # Errors
    ///
    /// When something of it is not, or when `[audit]` is changed, which needs a restart.
    pub async fn reload(&mut self, config: Config) -> Result<(), ReloadError> {
        let (own, before) = (&config.fingerprints, &self.config.fingerprints);
        let fixed = ["audit", "telemetry"];
        if let Some(key) = fixed.into_iter().find(|key| !own.is_written_alike(key, before)) {
            return Err(ReloadError::NeedsRestart(key));
        }
        if !own.are_same(&fixed, before) {
            // No reason to refuse all the rest.
            tracing::warn!("telemetry.otlp.ca says something else; it is read at the next start");
        }
        let (listen, then) = (&config.listen, &self.config.listen);
        refuse_plain_text(listen, self.handed.0)?;
        let api = rebind("listen.api", listen.api, then.api, self.handed.0).await?;
        let admin = rebind("listen.admin", listen.admin, then.admin, self.handed.1).await?;
        let before = self.shared.gateway();
        let (events, metrics) = (self.audit.events().held(), &self.metrics);
        let (told, tasks) = (events.clone(), &mut self.tasks);
        let mut builder = Builder { config: &config, events: told, metrics, tasks };
        let is_same = own.are_same(&["listen"], &self.config.fingerprints);
        let tls = if is_same { self.shared.front.load().tls.clone() } else { builder.tls()? };
        let parts = builder.build_after(&self.config, before.parts()).await?;

        // From here on nothing can fail and nothing is waited for. What is loaded is on record before
        // it is used.
        events.release();
        let (trail, counted) = (Arc::clone(&self.audit), Arc::clone(&self.metrics));
        let gateway =
            Gateway::new(&config, parts, trail, counted, self.otlp.tracer(), Some(&before));
        let address = api.as_ref().map_or(Ok(self.api.local), TcpListener::local_addr);
        let address = address.unwrap_or(config.listen.api);
        self.shared.front.store(Arc::new(Front::new(&config, Arc::new(gateway), tls, address)));
        self.forget_what_is_gone(&config);
        self.earlier.retain(|earlier| earlier.strong_count() > 0);
        self.earlier.push(Arc::downgrade(&before));
        self.earlier_apis.retain(Listening::has_connections);
        if let Some(api) = api {
            self.api.stop();
            let api = Listening::start(api, &self.shared, &mut self.tasks, api::serve);
            self.earlier_apis.push(std::mem::replace(&mut self.api, api));
        }
        if let Some(admin) = admin {
            self.admin.stop();
            self.admin = Listening::start(admin, &self.shared, &mut self.tasks, admin::serve);
        }
        self.config = config;
        Ok(())
    }

    /// What is no longer there has no metrics any more.
    fn forget_what_is_gone(&self, new: &Config) {
        let Metrics { jwks_age, upstream_circuit_open, .. } = &*self.metrics;
        if new.listen.tls.is_none() {
            self.metrics.tls_certificate_expiry.reset();
            self.metrics.tls_crl_expiry.reset();
        }
        let is_gone = |name: &str| new.issuers.iter().all(|issuer| issuer.issuer != name);
        for issuer in self.config.issuers.iter().filter(|issuer| is_gone(&issuer.issuer)) {
            let _ = jwks_age.remove_label_values(&[&issuer.issuer]);
        }
        if !new.fingerprints.are_same(&["upstream"], &self.config.fingerprints) {
            let is_gone = |name: &str| new.upstream.targets.iter().all(|it| it.name() != name);
            for server in self.config.upstream.targets.iter().filter(|it| is_gone(&it.name())) {
                let _ = upstream_circuit_open.remove_label_values(&[&server.name()]);
            }
        }
    }

    /// Says in the log, the metrics, on record and in `/readyz` what became of a configuration.
    pub fn report(&self, sha256: &str, result: Result<(), String>) {
        let reloads = &self.metrics.config_reload;
        let event = match &result {
            Ok(()) => {
                tracing::info!(sha256, api = %self.api.local, "the configuration is in force");
                reloads.with_label_values(&["success"]).inc();
                self.metrics.config_last_reload_success.set(now());
                Event::new("config_loaded").detail(format!("sha256:{sha256}"))
            }
            Err(reason) => {
                for reason in reason.lines() {
                    tracing::error!(
                        sha256,
                        reason,
                        "the configuration is not taken; the one before stays"
                    );
                }
                reloads.with_label_values(&["failure"]).inc();
                let reason: String = reason.chars().take(LONGEST_REASON).collect();
                Event::new("config_refused").detail(format!("sha256:{sha256}: {reason}"))
            }
        };
        self.audit.events().record(event);
        self.shared.set_refused(result.err());
    }

    /// The file says again what is in force, whatever it said in between.
    pub fn is_as_in_force(&self) {
        self.shared.set_refused(None);
    }

    /// How long a drain and the end of what is in flight may take together.
    #[must_use]
    pub fn drains_for(&self) -> Duration {
        self.config.drain.delay + self.config.drain.timeout
    }

    /// Goes on serving for `drain.delay`, no longer ready.
    pub async fn drain(&self) {
        tracing::info!(delay = ?self.config.drain.delay, "draining");
        self.shared.drain();
        tokio::time::sleep(self.config.drain.delay).await;
    }

    /// Stops accepting, lets what is in flight end within the drain's time, writes out the trail.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.shared.drain();
        self.api.stop();
        let gateway = self.shared.gateway();
        let ended = async {
            for api in self.earlier_apis.iter_mut().chain([&mut self.api]) {
                api.ended().await;
            }
            gateway.idle().await;
            for earlier in self.earlier.iter().filter_map(Weak::upgrade) {
                earlier.idle().await;
            }
        };
        if tokio::time::timeout(self.config.drain.timeout, ended).await.is_err() {
            tracing::warn!("requests are still in flight at the end of drain.timeout");
        }
        self.audit.close().await;
        self.otlp.close().await;
        // Who asks how it goes is told so until there is nothing more to tell.
        self.admin.stop();
        // Only the end of the task that waits for a program ends the program too.
        let ended = tokio::time::timeout(LAST, self.tasks.shutdown()).await;
        if ended.is_err() {
            tracing::warn!("something in the background does not end");
        }
        tracing::info!("stopped");
    }
}

/// What the trail needs once a second.
async fn look_after(audit: Arc<Audit>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        audit.record_anonymous();
        audit.watch_disk().await;
    }
}

/// Listens, unless that is done already.
async fn bind(
    key: &'static str,
    address: SocketAddr,
    handed: Option<std::net::TcpListener>,
) -> Result<TcpListener, StartError> {
    let failed = |error| StartError::Listen { key, address, error };
    let Some(handed) = handed else { return TcpListener::bind(address).await.map_err(failed) };
    handed.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(handed).map_err(failed)?;
    let served = listener.local_addr().map_err(failed)?;
    if served != address {
        tell_of_another_address(key, address, served);
    }
    Ok(listener)
}

fn tell_of_another_address(key: &'static str, configured: SocketAddr, served: SocketAddr) {
    tracing::warn!(
        key,
        %configured,
        %served,
        "the service manager's socket is served, not the configured address"
    );
}

/// Asks of an address that is not the configured one what the configuration was checked for.
fn refuse_plain_text(listen: &Listen, served: Option<SocketAddr>) -> Result<(), StartError> {
    let is_checked = listen.tls.is_some() || !listen.api.ip().is_loopback();
    match served.filter(|served| !is_checked && !served.ip().is_loopback()) {
        Some(served) => Err(StartError::PlainText(served)),
        None => Ok(()),
    }
}

/// A listener on another address than before, if it is another one, and none was handed over.
async fn rebind(
    key: &'static str,
    address: SocketAddr,
    then: SocketAddr,
    handed: Option<SocketAddr>,
) -> Result<Option<TcpListener>, StartError> {
    if address == then {
        return Ok(None);
    }
    if let Some(served) = handed {
        tell_of_another_address(key, address, served);
        return Ok(None);
    }
    bind(key, address, None).await.map(Some)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
