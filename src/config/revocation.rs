//! `[revocation]`: the list of tokens that are no longer accepted.

use std::path::PathBuf;

use super::section::Section;
use crate::identity::RevocationList;
use crate::watch;

/// The list of tokens that are no longer accepted.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// The file that it is in, looked at four times a second.
    pub file: PathBuf,
}

/// The file is read, so that a list at fault is told of before it counts.
pub(super) fn revocation(mut section: Section) -> Option<Revocation> {
    let file = section.path("file");
    let file = section.require("file", file, "\"revoked.json\"")?;
    let name = file.value.display();
    match watch::read(&file.value, RevocationList::LARGEST) {
        Err(error) => section.fault_of(&file, format_args!("{name} {error}")),
        Ok(bytes) => {
            if let Err(fault) = RevocationList::parse(&bytes) {
                section.fault_of(&file, format_args!("{name}: {fault}"));
            }
        }
    }
    Some(Revocation { file: file.value })
}
