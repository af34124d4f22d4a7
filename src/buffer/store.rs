//! The buffer's file: the only place that knows SQL.
//!
//! A row is a chunk of readings of one lane. Its id is `lane << 40 | number`, so the chunks of a lane lie together in the order of
//! their numbers, "the oldest of a lane" is a seek, and forgetting is a range: no index is kept, and no delete scans.
//!
//! Invariant: each call is one transaction, and is on the disk when it returns. Every row carries the CRC32C of its bytes and of
//! its columns, because SQLite does not notice a flipped bit in them, and how many readings and bytes its lane had before it, so that
//! what waits is known at the start without counting.

mod aside;
mod create;
mod folder;
mod gaps;
mod lanes;
mod lock;
mod migrate;
mod open;
mod quarantine;
mod reserve;
mod room;
mod rows;
mod salvage;
mod seal;
mod time;
mod vfs;

pub use lock::{Process, owner_of};
#[cfg(test)]
pub(super) use vfs::{bad_sectors, join_over};
pub(super) use {
    aside::{Aside, SetAside},
    gaps::Gap,
    lanes::StoredLane,
    migrate::{APPLICATION_ID, SCHEMA_VERSION},
    quarantine::{files as quarantined, is_sent, mark_as_sent, quarantine, unmark},
    rows::{Head, Stored, fingerprints_from, keys_from, lane_of, row_ids},
    salvage::{IMPORTED, Progress, Salvaged},
    seal::{Columns, Seal, checksum},
    vfs::NAME as JOINED,
};

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, ffi, params};

use self::{
    lock::Lock,
    reserve::Reserve,
    rows::{KEY_SEPARATOR, MAX_NUMBER, STORED, fingerprints_to, row_id, stored_from},
};
use super::{BufferError, Chunk, LaneId, Piece, Position};
use crate::{
    clock::{Boot, Setting},
    reading::Fingerprint,
};

const PAGE_BYTES: u64 = 2048;
/// Bytes of a page's content that follow the pointer to the next overflow page, and so the most that one page adds to a blob.
const BLOB_BYTES_A_PAGE: u64 = PAGE_BYTES - 4;
/// Rows that are looked at for one that can be taken apart.
const LOOKED_AT: u8 = 16;
/// A WAL frame is a page and its header. Source: SQLite file format, section 4.1.
const WAL_FRAME_BYTES: u64 = PAGE_BYTES + 24;

/// The open file.
pub(super) struct Store {
    connection: Connection,
    #[cfg(test)]
    mutant: Option<super::world::Mutant>,
    path: PathBuf,
    /// Its log.
    log_path: PathBuf,
    page_budget: u64,
    checkpoint_frames: u64,
    /// Most that the WAL takes.
    wal_bytes: u64,
    /// Bytes of the file system that are left to everyone else.
    keep_free: u64,
    reserve: Reserve,
    /// Bytes that the file system had when it told last, and whether it does not now.
    free_before: Cell<u64>,
    free_is_unknown: Cell<bool>,
    pages_used: u64,
    /// What is in the table `rejected`, and the bound of its bytes.
    set_aside: SetAside,
    most_set_aside: u64,
    /// Held while the file is open.
    _lock: Option<Lock>,
    page_count: u64,
    /// The log was there when the file was opened, and was not emptied since.
    log_is_old: bool,
}

/// What one transaction does.
#[derive(Default)]
pub(super) struct Transaction<'a> {
    /// What goes.
    pub(super) deletes: &'a [Delete],
    /// Chunks with their numbers, and what their lane had before them.
    pub(super) inserts: Vec<Insert<'a>>,
    /// Of those lanes, the ones that these are the first chunks of since they began, in the order in which they did.
    pub(super) begins: &'a [LaneId],
    /// What brokers may still repeat.
    pub(super) receipts: Vec<Receipt<'a>>,
    /// How the clock was set in one boot when it was right.
    pub(super) right: Option<(Boot, Setting)>,
    /// How far a salvage has come with it.
    pub(super) salvaged: Option<Salvaged<'a>>,
}

/// What one source's broker may repeat of what came since the row before.
pub(super) struct Receipt<'a> {
    pub(super) source: &'a str,
    pub(super) row: u64,
    pub(super) fingerprints: &'a [Fingerprint],
    /// Earlier rows of the source go.
    pub(super) keep_from: u64,
}

/// Chunks of one lane that go: numbers `from` to `up_to`, both included.
#[derive(Clone, Debug)]
pub(super) struct Delete {
    pub(super) lane: LaneId,
    pub(super) from: u64,
    pub(super) up_to: u64,
}

/// A chunk to be written.
pub(super) struct Insert<'a> {
    pub(super) number: u64,
    pub(super) chunk: &'a Chunk,
    pub(super) earlier: Earlier,
    /// What is gone here, and from which number on rows go that this one stands for.
    pub(super) gap: Option<Gap>,
    pub(super) from: u64,
}

/// What a lane had before a chunk, since the lane began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) readings: u64,
    pub(super) bytes: u64,
}

impl Store {
    /// The fingerprints that were kept: rows, oldest first, each of one source.
    pub(super) fn receipts(&self) -> Result<Vec<(u64, String, Vec<Fingerprint>)>, BufferError> {
        let read = || {
            let mut select = self.connection.prepare("SELECT id, source, fingerprints FROM receipt ORDER BY id")?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, fingerprints_from(&row.get::<_, Vec<u8>>(2)?))))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// Does all of `transaction`, or nothing of it. An id that exists already is a success: the same commit, repeated after an I/O
    /// error that came when it was on the disk already.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> Result<(), BufferError> {
        self.write(|store| store.try_commit(transaction))
    }

    fn try_commit(&mut self, transaction: &Transaction) -> rusqlite::Result<()> {
        let tx = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Deletes come first, so that the inserts use the pages that they free.
        for delete in transaction.deletes {
            let more_comes = transaction.inserts.iter().any(|insert| insert.chunk.lane == delete.lane);
            delete_chunks(&tx, delete, more_comes)?;
        }
        for chunk in &transaction.inserts {
            insert(&tx, chunk)?;
        }
        lanes::begin(&tx, transaction.begins)?;
        if let Some((boot, set)) = transaction.right {
            time::put_right(&tx, boot, set)?;
        }
        for Receipt { source, row, fingerprints, keep_from } in &transaction.receipts {
            tx.prepare_cached("DELETE FROM receipt WHERE id < ? AND source = ?")?.execute(params![keep_from, source])?;
            let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO receipt VALUES (?, ?, ?)")?;
            insert.execute(params![row, source, fingerprints_to(fingerprints)])?;
        }
        if let Some(salvaged) = &transaction.salvaged {
            salvaged.put(&tx)?;
        }
        tx.commit()
    }

    /// What follows a commit that is on the disk already: counts it, and empties the WAL into the file when that is due.
    pub(super) fn keep_up(&mut self) -> Result<(), BufferError> {
        self.take_reserve();
        self.write(Self::measure)
    }

    /// Chunks of `lane` from number `from` on: as many as hold `at_most` bytes, and at least one if there is one.
    pub(super) fn read(&self, lane: LaneId, from: u64, at_most: u64) -> Result<Vec<Stored>, BufferError> {
        let read = || -> rusqlite::Result<Vec<Stored>> {
            let mut chunks = Vec::new();
            let mut bytes = 0;
            let mut select = self.connection.prepare_cached(&format!("{STORED} WHERE c.id BETWEEN ? AND ? ORDER BY c.id"))?;
            let mut rows = select.query([row_id(lane, from), row_id(lane, MAX_NUMBER)])?;
            // One at least: none would say that there is none.
            while chunks.is_empty() || bytes < at_most {
                let Some(row) = rows.next()? else { break };
                let stored = stored_from(lane, row)?;
                bytes += stored.bytes;
                chunks.push(stored);
            }
            Ok(chunks)
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// Whether one of the youngest rows, chunk `number` of `lane` left out, can be taken apart into readings.
    pub(super) fn has_readings_but(&self, lane: LaneId, number: u64) -> Result<bool, BufferError> {
        let look = || -> rusqlite::Result<bool> {
            let sql = format!("{STORED} WHERE c.id <> ? AND length(c.data) > 0 ORDER BY c.id DESC LIMIT {LOOKED_AT}");
            let mut select = self.connection.prepare_cached(&sql)?;
            let mut rows = select.query([row_id(lane, number)])?;
            while let Some(row) = rows.next()? {
                let stored = stored_from(lane_of(row.get(0)?), row)?;
                let whole = |chunk: &Chunk| Piece::starting_at(stored.number, chunk, Position::default()).is_readings();
                if stored.chunk.as_ref().is_some_and(whole) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        look().map_err(|source| self.unreadable(source))
    }

    /// The database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn unreadable(&self, source: rusqlite::Error) -> BufferError {
        if let Some(damaged) = self.damaged(&source) {
            return damaged;
        }
        BufferError::Read { path: self.path.clone(), source: source.into() }
    }

    /// Does `write`. Where the disk is full, once more with the room of the reserve.
    fn write<T>(&mut self, mut write: impl FnMut(&mut Self) -> rusqlite::Result<T>) -> Result<T, BufferError> {
        let mut write = |store: &mut Self| store.leave_old_log().and_then(|()| write(store));
        let held = self.reserve.is_held();
        match write(self).map_err(|source| self.unwritable(source)) {
            Err(_) if held && !self.reserve.is_held() => write(self).map_err(|source| self.unwritable(source)),
            done => done,
        }
    }

    fn unwritable(&self, source: rusqlite::Error) -> BufferError {
        let no_room = vfs::found_no_room(&self.connection);
        vfs::give_up(&self.connection);
        if let Some(damaged) = self.damaged(&source) {
            return damaged;
        }
        if is_unreadable(&source) {
            return BufferError::Read { path: self.path.clone(), source: source.into() };
        }
        if no_room {
            self.reserve.give_up();
        } else if source.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            return BufferError::Full { path: self.path.clone() };
        }
        BufferError::Write { path: self.path.clone(), source: source.into() }
    }

    /// From now on the file and its log stay as they are, so that what is on them can be salvaged.
    pub(super) fn is_left_alone(&self) {
        let kept = quarantine::keep_log(&self.connection, true);
        debug_assert!(kept.is_ok(), "SQLite knows this setting");
    }

    /// Where SQLite finds the file damaged, it is left as it is from then on, so that what is on it can be salvaged.
    fn damaged(&self, source: &rusqlite::Error) -> Option<BufferError> {
        let corrupt = matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
        // A row that is not what it should be is damage too, which SQLite does not look for.
        let misread = matches!(
            source,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        );
        if !corrupt && !misread {
            return None;
        }
        self.is_left_alone();
        Some(BufferError::Damaged { path: self.path.clone(), source: source.to_string().into() })
    }
}

/// Whether the disk did not give what is on it. With `EIO` and `ENXIO` SQLite takes it for damage at once. Source: `unixRead` of its
/// `os_unix.c`.
fn is_unreadable(source: &rusqlite::Error) -> bool {
    matches!(source.sqlite_extended_error_code(), Some(ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_CORRUPTFS))
}

fn delete_chunks(tx: &rusqlite::Transaction, delete: &Delete, more_comes: bool) -> rusqlite::Result<()> {
    let Delete { lane, from, up_to } = delete;
    let (first, last) = (row_id(*lane, *from), row_id(*lane, *up_to));
    if !more_comes {
        // An emptied lane has no row left that knows its last name; but the lane itself may know a younger one, that was given behind these
        // and never written.
        let mut remember = tx.prepare_cached(
            "UPDATE lane SET next = max(next, ?2 + 1),
                 (run, seq) = (SELECT iif(chunk.id < ?6 + lane.next, lane.run, chunk.run),
                                      iif(chunk.id < ?6 + lane.next, lane.seq,
                                          coalesce((SELECT last FROM gap WHERE gap.id = chunk.id), chunk.seq + readings - 1))
                               FROM chunk WHERE id BETWEEN ?3 AND ?4 ORDER BY id DESC LIMIT 1)
             WHERE id = ?1 AND EXISTS (SELECT 1 FROM chunk WHERE id BETWEEN ?3 AND ?4)
                 AND NOT EXISTS (SELECT 1 FROM chunk WHERE id > ?4 AND id <= ?5)",
        )?;
        remember.execute(params![lane.0, up_to, first, last, row_id(*lane, MAX_NUMBER), row_id(*lane, 0)])?;
    }
    tx.prepare_cached("DELETE FROM chunk WHERE id BETWEEN ? AND ?")?.execute([first, last])?;
    gaps::close(tx, *lane, first, last)
}

fn insert(tx: &rusqlite::Transaction, insert: &Insert) -> rusqlite::Result<()> {
    if let Some(gap) = &insert.gap {
        gaps::replace(tx, insert, gap)?;
    }
    let Insert { number, chunk, earlier, .. } = insert;
    let keys = chunk.keys.as_ref().map(|keys| keys.join(KEY_SEPARATOR));
    let columns = Columns {
        id: row_id(chunk.lane, *number),
        readings: chunk.readings,
        earlier: *earlier,
        arrived: chunk.arrived,
        run: chunk.run,
        first_seq: chunk.first_seq,
        bytes: chunk.data.len() as u64,
    };
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    insert.execute(params![
        columns.id,
        chunk.readings,
        earlier.readings,
        earlier.bytes,
        chunk.arrived.0,
        chunk.run.0.cast_signed(),
        chunk.first_seq.cast_signed(),
        Seal::of(&columns, checksum(keys.as_deref(), &chunk.data)).0,
        keys,
        &chunk.data[..],
    ])?;
    match chunk.unsure {
        Some(unsure) => time::put_unsure(tx, row_id(chunk.lane, *number), unsure),
        None => Ok(()),
    }
}
