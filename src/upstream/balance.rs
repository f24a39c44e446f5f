//! Which of the CMS's servers is sent a change: of two that are well, by chance, the one with less
//! to do ("the power of two choices"); one that is not well only where all are not.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::header::ACCEPT;
use http_body_util::Full;
use tokio::task::JoinSet;

use super::breaker::Breaker;
use super::ejection::Ejection;
use super::server::Server;
use super::tls::Trust;
use super::{Answer, Failure, LARGEST};
use crate::config;
use crate::random;
use crate::telemetry::Metrics;

/// How many looks in a row must fail.
const FAILED_LOOKS: u32 = 2;

/// The CMS's servers.
#[derive(Debug)]
pub(super) struct Balance {
    nodes: Vec<Arc<Node>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Node {
    index: usize,
    server: Server,
    name: Arc<str>,
    breaker: Breaker,
    ejection: Ejection,
    /// What the last looks at it have shown.
    is_well: AtomicBool,
    in_flight: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// A server for one exchange.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    node: &'a Node,
    begun: Instant,
}

/// Servers that are not to be chosen, a bit each.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Avoided(u64);

/// Why no server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoServer {
    /// Each that may be asked is to be avoided.
    AllAvoided,
    /// None may be asked for this time.
    CircuitOpen(Duration),
}

impl Balance {
    pub(super) fn new(
        settings: &config::Upstream,
        trust: &Arc<Trust>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let node = |(index, target): (usize, &config::Target)| {
            let server = Server::new(target, settings, Arc::clone(trust), metrics);
            let name: Arc<str> = server.name().into();
            let _ = metrics.upstream_ejections.with_label_values(&[&name]);
            Arc::new(Node {
                index,
                server,
                name,
                breaker: Breaker::new(settings.breaker),
                ejection: Ejection::new(settings.ejection),
                is_well: AtomicBool::new(true),
                in_flight: AtomicUsize::new(0),
                metrics: Arc::clone(metrics),
            })
        };
        let nodes = settings.targets.iter().enumerate().map(node).collect();
        Self { nodes, metrics: Arc::clone(metrics) }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.nodes.len() == 1
    }

    pub(super) fn choose(&self, avoided: Avoided) -> Result<Chosen<'_>, NoServer> {
        let may_be_asked = |node: &&Arc<Node>| node.breaker.open_for().is_none();
        let may_be_chosen = |node: &&Arc<Node>| may_be_asked(node) && !avoided.has(node);
        let well = |node: &&Arc<Node>| may_be_chosen(node) && node.is_well();
        loop {
            let node = self.less_busy(well).or_else(|| self.less_busy(may_be_chosen));
            let Some(node) = node else {
                let open = self.nodes.iter().map(|node| node.breaker.open_for());
                // One that may be asked makes the least nothing.
                return Err(match open.min().flatten() {
                    Some(left) => NoServer::CircuitOpen(left),
                    None => NoServer::AllAvoided,
                });
            };
            // Another request may have had its only try meanwhile.
            if node.breaker.admit() {
                node.in_flight.fetch_add(1, Ordering::Relaxed);
                return Ok(Chosen { node, begun: Instant::now() });
            }
        }
    }

    fn less_busy(&self, may_be_chosen: impl Fn(&&Arc<Node>) -> bool) -> Option<&Arc<Node>> {
        let candidates: Vec<_> = self.nodes.iter().filter(may_be_chosen).collect();
        if candidates.len() < 2 {
            return candidates.first().copied();
        }
        let chance = usize::from_ne_bytes(random::bytes());
        let first = chance % candidates.len();
        // Another one than the first.
        let second = (first + 1 + (chance >> 32) % (candidates.len() - 1)) % candidates.len();
        let two = [candidates.get(first), candidates.get(second)];
        let busy = |node: &&Arc<Node>| node.in_flight.load(Ordering::Relaxed);
        two.into_iter().flatten().copied().min_by_key(busy)
    }

    /// Notes that these could not be connected to since then.
    pub(super) fn observe_unreachable(&self, failed: Avoided, since: Instant) {
        for node in self.nodes.iter().filter(|node| failed.has(node)) {
            node.breaker.observe(since, true);
        }
    }

    /// Shows which servers are not asked.
    pub(super) fn show_circuits(&self) {
        let mut are_all_open = true;
        for node in &self.nodes {
            let is_open = node.breaker.is_open();
            are_all_open &= is_open;
            let gauge = &self.metrics.upstream_circuit_open;
            gauge.with_label_values(&[&node.name]).set(i64::from(is_open));
        }
        self.metrics.circuit_open.set(i64::from(are_all_open));
    }

    /// Looks up the servers' names, and looks at the servers where there is a probe; for ever.
    pub(super) async fn look_after(&self, probe: Option<&config::Probe>) {
        let mut each = JoinSet::new();
        for node in &self.nodes {
            let (node, probe) = (Arc::clone(node), probe.cloned());
            each.spawn(async move {
                let looks = async {
                    if let Some(probe) = &probe {
                        node.look(probe).await;
                    }
                };
                tokio::join!(node.server.refresh(), looks);
            });
        }
        while each.join_next().await.is_some() {}
    }
}

impl Node {
    fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed) && !self.ejection.is_ejected()
    }

    fn observe(&self, failed: bool) {
        if self.ejection.observe(failed) {
            tracing::warn!(server = %self.name, "the server fails and is left out for a while");
            self.metrics.upstream_ejections.with_label_values(&[&self.name]).inc();
        }
    }

    /// Asks it again and again whether it is well.
    async fn look(&self, probe: &config::Probe) {
        let mut failed = 0;
        loop {
            tokio::time::sleep(random::jittered(probe.interval)).await;
            let answers = self.answers(probe).await;
            failed = if answers { 0 } else { failed + 1 };
            let is_well = failed < FAILED_LOOKS;
            if self.is_well.swap(is_well, Ordering::Relaxed) != is_well {
                tracing::warn!(server = %self.name, is_well, "what the probe says has changed");
            }
        }
    }

    async fn answers(&self, probe: &config::Probe) -> bool {
        let by = Instant::now() + probe.timeout;
        let request = Request::get(probe.path.as_str()).header(ACCEPT, "*/*");
        let Ok(request) = request.body(Full::<Bytes>::default()) else { return false };
        let Ok(connection) = self.server.connect(false, by).await else { return false };
        let answer = connection.exchange(request, by, by, LARGEST).await;
        answer.is_ok_and(|answer| !answer.status.is_server_error())
    }
}

// === impl Chosen ===

impl Deref for Chosen<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.node.server
    }
}

impl Chosen<'_> {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.node.name
    }

    /// Notes that it can't be connected to; the breaker hears of it once for each change.
    pub(super) fn observe_no_connection(&self) {
        self.node.observe(true);
    }

    /// Notes how an exchange with it ended.
    pub(super) fn observe(&self, result: &Result<Answer, Failure>) {
        let failed = result.as_ref().is_err_and(Failure::is_the_servers);
        self.node.observe(failed);
        self.node.breaker.observe(self.begun, failed);
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        self.node.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Avoided ===

impl Avoided {
    pub(super) fn add(&mut self, chosen: &Chosen<'_>) {
        self.0 |= Self::bit(chosen.node);
    }

    pub(super) fn remove(&mut self, chosen: &Chosen<'_>) {
        self.0 &= !Self::bit(chosen.node);
    }

    pub(super) fn contains(self, chosen: &Chosen<'_>) -> bool {
        self.has(chosen.node)
    }

    fn has(self, node: &Node) -> bool {
        self.0 & Self::bit(node) != 0
    }

    fn bit(node: &Node) -> u64 {
        1_u64.checked_shl(node.index as u32).unwrap_or_default()
    }
}
