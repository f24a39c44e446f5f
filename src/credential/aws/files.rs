//! Files of AWS's own conventions, whose mode AWS's tools and kubelets choose.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use zeroize::Zeroizing;

use super::super::source::SourceError;
use crate::config::aws::SharedFile;
use crate::{secret, watch};

/// The largest such file, in bytes.
const LARGEST: usize = 64 * 1024;

/// The text of a file, away from the threads that serve.
pub(super) async fn read(path: &Path) -> Result<Zeroizing<String>, SourceError> {
    let path = path.to_owned();
    apart(move || text(&path, watch::open(&path))).await
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
    match watch::open(path) {
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                || error.kind() == ErrorKind::PermissionDenied && !is_named =>
        {
            Ok(None)
        }
        file => text(path, file).map(Some),
    }
}

fn text(path: &Path, file: io::Result<File>) -> Result<Zeroizing<String>, String> {
    let (bytes, _) = secret::bytes(path, file, LARGEST, |_| Ok(()))?;
    if bytes.len() > LARGEST {
        return Err(format!("{} has more than 64 KiB", path.display()));
    }
    secret::utf_8(path, &bytes).map(|text| Zeroizing::new(text.to_owned()))
}
