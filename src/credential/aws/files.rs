//! Files of AWS's own conventions, whose mode AWS's tools and kubelets choose.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::super::source::SourceError;
use crate::config::aws::SharedFile;

/// The largest such file, in bytes.
const LARGEST: usize = 64 * 1024;

/// The text of a file, away from the threads that serve.
pub(super) async fn read(path: &Path) -> Result<Zeroizing<String>, SourceError> {
    let path = path.to_owned();
    apart(move || text(&path, open(&path))).await
}

/// The text of a file that need not be there.
pub(super) async fn read_shared(
    file: &SharedFile,
) -> Result<Option<Zeroizing<String>>, SourceError> {
    let file = file.clone();
    apart(move || shared(&file)).await
}

async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, SourceError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(error.to_string())).map_err(SourceError::Unavailable)
}

/// The text of a file that need not be there, nor be readable unless somebody named it.
pub(super) fn shared(file: &SharedFile) -> Result<Option<Zeroizing<String>>, String> {
    let SharedFile { path, is_named } = file;
    match open(path) {
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                || error.kind() == ErrorKind::PermissionDenied && !is_named =>
        {
            Ok(None)
        }
        file => text(path, file).map(Some),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

fn text(path: &Path, file: io::Result<File>) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} can't be read: {error}");
    let file = file.map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST + 1));
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LARGEST {
        return Err(format!("{shown} has more than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
