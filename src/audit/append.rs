//! A file that is only appended to, and that is known again: whether it is still the one that its
//! name says, and as long as it was left.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::folder;
use crate::config::Durability;

/// A file that is only appended to.
#[derive(Debug)]
pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
    /// Bytes that were appended whole.
    length: u64,
    identity: (u64, u64),
}

/// How an append went wrong.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing of it is in the file, which is as good as before.
    Undone(io::Error),
    /// Nobody knows what is in the file.
    Lost(io::Error),
    /// What is in the file may not be what is on disk, so it is not to be used again.
    Unsynced(io::Error),
}

impl From<AppendError> for io::Error {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Undone(error)
            | AppendError::Lost(error)
            | AppendError::Unsynced(error) => error,
        }
    }
}

impl AppendFile {
    /// Opens a file that has this length, or makes an empty one.
    pub(super) fn open(path: PathBuf, length: u64) -> io::Result<Self> {
        let file = folder::open_to_write(OpenOptions::new().create(true).append(true), &path)?;
        let metadata = file.metadata()?;
        if metadata.len() != length {
            let (name, found) = (path.display(), metadata.len());
            let message = format!("{name} has {found} bytes where {length} were left");
            return Err(io::Error::other(message));
        }
        Ok(Self { path, file, length, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Appends, and returns when it is as durable as it should be and the file is still the one
    /// that its name says.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), AppendError> {
        if let Err(error) = self.file.write_all(bytes) {
            // A disk without room takes a part of it. What is cut off again was never promised.
            return match self.file.set_len(self.length) {
                Ok(()) => Err(AppendError::Undone(error)),
                Err(_) => Err(AppendError::Lost(error)),
            };
        }
        if durability == Durability::Fsync {
            // After a failed sync the kernel may have dropped the pages: never sync this again.
            self.file.sync_data().map_err(|error| {
                let _ = self.file.set_len(self.length);
                AppendError::Unsynced(error)
            })?;
        }
        self.length += bytes.len() as u64;
        self.is_in_place().map_err(AppendError::Lost)
    }

    /// Whether it is still the file that its name says, and as long as it was left.
    pub(super) fn is_in_place(&self) -> io::Result<()> {
        let metadata = is_same(&self.path, self.identity)?;
        if metadata.len() != self.length {
            let name = self.path.file_name().unwrap_or_default().display();
            return Err(io::Error::other(format!("{name} was changed by somebody else")));
        }
        Ok(())
    }
}

/// Whether a file is still the one that its name says.
pub(super) fn is_same(path: &Path, identity: (u64, u64)) -> io::Result<Metadata> {
    let name = path.file_name().unwrap_or_default().display();
    let gone = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let metadata = fs::metadata(path).map_err(gone)?;
    if (metadata.dev(), metadata.ino()) != identity {
        return Err(io::Error::other(format!("{name} was replaced by another file")));
    }
    Ok(metadata)
}

/// What is behind a file's good part is moved to a file of its own, whose path is returned.
pub(super) fn set_aside(path: &Path, good: u64) -> io::Result<PathBuf> {
    let mut file = folder::open_to_write(OpenOptions::new().read(true).write(true), path)?;
    let aside = path.with_extension(format!("torn-{}", uuid::Uuid::now_v7().simple()));
    let mut copy = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&aside)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(good))?;
    io::copy(&mut file, &mut copy)?;
    copy.sync_all()?;
    file.set_len(good)?;
    file.sync_all()?;
    Ok(aside)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
