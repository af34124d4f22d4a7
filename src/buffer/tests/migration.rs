//! Files that earlier versions wrote.

use rusqlite::{Connection, params};

use super::*;

/// As version 1 made it; it stands here as text because it must not change with the program.
const VERSION_1: &str = "
    CREATE TABLE lane (
        id INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL, of INTEGER NOT NULL, partition_key TEXT NOT NULL,
        hash_key TEXT, template TEXT, next INTEGER NOT NULL, run INTEGER, seq INTEGER, named INTEGER
    );
    CREATE TABLE chunk (
        id INTEGER PRIMARY KEY, readings INTEGER NOT NULL, earlier INTEGER NOT NULL, earlier_bytes INTEGER NOT NULL,
        ts INTEGER NOT NULL, run INTEGER NOT NULL, seq INTEGER NOT NULL, crc INTEGER NOT NULL, keys TEXT, data BLOB NOT NULL
    );
    CREATE TABLE receipt (id INTEGER PRIMARY KEY, source TEXT NOT NULL, fingerprints BLOB NOT NULL);
    PRAGMA application_id = 0x48574246;
    PRAGMA user_version = 1;
    INSERT INTO lane VALUES (1, 's', 0, 1, 'k', '5', NULL, 0, NULL, NULL, NULL);
    INSERT INTO receipt VALUES (1, 'broker', x'000900000001');
";

/// A file of version 1 with three readings, left by a power cut or closed in order.
fn version_1(path: &Path, texts: &[&str]) -> Connection {
    let file = Connection::open(path).unwrap();
    for (name, value) in [("page_size", "2048"), ("journal_mode", "WAL"), ("synchronous", "EXTRA")] {
        file.pragma_update(None, name, value).unwrap();
    }
    file.execute_batch(&format!("BEGIN; {VERSION_1} COMMIT")).unwrap();
    let mut bytes = 0;
    for (n, text) in (0_u64..).zip(texts) {
        let row = params![
            1_i64 << 40 | n.cast_signed(),
            1,
            n,
            bytes,
            1,
            3,
            n,
            crc32c::crc32c(text.as_bytes()),
            None::<String>,
            text.as_bytes()
        ];
        file.execute("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row).unwrap();
        bytes += text.len();
    }
    file
}

/// Takes back what later versions added, so that nothing in the file is left free.
pub(super) fn becomes_version_4(path: &Path) {
    let file = Connection::open(path).unwrap();
    file.execute_batch(
        "DROP TABLE gap; ALTER TABLE lane DROP COLUMN gone; ALTER TABLE lane DROP COLUMN gone_bytes;
         ALTER TABLE salvage DROP COLUMN lanes; PRAGMA user_version = 4; VACUUM",
    )
    .unwrap();
    assert_eq!(file.pragma_query_value(None, "freelist_count", |row| row.get::<_, u64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn buffer_of_an_older_version_is_migrated_with_everything_in_it() {
    let bench = Bench::new().close().await;
    fs::remove_file(&bench.settings.path).unwrap();
    drop(version_1(&bench.settings.path, &["one", "two", "three"]));

    let mut bench = bench.open();

    let opened = bench.opened.as_ref().unwrap();
    assert_eq!(opened.lanes[0].1, Some(Previous { run: RunId(3), seq: 2 }));
    assert_eq!(opened.known["broker"], [Fingerprint { packet: 9, hash: 1 }]);
    assert!(store::quarantined(&bench.settings.path).unwrap().is_empty());
    bench.holds("four").await;
    assert_eq!(bench.drained().await, ["one", "two", "three", "four"]);
    bench.ledger_balances();
    let bench = bench.close().await;
    let version: i64 =
        Connection::open(&bench.settings.path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, store::SCHEMA_VERSION);
}

#[tokio::test]
async fn a_damaged_file_of_version_1_is_salvaged_like_any_other() {
    let bench = Bench::new().close().await;
    fs::remove_file(&bench.settings.path).unwrap();
    let file = version_1(&bench.settings.path, &["one", "two", "three"]);
    fs::copy(&bench.settings.path, bench.dir.path().join("buffer.db.corrupt-1")).unwrap();
    fs::copy(cold::beside(&bench.settings.path, "-wal"), bench.dir.path().join("buffer.db.corrupt-1-wal")).unwrap();
    drop(file);
    fs::remove_file(&bench.settings.path).unwrap();

    let bench = bench.open();

    assert_eq!(bench.salvages_texts().await, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_file_of_version_4_that_has_passed_a_bound_that_was_lowered_is_migrated_and_gets_below_it() {
    let mut bench = Bench::new().close().await;
    bench.settings.max_size = 16 << 20;
    let mut bench = bench.open();
    for n in 0..100_u8 {
        bench.holds(vec![n; 100_000]).await;
    }
    let mut bench = bench.close().await;
    becomes_version_4(&bench.settings.path);
    bench.settings.max_size = 8 << 20;

    let mut bench = bench.open();

    bench.holds("one more").await; // for which the oldest give way
    let left = bench.drained().await;
    assert_eq!(left.last().unwrap(), "one more");
    assert!((40..60).contains(&left.len()), "{}", left.len());
    bench.ledger_balances();
}
