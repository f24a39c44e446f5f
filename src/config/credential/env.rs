//! `source = "env"`: two environment variables.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::section::Section;
use crate::credential::env::Variables;
use crate::credential::{Source, source};

/// Two environment variables of this process; for development.
#[derive(Debug, Clone)]
pub struct Env {
    /// The name of the user name's variable.
    pub username: String,
    /// The name of the password's variable.
    pub password: String,
}

pub(super) fn env(
    section: &mut Section,
    variables: &BTreeMap<String, String>,
) -> Option<Arc<dyn Source>> {
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
    Some(Arc::new(Variables::new(Env { username: username?, password: password? })))
}
