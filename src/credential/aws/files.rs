//! Files of AWS's own conventions, whose mode AWS's tools and kubelets choose.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use zeroize::Zeroizing;

use super::super::source::SourceError;
use super::call::Call;
use crate::config::aws::SharedFile;
use crate::{secret, watch};

/// The largest such file, in bytes.
const LARGEST: usize = 64 * 1024;

/// The text of a file, away from the threads that serve.
pub(super) async fn read(path: &Path, call: &Call<'_>) -> Result<Zeroizing<String>, SourceError> {
    let own = path.to_owned();
    apart(path, call, move || text(&own, watch::open(&own))).await
}

/// The text of a file that need not be there.
pub(super) async fn read_shared(
    file: &SharedFile,
    call: &Call<'_>,
) -> Result<Option<Zeroizing<String>>, SourceError> {
    let own = file.clone();
    apart(&file.path, call, move || shared(&own)).await
}

async fn apart<T: Send + 'static>(
    path: &Path,
    call: &Call<'_>,
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, SourceError> {
    let hangs = || Err(format!("{} can't be read: no answer in time", path.display()));
    call.read(read).await.unwrap_or_else(hangs).map_err(SourceError::Unavailable)
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
