//! `[credential]`: where the CMS's user name and password are kept, and how long they count.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::section::Section;
use super::sections::{HOUR, MILLISECOND, SECOND};
use crate::credential::{Source, source};
use crate::secret;

/// The CMS's user name and password.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Where they are kept.
    pub source: Arc<dyn Source>,
    /// The longest time between two readings of the source.
    pub refresh: Duration,
    /// How long what was read last counts while the source can't be read.
    pub max_stale: Duration,
    /// How long the credential before is tried when the CMS refuses a new one; never when zero.
    pub overlap: Duration,
}

/// Two files, whose mode must be 0600 or narrower.
#[derive(Debug, Clone)]
pub struct File {
    /// The user name's file.
    pub username: PathBuf,
    /// The password's file.
    pub password: PathBuf,
}

/// Two environment variables of this process; for development.
#[derive(Debug, Clone)]
pub struct Env {
    /// The name of the user name's variable.
    pub username: String,
    /// The name of the password's variable.
    pub password: String,
}

/// Reads one kind of source's keys.
type Reader = fn(&mut Section, &BTreeMap<String, String>) -> Option<Arc<dyn Source>>;

/// The kinds of sources, by the names that the key `source` takes.
const SOURCES: &[(&str, Reader)] = &[("file", file), ("env", env)];

pub(super) fn credential(
    mut section: Section,
    environment: &BTreeMap<String, String>,
) -> Option<Credential> {
    let reader = section.choice("source", SOURCES);
    let reader = section.require("source", reader, "\"file\"");
    let refresh = section.duration("refresh", 30 * SECOND, 10 * MILLISECOND..=24 * HOUR);
    let max_stale = section.duration("max_stale", 24 * HOUR, SECOND..=8760 * HOUR);
    let overlap = section.duration("overlap", Duration::ZERO, Duration::ZERO..=24 * HOUR);
    let source = reader.and_then(|read| read(&mut section, environment));
    Some(Credential { source: source?, refresh, max_stale, overlap })
}

fn file(section: &mut Section, _: &BTreeMap<String, String>) -> Option<Arc<dyn Source>> {
    let mut part = |key, is_username| {
        let path = section.path(key);
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
    Some(Arc::new(File { username: username?, password: password? }))
}

fn env(section: &mut Section, variables: &BTreeMap<String, String>) -> Option<Arc<dyn Source>> {
    let mut part = |key, example, is_username| {
        let name = section.text(key);
        let name = section.require(key, name, example)?;
        let shown = &name.value;
        let wrong = match variables.get(shown) {
            None => Some(format!("the environment has no variable {shown}; set it")),
            Some(text) => {
                source::fault(text, is_username).map(|wrong| format!("variable {shown} {wrong}"))
            }
        };
        if let Some(wrong) = wrong {
            section.fault_of(&name, wrong);
        }
        Some(name.value)
    };
    let username = part("username", "\"CMS_USERNAME\"", true);
    let password = part("password", "\"CMS_PASSWORD\"", false);
    Some(Arc::new(Env { username: username?, password: password? }))
}
