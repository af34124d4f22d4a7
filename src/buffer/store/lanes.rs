//! What the file knows of lanes: what each is, its ends, its last name, and in which order they began.
//!
//! Invariant: of the lanes of a stream, one that took readings later has a higher rank (`lane.named`). That is the order in which they
//! drain, and the last name of a lane's number is that of the highest, whatever its layout.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{
    Store,
    rows::{HEAD, Head, MAX_NUMBER, head_from, row_id},
};
use crate::{
    buffer::{BufferError, Lane, LaneId, Layout},
    record::{Previous, RunId},
};

/// A lane as the file knows it.
pub(in crate::buffer) struct StoredLane {
    pub(in crate::buffer) lane: Lane,
    pub(in crate::buffer) next: u64,
    /// Its last name.
    pub(in crate::buffer) previous: Option<Previous>,
    /// The file that its readings were salvaged from.
    pub(in crate::buffer) salvage: Option<String>,
    /// Its first and last chunk.
    pub(in crate::buffer) ends: Option<(Head, Head)>,
    /// Readings and bytes that it counts and that are in no chunk.
    pub(in crate::buffer) gone: (u64, i64),
}

impl StoredLane {
    /// One that has nothing yet.
    pub(in crate::buffer) fn new(lane: Lane) -> Self {
        Self { lane, next: 0, previous: None, salvage: None, ends: None, gone: (0, 0) }
    }
}

impl Store {
    /// What the file holds of every lane that it knows, in the order in which they began.
    pub(in crate::buffer) fn lanes(&self) -> Result<Vec<StoredLane>, BufferError> {
        let read = || -> rusqlite::Result<Vec<StoredLane>> {
            let mut lanes = Vec::new();
            let mut select = self.connection.prepare(
                "SELECT id, stream, number, of, partition_key, hash_key, next, run, seq, template, salvage, gone, gone_bytes
                     FROM lane ORDER BY ifnull(named, 0), id",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                lanes.push(self.lane_from(row)?);
            }
            Ok(lanes)
        };
        read().map_err(|source| self.unreadable(source))
    }

    fn lane_from(&self, row: &Row) -> rusqlite::Result<StoredLane> {
        let id = LaneId(row.get(0)?);
        let hash_key: Option<String> = row.get(5)?;
        let layout = Layout {
            stream: row.get(1)?,
            number: row.get(2)?,
            of: row.get(3)?,
            partition_key: row.get(4)?,
            hash_key: hash_key.and_then(|key| key.parse().ok()),
            template: row.get(9)?,
        };
        let in_row = match (row.get::<_, Option<i64>>(7)?, row.get(8)?) {
            (Some(run), Some(seq)) => Some(Previous { run: RunId(run.cast_unsigned()), seq }),
            _ => None,
        };
        let ends = self.head(id, "ASC")?.zip(self.head(id, "DESC")?);
        // By the numbers of chunks, because a clock that was set back would make the older name the younger one.
        let next: u64 = row.get(6)?;
        #[cfg(test)]
        let next = if self.mutant == Some(crate::buffer::world::Mutant::NumbersRestart) { 0 } else { next };
        let younger_chunk = ends.is_some_and(|(_, last)| last.number >= next);
        Ok(StoredLane {
            lane: Lane { id, layout },
            next: next.max(ends.map_or(0, |(_, last)| last.number + 1)),
            previous: if younger_chunk { self.last_name(id)? } else { in_row },
            salvage: row.get(10)?,
            ends,
            gone: (row.get(11)?, row.get(12)?),
        })
    }

    fn head(&self, lane: LaneId, order: &str) -> rusqlite::Result<Option<Head>> {
        let sql = format!("{HEAD} WHERE c.id BETWEEN ? AND ? ORDER BY c.id {order} LIMIT 1");
        self.connection.query_row(&sql, [row_id(lane, 0), row_id(lane, MAX_NUMBER)], head_from).optional()
    }

    fn last_name(&self, lane: LaneId) -> rusqlite::Result<Option<Previous>> {
        let sql = "SELECT run, coalesce(g.last, seq + c.readings - 1) FROM chunk c LEFT JOIN gap g ON g.id = c.id
            WHERE c.id BETWEEN ? AND ? ORDER BY c.id DESC LIMIT 1";
        let name = |row: &Row| {
            let run: i64 = row.get(0)?;
            Ok(Previous { run: RunId(run.cast_unsigned()), seq: row.get(1)? })
        };
        self.connection.query_row(sql, [row_id(lane, 0), row_id(lane, MAX_NUMBER)], name).optional()
    }

    /// Gives a lane its row: that of the one which begins last.
    pub(in crate::buffer) fn add_lane(&mut self, layout: &Layout) -> Result<LaneId, BufferError> {
        self.add(layout, None, true)
    }

    /// The same for one that has not begun. With `salvage`, its readings come from another file.
    pub(in crate::buffer) fn add_part(&mut self, layout: &Layout, salvage: Option<&str>) -> Result<LaneId, BufferError> {
        self.add(layout, salvage, false)
    }

    fn add(&mut self, layout: &Layout, salvage: Option<&str>, begins: bool) -> Result<LaneId, BufferError> {
        let Layout { stream, number, of, partition_key, hash_key, template } = layout;
        let sql = "INSERT INTO lane (stream, number, of, partition_key, hash_key, template, next, salvage, named)
            VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0)";
        let hash_key = hash_key.map(|key| key.to_string());
        let id = self.write(|store| {
            let tx = store.connection.transaction()?;
            tx.execute(sql, params![stream, number, of, partition_key, hash_key, template, salvage])?;
            let id = tx.last_insert_rowid();
            // With the row, or a power cut between the two would leave a lane that takes readings and has not begun.
            if begins {
                tx.execute(BEGIN, [id])?;
            }
            tx.commit()?;
            Ok(id)
        })?;
        self.tidy()?;
        u32::try_from(id).map(LaneId).map_err(|source| BufferError::Write { path: self.path.clone(), source: source.into() })
    }

    /// Makes `lane` the one of its stream that began last.
    pub(in crate::buffer) fn is_last(&mut self, lane: LaneId) -> Result<(), BufferError> {
        self.write(|store| store.connection.execute(BEGIN, [lane.0]))?;
        self.tidy()
    }

    /// Keeps the last names that this run gave, for lanes whose last chunk was never written, and the numbers of their next chunks; those
    /// in `begun` began last, in that order.
    pub(in crate::buffer) fn remember(&mut self, names: &[(LaneId, u64, Previous)], begun: &[LaneId]) -> Result<(), BufferError> {
        self.write(|store| {
            let tx = store.connection.transaction()?;
            for (lane, next, name) in names {
                remember(&tx, *lane, *next, *name)?;
            }
            begin(&tx, begun)?;
            tx.commit()
        })
    }
}

/// Keeps the last name of `lane` in chunks below number `next`, unless it knows of younger ones.
pub(super) fn remember(tx: &Transaction, lane: LaneId, next: u64, Previous { run, seq }: Previous) -> rusqlite::Result<()> {
    let mut remember = tx.prepare_cached("UPDATE lane SET run = ?2, seq = ?3, next = ?4 WHERE id = ?1 AND next <= ?4")?;
    remember.execute(params![lane.0, run.0.cast_signed(), seq, next]).map(drop)
}

const BEGIN: &str = "UPDATE lane SET named = (
        SELECT max(0, ifnull(max(other.named), 0)) + 1 FROM lane AS other WHERE other.stream = lane.stream
    ) WHERE id = ?";

/// Makes `lanes`, one after the other, the one of its stream that began last.
pub(super) fn begin(tx: &Transaction, lanes: &[LaneId]) -> rusqlite::Result<()> {
    for lane in lanes {
        tx.prepare_cached(BEGIN)?.execute([lane.0])?;
    }
    Ok(())
}
