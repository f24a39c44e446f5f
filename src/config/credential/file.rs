//! `source = "file"`: two files, one for each part.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::secret_file;
use crate::config::section::Section;
use crate::credential::{Source, file::Files, source};
use crate::secret;

/// Two files that nobody else may read.
#[derive(Debug, Clone)]
pub struct File {
    /// The user name's file.
    pub username: PathBuf,
    /// The password's file.
    pub password: PathBuf,
}

pub(super) fn file(
    section: &mut Section,
    environment: &BTreeMap<String, String>,
) -> Option<Arc<dyn Source>> {
    let mut part = |key, is_username| {
        let path = secret_file(section, key, environment);
        let path = section.require(key, path, &format!("\"/run/secrets/cms/{key}\""))?;
        let wrong = match secret::read(&path.value) {
            Err(error) => Some(error),
            Ok((text, _)) => source::fault(&text, is_username)
                .map(|wrong| format!("{} {wrong}", path.value.display())),
        };
        if let Some(wrong) = wrong {
            section.fault_of(&path, wrong);
        }
        Some(path.value)
    };
    let (username, password) = (part("username", true), part("password", false));
    Some(Arc::new(Files::new(File { username: username?, password: password? })))
}
