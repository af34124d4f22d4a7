//! What the file remembers of those that were set aside: how far each is salvaged, and which lanes took its readings.

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::{
    Store, quarantine,
    rows::{fingerprints_to, lane_of},
    vfs,
};
use crate::{
    buffer::{BufferError, Lane, LaneId, Layout, cold::ColdLane},
    clock::{Boot, Setting},
    reading::Fingerprint,
    record::RunId,
};

/// How far a file is salvaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::buffer) struct Progress {
    /// Its name in the buffer's folder.
    pub(in crate::buffer) file: String,
    /// Its rows up to this one, in the order of its lanes, are here or lost.
    pub(in crate::buffer) up_to: i64,
    /// Readings that were found.
    pub(in crate::buffer) readings: u64,
    /// Readings that are known to have been there.
    pub(in crate::buffer) lost: u64,
    /// There is no more.
    pub(in crate::buffer) done: bool,
}

/// What one transaction does for a salvage, besides its chunks.
pub(in crate::buffer) struct Salvaged<'a> {
    /// How far it has come; none for an import, which has to be repeated as a whole.
    pub(in crate::buffer) progress: Option<&'a Progress>,
    /// How the clock was set in earlier boots when it was right: its chunks may need that.
    pub(in crate::buffer) right: &'a [(Boot, Setting)],
}

/// What stands in the place of a file's name in a lane that holds imported readings.
pub(in crate::buffer) const IMPORTED: &str = "import";

impl Salvaged<'_> {
    pub(super) fn put(&self, tx: &Connection) -> rusqlite::Result<()> {
        if let Some(Progress { file, up_to, readings, lost, done }) = self.progress {
            let mut update =
                tx.prepare_cached("UPDATE salvage SET up_to = ?2, readings = ?3, lost = ?4, done = ?5 WHERE file = ?1")?;
            update.execute(params![file, up_to, readings, lost, done])?;
        }
        for (boot, set) in self.right {
            // What is known here already is younger.
            tx.prepare_cached("INSERT OR IGNORE INTO boot VALUES (?, ?)")?.execute([boot.0.cast_signed(), set.0])?;
        }
        Ok(())
    }
}

impl Store {
    /// How far `file` was salvaged; none when that has not begun.
    pub(in crate::buffer) fn salvage(&self, file: &str) -> Result<Option<Progress>, BufferError> {
        let progress = |row: &rusqlite::Row| {
            Ok(Progress { file: file.into(), up_to: row.get(0)?, readings: row.get(1)?, lost: row.get(2)?, done: row.get(3)? })
        };
        let sql = "SELECT up_to, readings, lost, done FROM salvage WHERE file = ?";
        self.connection.query_row(sql, [file], progress).optional().map_err(|source| self.unreadable(source))
    }

    /// The lanes of `file` in the order in which they are read, each with the one here that takes its readings. None where only the file
    /// tells: an earlier version began.
    pub(in crate::buffer) fn lanes_read(&self, file: &str) -> Result<Option<Vec<(LaneId, LaneId)>>, BufferError> {
        let pair = |pair: &str| {
            let (cold, lane) = pair.split_once('>')?;
            Some((LaneId(cold.parse().ok()?), LaneId(lane.parse().ok()?)))
        };
        let lanes = |row: &rusqlite::Row| row.get::<_, Option<String>>(0);
        let lanes = self.connection.query_row("SELECT lanes FROM salvage WHERE file = ?", [file], lanes).optional();
        let lanes = lanes.map_err(|source| self.unreadable(source))?.flatten();
        Ok(lanes.and_then(|lanes| lanes.split_whitespace().map(pair).collect()))
    }

    /// Makes a lane for each layout in `lanes` of `file`, with the last name that it knows, and takes over what brokers may still
    /// repeat; all of it or nothing. They are read in the order of `lanes`; those that the file does not list have no id.
    pub(in crate::buffer) fn begin_salvage(
        &mut self,
        file: &str,
        lanes: &[ColdLane],
        receipts: &[(String, Vec<Fingerprint>)],
    ) -> Result<Progress, BufferError> {
        self.write(|store| {
            let tx = store.connection.transaction()?;
            let before: i64 = tx.query_row("SELECT count(*) FROM salvage", [], |row| row.get(0))?;
            let mut known: Vec<(&Layout, i64)> = Vec::new();
            // Below that of today's lanes, in which the next name is given, and above those of files that were set aside before this one.
            let mut rank = i64::MIN / 2 + (before << 32);
            let mut in_order: Vec<&ColdLane> = lanes.iter().collect();
            in_order.sort_by_key(|lane| lane.rank);
            for ColdLane { lane: Lane { layout, .. }, previous, .. } in in_order.into_iter().rev() {
                if known.iter().any(|(known, _)| *known == layout) {
                    continue;
                }
                let Layout { stream, number, of, partition_key, hash_key, template } = layout;
                rank -= 1;
                tx.execute(
                    "INSERT INTO lane (stream, number, of, partition_key, hash_key, template, next, run, seq, named, salvage)
                         VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
                    params![
                        stream,
                        number,
                        of,
                        partition_key,
                        hash_key.map(|key| key.to_string()),
                        template,
                        previous.map(|name| name.run.0.cast_signed()),
                        previous.map(|name| name.seq),
                        rank,
                        file
                    ],
                )?;
                known.push((layout, tx.last_insert_rowid()));
            }
            let target = |cold: &ColdLane| known.iter().find(|(layout, _)| **layout == cold.lane.layout).map(|(_, lane)| *lane);
            let listed = lanes.iter().filter(|cold| cold.lane.id != ColdLane::UNLISTED);
            let pairs = listed.filter_map(|cold| Some(format!("{}>{}", cold.lane.id.0, target(cold)?)));
            let pairs = pairs.collect::<Vec<_>>().join(" ");
            tx.execute("INSERT INTO salvage VALUES (?, -1, 0, 0, 0, ?)", [file, &pairs])?;
            for (source, fingerprints) in receipts {
                let sql = "INSERT INTO receipt VALUES ((SELECT coalesce(max(id), 0) + 1 FROM receipt), ?, ?)";
                tx.execute(sql, params![source, fingerprints_to(fingerprints)])?;
            }
            tx.commit()
        })?;
        self.tidy()?;
        Ok(Progress { file: file.into(), up_to: -1, ..Progress::default() })
    }

    /// Shows `each` the numbers that every chunk holds: its lane, its run, the first number, and the one behind the last.
    pub(in crate::buffer) fn each_name(&self, mut each: impl FnMut(LaneId, RunId, u64, u64)) -> Result<(), BufferError> {
        let mut read = || {
            let mut select = self.connection.prepare(
                "SELECT c.id, run, seq, coalesce(last + 1, seq + c.readings)
                     FROM chunk c LEFT JOIN gap ON gap.id = c.id ORDER BY c.id",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (first, below): (u64, u64) = (row.get(2)?, row.get(3)?);
                each(lane_of(row.get(0)?), RunId(row.get::<_, i64>(1)?.cast_unsigned()), first, below);
            }
            Ok(())
        };
        read().map_err(|source| self.unreadable(source))
    }

    /// The file is in use from now on: until it is closed in order it has a log.
    pub(super) fn begin_session(&mut self) -> rusqlite::Result<()> {
        // After a power cut the mark is there already, and nothing is written.
        let mut mark = || match self.connection.execute("UPDATE session SET open = 1 WHERE open = 0", [])? {
            0 => Ok(()),
            _ => self.checkpoint(),
        };
        let marked = mark();
        match marked {
            // A disk that is full does not keep us from what is on it; only a log that vanishes would go unseen.
            Err(error) if !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
                vfs::give_up(&self.connection);
                Ok(())
            }
            marked => marked,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let untouched = self.connection.db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE);
        if untouched.unwrap_or(true) {
            return;
        }
        // SQLite deletes the log when it closes. Unless the file says that this is in order, the log must stay.
        let in_order = self.leave_old_log().and_then(|()| self.connection.execute("UPDATE session SET open = 0", []));
        if in_order.is_err() {
            let _kept: rusqlite::Result<()> = quarantine::keep_log(&self.connection, true);
        }
    }
}
