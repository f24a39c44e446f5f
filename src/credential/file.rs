//! Two files: of a Kubernetes secret, of systemd's credentials, or plain ones.
//!
//! Both are read as they are at one time, whatever somebody does to them meanwhile. They are looked
//! at four times a second by their stamps alone, so that no second copy of a secret is kept; what
//! the stamps don't show (a file system whose clock ticks in seconds) the next `refresh` does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use super::source::{Pending, Secret, Source, SourceError};
use crate::config::credential::File;
use crate::disk::Disk;
use crate::secret;
use crate::watch::Stamp;

/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// How many looks in a row the files may change before they are read all the same.
const RESTLESS: usize = 8;
/// How often they are read again because they changed meanwhile.
const TRIES: usize = 5;
/// How long it waits in between, for who changes them to be done.
const PAUSE: Duration = Duration::from_millis(20);

/// The end of the times that RFC 3339 can write.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

/// The stamps of both files, through links; none of one that is not there.
type Stamps = [Option<Stamp>; 2];

/// Two files, read as one.
#[derive(Debug)]
pub(crate) struct Files {
    settings: Arc<File>,
    disk: Disk,
    /// As they were when they were read last.
    known: Mutex<Option<Stamps>>,
}

impl Files {
    pub(crate) fn new(settings: File) -> Self {
        Self { settings: Arc::new(settings), disk: Disk::default(), known: Mutex::default() }
    }
}

impl Source for Files {
    fn name(&self) -> &'static str {
        "file"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        Box::pin(async {
            let files = Arc::clone(&self.settings);
            let Some((stamps, secret)) = self.disk.ask(PATIENCE, move || files.read()).await else {
                let patience = humantime::format_duration(PATIENCE);
                return Err(SourceError::Unavailable(format!(
                    "{} and {} can't be read: no answer within {patience}",
                    self.settings.username.display(),
                    self.settings.password.display()
                )));
            };
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamps);
            secret
        })
    }

    /// Waits for one more look at which they are as before: who writes one file after the other
    /// shall not be caught between them.
    fn changed(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let mut before = None;
            let mut restless = 0;
            while restless < RESTLESS {
                tokio::time::sleep(EVERY).await;
                let files = Arc::clone(&self.settings);
                // A disk that hangs shows no change.
                let Some(stamps) = self.disk.ask(PATIENCE, move || files.stamps()).await else {
                    continue;
                };
                if *self.known.lock().unwrap_or_else(PoisonError::into_inner) == Some(stamps) {
                    before = None;
                    restless = 0;
                } else if before == Some(stamps) {
                    return;
                } else {
                    before = Some(stamps);
                    restless += 1;
                }
            }
        })
    }
}

impl File {
    /// Reads both as they are at one time, and says by which stamps they were known then.
    fn read(&self) -> (Stamps, Result<Secret, SourceError>) {
        let mut before = self.stamps();
        for _ in 0..TRIES {
            let read = self.read_once();
            let after = self.stamps();
            if before == after {
                return (after, read);
            }
            std::thread::sleep(PAUSE);
            before = self.stamps();
        }
        let message = format!(
            "{} and {} change each time they are read",
            self.username.display(),
            self.password.display()
        );
        (before, Err(SourceError::Unavailable(message)))
    }

    fn read_once(&self) -> Result<Secret, SourceError> {
        let part = |path| secret::read(path).map_err(SourceError::Unavailable);
        let (username, first) = part(&self.username)?;
        let (password, second) = part(&self.password)?;
        let changed = first.max(second);
        // Whoever writes a file may give it a time that has no such form.
        let version = changed
            .filter(|time| time.duration_since(UNIX_EPOCH).is_ok_and(|since| since < YEAR_10000))
            .map(|time| humantime::format_rfc3339_micros(time).to_string());
        Secret::new(username, password, version)
    }

    fn stamps(&self) -> Stamps {
        [&self.username, &self.password]
            .map(|path| path.metadata().ok().map(|metadata| Stamp::of(&metadata)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A folder as the kubelet mounts a secret.
    fn mounted() -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        swap(folder.path(), 0);
        for name in ["username", "password"] {
            symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
        }
        let [username, password] = ["username", "password"].map(|name| folder.path().join(name));
        (folder, File { username, password })
    }

    fn swap(folder: &Path, version: usize) {
        let own = folder.join(format!("..{version}"));
        fs::create_dir(&own).unwrap();
        write(&own.join("username"), &format!("user-{version}\n"));
        write(&own.join("password"), &format!("password-{version}"));
        symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    #[test]
    fn the_pair_is_of_one_time() {
        let (folder, files) = mounted();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..200).for_each(|version| swap(folder.path(), version));
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                // It may give up, but it gives no mixture.
                if let Ok(secret) = files.read().1 {
                    let own = |text: &str| text.split('-').nth(1).unwrap().to_owned();
                    assert_eq!(own(&secret.username), own(&secret.password));
                }
            }
        });
        let secret = files.read().1.unwrap();
        assert_eq!(*secret.username, "user-199");
        assert!(secret.version.is_some());
    }

    #[test]
    fn a_time_that_can_not_be_written_is_no_version() {
        let (folder, files) = mounted();
        for (time, is_shown) in [
            (UNIX_EPOCH - Duration::from_secs(1), false),
            (UNIX_EPOCH, true),
            (UNIX_EPOCH + YEAR_10000, false),
        ] {
            for name in ["username", "password"] {
                let file = fs::File::options().write(true).open(folder.path().join(name)).unwrap();
                // Not every file system has such times.
                let _ = file.set_modified(time);
            }
            let version = files.read().1.unwrap().version;
            if files.password.metadata().unwrap().modified().unwrap() == time {
                assert_eq!(version.is_some(), is_shown, "{time:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_change_is_told_once_it_has_come_to_rest() {
        let (folder, files) = mounted();
        let files = Files::new(files);
        files.fetch().await.unwrap();
        let soon = Duration::from_millis(700);
        assert!(tokio::time::timeout(soon, files.changed()).await.is_err(), "nothing has changed");
        swap(folder.path(), 1);
        files.changed().await;
        let secret = files.fetch().await.unwrap();
        assert_eq!((secret.username.as_str(), secret.password.as_str()), ("user-1", "password-1"));
        // What can't be read is read again when it can.
        fs::remove_file(folder.path().join("..1/password")).unwrap();
        files.changed().await;
        assert!(matches!(files.fetch().await, Err(SourceError::Unavailable(_))));
        write(&folder.path().join("..1/password"), "password-2");
        files.changed().await;
        assert_eq!(files.fetch().await.unwrap().password.as_str(), "password-2");
    }
}
