//! An empty buffer is made under another name first.
//!
//! So whatever lies at a buffer's path was whole once: an empty file there, or half a one, is damage, and no power cut leaves it.

use std::{io, path::Path};

use rusqlite::ErrorCode;

use super::{PAGE_BYTES, folder, migrate::migrate, reserve::Reserve, vfs};
use crate::{
    buffer::{BoxError, BufferError, World, cold::beside},
    durable::create_new,
};

/// What stands behind the name until it is made.
const MARK: &str = "-new";

/// Makes an empty buffer at `path`, where nothing is.
pub(super) fn create(world: World, path: &Path) -> Result<(), BufferError> {
    #[cfg(test)]
    if world.mutant == Some(crate::buffer::world::Mutant::MadeInPlace) {
        return Ok(()); // SQLite makes it when it opens it
    }
    let made = make(world, path).or_else(|error| {
        if !is_full(&error) {
            return Err(error);
        }
        // Of a buffer that is not here any more.
        Reserve::of(path, 0).give_up();
        make(world, path)
    });
    made.map_err(|source| BufferError::Open { path: path.into(), source })
}

fn make(world: World, path: &Path) -> Result<(), BoxError> {
    let new = beside(path, MARK);
    folder::remove(&new)?;
    // SQLite makes its files with the umask's rights; readings are nobody else's business, and the WAL inherits this mode.
    create_new(&new, 0o600)?;
    fill(world, &new)?;
    folder::rename(&new, path)?;
    Ok(folder::sync(path)?)
}

fn fill(world: World, path: &Path) -> rusqlite::Result<()> {
    let mut connection = vfs::open(path, world.vfs)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "synchronous", world.synchronous)?;
    // Nobody rolls it back: what is not made to its end is made anew.
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    migrate(&mut connection, 0)?;
    connection.close().map_err(|(_, error)| error)
}

fn is_full(error: &BoxError) -> bool {
    let said = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    let system = error.downcast_ref::<io::Error>().map(io::Error::kind);
    said == Some(ErrorCode::DiskFull) || matches!(system, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}
