//! A program that prints the credential, for every store that has no source of its own.
//!
//! It prints one JSON object with the members `username`, `password` and, if it likes, `version`,
//! and nothing else: another member is a fault, so that a misspelt `version` is seen. What it says
//! on standard error is thrown away, since it could be a part of a secret. It runs in a process
//! group of its own, which is killed as a whole when its time is up or nobody waits any more.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::json::Json;
use super::source::{Pending, Secret, Source, SourceError};
use crate::config::credential::Exec;
use crate::disk::Disk;

/// The most bytes that it may print.
const LARGEST: usize = 64 << 10;

/// A program, and the disk that it is on.
#[derive(Debug)]
pub(crate) struct Program {
    settings: Exec,
    disk: Disk,
}

impl Source for Program {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        Box::pin(async {
            let Exec { program, arguments, timeout } = &self.settings;
            let printed = run(program, arguments, &self.disk, *timeout).await?;
            read(&printed).map_err(|wrong| {
                SourceError::Malformed(format!("what {} prints {wrong}", program.display()))
            })
        })
    }
}

impl Program {
    pub(crate) fn new(settings: Exec) -> Self {
        Self { settings, disk: Disk::default() }
    }
}

/// What a program prints, if it ends well within this time.
pub(super) async fn run(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    disk: &Disk,
    limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let program = program.display();
    let failed = |how: &str| SourceError::Unavailable(format!("{program} {how}"));
    let printed = async {
        // The disk that the program is on may hang.
        let started = disk.ask(limit, move || command.spawn().map(Running::new)).await;
        let started = started.ok_or_else(|| failed("can't be started: no answer of its disk"))?;
        let mut running = started.map_err(|error| failed(&format!("can't be started: {error}")))?;
        // Room for all of it from the start, so that no smaller buffer is left behind in memory.
        let mut printed = Zeroizing::new(Vec::with_capacity(LARGEST + 64));
        if let Some(output) = running.child.stdout.take() {
            let read = output.take(LARGEST as u64 + 1).read_to_end(&mut printed).await;
            read.map_err(|error| failed(&format!("can't be heard: {error}")))?;
        }
        if printed.len() > LARGEST {
            let message = format!("{program} was killed: it prints more than 64 KiB");
            return Err(SourceError::Malformed(message));
        }
        let status = running.end().await.map_err(|error| failed(&error.to_string()))?;
        if status.success() { Ok(printed) } else { Err(failed(&ended(status))) }
    };
    timeout(limit, printed).await.unwrap_or_else(|_| {
        let limit = Duration::from_millis(limit.as_millis().try_into().unwrap_or(u64::MAX));
        let limit = humantime::format_duration(limit);
        Err(failed(&format!("was killed: it did not end within {limit}")))
    })
}

/// A program that runs, and is killed with all that it has started unless it came to its end.
struct Running {
    /// Before the child, so that it is used while its leader can't have been replaced by another.
    group: Group,
    child: Child,
}

impl Running {
    fn new(child: Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { group: Group(leader), child }
    }

    async fn end(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.group.0 = None;
        Ok(status)
    }
}

struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails where all of them have ended by themselves.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn ended(status: ExitStatus) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "did not end well".to_owned(),
    };
    format!("{how}; what it says of it is not kept here, so run it by hand")
}

fn read(printed: &[u8]) -> Result<Secret, String> {
    let json = Json::parse(printed).map_err(|wrong| format!("is {wrong}"))?;
    if !matches!(json, Json::Object(_)) {
        return Err("is no JSON object".to_owned());
    }
    let is_known = |name: &str| matches!(name, "username" | "password" | "version");
    if json.members().iter().any(|(name, _)| !is_known(name)) {
        return Err("has another member than username, password and version".to_owned());
    }
    let part = |name| match json.member(name) {
        None => Err(format!("has no {name}")),
        Some(value) => value.text().cloned().ok_or_else(|| format!("has a {name} that is no text")),
    };
    let version = match json.member("version") {
        None | Some(Json::Null) => None,
        Some(Json::Integer(number)) => Some(number.to_string()),
        Some(Json::Text(text)) => Some(text.to_string()),
        Some(_) => return Err("has a version that is no text and no whole number".to_owned()),
    };
    Secret::new(part("username")?, part("password")?, version).map_err(|wrong| {
        let wrong = wrong.to_string();
        format!("is no credential: {wrong}")
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_one_thread_however_often_the_program_is_wanted() {
        let settings = Exec {
            program: PathBuf::from("/bin/echo"),
            arguments: vec![r#"{"username":"u","password":"p"}"#.to_owned()],
            timeout: Duration::from_millis(20),
        };
        let mut program = Program::new(settings);
        let (release, released) = mpsc::channel::<()>();
        let hangs = program.disk.ask(Duration::from_millis(20), move || released.recv().is_ok());
        assert_eq!(hangs.await, None);
        for _ in 0..3 {
            assert!(matches!(program.fetch().await, Err(SourceError::Unavailable(_))));
        }
        release.send(()).unwrap();
        program.settings.timeout = Duration::from_secs(20);
        assert_eq!(program.fetch().await.unwrap().username.as_str(), "u");
    }

    #[test]
    fn only_the_three_members_are_taken() {
        for (text, version) in [
            (r#"{"username":"u","password":"p"}"#, None),
            (r#"{"username":"u","password":"p","version":null}"#, None),
            ("\n{\"username\":\"u\",\"password\":\"p\",\"version\":7}\n", Some("7")),
            (r#"{"username":"u","password":"p","version":"a-1"}"#, Some("a-1")),
        ] {
            let secret = read(text.as_bytes()).unwrap();
            assert_eq!((secret.username.as_str(), secret.password.as_str()), ("u", "p"), "{text}");
            assert_eq!(secret.version.as_deref(), version, "{text}");
        }
    }

    #[test]
    fn nothing_else_is_and_no_fault_quotes_it() {
        for (text, words) in [
            ("", "no JSON"),
            ("hunter2", "no JSON"),
            (r#"["hunter2"]"#, "no JSON object"),
            (r#"{"username":"u","password":"hunter2","password":"hunter2"}"#, "doubled"),
            (r#"{"username":"u","password":"hunter2","hunter2":1}"#, "another member"),
            (r#"{"username":"u","password":"hunter2"} {}"#, "no JSON"),
            (r#"{"username":"u"}"#, "has no password"),
            (r#"{"password":"hunter2"}"#, "has no username"),
            (r#"{"username":"u","password":12345}"#, "a password that is no text"),
            (r#"{"username":null,"password":"hunter2"}"#, "a username that is no text"),
            (r#"{"username":"u","password":"hunter2","version":1.5}"#, "version"),
            (r#"{"username":"u","password":"hunter2","version":["hunter2"]}"#, "version"),
            (r#"{"username":"u","password":"hunter2\n"}"#, "control character"),
            (r#"{"username":"u:hunter2","password":"p"}"#, "colon"),
            (r#"{"username":"","password":"hunter2"}"#, "empty"),
        ] {
            let told = read(text.as_bytes()).err().unwrap();
            assert!(told.contains(words) && !told.contains("hunter2"), "{text}: {told}");
        }
    }
}
