//! The tokens that are no longer accepted, although their signature and times are good.
//!
//! An operator writes them to a file; what it says is in force within a second. A file at fault
//! changes nothing, so that a slip of the pen gives no token back; and as long as no list could be
//! loaded at all, every token counts as revoked.

mod format;
mod list;

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};

pub use self::format::RevocationFault;
pub use self::list::RevocationList;
use crate::audit::{Event, Events};
use crate::config;
use crate::telemetry::Metrics;
use crate::watch::{self, Sight, Watched};

/// The file's list as it is in force.
#[derive(Debug)]
pub(super) struct Revocations {
    path: PathBuf,
    /// Those that an entry can be about.
    issuers: Vec<String>,
    current: ArcSwapOption<InForce>,
    /// Why the file as it is now can't be loaded.
    fault: ArcSwapOption<String>,
    events: Events,
    metrics: Arc<Metrics>,
}

/// Whether a list is in force, and whether it is what the file says.
#[derive(Debug, Clone)]
pub struct RevocationState {
    /// The list in force. Without one nobody may be served: who is revoked is not known.
    pub in_force: Option<Arc<InForce>>,
    /// Why the file as it is now can't be loaded.
    pub fault: Option<Arc<String>>,
}

/// A list, and where it came from.
#[derive(Debug)]
pub struct InForce {
    list: RevocationList,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// When it was loaded.
    pub since: SystemTime,
}

impl InForce {
    /// How many entries the file has.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.list.entries()
    }
}

impl Revocations {
    /// Knows the file and has read nothing.
    pub(super) fn new(
        settings: &config::Revocation,
        issuers: Vec<String>,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            path: settings.file.clone(),
            issuers,
            current: ArcSwapOption::empty(),
            fault: ArcSwapOption::empty(),
            events,
            metrics,
        }
    }

    /// Goes on with what is in force of the same file, though that says something else by now.
    pub(super) fn go_on_from(&self, before: &Self) {
        if self.path == before.path {
            self.current.store(before.current.load_full());
            self.fault.store(before.fault.load_full());
        }
    }

    /// Loads the file now, so that nobody is kept out at a start.
    pub(super) fn load_now(&self) {
        self.load(watch::read(&self.path, RevocationList::LARGEST));
    }

    /// Loads the file at once, and whenever it says something else.
    pub(super) async fn watch_for_ever(self: Arc<Self>) {
        let mut file = Watched::new(self.path.clone(), RevocationList::LARGEST);
        loop {
            let sight = file.next().await;
            let revocations = Arc::clone(&self);
            // A million entries take a while to read.
            let _ = tokio::task::spawn_blocking(move || revocations.load(sight)).await;
        }
    }

    /// Whether a token may no longer be used; every token while no list is in force.
    ///
    /// `issued_at` is `iat`, in seconds since 1970. A token without it counts as issued before
    /// every instant.
    pub(super) fn is_revoked(
        &self,
        issuer: &str,
        subject: Option<&str>,
        client_id: Option<&str>,
        token_id: Option<&str>,
        issued_at: Option<u64>,
    ) -> bool {
        self.current.load().as_ref().is_none_or(|current| {
            current.list.is_revoked(issuer, subject, client_id, token_id, issued_at)
        })
    }

    /// Whether a list is in force, and whether it is what the file says.
    pub(super) fn state(&self) -> RevocationState {
        RevocationState { in_force: self.current.load_full(), fault: self.fault.load_full() }
    }

    /// Takes what the file says, if it is a list.
    fn load(&self, sight: Sight) {
        let loaded = sight.map_err(|error| error.to_string()).and_then(|bytes| {
            let list = RevocationList::parse(&bytes).map_err(|fault| fault.to_string())?;
            Ok(InForce { list, sha256: hexadecimal(&bytes), since: SystemTime::now() })
        });
        // The first look of the watch sees what was loaded at the start.
        if loaded.as_ref().is_ok_and(|list| self.is_in_force(list)) {
            return;
        }
        let result = if loaded.is_ok() { "success" } else { "failure" };
        self.metrics.revocation_load.with_label_values(&[result]).inc();
        match loaded {
            Ok(list) => self.replace(list),
            Err(fault) => self.refuse(fault),
        }
    }

    /// Whether the file says again what it said.
    fn is_in_force(&self, list: &InForce) -> bool {
        let current = self.current.load();
        let is_same = current.as_ref().is_some_and(|current| current.sha256 == list.sha256);
        is_same && self.fault.load().is_none()
    }

    fn replace(&self, list: InForce) {
        let entries = list.entries();
        let path = self.path.display();
        let mut detail = format!("{path}: {entries} entries, SHA-256 {}", list.sha256);
        let idle = list.list.of_other_issuers(&self.issuers);
        if idle > 0 {
            detail += &format!("; {idle} of them name an issuer that is not configured");
            tracing::warn!(idle, "entries of the revocation list name no configured issuer");
        }
        tracing::info!(detail, "the revocation list is loaded");
        self.current.store(Some(Arc::new(list)));
        self.fault.store(None);
        let event = Event::new("revocations_loaded").detail(detail).count(entries as u64);
        self.events.record(event);
    }

    /// What was loaded before stays in force.
    fn refuse(&self, fault: String) {
        if self.fault.load().as_ref().is_some_and(|known| **known == fault) {
            return;
        }
        let detail = format!("{}: {fault}", self.path.display());
        let is_in_force = self.current.load().is_some();
        tracing::error!(detail, is_in_force, "the revocation list can't be loaded");
        self.fault.store(Some(Arc::new(fault)));
        self.events.record(Event::new("revocations_refused").detail(detail));
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};
    use std::{fs, io};

    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        revocations: Arc<Revocations>,
        metrics: Arc<Metrics>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Fixture {
        fn watching(text: Option<&str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("revoked.json");
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let metrics = Arc::new(Metrics::new().unwrap());
            let settings = config::Revocation { file };
            let revocations = Revocations::new(
                &settings,
                vec!["issuer".to_owned()],
                Events::default(),
                Arc::clone(&metrics),
            );
            let revocations = Arc::new(revocations);
            let task = tokio::spawn(Arc::clone(&revocations).watch_for_ever());
            Self { folder, revocations, metrics, task }
        }

        fn write(&self, text: &str) {
            let file = self.folder.path().join("revoked.json");
            fs::write(file.with_extension("new"), text).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        }

        fn revokes(&self, subject: &str) -> bool {
            self.revocations.is_revoked("issuer", Some(subject), None, None, Some(1))
        }

        /// How long it took until this held.
        async fn until(&self, holds: impl Fn(&Self) -> bool) -> Duration {
            let start = Instant::now();
            while !holds(self) {
                assert!(start.elapsed() < Duration::from_secs(10), "{:?}", self.revocations);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            start.elapsed()
        }

        fn failures(&self) -> u64 {
            self.metrics.revocation_load.with_label_values(&["failure"]).get()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    #[tokio::test]
    async fn each_load_and_each_failure_is_on_record_once() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let settings = config::Audit::within(folder.path());
        let audit = crate::audit::Audit::open(&settings, None, &metrics).unwrap();
        let file = folder.path().join("revoked.json");
        let watched = config::Revocation { file };
        let revocations =
            Revocations::new(&watched, vec!["issuer".to_owned()], audit.events(), metrics);
        let text = of_subject("alice").into_bytes();
        revocations.load(Ok(text.clone()));
        revocations.load(Ok(b"{}".to_vec()));
        revocations.load(Ok(b"{}".to_vec()));
        revocations.load(Ok(br#"{"revoked":[{}]}"#.to_vec()));
        audit.close().await;

        let segments = fs::read_dir(&settings.directory).unwrap();
        let text_of = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.unwrap().path());
        let trail: String = segments.filter_map(|entry| text_of(entry).ok()).collect();
        let told = |what: &str| trail.lines().filter(|line| line.contains(what)).count();
        assert_eq!(told("revocations_loaded"), 1, "{trail}");
        assert_eq!(told(&hexadecimal(&text)), 1, "{trail}");
        assert_eq!(told("revocations_refused"), 2, "{trail}");
        assert_eq!(told("/revoked/0: names neither"), 1, "{trail}");
        assert!(told("revoked.json") >= 3, "{trail}");
    }

    fn of_subject(name: &str) -> String {
        format!(r#"{{"revoked":[{{"subject":"{name}"}}]}}"#)
    }

    #[tokio::test]
    async fn every_token_counts_as_revoked_until_a_list_is_loaded() {
        let fixture = Fixture::watching(None);
        fixture.until(|it| it.revocations.state().fault.is_some()).await;
        assert!(fixture.revocations.state().in_force.is_none());
        assert!(fixture.revokes("anyone"));
        fixture.write("{}");
        fixture.until(|it| it.failures() == 2).await;
        assert!(fixture.revokes("anyone"), "a list at fault is no list");
        fixture.write(r#"{"revoked":[]}"#);
        fixture.until(|it| !it.revokes("anyone")).await;
        assert!(fixture.revocations.state().fault.is_none());
    }

    #[tokio::test]
    async fn a_change_is_in_force_within_a_second_and_a_fault_changes_nothing() {
        let fixture = Fixture::watching(Some(&of_subject("alice")));
        fixture.until(|it| it.revokes("alice") && !it.revokes("bob")).await;
        let first = fixture.revocations.state().in_force.unwrap();
        assert_eq!((first.entries(), first.sha256.len()), (1, 64));

        fixture.write(&of_subject("bob"));
        let took = fixture.until(|it| it.revokes("bob")).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(!fixture.revokes("alice"), "who was taken off the list is not revoked");

        fixture.write(r#"{"revoked":[{"subject":""}]}"#);
        fixture.until(|it| it.revocations.state().fault.is_some()).await;
        let state = fixture.revocations.state();
        assert!(state.fault.unwrap().contains("/revoked/0/subject"));
        assert!(state.in_force.is_some() && fixture.revokes("bob") && !fixture.revokes("alice"));

        // Gone, which is another failure, and back as it was.
        fs::remove_file(fixture.folder.path().join("revoked.json")).unwrap();
        fixture.until(|it| it.failures() == 2).await;
        assert!(fixture.revokes("bob"), "a file that is gone gives no token back");
        fixture.write(&of_subject("bob"));
        fixture.until(|it| it.revocations.state().fault.is_none()).await;
    }
}
