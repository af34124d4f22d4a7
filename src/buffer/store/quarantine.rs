//! A damaged file is set aside: renamed with its log, never changed and never deleted.
//!
//! The log goes first, by way of a name that says whose it is, and each step is durable before the next. So wherever the power goes, the
//! next start brings the two together again, and takes no log for another file's: one that is found alone has lost its database, and is
//! set aside alone.
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
const COMPANIONS: [&str; 3] = [LOG, "-journal", "-shm"];
const LOG: &str = "-wal";
/// A log whose database is on its way to where the log is.
const PARTING: &str = "-parting";
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
    let free = |aside: &PathBuf| ["", SENT, PARTING].iter().chain(&COMPANIONS).all(|suffix| !beside(aside, suffix).exists());
    let names = (1_u64..).map(|n| beside(path, &if n == 1 { format!("{MARK}{time}") } else { format!("{MARK}{time}-{n}") }));
    let Some(aside) = names.into_iter().find(free) else { unreachable!("a folder has a free name") };
    part(path, &aside).map_err(failed)?;
    Ok(aside)
}

fn part(path: &Path, aside: &Path) -> io::Result<()> {
    let (log, parting) = (beside(path, LOG), beside(aside, PARTING));
    let both = path.exists() && log.exists();
    if both {
        folder::rename(&log, &parting).and_then(|()| folder::sync(path))?;
    }
    if path.exists() {
        folder::rename(path, aside).and_then(|()| folder::sync(path))?;
    }
    if both {
        folder::rename(&parting, &beside(aside, LOG))?;
    }
    for suffix in COMPANIONS.iter().filter(|suffix| beside(path, suffix).exists()) {
        folder::rename(&beside(path, suffix), &beside(aside, suffix))?;
    }
    folder::sync(path)
}

/// Brings a log and its database together again, where the power went between the two.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    for aside in files(path)?.iter().filter(|aside| beside(aside, PARTING).exists()) {
        let stayed = !aside.exists() && path.exists() && !beside(path, LOG).exists();
        folder::rename(&beside(aside, PARTING), &beside(if stayed { path } else { aside }, LOG))?;
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
            let found = COMPANIONS.iter().chain([&SENT, &PARTING]).find_map(|suffix| found.strip_suffix(suffix)).unwrap_or(found);
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
