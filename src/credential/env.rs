//! Two environment variables of this process; for development.

use zeroize::Zeroizing;

use super::source::{Pending, Secret, Source, SourceError};
use crate::config::credential::Env;

impl Source for Env {
    fn name(&self) -> &'static str {
        "env"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        let read = |name: &str| {
            std::env::var(name).map(Zeroizing::new).map_err(|_| {
                SourceError::Missing(format!(
                    "the environment has no variable {name} that is text; set it"
                ))
            })
        };
        let secret = read(&self.username)
            .and_then(|username| Ok((username, read(&self.password)?)))
            .and_then(|(username, password)| Secret::new(username, password, None));
        Box::pin(std::future::ready(secret))
    }
}
