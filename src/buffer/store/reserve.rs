//! Room that nobody else can take: given up when the disk is full, so that deletes, which need some first, work again.
//!
//! On a full file system SQLite can't delete, because its WAL can't grow, and can't empty the WAL, because the database can't. So a
//! file lies beside the database that is as large as that takes. Invariant: while it is given up the database does not grow.

use std::{
    cell::Cell,
    fs::{self, OpenOptions},
    io::{
        self,
        ErrorKind::{NotFound, QuotaExceeded, ReadOnlyFilesystem, StorageFull},
        Write,
    },
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};
use tracing::{info, warn};

use super::folder;
use crate::durable::create_new;

/// The file.
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: Cell<bool>,
}

impl Reserve {
    /// Of the database `path`, of so many bytes. One that is there already is held, whatever its size: it is room all the same, and on a
    /// disk that others have filled since there is no other.
    pub(super) fn of(path: &Path, bytes: u64) -> Self {
        let mut name = path.to_owned().into_os_string();
        name.push("-reserve");
        let reserve = Self { path: name.into(), bytes, held: Cell::new(false) };
        reserve.held.set(reserve.len() > 0);
        reserve
    }

    /// Bytes on the disk now.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Takes the room, if the file system has plenty with `free` bytes.
    pub(super) fn hold(&self, free: u64) {
        if self.is_held() && self.len() == self.bytes || free < 2 * self.bytes {
            return;
        }
        match self.allocate() {
            Ok(()) => self.held.set(true),
            // The next commit tries again, where there was none.
            Err(error) if matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) => {
                if !self.is_held() {
                    self.remove();
                }
            }
            Err(error) => {
                warn!(path = %self.path.display(), "the buffer goes without a reserve for a full disk: {error}");
                self.remove();
                self.held.set(true);
            }
        }
    }

    fn allocate(&self) -> io::Result<()> {
        // Not truncated first: what is held stays held, whatever comes of the rest.
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = match OpenOptions::new().write(true).custom_flags(no_link).open(&self.path) {
            Err(error) if error.kind() == NotFound => create_new(&self.path, 0o600)?,
            there => there?,
        };
        if file.metadata()?.len() > self.bytes {
            return file.set_len(self.bytes);
        }
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = vec![0; 64 << 10];
                (0..self.bytes / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))
            }
            done => Ok(done?),
        }
    }

    /// Leaves the room to SQLite, all of it.
    pub(super) fn give_up(&self) {
        if self.held.replace(false) {
            let bytes = self.len();
            self.remove();
            info!(bytes, "the disk is full; the buffer gave up its reserve, so that it can delete what is delivered");
        }
    }

    fn remove(&self) {
        if let Err(error) = folder::remove(&self.path) {
            warn!(path = %self.path.display(), "the buffer's reserve can't be given up: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_taken_where_there_is_plenty_and_given_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("buffer.db");
        let reserve = Reserve::of(&path, 256 << 10);
        reserve.hold((512 << 10) - 1);
        assert!(!reserve.is_held());

        reserve.hold(512 << 10);
        assert!(Reserve::of(&path, 256 << 10).is_held(), "the next start finds it");
        assert_eq!(reserve.len(), 256 << 10);
        reserve.give_up();

        assert_eq!((reserve.is_held(), reserve.len()), (false, 0));
    }

    #[test]
    fn a_reserve_of_another_size_is_held_until_there_is_plenty_and_then_it_is_what_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("buffer.db");
        for before in [1, 100 << 10, 4 << 20] {
            fs::write(dir.path().join("buffer.db-reserve"), vec![0; before]).unwrap();
            let reserve = Reserve::of(&path, 256 << 10);
            reserve.hold(0);
            assert_eq!((reserve.is_held(), reserve.len()), (true, before as u64));

            reserve.hold(512 << 10);

            assert_eq!((reserve.is_held(), reserve.len()), (true, 256 << 10));
            reserve.give_up();
            assert_eq!((reserve.is_held(), reserve.len()), (false, 0));
        }
    }

    #[test]
    fn a_link_in_its_place_is_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("buffer.db"), dir.path().join("other"));
        fs::write(&other, "ours").unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("buffer.db-reserve")).unwrap();

        Reserve::of(&path, 256 << 10).hold(512 << 10);

        assert_eq!(fs::read_to_string(&other).unwrap(), "ours");
        let reserve = Reserve::of(&path, 256 << 10);
        reserve.hold(512 << 10);
        assert_eq!((reserve.is_held(), reserve.len()), (true, 256 << 10), "the next start has one");
    }
}
