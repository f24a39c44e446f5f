//! Secrets in files, which nobody else may read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::process::geteuid;
use zeroize::{Zeroize, Zeroizing};

use crate::watch;

/// The longest secret, in bytes.
pub(crate) const LARGEST: usize = 4096;

/// The variable that names the folder in which systemd puts the credentials of a service.
pub(crate) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A file's text without its last line's end, and when it was changed.
pub(crate) type Read = (Zeroizing<String>, Option<SystemTime>);

/// Reads a file that only this process's user may read, or to which somebody else has let it.
///
/// Others may never read it. Its group may where the file belongs to another user, as in the
/// volumes of a pod with `fsGroup` (root, 0440), or lies in the folder of systemd's credentials,
/// whose access control list shows as the group's mode.
pub(crate) fn read(path: &Path) -> Result<Read, String> {
    read_up_to(path, LARGEST).map(changed)
}

/// The same of a file of another size, with all that the system knew of it before the reading. Of a
/// longer file at least one byte more than this many is given.
pub(crate) fn read_up_to(
    path: &Path,
    largest: usize,
) -> Result<(Zeroizing<String>, Metadata), String> {
    read_if(path, largest, |metadata| {
        let mode = metadata.mode() & 0o777;
        let is_given = metadata.uid() != geteuid().as_raw() || is_credential_of_systemd(path);
        if mode & 0o077 == 0 || mode & 0o077 == 0o040 && is_given {
            return Ok(());
        }
        Err(format!(
            "{} has mode {mode:04o}, which lets others at it; set 0600 (defaultMode 0400 in the \
             volume of a pod)",
            path.display()
        ))
    })
}

/// Zeroes what was received, where nobody else holds its memory.
pub(crate) fn wipe(bytes: Bytes) {
    if let Ok(mut own) = bytes.try_into_mut() {
        own.zeroize();
    }
}

/// Reads a file that somebody else gave the mode that it has.
pub(crate) fn read_of_any_mode(path: &Path) -> Result<Read, String> {
    read_if(path, LARGEST, |_| Ok(())).map(changed)
}

fn is_credential_of_systemd(path: &Path) -> bool {
    let folder = std::env::var_os(CREDENTIALS_DIRECTORY).filter(|folder| !folder.is_empty());
    let climbs = path.components().any(|part| part == Component::ParentDir);
    folder.is_some_and(|folder| !climbs && path.starts_with(folder))
}

fn changed((text, metadata): (Zeroizing<String>, Metadata)) -> Read {
    (text, metadata.modified().ok())
}

fn read_if(
    path: &Path,
    largest: usize,
    is_fit: impl FnOnce(&Metadata) -> Result<(), String>,
) -> Result<(Zeroizing<String>, Metadata), String> {
    let (bytes, metadata) = bytes(path, watch::open(path), largest, is_fit)?;
    let text = utf_8(path, &bytes)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok((Zeroizing::new(text.to_owned()), metadata))
}

/// What a file that was opened holds, with all that the system knew of it before. Of a longer file
/// at least one byte more than this many is given.
pub(crate) fn bytes(
    path: &Path,
    file: io::Result<File>,
    largest: usize,
    is_fit: impl FnOnce(&Metadata) -> Result<(), String>,
) -> Result<(Zeroizing<Vec<u8>>, Metadata), String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} can't be read: {error}");
    let file = file.map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    is_fit(&metadata)?;
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(largest + 64));
    file.take(largest as u64 + 2).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes, metadata))
}

/// The bytes of a file as text.
pub(crate) fn utf_8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn told(path: &Path) -> Result<String, String> {
        read(path).map(|(text, _)| text.to_string())
    }

    #[test]
    fn nobody_else_may_read_a_secret_unless_it_was_given_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "hidden\r\n").unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o600, 0o400, 0o700] {
            set(mode);
            assert_eq!(told(&path), Ok("hidden".to_owned()), "{mode:o}");
        }
        for mode in [0o640, 0o440, 0o604, 0o601, 0o644, 0o620, 0o666] {
            set(mode);
            let refused = told(&path).unwrap_err();
            let shown = format!("mode {mode:04o}");
            for words in [shown.as_str(), "0600", "defaultMode 0400"] {
                assert!(refused.contains(words), "{refused}");
            }
            assert!(read_of_any_mode(&path).is_ok());
        }
        // Only root can give a file to another user.
        if geteuid().is_root() {
            chown(&path, Some(12345), None).unwrap();
            for (mode, is_fit) in
                [(0o440, true), (0o640, true), (0o444, false), (0o460, false), (0o450, false)]
            {
                set(mode);
                assert_eq!(told(&path).is_ok(), is_fit, "{mode:o}");
            }
        }
    }
}
