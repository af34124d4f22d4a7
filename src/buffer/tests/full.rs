//! A file system that others have filled. Mounting one takes root; elsewhere these tests say that they are left out, and those remain
//! that let SQLite find no room at every single write (`store/vfs/tests.rs`).

use std::{
    ffi::CString,
    fs::File,
    io::{ErrorKind, Write},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{migration::becomes_version_4, salvage::text_of, *};

/// A small file system of its own, gone with its handle.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn with(mib: u32) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let size = CString::new(format!("size={mib}m")).unwrap();
        // Not by a command: until that begins, it has the locks of the buffers that other tests have open.
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), &*size) {
            Ok(()) => Some(Self { dir }),
            Err(error) => {
                // Not by a macro, whose output nobody sees of a test that does not fail.
                let thread = std::thread::current();
                let name = thread.name().unwrap_or("a test");
                writeln!(std::io::stderr(), "LEFT OUT: {name}: this user may not mount a file system: {error}").unwrap();
                None
            }
        }
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
        let _gone_with_the_machine_otherwise = unmount(self.dir.path(), UnmountFlags::DETACH);
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
    bench.is_at_rest().await;
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
    /// Waits until what follows the last commit is done: what others take meanwhile could be what that needs. The head of the lane must be
    /// on the disk alone, so that the thread that writes is asked for it.
    async fn is_at_rest(&self) {
        self.buffer().oldest(self.lane(), 1).await.unwrap().unwrap();
        self.buffer().release(self.lane());
    }

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
    becomes_version_4(&bench.settings.path);
    disk.fills();

    assert_eq!(bench.open().drained().await.len(), 4);
}

#[tokio::test]
async fn a_disk_that_does_not_tell_how_much_room_it_has_is_not_taken_for_full() {
    let bench = Bench::new().close().await;
    let store = store::Store::open(&bench.settings.path, 8 << 20, 1).unwrap();
    let room = store.pages();
    let free = store.free();

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
    bench.is_at_rest().await;
    disk.fills();

    for n in 0..40_u8 {
        bench.holds(vec![n; 100_000]).await;
    }

    assert!(bench.status.lock().ledger_total().dropped.get(Reason::DropOldest) > 20);
    bench.ledger_balances();
}

#[tokio::test]
async fn whatever_gives_way_others_have_what_is_kept_free_for_them() {
    const KEPT: u64 = 16 << 20;
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Thin, WhenFull::Block] {
        let Some(disk) = Disk::with(32) else { return };
        let mut bench = Bench::new().close().await;
        bench.settings.path = disk.dir.path().join("buffer.db");
        bench.settings.max_size = 64 << 20;
        bench.settings.keep_free = KEPT;
        bench.settings.streams = [("s".to_owned(), StreamRules { when_full, ..StreamRules::default() })].into();
        let mut bench = bench.open();

        // Twice what there is room for, unless it blocks.
        let mut given = 0;
        while given < 400 && !bench.status.lock().buffer.blocked {
            if bench.buffer().has_room(["s"].into_iter(), 0) {
                bench.append(text_of(given, 80_000));
                given += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        let status = bench.status.clone();
        let bench = bench.close().await;
        let remedy = status.lock().problems["overflow"].remedy.clone();
        assert!(remedy.contains("make room on the disk"), "{when_full:?}: {remedy}");
        let ledger = status.lock().ledger_total();
        assert!(ledger.balances(), "{when_full:?}: {ledger:?}");
        let free = rustix::fs::statvfs(disk.dir.path()).unwrap();
        assert!(free.f_bavail * free.f_frsize >= KEPT, "{when_full:?}: {}", free.f_bavail * free.f_frsize);
        let [oldest, newest, thinned] =
            [Reason::DropOldest, Reason::DropNewest, Reason::Thin].map(|why| ledger.dropped.get(why) > 0);
        let wanted = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Thin].map(|rule| rule == when_full);
        assert_eq!([oldest, newest, thinned], wanted, "{when_full:?}");
        assert!(size(&bench.settings.path) > 5 << 20, "{when_full:?}: the room there is was used");
    }
}

#[tokio::test]
async fn with_nothing_on_a_disk_that_is_kept_for_others_each_rule_that_drops_takes_what_is_in_memory_and_nobody_waits() {
    for (when_full, why) in
        [(WhenFull::DropOldest, Reason::DropOldest), (WhenFull::Thin, Reason::Thin), (WhenFull::DropNewest, Reason::DropNewest)]
    {
        let mut bench = Bench::new().close().await;
        bench.settings.keep_free = 1 << 60;
        bench.settings.streams = [("s".to_owned(), StreamRules { when_full, ..StreamRules::default() })].into();
        let mut bench = bench.open();

        for n in 0..30 {
            bench.holds(text_of(n, 80_000)).await;
        }

        bench.ledger_balances();
        assert_eq!(bench.status.lock().ledger_total().dropped.get(why), 30);
        assert!(bench.status.lock().problems["overflow"].remedy.contains("make room on the disk"));
        let mut notices = Vec::new();
        while let Some(taken) = bench.buffer().oldest(bench.lane(), 1 << 20).await.unwrap() {
            notices.extend(taken.pieces.iter().map(|piece| (piece.readings, piece.notice)));
            bench.forgets(bench.lane(), taken).for_each(drop);
        }
        assert_eq!(notices, [(0, true)], "{when_full:?}: one notice stands for all of them");
        let bench = bench.close().await;
        assert!(size(&bench.settings.path) < 100_000, "{when_full:?}");
    }
}

#[tokio::test]
async fn a_stream_at_its_own_bound_does_not_ask_for_room_on_a_disk_that_has_some() {
    let Some(disk) = Disk::with(32) else { return };
    let mut bench = Bench::new().close().await;
    bench.settings.path = disk.dir.path().join("buffer.db");
    bench.settings.max_size = 64 << 20;
    bench.settings.streams = [("s".to_owned(), StreamRules { max_size: Some(1_000_000), ..StreamRules::default() })].into();
    let mut bench = bench.open();

    for n in 0..20_u8 {
        bench.holds(vec![n; 100_000]).await;
    }

    assert!(bench.status.lock().problems["overflow"].remedy.contains("raise max_size"));
}

#[tokio::test]
async fn what_is_confirmed_makes_room_before_anything_is_dropped() {
    let mut bench = Bench::new();
    for n in 0..46_u8 {
        bench.holds(vec![n; 100_000]).await; // three more fit
    }
    for _ in 0..10 {
        let taken = bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap();
        assert_eq!(bench.forgets(bench.lane(), taken).count(), 1);
    }

    for n in 0..8_u8 {
        bench.holds(vec![n; 100_000]).await;
    }

    assert_eq!(bench.status.lock().ledger_total().dropped.get(Reason::DropOldest), 0);
    assert_eq!(bench.drained().await.len(), 44);
    bench.ledger_balances();
}
