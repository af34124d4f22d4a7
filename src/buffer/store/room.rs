//! How much room there is, in the bound and in the file system, and how what is not needed is given back.

use std::{fs, io, path::Path};

use rusqlite::Row;
use tracing::warn;

use super::{BLOB_BYTES_A_PAGE, PAGE_BYTES, Store, vfs};
use crate::buffer::{BufferError, cold::beside};

impl Store {
    /// Gives the file system back what an outage took, once little is left of it.
    pub(in crate::buffer) fn shrink_if_worth_it(&mut self) -> Result<(), BufferError> {
        // A quarter of what it gives back, at most, is what it writes. All that is used is copied in memory and goes through the WAL in
        // one transaction, so that is a few megabytes at most, however much an outage took; more where the file has passed a bound
        // that was lowered.
        const FREE: u64 = (64 << 20) / PAGE_BYTES;
        const SHARE: u64 = 4;
        const COPIED: u64 = (4 << 20) / PAGE_BYTES;
        const COPIED_BEYOND_BOUND: u64 = 4 * COPIED;
        let shrink = |store: &mut Self| -> rusqlite::Result<()> {
            let free = store.page_count - store.pages_used;
            let copied = if store.page_count > store.page_budget { COPIED_BEYOND_BOUND } else { COPIED };
            if free < FREE || store.pages_used > (free / SHARE).min(copied) {
                return Ok(());
            }
            store.vacuum()
        };
        shrink(self).map_err(|source| self.unwritable(source))
    }

    /// The same, whatever it is worth.
    #[cfg(test)]
    pub(in crate::buffer) fn shrink(&mut self) -> Result<(), BufferError> {
        self.vacuum().map_err(|source| self.unwritable(source))
    }

    fn vacuum(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("VACUUM")?;
        self.measure()?;
        self.checkpoint()
    }

    /// Pages that one more row with `bytes` of data needs at most.
    pub(in crate::buffer) fn pages_for(bytes: u64) -> u64 {
        bytes.div_ceil(BLOB_BYTES_A_PAGE) + 1
    }

    /// Pages in use, and how many there may be.
    pub(in crate::buffer) fn pages(&self) -> (u64, u64) {
        (self.pages_used, self.bound().min(self.page_count + self.growth()))
    }

    /// Pages that readings may have by the bound that was set.
    fn bound(&self) -> u64 {
        // The b-tree's inner pages and the small tables need room too.
        self.page_budget - self.page_budget / 32 - 16
    }

    /// Pages by which the database may grow without taking what is to be kept free.
    fn growth(&self) -> u64 {
        if !self.reserve.is_held() {
            return 0;
        }
        // What was committed and is not in the database's file yet, and what the WAL may still take, is spoken for.
        let [file, wal] = self.files();
        let owed = (self.page_count * PAGE_BYTES).saturating_sub(file) + self.wal_bytes.saturating_sub(wal);
        self.free().saturating_sub(self.keep_free + owed) / PAGE_BYTES
    }

    /// Bytes of the database's file and of its WAL.
    fn files(&self) -> [u64; 2] {
        [&self.path, &self.log_path].map(|path| len(path))
    }

    /// Takes the reserve again if it was given up and others have made room since.
    pub(in crate::buffer) fn take_reserve(&self) {
        if !self.reserve.is_held() {
            self.reserve.hold(self.free());
        }
    }

    /// Whether it is the file system that leaves no room, and not a bound that was set: what is free there is kept for others, or the
    /// file's own work needs it.
    pub(in crate::buffer) fn is_squeezed(&self) -> bool {
        // What one more commit may need: its megabyte, and a chunk beyond that.
        const COMMIT: u64 = (2 << 20) / PAGE_BYTES;
        let limit = self.page_count + self.growth();
        !self.reserve.is_held() || limit < self.bound() && self.pages_used + COMMIT > limit
    }

    /// Bytes of all files together, now.
    pub(in crate::buffer) fn size(&self) -> u64 {
        self.files().iter().sum::<u64>() + self.reserve.len()
    }

    /// Bytes that the file system still has for us. Where it does not tell, what it told last: nothing has to give way for that.
    pub(in crate::buffer) fn free(&self) -> u64 {
        match free_for(&self.path) {
            Ok(free) => {
                self.free_before.set(free);
                self.free_is_unknown.set(false);
                free
            }
            Err(error) => {
                if !self.free_is_unknown.replace(true) {
                    warn!(path = %self.path.display(), "the file system does not tell how much room it has: {error}");
                }
                self.free_before.get()
            }
        }
    }

    /// Bytes written to the files since the start.
    pub(in crate::buffer) fn written(&self) -> u64 {
        vfs::written(&self.connection)
    }

    /// Learns after a commit how many pages are used and how far the WAL has grown; empties the WAL into the file when it is due.
    pub(super) fn measure(&mut self) -> rusqlite::Result<()> {
        let frames = self.count()?;
        // Without a reserve the WAL has to do with the room that it has.
        if frames >= self.checkpoint_frames || !self.reserve.is_held() { self.checkpoint() } else { Ok(()) }
    }

    /// What follows a write at the start. That is done, so a WAL that can't be emptied now is no reason to fail: the next commit tries
    /// again, and complains.
    pub(super) fn tidy(&mut self) -> Result<(), BufferError> {
        match self.write(Self::measure) {
            Err(damaged @ BufferError::Damaged { .. }) => Err(damaged),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Learns how many pages are used; returns how many frames the WAL has.
    pub(super) fn count(&mut self) -> rusqlite::Result<u64> {
        let frames: u64 = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], wal_frames)?;
        let pages: u64 = self.connection.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
        let free: u64 = self.connection.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
        self.pages_used = pages - free;
        self.page_count = pages;
        Ok(frames)
    }

    /// Empties a log from before, so that nothing rests on it any more.
    ///
    /// What can be read of it need not be on the disk: where a sync failed, the system may show what it could not write for as long as it
    /// runs, and say nothing when it is synced again. What is behind a hole in a log is lost. And what a power cut has left behind its
    /// end must not be met by what is written next, as it may look like more of the same.
    pub(super) fn leave_old_log(&mut self) -> rusqlite::Result<()> {
        if self.log_is_old {
            self.checkpoint()?;
            self.log_is_old = false;
        }
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }
}

/// Bytes that the file system of `path` still has for us.
pub(super) fn free_for(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Bytes that the buffer at `path` has on its file system, and may still take. Where nobody tells, it is as if there were plenty.
pub(super) fn room_for(path: &Path) -> u64 {
    let own = ["", "-wal", "-reserve"].map(|suffix| len(&beside(path, suffix)));
    free_for(path).unwrap_or(u64::MAX).saturating_add(own.iter().sum())
}

fn wal_frames(row: &Row) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(1)?.max(0).cast_unsigned())
}
