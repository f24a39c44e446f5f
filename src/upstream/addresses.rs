//! The addresses of a host's name, looked up again and again.
//!
//! A lookup goes through the system's resolver, which can't be told to stop: there is one thread
//! for it and never more, and who waits for it does so within a time. The last good addresses serve
//! for as long as the name can't be looked up.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::connect::ConnectError;
use crate::random;

/// The most addresses that are kept of one name.
const MOST: usize = 64;
/// How long a lookup in the background may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two lookups, whoever asks for one.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of a host's addresses.
pub(super) struct Addresses {
    host: Arc<str>,
    port: u16,
    /// How old they may be; nothing where the host is an address itself.
    refresh: Option<Duration>,
    kept: ArcSwapOption<Vec<SocketAddr>>,
    /// The one that was last found to be of no use as the first, if a name has several.
    passed_over: ArcSwapOption<SocketAddr>,
    lookup: Mutex<Lookup>,
    /// How many lookups have ended.
    ended: AtomicU64,
    /// Somebody found none of the addresses to serve.
    doubt: Notify,
}

#[derive(Default)]
struct Lookup {
    /// Not given up when nobody waits for it, so that no second one begins.
    under_way: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    /// Why the last one failed.
    failure: Option<String>,
}

impl Addresses {
    /// Of this host, which may be an address, in brackets if it is one of IPv6.
    pub(super) fn new(host: &str, port: u16, refresh: Duration) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let literal = host.parse::<IpAddr>().ok();
        let kept = literal.map(|address| Arc::new(vec![SocketAddr::new(address, port)]));
        Self {
            host: host.into(),
            port,
            refresh: literal.is_none().then_some(refresh),
            kept: ArcSwapOption::new(kept),
            passed_over: ArcSwapOption::empty(),
            lookup: Mutex::default(),
            ended: AtomicU64::new(0),
            doubt: Notify::new(),
        }
    }

    /// The addresses; looked up by who is the first to need them, for all who wait.
    pub(super) async fn known(&self, by: Instant) -> Result<Arc<Vec<SocketAddr>>, ConnectError> {
        if let Some(kept) = self.kept.load_full() {
            return Ok(kept);
        }
        let ended = self.ended.load(Ordering::Acquire);
        let lookup = timeout_at(by.into(), self.lookup.lock()).await;
        let mut lookup = lookup.map_err(|_| self.slow())?;
        let failed_meanwhile = self.ended.load(Ordering::Acquire) != ended;
        if self.kept.load().is_none() && !failed_meanwhile {
            self.look_up(&mut lookup, by).await;
        }
        self.kept.load_full().ok_or_else(|| match &lookup.failure {
            Some(failure) => ConnectError::Lookup(failure.clone()),
            None => self.slow(),
        })
    }

    /// Whether this is an address of the host, by the last good answer.
    pub(super) fn include(&self, address: IpAddr) -> bool {
        let kept = self.kept.load();
        kept.as_ref().is_some_and(|kept| kept.iter().any(|one| one.ip() == address))
    }

    /// No connection to any of them: they are looked up soon.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// What began with this address came to no connection: it is the last from now on. A server
    /// that takes connections and nothing more would else keep all from those beside it.
    pub(super) fn pass_over(&self, first: SocketAddr) {
        self.passed_over.store(Some(Arc::new(first)));
        self.kept.rcu(|kept| kept.as_ref().map(|kept| Arc::new(self.ordered(kept))));
    }

    fn ordered(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut addresses = addresses.to_vec();
        if addresses.first() == self.passed_over.load().as_deref() {
            addresses.rotate_left(1);
        }
        addresses
    }

    /// Looks them up again and again, for ever.
    pub(super) async fn refresh(&self) {
        let Some(refresh) = self.refresh else { return std::future::pending().await };
        loop {
            {
                let mut lookup = self.lookup.lock().await;
                self.look_up(&mut lookup, Instant::now() + PATIENCE).await;
            }
            let pause = random::jittered(refresh);
            tokio::time::sleep(pause.min(PAUSE)).await;
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(PAUSE)) => {}
                () = self.doubt.notified() => {}
            }
        }
    }

    async fn look_up(&self, lookup: &mut MutexGuard<'_, Lookup>, by: Instant) {
        let under_way = lookup.under_way.get_or_insert_with(|| {
            let (host, port) = (Arc::clone(&self.host), self.port);
            tokio::task::spawn_blocking(move || {
                let found = (&*host, port).to_socket_addrs()?;
                Ok(found.take(MOST).collect())
            })
        });
        let found = match timeout_at(by.into(), under_way).await {
            Err(_) => return self.fail(lookup, self.slow().to_string()),
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(io::Error::other(error)),
        };
        lookup.under_way = None;
        match found {
            Ok(found) if found.is_empty() => {
                self.fail(lookup, format!("{} has no address", self.host));
            }
            Ok(found) => {
                if lookup.failure.take().is_some() {
                    tracing::info!(host = %self.host, "the CMS's name can be looked up again");
                }
                self.keep(found);
            }
            Err(error) => self.fail(lookup, format!("{}: {error}", self.host)),
        }
        self.ended.fetch_add(1, Ordering::Release);
    }

    fn fail(&self, lookup: &mut Lookup, why: String) {
        if lookup.failure.is_none() {
            let serve = if self.kept.load().is_some() { "; its last addresses serve" } else { "" };
            tracing::warn!(host = %self.host, why, "the CMS's name can't be looked up{serve}");
        }
        lookup.failure = Some(why);
    }

    pub(super) fn keep(&self, found: Vec<SocketAddr>) {
        let before = self.kept.swap(Some(Arc::new(self.ordered(&found))));
        // A name server gives its addresses in another order each time.
        let set = |addresses: &[SocketAddr]| {
            let mut addresses = addresses.to_vec();
            addresses.sort_unstable();
            addresses
        };
        if before.is_some_and(|before| set(&before) != set(&found)) {
            tracing::info!(host = %self.host, addresses = ?found, "the CMS has other addresses");
        }
    }

    fn slow(&self) -> ConnectError {
        ConnectError::Lookup(format!("{}: no answer in time", self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 80)
    }

    fn soon() -> Instant {
        Instant::now() + PATIENCE
    }

    #[tokio::test]
    async fn an_address_is_its_own() {
        for (host, expected) in [("127.0.0.3", "127.0.0.3"), ("[::1]", "::1")] {
            let addresses = Addresses::new(host, 80, PAUSE);
            assert_eq!(*addresses.known(soon()).await.unwrap(), [at(expected)]);
            assert!(addresses.include(expected.parse().unwrap()));
            assert!(addresses.refresh.is_none());
        }
    }

    #[tokio::test]
    async fn the_last_good_answer_serves_until_there_is_another() {
        let addresses = Addresses::new("cms.example.com", 80, PAUSE);
        addresses.keep(vec![at("127.0.0.1"), at("127.0.0.2")]);
        addresses.fail(&mut *addresses.lookup.lock().await, "no answer".to_owned());
        assert_eq!(addresses.known(soon()).await.unwrap().len(), 2);
        addresses.keep(vec![at("127.0.0.2")]);
        assert!(!addresses.include("127.0.0.1".parse().unwrap()));
        assert!(addresses.include("127.0.0.2".parse().unwrap()));
    }

    #[tokio::test]
    async fn an_address_that_is_of_no_use_is_the_last_after_another_lookup_too() {
        let addresses = Addresses::new("cms.example.com", 80, PAUSE);
        let [one, two, three] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(at);
        addresses.keep(vec![one, two, three]);
        // Of two who have tried it at the same time, the second has nothing to add.
        addresses.pass_over(one);
        addresses.pass_over(one);
        for _ in 0..2 {
            assert_eq!(*addresses.known(soon()).await.unwrap(), [two, three, one]);
            addresses.keep(vec![one, two, three]);
        }
        addresses.keep(vec![one]);
        assert_eq!(*addresses.known(soon()).await.unwrap(), [one]);
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_is_asked_once_and_nobody_waits_for_it_longer_than_he_may() {
        let addresses = Arc::new(Addresses::new("cms.example.com", 80, PAUSE));
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let hanging = tokio::task::spawn_blocking(move || {
            let _ = answered.recv();
            Ok(vec![at("127.0.0.1")])
        });
        addresses.lookup.lock().await.under_way = Some(hanging);
        for _ in 0..3 {
            let by = Instant::now() + Duration::from_millis(20);
            let error = addresses.known(by).await.unwrap_err();
            assert!(error.to_string().contains("no answer in time"), "{error}");
        }
        assert!(addresses.lookup.lock().await.under_way.is_some(), "the same one");
        drop(answer);
        assert_eq!(*addresses.known(soon()).await.unwrap(), [at("127.0.0.1")]);
        assert!(addresses.lookup.lock().await.failure.is_none());
    }
}
