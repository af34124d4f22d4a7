//! A buffer that another version of this program has left.

use std::{fs, path::PathBuf};

use rusqlite::Connection;

use crate::support::{consumer::ONCE, gateway::Gateway, process::Picture};

/// Takes from a buffer what came after version 1: so that version 1 could have left it.
const BACK_TO_VERSION_1: &str = "
    BEGIN;
    DROP TABLE salvage; DROP TABLE session; DROP TABLE rejected; DROP TABLE unsure; DROP TABLE boot; DROP TABLE gap;
    ALTER TABLE lane DROP COLUMN salvage; ALTER TABLE lane DROP COLUMN gone; ALTER TABLE lane DROP COLUMN gone_bytes;
    UPDATE chunk SET crc = crc & 0xFFFFFFFF;
    PRAGMA user_version = 1;
    COMMIT;
";
const READINGS: u64 = 100;

/// A gateway whose uplink was away, and whose agent has ended with all readings in a buffer of version 1.
async fn with_a_buffer_of_version_1() -> Gateway {
    let mut gateway = Gateway::new().set("buffer.hold", "0s").starts().await;
    gateway.cloud.away();
    gateway.field.publishes(READINGS).await;
    gateway.holds(READINGS).await;
    gateway.agent.stops().await;
    open(&gateway).execute_batch(BACK_TO_VERSION_1).unwrap();
    gateway
}

fn path(gateway: &Gateway) -> PathBuf {
    gateway.agent.dir().join("state/buffer.db")
}

/// The agent does not run.
fn open(gateway: &Gateway) -> Connection {
    Connection::open(path(gateway)).unwrap()
}

fn version(gateway: &Gateway) -> i64 {
    open(gateway).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn tables(gateway: &Gateway) -> Vec<String> {
    let file = open(gateway);
    let mut select = file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn buffer_of_an_older_version_is_migrated_and_everything_in_it_arrives() {
    let mut gateway = with_a_buffer_of_version_1().await;
    gateway.cloud.back();

    gateway.agent.start();
    gateway.field.publishes(READINGS).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert!(gateway.agent.status().await.problems().is_empty());
    gateway.agent.stops().await;
    assert!(version(&gateway) > 1);
}

#[tokio::test]
async fn buffer_of_an_older_version_whose_migration_fails_half_way_is_as_it_was() {
    let mut gateway = with_a_buffer_of_version_1().await;
    // What the fifth step makes is there, and so it fails when four are done.
    open(&gateway).execute_batch("CREATE TABLE gap (of_somebody INTEGER)").unwrap();
    gateway.cloud.back();

    gateway.agent.start();
    let says = |status: &Picture| status.problems().iter().any(|problem| problem.contains("cannot open the buffer"));
    gateway.agent.shows("it waits for its buffer", says).await;
    gateway.agent.power_off().await;
    assert_eq!((version(&gateway), tables(&gateway)), (1, ["chunk", "gap", "lane", "receipt"].map(str::to_owned).into()));

    open(&gateway).execute_batch("DROP TABLE gap").unwrap();
    gateway.agent.start();
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn buffer_of_a_newer_version_is_refused_untouched() {
    let mut gateway = with_a_buffer_of_version_1().await;
    open(&gateway).execute_batch("PRAGMA user_version = 1000").unwrap();
    let before = fs::read(path(&gateway)).unwrap();

    gateway.agent.start();
    let (status, log) = gateway.agent.ends().await;

    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("buffer.db") && log.contains("version 1000"), "{log}");
    assert!(fs::read(path(&gateway)).unwrap() == before, "not a byte of it has changed");
    assert!(!path(&gateway).with_extension("db-wal").exists());
}
