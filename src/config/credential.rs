//! `[credential]`: where the CMS's user name and password are kept, and how long they count.
//!
//! Each kind of source reads its own keys, in a file beside this one.

mod env;
mod exec;
mod file;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::env::Env;
pub use self::exec::Exec;
pub use self::file::File;
pub use self::vault::{Login, Vault};
use super::section::{Located, Section};
use super::sections::{HOUR, MILLISECOND, SECOND};
use crate::credential::Source;
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

/// Reads one kind of source's keys.
type Reader = fn(&mut Section, &BTreeMap<String, String>) -> Option<Arc<dyn Source>>;

/// The kinds of sources, by the names that the key `source` takes.
const SOURCES: &[(&str, Reader)] = &[
    ("file", file::file),
    ("env", env::env),
    ("vault", vault::vault),
    ("aws-secrets-manager", super::aws::secrets_manager),
    ("exec", exec::exec),
];

/// What a path begins with that is in the folder of systemd's credentials.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

pub(super) fn credential(
    mut section: Section,
    environment: &BTreeMap<String, String>,
) -> Option<Credential> {
    let reader = section.choice("source", SOURCES);
    let reader = section.require("source", reader, "\"file\"");
    let refresh = section.duration("refresh", 30 * SECOND, 10 * MILLISECOND..=24 * HOUR);
    let max_stale = section.duration("max_stale", 24 * HOUR, SECOND..=8760 * HOUR);
    let overlap = section.duration("overlap", Duration::ZERO, Duration::ZERO..=24 * HOUR);
    if max_stale < refresh {
        let wrong = "is shorter than refresh: the credential would be too old between two readings";
        section.fault("max_stale", wrong);
    }
    if reader.is_none() {
        // The others belong to a source.
        section.ignore_others();
    }
    let source = reader.and_then(|read| read(&mut section, environment));
    Some(Credential { source: source?, refresh, max_stale, overlap })
}

/// The path of a secret's file. A relative one starts at the folder of the configuration, and one
/// that begins with `$CREDENTIALS_DIRECTORY/` where systemd puts the credentials of a service.
fn secret_file(
    section: &mut Section,
    key: &str,
    environment: &BTreeMap<String, String>,
) -> Option<Located<PathBuf>> {
    let text = section.text(key)?;
    let value = match text.value.strip_prefix(CREDENTIALS) {
        None => section.in_folder(&text.value),
        Some(name) => match environment.get(secret::CREDENTIALS_DIRECTORY).map(Path::new) {
            Some(folder) if folder.is_absolute() => folder.join(name),
            Some(_) => {
                section.fault_of(&text, "needs CREDENTIALS_DIRECTORY to be an absolute path");
                return None;
            }
            None => {
                let wrong = "needs the variable CREDENTIALS_DIRECTORY, which systemd sets for a \
                             service with LoadCredential= and for nothing else";
                section.fault_of(&text, wrong);
                return None;
            }
        },
    };
    Some(Located { value, place: text.place, key: text.key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section::faults_of;

    #[test]
    fn a_credential_counts_until_the_next_reading() {
        let environment = ["USER", "WORD"].map(|name| (name.to_owned(), "a".to_owned())).into();
        for (keys, is_fit) in [
            ("", true),
            ("refresh = \"1h\"\nmax_stale = \"1h\"", true),
            ("refresh = \"1h\"\nmax_stale = \"59m\"", false),
            ("max_stale = \"1s\"", false),
        ] {
            let text =
                format!("source = \"env\"\nusername = \"USER\"\npassword = \"WORD\"\n{keys}");
            let take = |section: Section| credential(section, &environment);
            let (_, faults) = faults_of(&text, Path::new("/"), take);
            assert_eq!(faults.is_empty(), is_fit, "{keys}: {faults:?}");
            assert!(
                is_fit || faults[0].contains("max_stale: is shorter than refresh"),
                "{faults:?}"
            );
        }
    }
}
