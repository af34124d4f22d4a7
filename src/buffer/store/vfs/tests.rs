//! The VFS over a disk that counts its writes, and that can be full for a while; what is expected comes from SQLite's own VFS.

use std::{cell::Cell, fs, ops::Range};

use rusqlite::ffi::sqlite3_io_methods;
use tempfile::TempDir;

use super::*;

mod syncs;

/// SQLite's own VFS, its writes counted in this thread.
const COUNTED: &CStr = c"headwater-counted";
/// Ours over it.
const JOINED: &CStr = c"headwater-joined-counted";

thread_local! {
    static WRITES: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static READS: Cell<u64> = const { Cell::new(0) };
    /// Writes that find the disk full.
    static FULL: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

type Read = unsafe extern "C" fn(*mut sqlite3_file, *mut c_void, c_int, sqlite3_int64) -> c_int;
type Write = unsafe extern "C" fn(*mut sqlite3_file, *const c_void, c_int, sqlite3_int64) -> c_int;

/// The same for all of SQLite's own files, whereas other methods differ between a database and its journals.
static WRITE: OnceLock<Write> = OnceLock::new();
static READ: OnceLock<Read> = OnceLock::new();

fn register_counted() {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    // SAFETY: SQLite's own VFS is there for ever, and so is its copy, which is leaked.
    REGISTERED.get_or_init(|| unsafe {
        let own = ffi::sqlite3_vfs_find(ptr::null());
        let counted = sqlite3_vfs { zName: COUNTED.as_ptr(), pAppData: own.cast(), xOpen: Some(open_counted), ..*own };
        let counted = Box::leak(Box::new(counted));
        assert_eq!(ffi::sqlite3_vfs_register(counted, 0), SQLITE_OK);
        assert_eq!(register(JOINED, counted), SQLITE_OK);
    });
}

unsafe extern "C" fn open_counted(
    vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: `pAppData` is SQLite's own VFS; a file works with a copy of its methods.
    unsafe {
        let own: *mut sqlite3_vfs = (*vfs).pAppData.cast();
        let code = (*own).xOpen.unwrap()(own, name, file, flags, flags_out);
        if code == SQLITE_OK {
            let own = *(*file).pMethods;
            WRITE.get_or_init(|| own.xWrite.unwrap());
            READ.get_or_init(|| own.xRead.unwrap());
            let counted = sqlite3_io_methods { xRead: Some(read_counted), xWrite: Some(write_counted), ..own };
            (*file).pMethods = Box::leak(Box::new(counted));
        }
        code
    }
}

unsafe extern "C" fn write_counted(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    let number = WRITES.get();
    WRITES.set(number + 1);
    let (from, to) = FULL.get();
    let full = (from..to).contains(&number);
    // SAFETY: the file is open. A full disk takes what it has room for, so half is written all the same.
    let code = unsafe { WRITE.get().unwrap()(file, data, if full { bytes / 2 } else { bytes }, offset) };
    BYTES.set(BYTES.get() + u64::try_from(bytes).unwrap());
    if full { ffi::SQLITE_FULL } else { code }
}

unsafe extern "C" fn read_counted(file: *mut sqlite3_file, data: *mut c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    READS.set(READS.get() + 1);
    // SAFETY: the file is open, and there is room.
    unsafe { READ.get().unwrap()(file, data, bytes, offset) }
}

fn full_at(writes: Range<u64>) {
    WRITES.set(0);
    BYTES.set(0);
    FULL.set((writes.start, writes.end));
}

/// As `Store` has it, but with a cache of ten pages, so that a transaction spills into the WAL and reads from it.
fn database(path: &Path, vfs: &CStr, journal: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs)?;
    connection.execute_batch(&format!(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 2048; PRAGMA synchronous = EXTRA; PRAGMA journal_mode = {journal};
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 10; PRAGMA temp_store = MEMORY;
         CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, data BLOB)"
    ))?;
    Ok(connection)
}

/// Its id, and length and checksum of its data.
type Row = (i64, usize, u32);

#[track_caller]
fn rows(connection: &Connection) -> Vec<Row> {
    let sound: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut select = connection.prepare("SELECT id, data FROM t ORDER BY id").unwrap();
    let row = |row: &rusqlite::Row| {
        let data: Vec<u8> = row.get(1)?;
        Ok((row.get(0)?, data.len(), crc32c::crc32c(&data)))
    };
    select.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// What SQLite's own VFS finds in the files as they are now, as if the power were cut.
fn rows_after_a_cut(path: &Path) -> Vec<Row> {
    let elsewhere = TempDir::new().unwrap();
    for suffix in ["", "-wal", "-journal"] {
        let name = format!("buffer.db{suffix}");
        if path.with_file_name(&name).exists() {
            fs::copy(path.with_file_name(&name), elsewhere.path().join(&name)).unwrap();
        }
    }
    rows(&Connection::open(elsewhere.path().join("buffer.db")).unwrap())
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One transaction of several statements, one of which may be taken back, and now and then what empties the WAL.
fn step(connection: &Connection, dice: &mut Dice) -> rusqlite::Result<bool> {
    // All is rolled before anything can fail, so that what follows does not depend on it.
    let statements: Vec<_> = (0..=dice.roll(4)).map(|_| (dice.roll(4), dice.roll(40), dice.roll(9000), dice.roll(6))).collect();
    let (kept, after) = (dice.roll(5) > 0, dice.roll(12));
    let work = || {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for (kind, id, bytes, taken_back) in statements {
            connection.execute_batch("SAVEPOINT s")?;
            connection.execute_batch(&match kind {
                0 => format!("DELETE FROM t WHERE id BETWEEN {id} AND {id} + 5"),
                1 => format!("UPDATE t SET data = CAST(data || zeroblob(9) AS BLOB) WHERE id > {id} AND length(data) < 20000"),
                _ => {
                    let data = format!("replace(hex(zeroblob({bytes} / 8)), '00', '{id}-{bytes};')");
                    format!("INSERT OR REPLACE INTO t VALUES ({id}, CAST({data} AS BLOB))")
                }
            })?;
            connection.execute_batch(if taken_back == 0 { "ROLLBACK TO s; RELEASE s" } else { "RELEASE s" })?;
        }
        connection.execute_batch(if kept { "COMMIT" } else { "ROLLBACK" })
    };
    if let Err(error) = work() {
        // A statement that found no room takes only itself back, where SQLite lets it; the others can still be committed.
        if !connection.is_autocommit() && connection.execute_batch("COMMIT").is_ok() {
            return Ok(true);
        }
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").unwrap();
        }
        give_up(connection);
        return Err(error);
    }
    let tidied = match after {
        0 => connection.execute_batch("VACUUM"),
        1 | 2 => connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())),
        _ => Ok(()),
    };
    if tidied.is_err() {
        give_up(connection); // it would have written nothing new
    }
    Ok(kept)
}

#[test]
fn the_content_is_what_it_is_without_joining() {
    register_counted();
    for (seed, journal) in (1..4).flat_map(|seed| [(seed, "WAL"), (seed, "DELETE"), (seed, "TRUNCATE"), (seed, "PERSIST")]) {
        full_at(0..0);
        let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let path = ours.path().join("buffer.db");
        let joined = database(&path, JOINED, journal).unwrap();
        let plain = database(&theirs.path().join("buffer.db"), c"unix", journal).unwrap();
        let (mut dice, mut same_dice) = (Dice(seed), Dice(seed));

        for _ in 0..30 {
            step(&joined, &mut dice).unwrap();
            step(&plain, &mut same_dice).unwrap();
        }

        assert_eq!(rows(&joined), rows(&plain));
        assert_eq!(rows_after_a_cut(&path), rows(&plain));
        assert_eq!(written(&joined), BYTES.get());
    }
}

#[test]
fn whatever_write_finds_the_disk_full_what_was_committed_stays_and_nothing_else_comes() {
    register_counted();
    for (seed, length) in [(7, 1), (8, 3), (9, 20)] {
        for first in 0.. {
            let case = format!("seed {seed}, {length} writes from {first}");
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("buffer.db");
            full_at(0..0);
            let connection = database(&path, JOINED, "WAL").unwrap();
            let mut committed = rows(&connection);
            full_at(first..first + length);
            let mut dice = Dice(seed);

            for _ in 0..10 {
                if step(&connection, &mut dice).unwrap_or(false) {
                    committed = rows(&connection);
                    assert_eq!(rows_after_a_cut(&path), committed, "{case}");
                }
                assert_eq!(rows(&connection), committed, "{case}");
            }

            let reached = WRITES.get() > first;
            drop(connection);
            assert_eq!(rows(&Connection::open(&path).unwrap()), committed, "{case}");
            if !reached {
                break;
            }
        }
    }
}

#[test]
fn a_commit_that_the_disk_had_no_room_for_fails() {
    register_counted();
    let dir = TempDir::new().unwrap();
    full_at(0..0);
    let connection = database(&dir.path().join("buffer.db"), JOINED, "WAL").unwrap();
    connection.execute_batch("INSERT INTO t VALUES (1, zeroblob(9))").unwrap();
    full_at(0..u64::MAX);

    let error = connection.execute_batch("INSERT INTO t VALUES (2, zeroblob(50000))").unwrap_err();

    give_up(&connection);
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    assert_eq!(rows(&connection), [(1, 9, crc32c::crc32c(&[0; 9]))]);
    full_at(0..0);
    connection.execute_batch("INSERT INTO t VALUES (2, zeroblob(9))").unwrap();
    assert_eq!(rows(&connection).len(), 2);
}

#[test]
fn a_statement_that_finds_no_room_takes_none_before_it_along() {
    register_counted();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("buffer.db");
    full_at(0..0);
    let connection = database(&path, JOINED, "WAL").unwrap();
    connection.execute_batch("DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id > 0), data BLOB)").unwrap();
    connection.execute_batch("BEGIN; INSERT INTO t VALUES (1, zeroblob(50000))").unwrap();
    full_at(0..u64::MAX);
    // It reads what the statement before it wrote and had no room for in the cache, so that is written out first, and fails.
    connection.execute_batch("UPDATE t SET id = id + 1, data = ''").unwrap_err();
    assert!(!connection.is_autocommit());
    full_at(0..0);

    connection.execute_batch("COMMIT").unwrap();

    assert_eq!(rows_after_a_cut(&path), [(1, 50000, crc32c::crc32c(&vec![0; 50000]))]);
}

#[test]
fn a_commit_of_fifty_kilobytes_is_one_write() {
    register_counted();
    let dir = TempDir::new().unwrap();
    full_at(0..0);
    let connection = database(&dir.path().join("buffer.db"), JOINED, "WAL").unwrap();
    connection.execute_batch("PRAGMA cache_size = -1024; INSERT INTO t VALUES (1, zeroblob(50000))").unwrap();
    full_at(0..0);

    connection.execute_batch("INSERT INTO t VALUES (2, zeroblob(50000))").unwrap();

    assert_eq!(WRITES.get(), 1);
}

#[test]
fn the_pages_of_a_chunk_are_read_with_few_calls_from_the_log_and_from_the_file() {
    register_counted();
    for log in [true, false] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("buffer.db");
        full_at(0..0);
        let connection = database(&path, JOINED, "WAL").unwrap();
        connection.execute_batch("INSERT INTO t VALUES (1, zeroblob(50000)), (2, zeroblob(50000))").unwrap();
        if !log {
            connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        }
        READS.set(0);

        connection.execute_batch("DELETE FROM t WHERE id = 1").unwrap();

        let pages = 50_000 / 2044;
        assert!(READS.get() < pages / 4, "{} reads of {pages} pages", READS.get());
        assert_eq!(rows(&connection), [(2, 50000, crc32c::crc32c(&vec![0; 50000]))]);
    }
}
