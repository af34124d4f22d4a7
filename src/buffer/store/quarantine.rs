//! A damaged file is set aside: renamed with its log, never changed and never deleted.
//!
//! The database is renamed first, and its log when that is durable. Where the power goes between, the log is found alone at the next start,
//! and follows; a database that was found alone would pass for one that has lost its log, and part from it.
//!
//! When all that was salvaged from it has reached its destination, an empty file beside it says so, which outlives the buffer that it was
//! salvaged into: without it, damage to that one would bring everything again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, config::DbConfig};

use super::{folder, lock};
use crate::{
    buffer::{BufferError, cold::beside},
    durable::folder_of,
    reading::Timestamp,
    units::format_utc,
};

/// What stands between a file's name and the time at which it was set aside.
const MARK: &str = ".corrupt-";
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];
/// Stands beside a file that was set aside and of which nothing is left to be sent.
const SENT: &str = ".sent";

/// Sets the file at `path` aside, which nobody has open; returns where it is now.
pub(in crate::buffer) fn quarantine(path: &Path, now: Timestamp) -> Result<PathBuf, BufferError> {
    let failed = |source: io::Error| BufferError::SetAside { path: path.into(), source: source.into() };
    let Some(_lock) = lock::take(path).map_err(failed)? else {
        return Err(BufferError::InUse { path: path.into(), by: lock::owner_of(path) });
    };
    rename(path, now)
}

/// The same for one that has the folder's lock.
pub(super) fn rename(path: &Path, now: Timestamp) -> Result<PathBuf, BufferError> {
    let failed = |source: io::Error| BufferError::SetAside { path: path.into(), source: source.into() };
    let time = format_utc(now).replace(['-', ':'], "");
    // A mark that was left behind would speak for another file.
    let free = |aside: &PathBuf| ["", SENT].iter().chain(&COMPANIONS).all(|suffix| !beside(aside, suffix).exists());
    let names = (1_u64..).map(|n| beside(path, &if n == 1 { format!("{MARK}{time}") } else { format!("{MARK}{time}-{n}") }));
    let Some(aside) = names.into_iter().find(free) else { unreachable!("a folder has a free name") };
    if path.exists() {
        folder::rename(path, &aside).and_then(|()| folder::sync(path)).map_err(failed)?;
    }
    companions(path, &aside).and_then(|()| folder::sync(path)).map_err(failed)?;
    Ok(aside)
}

/// Lets a log follow its database, where the power went before it could.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    if path.exists() || !beside(path, "-wal").exists() {
        return Ok(());
    }
    // Only the last one can have parted from its log, and not if it was salvaged already: it would be read with another one's pages.
    let waits = |aside: &PathBuf| aside.exists() && !beside(aside, "-wal").exists() && !is_sent(aside);
    if let Some(aside) = files(path)?.pop().filter(waits) {
        companions(path, &aside)?;
        folder::sync(path)?;
    }
    Ok(())
}

/// Keeps beside `aside` that nothing of it is left to be sent, whatever becomes of the buffer. Only for what was confirmed.
pub(in crate::buffer) fn mark_as_sent(aside: &Path) -> io::Result<()> {
    folder::create(&beside(aside, SENT)).and_then(|()| folder::sync(aside))
}

/// Whether nothing of `aside` is left to be sent.
pub(in crate::buffer) fn is_sent(aside: &Path) -> bool {
    beside(aside, SENT).exists()
}

/// Removes the mark of `aside`, which is gone itself.
pub(in crate::buffer) fn unmark(aside: &Path) -> io::Result<()> {
    folder::remove(&beside(aside, SENT))
}

/// Everything that was set aside of the file at `path`, in the order of time; a mark may be all that is left of it.
pub(in crate::buffer) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let begins = format!("{name}{MARK}");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        // A log may have lost its database.
        if let Some(found) = entry.file_name().to_str().filter(|found| found.starts_with(&begins)) {
            let found = COMPANIONS.iter().chain([&SENT]).find_map(|suffix| found.strip_suffix(suffix)).unwrap_or(found);
            files.push(path.with_file_name(found));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Whether closing the file leaves it, and its log, as they are.
pub(super) fn keep_log(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(|_| ())
}

fn companions(from: &Path, to: &Path) -> io::Result<()> {
    for suffix in COMPANIONS.iter().filter(|suffix| beside(from, suffix).exists()) {
        folder::rename(&beside(from, suffix), &beside(to, suffix))?;
    }
    Ok(())
}
