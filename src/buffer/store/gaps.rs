//! Rows that stand for readings which are gone: what is left of their chunks, and how many are missing in it.
//!
//! Invariant: over the rows of a lane, `readings` of the chunks and of their gaps add up to what the lane counted from the first row's
//! `earlier` on, so that what waits is known at the start without counting. A lane's row has the sum of its gaps.

use rusqlite::{Row, Transaction, params};

use super::{
    Earlier, Insert, LaneId, Store,
    rows::{HEAD, Head, MAX_NUMBER, STORED, Stored, head_from, row_id, stored_from},
};
use crate::{buffer::BufferError, status::Reason};

/// What a chunk once had, or what chunks once had whose place it has taken, and has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Gap {
    /// Readings that the lane counted here, less those that are in the chunk.
    pub(in crate::buffer) readings: u64,
    /// The same in bytes; a notice may have more than what it stands for.
    pub(in crate::buffer) bytes: i64,
    /// Number of the last reading that was here.
    pub(in crate::buffer) last: u64,
    /// The rule that the readings fell to.
    pub(in crate::buffer) why: Reason,
    /// How often it was halved; 0 when nothing is left.
    pub(in crate::buffer) level: u8,
    /// The chunk begins with a notice.
    pub(in crate::buffer) notice: bool,
}

impl Gap {
    /// From the columns that begin with `at`; none where the row has none.
    pub(super) fn from(row: &Row, at: usize) -> rusqlite::Result<Option<Self>> {
        let Some(readings) = row.get(at)? else { return Ok(None) };
        let why: String = row.get(at + 3)?;
        Ok(Some(Self {
            readings,
            bytes: row.get(at + 1)?,
            last: row.get(at + 2)?,
            // Of another version: it says that something is gone, and the notice itself says why.
            why: Reason::named(&why).unwrap_or(Reason::DropOldest),
            level: row.get(at + 4)?,
            notice: row.get(at + 5)?,
        }))
    }
}

impl Head {
    /// Number of the last reading that is or was here.
    pub(in crate::buffer) fn last_seq(&self) -> u64 {
        self.gap.map_or(self.first_seq.saturating_add(self.readings).saturating_sub(1), |gap| gap.last)
    }

    /// What the lane counts here: what is in the chunk, and what is gone.
    pub(in crate::buffer) fn counted(&self) -> Earlier {
        let (gone, gone_bytes) = self.gap.map_or((0, 0), |gap| (gap.readings, gap.bytes));
        Earlier { readings: self.readings.saturating_add(gone), bytes: self.bytes.saturating_add_signed(gone_bytes) }
    }
}

impl Store {
    /// Chunks of `lane` from number `from` on, without their data: as many as hold `bytes`, and two more, but no more than `at_most`.
    pub(in crate::buffer) fn heads(&self, lane: LaneId, from: u64, bytes: u64, at_most: usize) -> Result<Vec<Head>, BufferError> {
        let read = || {
            let mut select = self.connection.prepare_cached(&format!("{HEAD} WHERE c.id BETWEEN ? AND ? ORDER BY c.id"))?;
            let mut rows = select.query([row_id(lane, from), row_id(lane, MAX_NUMBER)])?;
            let (mut heads, mut sum, mut more) = (Vec::new(), 0, 2);
            while heads.len() < at_most && more > 0 {
                let Some(row) = rows.next()? else { break };
                let head = head_from(row)?;
                more -= u8::from(sum >= bytes);
                sum += head.bytes;
                heads.push(head);
            }
            Ok(heads)
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// The chunk of `lane` before number `number`, from number `from` on, without its data.
    pub(in crate::buffer) fn head_before(&self, lane: LaneId, from: u64, number: u64) -> Result<Option<Head>, BufferError> {
        let read = || {
            let sql = format!("{HEAD} WHERE c.id >= ? AND c.id < ? ORDER BY c.id DESC LIMIT 1");
            let mut select = self.connection.prepare_cached(&sql)?;
            let mut rows = select.query_map([row_id(lane, from), row_id(lane, number)], head_from)?;
            rows.next().transpose()
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// The chunk of `lane` with number `number`.
    pub(in crate::buffer) fn chunk(&self, lane: LaneId, number: u64) -> Result<Option<Stored>, BufferError> {
        let read = || {
            let mut select = self.connection.prepare_cached(&format!("{STORED} WHERE c.id = ?"))?;
            let mut rows = select.query_map([row_id(lane, number)], |row| stored_from(lane, row))?;
            rows.next().transpose()
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// Number of the first chunk of `lane` in `from..below` that was halved less than `level` times: those before it were halved more,
    /// so it is found by halving the range, whatever its length.
    pub(in crate::buffer) fn first_below_level(&self, lane: LaneId, from: u64, below: u64, level: u8) -> Result<u64, BufferError> {
        let (mut low, mut high) = (from, below);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.heads(lane, middle, 0, 1)?.first().filter(|head| head.number < high) {
                Some(head) if head.gap.is_some_and(|gap| gap.level >= level) => low = head.number + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// Makes a row that stands for others: they go, and with them their gaps. Done twice, it does the same.
pub(super) fn replace(tx: &Transaction, insert: &Insert, gap: &Gap) -> rusqlite::Result<()> {
    let lane = insert.chunk.lane;
    let (first, last) = (row_id(lane, insert.from), row_id(lane, insert.number));
    tx.prepare_cached("DELETE FROM chunk WHERE id BETWEEN ? AND ?")?.execute([first, last])?;
    close(tx, lane, first, last)?;
    let Gap { readings, bytes, last: last_seq, why, level, notice } = gap;
    let mut put =
        tx.prepare_cached("INSERT INTO gap (id, readings, bytes, last, why, level, notice) VALUES (?, ?, ?, ?, ?, ?, ?)")?;
    put.execute(params![last, readings, bytes, last_seq, why.name(), level, notice])?;
    let mut count = tx.prepare_cached("UPDATE lane SET gone = gone + ?, gone_bytes = gone_bytes + ? WHERE id = ?")?;
    count.execute(params![readings, bytes, lane.0])?;
    Ok(())
}

/// Rows `first` to `last` of `lane` were deleted; so is what else is known of them.
pub(super) fn close(tx: &Transaction, lane: LaneId, first: i64, last: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM unsure WHERE chunk BETWEEN ? AND ?")?.execute([first, last])?;
    let mut sum = tx.prepare_cached("SELECT count(*), sum(readings), sum(bytes) FROM gap WHERE id BETWEEN ? AND ?")?;
    let (gaps, readings, bytes): (u64, Option<i64>, Option<i64>) =
        sum.query_row([first, last], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if gaps > 0 {
        let mut count = tx.prepare_cached("UPDATE lane SET gone = gone - ?, gone_bytes = gone_bytes - ? WHERE id = ?")?;
        count.execute(params![readings, bytes, lane.0])?;
        tx.prepare_cached("DELETE FROM gap WHERE id BETWEEN ? AND ?")?.execute([first, last])?;
    }
    Ok(())
}
