//! Two files, whose mode must be 0600 or narrower.

use super::source::{Pending, Secret, Source, SourceError};
use crate::config::credential::File;
use crate::secret;

impl Source for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        let files = self.clone();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || files.read()).await;
            read.unwrap_or_else(|error| Err(SourceError::Unavailable(error.to_string())))
        })
    }
}

impl File {
    fn read(&self) -> Result<Secret, SourceError> {
        let part = |path| secret::read(path).map_err(SourceError::Unavailable);
        let (username, first) = part(&self.username)?;
        let (password, second) = part(&self.password)?;
        let changed = first.max(second);
        let version = changed.map(|time| humantime::format_rfc3339_micros(time).to_string());
        Secret::new(username, password, version)
    }
}
