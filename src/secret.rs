//! Secrets in files, which nobody else may read.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The longest secret, in bytes.
pub(crate) const LARGEST: usize = 4096;

/// The text of a file of mode 0600 or less, without its last line's end, and when it was changed.
pub(crate) fn read(path: &Path) -> Result<(Zeroizing<String>, Option<SystemTime>), String> {
    let (text, metadata) = read_up_to(path, LARGEST)?;
    Ok((text, metadata.modified().ok()))
}

/// The same of a file of another size, with all that the system knew of it before the reading. Of a
/// longer file at least one byte more than this many is given.
pub(crate) fn read_up_to(
    path: &Path,
    largest: usize,
) -> Result<(Zeroizing<String>, Metadata), String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} can't be read: {error}");
    // Opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("{shown} has mode {mode:04o}, which lets others at it; set 0600"));
    }
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(largest + 2));
    file.take(largest as u64 + 2).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok((Zeroizing::new(text.to_owned()), metadata))
}
