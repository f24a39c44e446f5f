//! Two environment variables of this process; for development.
//!
//! The environment of a process never changes, so that a rotation needs a restart; and whoever may
//! look at the process can read it.

use std::sync::Once;

use zeroize::Zeroizing;

use super::source::{Pending, Secret, Source, SourceError};
use crate::config::credential::Env;

/// Two environment variables of this process.
#[derive(Debug)]
pub(crate) struct Variables {
    settings: Env,
    warned: Once,
}

impl Variables {
    pub(crate) fn new(settings: Env) -> Self {
        Self { settings, warned: Once::new() }
    }
}

impl Source for Variables {
    fn name(&self) -> &'static str {
        "env"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        self.warned.call_once(|| {
            tracing::warn!(
                "the credential comes from the environment, which is for development: it can't be \
                 rotated without a restart, and whoever may look at this process can read it"
            );
        });
        let read = |name: &str| {
            std::env::var(name).map(Zeroizing::new).map_err(|_| {
                SourceError::Missing(format!(
                    "the environment has no variable {name} that is text; set it"
                ))
            })
        };
        let secret = read(&self.settings.username)
            .and_then(|username| Ok((username, read(&self.settings.password)?)))
            .and_then(|(username, password)| Secret::new(username, password, None));
        Box::pin(std::future::ready(secret))
    }
}
