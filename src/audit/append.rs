//! A file that is only appended to, and that is known again: whether it is still the one that its
//! name says, and as long as it was left.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use super::folder;
use crate::config::Durability;
use crate::disk;

/// A file that is only appended to.
#[derive(Debug)]
pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
    /// Bytes that were appended whole.
    length: u64,
    identity: (u64, u64),
    /// For how many bytes room is set aside at a time; none where it is not worth it.
    room: u64,
    /// Up to which length room was set aside, or asked for.
    reserved: u64,
}

/// For how many bytes room is set aside at a time, at the most.
const LARGEST_ROOM: u64 = 64 << 20;
/// And for how many more, which the last append may need.
const MARGIN: u64 = 1 << 20;
/// How many times as much must be free for that.
const PLENTY: u64 = 16;

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
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path, file, length, identity, room: 0, reserved: length })
    }

    /// Will have so many bytes, for which room is set aside on a disk that has plenty of it.
    ///
    /// What grows with each flush gets its room here and there, and each flush must write down where:
    /// in one place, a flush waits for the disk once less. The file is only as long as what is in it.
    pub(super) fn with_room(self, size: u64) -> Self {
        Self { room: size.min(LARGEST_ROOM) + MARGIN, ..self }
    }

    /// Appends, and returns when it is as durable as it should be and the file is still the one
    /// that its name says.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<(), AppendError> {
        let length = self.length + bytes.len() as u64;
        if length > self.reserved && self.room > 0 {
            self.set_room_aside();
        }
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
        self.length = length;
        self.is_in_place().map_err(AppendError::Lost)
    }

    /// Nothing fails without it.
    fn set_room_aside(&mut self) {
        let free = fstatvfs(&self.file).map_or(0, |found| disk::free(&found));
        if free / PLENTY >= self.room {
            let _ = fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, self.room);
        }
        self.reserved = self.length + self.room;
    }

    /// Gives back the room that was set aside and is not needed: nothing more is appended.
    pub(super) fn finish(&mut self) {
        if self.reserved > self.length && self.is_in_place().is_ok() {
            // To the length that it has: what is behind it is freed.
            let _ = self.file.set_len(self.length);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_set_aside_and_given_back_and_the_file_is_as_long_as_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        let open = |length| AppendFile::open(path.clone(), length).unwrap();
        let on_disk = || fs::metadata(&path).map(|it| (it.len(), it.blocks() * 512)).unwrap();
        let mut file = open(0).with_room(2 << 20);
        file.append(b"first\n", Durability::Write).unwrap();
        let (length, taken) = on_disk();
        assert_eq!(length, 6);
        assert!(taken >= 3 << 20, "{taken} bytes are taken");
        file.append(b"second\n", Durability::Fsync).unwrap();
        assert_eq!(on_disk(), (13, taken));
        file.finish();
        let (length, taken) = on_disk();
        assert_eq!(length, 13);
        assert!(taken < 1 << 20, "{taken} bytes are taken");
        assert_eq!(fs::read(&path).unwrap(), b"first\nsecond\n");
        open(13).append(b"third\n", Durability::Write).unwrap();
        assert!(on_disk().1 < 1 << 20, "nobody asked for room");
    }
}
