//! The lanes of the file: what each is, how far it has come, and the last name that it gave.

use rusqlite::{OptionalExtension, Row, params};

use super::{Head, MAX_NUMBER, Store, gaps::HEAD, head_from, row_id};
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
    /// Of the layouts that a lane had, the last one has the highest.
    pub(in crate::buffer) named: i64,
    /// The file that its readings were salvaged from.
    pub(in crate::buffer) salvage: Option<String>,
    /// Its first and last chunk.
    pub(in crate::buffer) ends: Option<(Head, Head)>,
    /// Readings and bytes that it counts and that are in no chunk.
    pub(in crate::buffer) gone: (u64, i64),
}

impl Store {
    /// What the file holds of every lane that it knows.
    pub(in crate::buffer) fn lanes(&self) -> Result<Vec<StoredLane>, BufferError> {
        let read = || -> rusqlite::Result<Vec<StoredLane>> {
            let mut lanes = Vec::new();
            let mut select = self.connection.prepare(
                "SELECT id, stream, number, of, partition_key, hash_key, next, run, seq, template, named, salvage, gone, gone_bytes
                     FROM lane ORDER BY id",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
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
                let younger_chunk = ends.is_some_and(|(_, last)| last.number >= next);
                lanes.push(StoredLane {
                    lane: Lane { id, layout },
                    next: next.max(ends.map_or(0, |(_, last)| last.number + 1)),
                    previous: if younger_chunk { self.last_name(id)? } else { in_row },
                    named: row.get::<_, Option<i64>>(10)?.unwrap_or_default(),
                    salvage: row.get(11)?,
                    ends,
                    gone: (row.get(12)?, row.get(13)?),
                });
            }
            Ok(lanes)
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// Makes the layout in row `lane` the last one that this lane of its stream had.
    pub(in crate::buffer) fn is_last(&mut self, lane: LaneId) -> Result<(), BufferError> {
        let sql = "UPDATE lane SET named =
            (SELECT max(other.named) + 1 FROM lane AS other WHERE (other.stream, other.number) = (lane.stream, lane.number))
            WHERE id = ?";
        self.write(|store| store.connection.execute(sql, [lane.0]))?;
        self.tidy()
    }

    /// Gives a lane its row.
    pub(in crate::buffer) fn add_lane(&mut self, layout: &Layout) -> Result<LaneId, BufferError> {
        self.add_lane_from(layout, None)
    }

    /// The same for one whose readings come from another file.
    pub(in crate::buffer) fn add_lane_from(&mut self, layout: &Layout, salvage: Option<&str>) -> Result<LaneId, BufferError> {
        let Layout { stream, number, of, partition_key, hash_key, template } = layout;
        let sql = "INSERT INTO lane (stream, number, of, partition_key, hash_key, template, next, salvage, named)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, (SELECT ifnull(max(named), 0) + 1 FROM lane WHERE (stream, number) = (?1, ?2)))";
        let hash_key = hash_key.map(|key| key.to_string());
        self.write(|store| store.connection.execute(sql, params![stream, number, of, partition_key, hash_key, template, salvage]))?;
        let id = u32::try_from(self.connection.last_insert_rowid());
        self.tidy()?;
        id.map(LaneId).map_err(|source| BufferError::Write { path: self.path.clone(), source: source.into() })
    }

    /// Keeps the last names that this run gave, for lanes whose last chunk was never written, and the numbers of their next chunks.
    pub(in crate::buffer) fn remember(&mut self, names: &[(LaneId, u64, Previous)]) -> Result<(), BufferError> {
        self.write(|store| {
            let tx = store.connection.transaction()?;
            for (lane, next, Previous { run, seq }) in names {
                tx.prepare_cached("UPDATE lane SET run = ?2, seq = ?3, next = max(next, ?4) WHERE id = ?1")?.execute(params![
                    lane.0,
                    run.0.cast_signed(),
                    seq,
                    next
                ])?;
            }
            tx.commit()
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
}
