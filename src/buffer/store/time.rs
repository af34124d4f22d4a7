//! What the file knows of the clock: how it was set when readings arrived that are unsure, and how when it was right.
//!
//! Invariant: a chunk and what corrects it are written and deleted in one transaction each.

use rusqlite::Connection;

use super::Store;
use crate::{
    buffer::BufferError,
    clock::{Boot, Setting, Unsure},
};

impl Store {
    /// How the clock was set in earlier boots when it was right, and whether there are readings that are corrected by that or may be.
    pub(in crate::buffer) fn settings(&self) -> Result<(Vec<(Boot, Setting)>, bool), BufferError> {
        let read = || {
            let needed = self.connection.query_row("SELECT EXISTS (SELECT 1 FROM unsure)", [], |row| row.get(0))?;
            // Not those of boots that no reading needs any more.
            let mut select = self.connection.prepare("SELECT id, setting FROM boot WHERE id IN (SELECT boot FROM unsure)")?;
            let rows = select.query_map([], |row| Ok((Boot(row.get::<_, i64>(0)?.cast_unsigned()), Setting(row.get(1)?))))?;
            Ok((rows.collect::<rusqlite::Result<_>>()?, needed))
        };
        read().map_err(|source| self.unreadable(source))
    }
}

/// The readings of the chunk with this id are unsure.
pub(super) fn put_unsure(tx: &Connection, chunk: i64, Unsure { boot, set }: Unsure) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO unsure VALUES (?, ?, ?)")?.execute([chunk, boot.0.cast_signed(), set.0])?;
    Ok(())
}

/// How the clock is set now that it is right. What no reading needs any more goes.
pub(super) fn put_right(tx: &Connection, boot: Boot, set: Setting) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM boot WHERE id NOT IN (SELECT boot FROM unsure)")?.execute([])?;
    tx.prepare_cached("INSERT OR REPLACE INTO boot VALUES (?, ?)")?.execute([boot.0.cast_signed(), set.0])?;
    Ok(())
}

pub(super) fn unsure_from(boot: Option<i64>, setting: Option<i64>) -> Option<Unsure> {
    boot.zip(setting).map(|(boot, set)| Unsure { boot: Boot(boot.cast_unsigned()), set: Setting(set) })
}
