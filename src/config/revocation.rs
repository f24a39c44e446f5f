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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::section::faults_of;
    use super::*;

    #[test]
    fn a_list_at_fault_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revoked.json");
        let check = || faults_of("file = \"revoked.json\"", folder.path(), revocation);
        let (_, faults) = check();
        assert!(faults[0].contains("revoked.json can't be read: No such file"), "{faults:?}");
        fs::write(&file, r#"{"revoked":[{"subject":"a"},{"subject":""}]}"#).unwrap();
        let (_, faults) = check();
        assert!(faults[0].starts_with("file: "), "{faults:?}");
        assert!(faults[0].contains("/revoked/1/subject: must not be empty"), "{faults:?}");
        fs::write(&file, r#"{"revoked":[]}"#).unwrap();
        let (taken, faults) = check();
        assert_eq!((taken.unwrap().file, faults), (file, vec![]));
        let (taken, faults) = faults_of("", folder.path(), revocation);
        assert!(taken.is_none() && faults[0].contains("is missing"), "{faults:?}");
    }
}
