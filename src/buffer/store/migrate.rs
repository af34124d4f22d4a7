//! The schema, as the steps that made it.
//!
//! Invariant: a step that was once released never changes. A new file takes all steps, an older one those that it lacks, in one
//! transaction: it has its new version afterwards, or it is as it was.

use rusqlite::{Connection, TransactionBehavior};

/// "HWBF": a file of ours, whatever its name.
pub(in crate::buffer) const APPLICATION_ID: i64 = 0x4857_4246;

/// What leads from each version of the file to the next, from an empty file on; append, and change nothing that stands here.
const MIGRATIONS: &[&str] = &[
    // 1: what the main job needs.
    "CREATE TABLE lane (
        id            INTEGER PRIMARY KEY,
        stream        TEXT NOT NULL,
        number        INTEGER NOT NULL,
        of            INTEGER NOT NULL,
        partition_key TEXT NOT NULL,
        hash_key      TEXT,
        template      TEXT,                 -- of the readings' own partition keys
        next          INTEGER NOT NULL,     -- no chunk of this number or above was deleted or delivered
        run           INTEGER,              -- the last reading that is known to have had a name in this lane
        seq           INTEGER,
        named         INTEGER               -- and when, in ms
    );
    CREATE TABLE chunk (
        id             INTEGER PRIMARY KEY,
        readings       INTEGER NOT NULL,
        earlier        INTEGER NOT NULL,    -- readings of the lane before this chunk
        earlier_bytes  INTEGER NOT NULL,
        ts             INTEGER NOT NULL,    -- arrival of the first; for people, never for order
        run            INTEGER NOT NULL,
        seq            INTEGER NOT NULL,    -- of the first
        crc            INTEGER NOT NULL,    -- CRC32C of keys and data
        keys           TEXT,                -- partition keys, where they are not the lane's own; NUL between them
        data           BLOB NOT NULL        -- last, so that counting never touches overflow pages
    );
    CREATE TABLE receipt (
        id           INTEGER PRIMARY KEY,
        source       TEXT NOT NULL,
        fingerprints BLOB NOT NULL          -- of publishes that the broker may still repeat: packet id, hash, big-endian
    );",
    // 2: what a damaged file was salvaged into.
    "CREATE TABLE salvage (
        file     TEXT PRIMARY KEY,          -- that was set aside, in this folder
        up_to    INTEGER NOT NULL,          -- its chunks with this id and below are here, or lost
        readings INTEGER NOT NULL,          -- that were found
        lost     INTEGER NOT NULL,          -- that are known to have been there
        done     INTEGER NOT NULL
    ) WITHOUT ROWID;
    ALTER TABLE lane ADD COLUMN salvage TEXT;   -- whose readings these are: a lane of that file, which drains before today's
    CREATE TABLE session (open INTEGER NOT NULL);   -- 1: not closed in order, so there must be a WAL
    INSERT INTO session VALUES (0);",
    // 3: what its destination calls invalid.
    "CREATE TABLE rejected (
        id            INTEGER PRIMARY KEY,  -- in the order in which they were set aside
        lane          INTEGER NOT NULL,     -- with run and seq, the reading's name
        run           INTEGER NOT NULL,
        seq           INTEGER NOT NULL,
        ts            INTEGER NOT NULL,     -- arrival of the first reading of its chunk
        at            INTEGER NOT NULL,     -- when it was set aside, in ms
        reason        TEXT NOT NULL,        -- what the destination said
        topic         TEXT,                 -- where the encoding tells
        partition_key TEXT,                 -- where it is not the lane's own
        crc           INTEGER NOT NULL,     -- CRC32C of partition key and data
        data          BLOB NOT NULL,        -- the user record as it would have been sent
        UNIQUE (lane, run, seq)
    );",
    // 4: what corrects the times of readings that arrived before the clock was set. From here on, `lane.named` is no time: of the
    // layouts that a lane had, the last one has the highest.
    "CREATE TABLE unsure (                  -- chunks of readings that arrived while nobody knew the clock to be right
        chunk   INTEGER PRIMARY KEY,
        boot    INTEGER NOT NULL,
        setting INTEGER NOT NULL            -- what the clock said then, less the time since the kernel started, in us
    );
    CREATE TABLE boot (                     -- starts of the kernel in which it was right later
        id      INTEGER PRIMARY KEY,
        setting INTEGER NOT NULL            -- the same when it was right
    );",
    // 5: what was dropped.
    "CREATE TABLE gap (
        id       INTEGER PRIMARY KEY,       -- of the chunk that stands for what is gone
        readings INTEGER NOT NULL,          -- that the lane counts at this chunk, less those in it
        bytes    INTEGER NOT NULL,
        last     INTEGER NOT NULL,          -- seq of the last reading that was here
        why      TEXT NOT NULL,
        level    INTEGER NOT NULL,          -- how often it was halved
        notice   INTEGER NOT NULL           -- whether the chunk begins with a notice
    );
    ALTER TABLE lane ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;        -- sum of its gaps' readings
    ALTER TABLE lane ADD COLUMN gone_bytes INTEGER NOT NULL DEFAULT 0;",
    // 6: from here on the upper half of `chunk.crc` is the CRC32C of the other columns; see `seal.rs`.
    "",
    // 7: how a damaged file is read to its end, whatever becomes of its own list of lanes meanwhile.
    "ALTER TABLE salvage ADD COLUMN lanes TEXT; -- those of that file in the order in which they are read, each with the one here that
                                                -- takes its readings: '2>7 1>8'; NULL where only the file tells",
];

/// The version that this program writes.
#[expect(clippy::cast_possible_wrap, reason = "there are a few steps")]
pub(in crate::buffer) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings a file of `version`, 0 for an empty one, up to [`SCHEMA_VERSION`]; all of it or nothing.
pub(super) fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    take(connection, version, MIGRATIONS)
}

fn take(connection: &mut Connection, version: i64, steps: &[&str]) -> rusqlite::Result<()> {
    let taken = usize::try_from(version).unwrap_or(usize::MAX);
    let missing = steps.get(taken..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    missing.iter().try_for_each(|step| tx.execute_batch(step))?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", steps.len())?;
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    fn tables(connection: &Connection) -> Vec<String> {
        let mut select = connection.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_step_that_fails_takes_back_the_steps_before_it_and_the_version() {
        let mut file = Connection::open_in_memory().unwrap();
        take(&mut file, 0, &["CREATE TABLE one (a)"]).unwrap();

        let steps = ["CREATE TABLE one (a)", "CREATE TABLE two (a)", "CREATE TABLE three (a); CREATE TABLE one (b)"];
        take(&mut file, 1, &steps).unwrap_err();

        assert_eq!((version(&file), tables(&file)), (1, vec!["one".to_owned()]));
        take(&mut file, 1, &steps[..2]).unwrap();
        assert_eq!((version(&file), tables(&file)), (2, vec!["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn a_file_of_this_version_is_left_as_it_is() {
        let mut file = Connection::open_in_memory().unwrap();
        migrate(&mut file, 0).unwrap();
        let before = file.total_changes();

        migrate(&mut file, SCHEMA_VERSION).unwrap();

        assert_eq!((version(&file), file.total_changes()), (SCHEMA_VERSION, before));
    }
}
