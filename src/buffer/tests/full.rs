//! A file system that others have filled. Mounting one takes root; elsewhere these tests only say that they did nothing.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    process::Command,
};

use super::*;

/// A small file system of its own, gone with its handle.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn with(mib: u32) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { dir });
        }
        eprintln!("not tried: this user may not mount a file system");
        None
    }

    /// Others take all that is left.
    fn fills(&self) {
        let mut file = File::options().create(true).append(true).open(self.dir.path().join("of-others")).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            match file.write(&vec![1; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone_with_the_machine_otherwise = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_what_is_delivered_is_deleted_and_makes_room() {
    let Some(disk) = Disk::with(48) else { return };
    let mut bench = Bench::new().close().await;
    bench.settings.path = disk.dir.path().join("buffer.db");
    bench.settings.max_size = 64 << 20;
    bench.settings.streams = [("s".to_owned(), StreamRules { when_full: WhenFull::Block, ..StreamRules::default() })].into();
    let mut bench = bench.open();
    let reserve = disk.dir.path().join("buffer.db-reserve");
    for n in 0..10_u8 {
        bench.holds(vec![n; 100_000]).await;
    }
    assert!(reserve.exists());
    disk.fills();

    assert_eq!(bench.drained().await.len(), 10);
    for n in 0..8_u8 {
        bench.holds(vec![n; 100_000]).await; // in the place of those
    }
    assert!(!reserve.exists());
    bench.ledger_balances();

    fs::remove_file(disk.dir.path().join("of-others")).unwrap();
    bench.holds("one more").await;
    let _closed = bench.close().await; // it is taken after the commit, and whoever holds a receipt may be earlier
    assert!(reserve.exists(), "it is taken again when there is room");
}

/// A buffer on `disk` that may have `max_size` bytes, keeps everything, and has `chunks` of 100,000 bytes.
async fn filled(disk: &Disk, max_size: u64, chunks: u8) -> Bench {
    let mut bench = Bench::new().close().await;
    bench.settings.path = disk.dir.path().join("buffer.db");
    bench.settings.max_size = max_size;
    bench.settings.streams = [("s".to_owned(), StreamRules { when_full: WhenFull::Block, ..StreamRules::default() })].into();
    let mut bench = bench.open();
    for n in 0..chunks {
        bench.holds(vec![n; 100_000]).await;
    }
    bench
}

impl Bench {
    /// What is delivered goes, so that as much fits in its place; and it is not there again after a restart.
    async fn drains_and_takes_as_much_again(mut self, chunks: u8) -> Self {
        assert_eq!(self.drained().await.len(), usize::from(chunks));
        for n in 0..chunks - 3 {
            self.holds(vec![n; 100_000]).await;
        }
        self.ledger_balances();
        let bench = self.close().await.open();
        assert_eq!(bench.drained().await.len(), usize::from(chunks) - 3);
        bench
    }
}

#[tokio::test]
async fn the_reserve_helps_after_a_start_on_a_disk_that_others_have_filled() {
    let Some(disk) = Disk::with(48) else { return };
    let bench = filled(&disk, 64 << 20, 10).await.close().await;
    disk.fills();
    assert!(size(&disk.dir.path().join("buffer.db-reserve")) > 1 << 20, "as much as a disk with room calls for");

    let _bench = bench.open().drains_and_takes_as_much_again(10).await;
}

#[tokio::test]
async fn the_reserve_helps_after_a_power_cut_on_a_disk_that_others_have_filled() {
    let (Some(disk), Some(same_disk)) = (Disk::with(48), Disk::with(48)) else { return };
    let mut bench = filled(&disk, 64 << 20, 10).await;
    for suffix in ["", "-wal", "-reserve"] {
        let name = format!("buffer.db{suffix}");
        fs::copy(disk.dir.path().join(&name), same_disk.dir.path().join(&name)).unwrap();
    }
    same_disk.fills();
    bench = bench.close().await;
    bench.settings.path = same_disk.dir.path().join("buffer.db");

    let _bench = bench.open().drains_and_takes_as_much_again(10).await;
}

#[tokio::test]
async fn a_full_disk_is_told_from_a_full_buffer_where_both_are_close() {
    let Some(disk) = Disk::with(16) else { return };
    let bench = filled(&disk, 8 << 20, 44).await; // nine tenths of what it may have
    let bench = bench.close().await;
    disk.fills();

    let _bench = bench.open().drains_and_takes_as_much_again(44).await;

    assert!(!disk.dir.path().join("buffer.db-reserve").exists());
}

#[tokio::test]
async fn a_lane_and_a_salvage_that_begin_on_a_full_disk_take_the_room_of_the_reserve() {
    let Some(disk) = Disk::with(48) else { return };
    let mut bench = filled(&disk, 64 << 20, 4).await.close().await;
    bench.layout = Layout { of: 2, ..layout("s") };
    fs::copy(&bench.settings.path, disk.dir.path().join("buffer.db.corrupt-1")).unwrap();
    disk.fills();

    let bench = bench.open();

    assert_eq!(bench.opened.as_ref().unwrap().older.len(), 2, "the old layout, and what is salvaged of it");
}

#[tokio::test]
async fn an_older_file_is_migrated_on_a_full_disk_with_the_room_of_the_reserve() {
    let Some(disk) = Disk::with(48) else { return };
    let bench = filled(&disk, 64 << 20, 4).await.close().await;
    let file = rusqlite::Connection::open(&bench.settings.path).unwrap();
    file.execute_batch(
        "DROP TABLE gap; ALTER TABLE lane DROP COLUMN gone; ALTER TABLE lane DROP COLUMN gone_bytes; PRAGMA user_version = 4",
    )
    .unwrap();
    drop(file);
    disk.fills();

    assert_eq!(bench.open().drained().await.len(), 4);
}

#[tokio::test]
async fn a_disk_that_does_not_tell_how_much_room_it_has_is_not_taken_for_full() {
    let bench = Bench::new().close().await;
    let store = store::Store::open(&bench.settings.path, 8 << 20, 1).unwrap();
    let free = store.free();
    let room = store.pages();

    fs::remove_file(&bench.settings.path).unwrap();

    assert!(free > 0);
    assert_eq!((store.free(), store.is_squeezed(), store.pages()), (free, false, room));
}

#[tokio::test]
async fn on_a_full_disk_the_oldest_still_give_way() {
    let Some(disk) = Disk::with(16) else { return };
    let mut bench = Bench::new().close().await;
    bench.settings.path = disk.dir.path().join("buffer.db");
    bench.settings.max_size = 64 << 20;
    let mut bench = bench.open();
    for n in 0..40_u8 {
        bench.holds(vec![n; 100_000]).await;
    }
    disk.fills();

    for n in 0..40_u8 {
        bench.holds(vec![n; 100_000]).await;
    }

    assert!(bench.status.lock().ledger_total().dropped.get(Reason::DropOldest) > 20);
    bench.ledger_balances();
}
