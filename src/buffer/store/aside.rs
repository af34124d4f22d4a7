//! Readings that their destination calls invalid: taken out of their lane, and kept for a person to look at.
//!
//! Invariant: in one transaction a reading enters `rejected` and what is before it and itself leaves its chunk. So after a power cut at
//! any moment it is in its lane or here, never in both and in neither, and nothing that was delivered before it is sent again for it.

use rusqlite::{OptionalExtension, Row, params};

use super::{Delete, Insert, PAGE_BYTES, Store, checksum, delete_chunks, insert, lanes};
use crate::{
    buffer::{BufferError, LaneId, Rejected},
    reading::Timestamp,
    record::Previous,
};

/// What a row takes besides its data and texts, about.
const ROW_OVERHEAD: u64 = 64;
/// Sums up the table. The lengths of blobs and texts are known without reading them.
pub(super) const COUNT: &str =
    "SELECT count(*), coalesce(sum(length(data) + length(reason) + coalesce(length(topic), 0)), 0) FROM rejected";

/// What the table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::buffer) struct SetAside {
    pub(in crate::buffer) readings: u64,
    pub(in crate::buffer) bytes: u64,
}

/// One reading that is set aside.
pub(in crate::buffer) struct Aside<'a> {
    pub(in crate::buffer) lane: LaneId,
    /// The number of its chunk.
    pub(in crate::buffer) number: u64,
    /// The first number of its lane that is not deleted yet. What lies from there to the reading is delivered, and goes with it.
    pub(in crate::buffer) from: u64,
    /// What is left of the chunk, and takes its place; none when nothing is.
    pub(in crate::buffer) rest: Option<Insert<'a>>,
    /// As in [`super::Transaction`].
    pub(in crate::buffer) begins: &'a [LaneId],
    pub(in crate::buffer) reading: &'a Rejected,
    /// The number of the last reading that is or was in the chunk.
    pub(in crate::buffer) last_seq: u64,
    pub(in crate::buffer) at: Timestamp,
}

pub(super) fn count_from(row: &Row) -> rusqlite::Result<SetAside> {
    let readings = row.get(0)?;
    Ok(SetAside { readings, bytes: row.get::<_, u64>(1)? + readings * ROW_OVERHEAD })
}

fn size(reading: &Rejected) -> u64 {
    (reading.data.len() + reading.reason.len() + reading.topic.as_ref().map_or(0, String::len)) as u64 + ROW_OVERHEAD
}

impl Store {
    /// What is set aside.
    pub(in crate::buffer) fn set_aside(&self) -> SetAside {
        self.set_aside
    }

    /// Sets a reading aside. Of those that are there the oldest make room for it; says how many.
    pub(in crate::buffer) fn put_aside(&mut self, aside: &Aside) -> Result<u64, BufferError> {
        // Where the database itself has no room, what was set aside before gives way to it, since it counts in `max_size` too.
        let (used, budget) = self.pages();
        let room = budget.saturating_sub(used) * PAGE_BYTES;
        let most = self.most_set_aside.min(self.set_aside.bytes + room);
        match self.try_put_aside(aside, most) {
            Ok((gone, left)) => {
                self.set_aside = left;
                Ok(gone)
            }
            // An error may come when all of it is on the disk already, and then it is done.
            Err(_) if self.is_set_aside(aside).unwrap_or_default() => {
                self.set_aside = self.connection.query_row(COUNT, [], count_from).map_err(|source| self.unreadable(source))?;
                Ok(0)
            }
            Err(source) => Err(self.unwritable(source)),
        }
    }

    fn is_set_aside(&self, Aside { lane, reading, .. }: &Aside) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM rejected WHERE lane = ? AND run = ? AND seq = ?)";
        let name = params![lane.0, reading.run.0.cast_signed(), reading.seq.cast_signed()];
        self.connection.prepare_cached(sql)?.query_row(name, |row| row.get(0))
    }

    fn try_put_aside(&mut self, aside: &Aside, most: u64) -> rusqlite::Result<(u64, SetAside)> {
        self.leave_old_log()?;
        let mut left = self.set_aside;
        let tx = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if aside.rest.is_none() {
            // A chunk that was never written leaves no row that would leave its name.
            let last = Previous { run: aside.reading.run, seq: aside.last_seq };
            lanes::remember(&tx, aside.lane, aside.number + 1, last)?;
        }
        // All of it, so that what is left is the lane's first row: from there on readings are counted at the next start.
        let delete = Delete { lane: aside.lane, from: aside.from, up_to: aside.number };
        delete_chunks(&tx, &delete, aside.rest.is_some())?;
        if let Some(rest) = &aside.rest {
            insert(&tx, rest)?;
        }
        lanes::begin(&tx, aside.begins)?;
        let mut gone = 0;
        while left.readings > 0 && left.bytes + size(aside.reading) > most {
            let oldest: Option<(i64, u64)> = tx
                .prepare_cached(
                    "SELECT id, length(data) + length(reason) + coalesce(length(topic), 0) FROM rejected ORDER BY id LIMIT 1",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, bytes)) = oldest else { break };
            tx.prepare_cached("DELETE FROM rejected WHERE id = ?")?.execute([id])?;
            left = SetAside { readings: left.readings - 1, bytes: left.bytes.saturating_sub(bytes + ROW_OVERHEAD) };
            gone += 1;
        }
        let Rejected { run, seq, arrived, reason, topic, partition_key, data } = aside.reading;
        let mut put = tx.prepare_cached(
            "INSERT OR IGNORE INTO rejected (lane, run, seq, ts, at, reason, topic, partition_key, crc, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let new = put.execute(params![
            aside.lane.0,
            run.0.cast_signed(),
            seq.cast_signed(),
            arrived.0,
            aside.at.0,
            reason,
            topic,
            partition_key,
            checksum(partition_key.as_deref(), data),
            &data[..],
        ])?;
        drop(put);
        if new > 0 {
            left = SetAside { readings: left.readings + 1, bytes: left.bytes + size(aside.reading) };
        }
        tx.commit()?;
        Ok((gone, left))
    }
}
