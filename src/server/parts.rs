//! The parts of a gateway: built for its configuration, or taken over from the one before where that
//! says the same of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::tls::ListenerTls;
use super::{ReloadError, StartError};
use crate::audit::Events;
use crate::config::Config;
use crate::credential::{CredentialError, Credentials};
use crate::gateway::Parts;
use crate::identity::{Identity, RevocationState};
use crate::part::Part;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// How long a new part may take before it can be used, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What of a configuration each part depends on.
const IDENTITY: &[&str] = &["issuers", "revocation", "token_cache"];
const CREDENTIALS: &[&str] = &["credential"];
const UPSTREAM: &[&str] = &["upstream"];

/// What parts are built with.
pub(super) struct Builder<'a> {
    pub(super) config: &'a Config,
    pub(super) events: Events,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) tasks: &'a mut JoinSet<()>,
}

impl Builder<'_> {
    /// All of them, anew.
    pub(super) fn build(&mut self) -> Result<Parts, StartError> {
        let identity = self.identity(None)?;
        let credentials = self.credentials(None);
        let upstream = self.upstream()?;
        Ok(Parts { identity, credentials, upstream })
    }

    /// Those of before where nothing has changed, and others once they can be used.
    pub(super) async fn build_after(
        &mut self,
        then: &Config,
        before: Parts,
    ) -> Result<Parts, ReloadError> {
        let config = self.config;
        let is_same = |keys| config.fingerprints.are_same(keys, &then.fingerprints);
        let is_same_identity = is_same(IDENTITY) && config.is_known_as(then);
        let mut parts = before.clone();
        if !is_same(UPSTREAM) {
            parts.upstream = self.upstream()?;
        }
        if !is_same_identity {
            parts.identity = self.identity(Some((&before.identity, then)))?;
        }
        if !is_same(CREDENTIALS) {
            parts.credentials = self.credentials(Some(&before.credentials));
        }
        let new = |place: &usize| config.same_issuer(*place, then).is_none();
        let new: Vec<usize> = (0..config.issuers.len()).filter(new).collect();
        let until = Instant::now() + PATIENCE;
        let are_new = (!is_same_identity, !is_same(CREDENTIALS));
        while let Some(lack) = lack(config, &parts, &new, are_new) {
            if Instant::now() >= until {
                return Err(ReloadError::Unusable(lack));
            }
            sleep(ASK_EVERY).await;
        }
        Ok(parts)
    }

    fn identity(
        &mut self,
        before: Option<(&Identity, &Config)>,
    ) -> Result<Part<Identity>, StartError> {
        let identity = Identity::after(before, self.config, &self.events, self.metrics)?;
        let identity = Arc::new(identity);
        let keep_fresh = Arc::clone(&identity).refresh();
        Ok(Part::new(identity, self.tasks, keep_fresh))
    }

    /// That of the API's listener, if it has one; the files are watched.
    pub(super) fn tls(&mut self) -> Result<Option<Part<ListenerTls>>, StartError> {
        let Some(files) = &self.config.listen.tls else { return Ok(None) };
        let tls = Arc::new(ListenerTls::new(files, self.events.clone(), self.metrics)?);
        let kept = Arc::clone(&tls);
        Ok(Some(Part::new(tls, self.tasks, async move { kept.watch().await })))
    }

    fn credentials(&mut self, before: Option<&Credentials>) -> Part<Credentials> {
        let (events, metrics) = (self.events.clone(), Arc::clone(self.metrics));
        let credentials = Credentials::new(&self.config.credential, events, metrics);
        let credentials = Arc::new(match before {
            Some(before) => credentials.after(before),
            None => credentials,
        });
        let kept = Arc::clone(&credentials);
        Part::new(credentials, self.tasks, async move { kept.refresh_for_ever().await })
    }

    fn upstream(&mut self) -> Result<Part<Upstream>, StartError> {
        let upstream = Upstream::new(&self.config.upstream, Arc::clone(self.metrics))?;
        let upstream = Arc::new(upstream);
        let kept = Arc::clone(&upstream);
        Ok(Part::new(upstream, self.tasks, async move { kept.look_after().await }))
    }
}

/// What keeps new issuers, a new revocation list or a new credential from being used.
fn lack(
    config: &Config,
    parts: &Parts,
    new: &[usize],
    (is_new_identity, is_new_credential): (bool, bool),
) -> Option<String> {
    for place in new {
        let name = config.issuers.get(*place).map(|issuer| issuer.issuer.as_str());
        let mut issuers = parts.identity.issuers();
        let (name, keys) = issuers.find(|(issuer, _)| Some(*issuer) == name)?;
        if let Some(keys) = keys.filter(|keys| !keys.are_usable) {
            let why = keys.last_error.map_or_else(|| "no answer yet".to_owned(), |(_, why)| why);
            return Some(format!("issuers: the keys of {name} can't be had: {why}"));
        }
    }
    if is_new_identity
        && let Some(RevocationState { in_force: None, fault }) = parts.identity.revocations()
    {
        let why = fault.map_or_else(|| "not yet loaded".to_owned(), |why| why.to_string());
        return Some(format!("revocation: no list is in force: {why}"));
    }
    let unread = Some(CredentialError::Unavailable);
    (is_new_credential && parts.credentials.trouble() == unread)
        .then(|| "credential: the source has given none; the log says why".to_owned())
}
