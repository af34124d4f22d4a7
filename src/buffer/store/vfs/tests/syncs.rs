//! Which call makes a commit durable. `fsync` has the file's times written too: on ext4 another commit of the journal for each of ours, and
//! more than twice as many bytes for the card. SQLite takes `fdatasync` only where the build says that there is one.

use std::{cell::Cell, ffi::c_int};

use tempfile::TempDir;

use crate::buffer::{Chunk, LaneId, Layout, store};

thread_local! {
    static FSYNCS: Cell<u64> = const { Cell::new(0) };
    static FDATASYNCS: Cell<u64> = const { Cell::new(0) };
}

// These two stand before those of the C library for everything that is linked into the tests, and do the same.

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    // A thread that ends has nobody who counts.
    let _uncounted = FSYNCS.try_with(|count| count.set(count.get() + 1));
    done(libc::SYS_fsync, file)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    let _uncounted = FDATASYNCS.try_with(|count| count.set(count.get() + 1));
    done(libc::SYS_fdatasync, file)
}

fn done(call: libc::c_long, file: c_int) -> c_int {
    // SAFETY: both calls take a number that need not be that of an open file, and touch no memory.
    c_int::try_from(unsafe { libc::syscall(call, file) }).unwrap_or(-1)
}

#[test]
fn each_commit_is_one_fdatasync_and_no_fsync() {
    const COMMITS: u64 = 100;
    let dir = TempDir::new().unwrap();
    let mut store = store::Store::open(&dir.path().join("buffer.db"), 64 << 20, 0).unwrap();
    let layout = Layout { stream: "s".into(), number: 0, of: 1, partition_key: "k".into(), hash_key: None, template: None };
    let lane: LaneId = store.add_lane(&layout).unwrap();
    FSYNCS.set(0);
    FDATASYNCS.set(0);

    for number in 0..COMMITS {
        let chunk = Chunk { first_seq: number, ..crate::buffer::tests::chunk(lane) };
        let earlier = store::Earlier { readings: number, bytes: 3 * number };
        let insert = store::Insert { number, chunk: &chunk, earlier, gap: None, from: number };
        store.commit(&store::Transaction { inserts: vec![insert], ..Default::default() }).unwrap();
        store.keep_up().unwrap();
    }

    assert_eq!((FDATASYNCS.get(), FSYNCS.get()), (COMMITS, 0));
}
