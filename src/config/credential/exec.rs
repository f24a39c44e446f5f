//! `source = "exec"`: a program that prints the credential.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::config::section::Section;
use crate::config::sections::{MILLISECOND, SECOND};
use crate::credential::Source;
use crate::credential::exec::Program;

/// A program that prints the credential.
#[derive(Debug, Clone)]
pub struct Exec {
    /// Its absolute path.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
}

pub(super) fn exec(section: &mut Section, _: &BTreeMap<String, String>) -> Option<Arc<dyn Source>> {
    let timeout = section.duration("timeout", 10 * SECOND, 10 * MILLISECOND..=300 * SECOND);
    let example = "[\"/usr/bin/op\", \"...\"]";
    let command = section.words("command");
    let command = section.require("command", command, example)?;
    let mut words = command.value.iter();
    let Some(program) = words.next() else {
        section.fault_of(&command, format_args!("is empty; write, for example, {example}"));
        return None;
    };
    let program = PathBuf::from(program);
    if let Some(wrong) = fault(&program) {
        section.fault_of(&command, format_args!("{} {wrong}", program.display()));
    }
    if command.value.iter().any(|word| word.contains('\0')) {
        section.fault_of(&command, "holds a zero character, which no program can be given");
    }
    let arguments = words.cloned().collect();
    Some(Arc::new(Program::new(Exec { program, arguments, timeout })))
}

/// Why a program can't be run.
fn fault(program: &Path) -> Option<String> {
    if !program.is_absolute() {
        return Some("is not an absolute path; write where the program is".to_owned());
    }
    match program.metadata() {
        Err(error) => Some(format!("can't be run: {error}")),
        Ok(metadata) if !metadata.is_file() => Some("is not a file".to_owned()),
        Ok(_) => access(program, Access::EXEC_OK)
            .err()
            .map(|error| format!("can't be run by this user: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::section::faults_of;

    fn faults(text: &str) -> Vec<String> {
        faults_of(text, Path::new("/"), |mut section| exec(&mut section, &BTreeMap::new())).1
    }

    #[test]
    fn a_program_may_have_any_arguments() {
        assert_eq!(faults(r#"command = ["/bin/sh", "-c", "-c", ""]"#), Vec::<String>::new());
        assert_eq!(faults("command = [\"/bin/sh\"]\ntimeout = \"1s\""), Vec::<String>::new());
    }

    #[test]
    fn a_program_that_can_not_be_run_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let plain = format!("command = [{:?}]", file.display().to_string());
        for (text, words) in [
            ("", "command: is missing"),
            ("command = []", "is empty"),
            ("command = \"/bin/sh\"", "is not a list of texts"),
            ("command = [\"/bin/sh\", 1]", "is not a text"),
            ("command = [\"sh\"]", "not an absolute path"),
            ("command = [\"\"]", "not an absolute path"),
            ("command = [\"/nowhere/sh\"]", "No such file"),
            ("command = [\"/bin\"]", "is not a file"),
            ("command = [\"/bin/sh\", \"a\\u0000\"]", "zero character"),
            ("command = [\"/bin/sh\"]\ntimeout = \"1h\"", "timeout"),
            ("command = [\"/bin/sh\"]\ntimout = \"1s\"", ""),
            (&plain, "can't be run by this user"),
        ] {
            let faults = faults(text);
            // What is unknown is told when the whole section has been read.
            let expected = usize::from(!words.is_empty()).max(faults.len().min(1));
            assert_eq!(faults.len(), expected, "{text}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.contains(words)), "{text}: {faults:?}");
        }
    }
}
