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
        let mut file = File::create(self.dir.path().join("of-others")).unwrap();
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
