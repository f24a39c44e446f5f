//! Where the CMS's user name and password are kept: files, or the environment.
//!
//! What is read is checked before it is used: a password that a terminal's newline got into would
//! lock the account. No fault repeats a character of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::Credential;
use crate::secret;

/// Where a credential is kept.
#[derive(Debug, Clone)]
pub enum Source {
    /// In two files, whose mode must be 0600 or narrower.
    File {
        /// The user name's file.
        username: PathBuf,
        /// The password's file.
        password: PathBuf,
    },
    /// In two environment variables of this process; for development.
    Env {
        /// The name of the user name's variable.
        username: String,
        /// The name of the password's variable.
        password: String,
    },
}

/// Why a part of a credential can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceFault {
    /// Whether it is the password, else the user name.
    pub is_password: bool,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Source {
    /// Its name in audit records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Env { .. } => "env",
        }
    }

    /// Reads the credential.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn read(&self) -> Result<Credential, SourceFault> {
        let environment = std::env::vars().collect();
        let (username, first) = self.part(false, &environment)?;
        let (password, second) = self.part(true, &environment)?;
        let changed = first.max(second);
        let version = changed.map(|time| humantime::format_rfc3339_micros(time).to_string());
        Ok(Credential::new(&username, &password, self.name(), version))
    }

    /// Everything that stands against reading it now.
    #[must_use]
    pub fn faults(&self, environment: &BTreeMap<String, String>) -> Vec<SourceFault> {
        [false, true].into_iter().filter_map(|part| self.part(part, environment).err()).collect()
    }

    fn part(
        &self,
        is_password: bool,
        environment: &BTreeMap<String, String>,
    ) -> Result<(Zeroizing<String>, Option<SystemTime>), SourceFault> {
        let fault = |message| SourceFault { is_password, message };
        let (text, changed, shown) = match self {
            Self::File { username, password } => {
                let path = if is_password { password } else { username };
                let (text, changed) = secret::read(path).map_err(fault)?;
                (text, changed, path.display().to_string())
            }
            Self::Env { username, password } => {
                let name = if is_password { password } else { username };
                let text = environment.get(name).ok_or_else(|| {
                    fault(format!("the environment has no variable {name}; set it"))
                })?;
                (Zeroizing::new(text.clone()), None, format!("variable {name}"))
            }
        };
        let wrong = if text.is_empty() {
            Some("is empty")
        } else if text.len() > secret::LARGEST {
            Some("is longer than 4 KiB")
        } else if text.chars().any(char::is_control) {
            Some("holds a control character, as a line break before its end")
        } else if !is_password && text.contains(':') {
            Some("holds a colon, which a user name can't (RFC 7617, section 2)")
        } else {
            None
        };
        match wrong {
            Some(wrong) => Err(fault(format!("{shown} {wrong}"))),
            None => Ok((text, changed)),
        }
    }
}
