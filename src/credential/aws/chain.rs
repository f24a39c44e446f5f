//! The default credential chain: whose right it is by which the secret is read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;

use super::super::source::SourceError;
use super::call::Call;
use super::sts::Sts;
use super::{container, instance, keys, profile, web_identity};
use crate::config::aws;

/// How long before their end keys are replaced.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The default credential chain, and what it gave last if that has an end.
///
/// What has no end is had anew each time, so that a change of it is seen: it stands in the
/// environment or in a file, or a program prints it.
pub(super) struct Chain {
    settings: aws::Chain,
    sts: Sts,
    kept: Mutex<Option<Credentials>>,
}

impl Chain {
    pub(super) fn new(settings: aws::Chain, sts: Sts) -> Self {
        Self { settings, sts, kept: Mutex::default() }
    }

    /// Keys that count.
    pub(super) async fn keys(&self, call: &Call<'_>) -> Result<Credentials, SourceError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = &kept
            && keys::last(kept, MARGIN)
        {
            return Ok(kept.clone());
        }
        match (self.find(&call.half()).await, kept) {
            (Ok(found), _) => {
                self.keep(found.expiry().map(|_| found.clone()));
                Ok(found)
            }
            (Err(error), Some(kept)) if keys::last(&kept, Duration::ZERO) => {
                tracing::warn!(%error, "there are no new keys of AWS; the ones before still count");
                Ok(kept)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Forgets what AWS no longer takes.
    pub(super) fn forget(&self) {
        self.keep(None);
    }

    fn keep(&self, keys: Option<Credentials>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    async fn find(&self, call: &Call<'_>) -> Result<Credentials, SourceError> {
        let aws::Chain { environment, profile: _, web_identity, container, instance } =
            &self.settings;
        if let Some(keys) = environment {
            return Ok(keys.clone());
        }
        if let Some(keys) = profile::keys(&self.settings, &self.sts, call).await? {
            return Ok(keys);
        }
        if let Some(identity) = web_identity {
            return web_identity::keys(identity, &self.sts, call).await;
        }
        if let Some(container) = container {
            return container::keys(container, call).await;
        }
        let nowhere = "no keys of AWS are in the environment or in a profile, and no web identity \
                       and no container's agent is set up";
        let Some(endpoint) = instance else {
            return Err(SourceError::Unavailable(format!(
                "{nowhere}; the instance's metadata are switched off"
            )));
        };
        instance::keys(endpoint, call).await.map_err(|error| {
            SourceError::Unavailable(format!("{nowhere}; and of the instance: {error}"))
        })
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Chain").field("settings", &self.settings).finish_non_exhaustive()
    }
}
