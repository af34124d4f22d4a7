//! What is done to the buffer's folder past SQLite: an empty file is made, one gets another name, or goes, and which files there are
//! becomes durable.
//!
//! Invariant: nothing of that is done anywhere else, so that a test can tell what a power cut leaves of it.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use crate::durable::{create_new, folder_of, sync_folder};

/// Gives the file another name, which the next [`sync`] makes durable.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(test)]
    crate::buffer::tests::power_cuts::renamed(from, to);
    Ok(())
}

/// Makes an empty file, if it is not there, which the next [`sync`] makes durable.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match create_new(path, 0o666) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(path)?,
        made => made?,
    }
    .sync_all()?;
    #[cfg(test)]
    crate::buffer::tests::power_cuts::created(path);
    Ok(())
}

/// Removes the file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            #[cfg(test)]
            crate::buffer::tests::power_cuts::removed(path);
            removed
        }
    }
}

/// Makes durable which files there are beside `path`.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    sync_folder(folder_of(path))?;
    #[cfg(test)]
    crate::buffer::tests::power_cuts::synced(path);
    Ok(())
}
