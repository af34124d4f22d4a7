//! A file of the VFS.
//!
//! SQLite writes a WAL frame as two calls, 24 bytes and a page, and a checkpoint writes page by page. These calls are the largest part
//! of what a reading costs on its way to the disk; joined, a commit is one.
//!
//! Invariant: a file gets what SQLite wrote, in SQLite's order, nothing left out. Nothing waits any longer when a sync, a truncation,
//! a read, the size or an unlock is asked for. Between two files order is kept where SQLite counts on it, which is only where it
//! syncs the first: the journal before the database, the WAL before a checkpoint. Sources: sqlite.org/atomiccommit.html, section 3.7;
//! sqlite.org/wal.html, section 2.3.
//!
//! An error comes with a later call than the write it is about. SQLite ignores what an unlock returns, and when a read finds the disk
//! full it takes one statement back, while those before it can still be committed. So what could not be written stays, is tried again
//! before anything else, and no sync succeeds without it, until [`File::give_up`] says that the transaction is over.

use std::{
    ffi::{c_int, c_void},
    io, ptr, slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use rusqlite::ffi::{self, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods};

use super::{
    COMPLETE,
    ahead::{AHEAD_BYTES, Ahead},
};

/// Most that waits of a file; beyond it, a call more costs nothing beside the copying.
const JOINED_BYTES: usize = 64 << 10;

/// An open file, in memory that SQLite gave us; the real one's follows it.
#[repr(C)]
pub(super) struct File {
    /// First, so that SQLite's pointer is ours.
    base: sqlite3_file,
    real: *mut sqlite3_file,
    /// What SQLite wrote and the file has not got yet, and where it belongs.
    waiting: Vec<u8>,
    offset: sqlite3_int64,
    ahead: Ahead,
    /// Of the database and its journals together.
    pub(super) told: Arc<Told>,
}

/// What writes have told.
#[derive(Default)]
pub(super) struct Told {
    /// Bytes that the files got.
    pub(super) written: AtomicU64,
    /// One found the file system full, or the user's share of it.
    pub(super) no_room: AtomicBool,
}

/// Of the first version: without shared memory, which an exclusive lock spares us, and without a map, past which reads would go.
pub(super) static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Calls a method of a real file. To be used where it is open.
macro_rules! real {
    ($real:expr, $method:ident $(, $arg:expr)*) => {
        (*(*$real).pMethods).$method.expect(COMPLETE)($real $(, $arg)*)
    };
}

impl File {
    /// Over the real file, which is open.
    pub(super) fn over(real: *mut sqlite3_file, told: Arc<Told>) -> Self {
        let base = sqlite3_file { pMethods: &raw const METHODS };
        Self { base, real, waiting: Vec::new(), offset: 0, ahead: Ahead::default(), told }
    }

    /// # Safety
    /// `file` was opened by the VFS and is not closed; the caller has no other reference to it.
    pub(super) unsafe fn of<'a>(file: *mut sqlite3_file) -> &'a mut Self {
        // SAFETY: the VFS put a `File` there, and `File` begins with what SQLite calls a file. SQLite uses a file in one thread at a
        // time, and no method of it calls another one.
        unsafe { &mut *file.cast() }
    }

    /// Forgets what waits.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }

    /// Writes out what waits; where that fails, it goes on waiting.
    fn flush(&mut self) -> c_int {
        if self.waiting.is_empty() {
            return SQLITE_OK;
        }
        let code = self.put(&self.waiting, self.offset);
        if code == SQLITE_OK {
            self.waiting.clear();
        }
        code
    }

    fn put(&self, data: &[u8], offset: sqlite3_int64) -> c_int {
        let Ok(bytes) = c_int::try_from(data.len()) else { return ffi::SQLITE_IOERR_WRITE };
        // SAFETY: the real file is open as long as `self` exists; `data` has that many bytes.
        let code = unsafe { real!(self.real, xWrite, data.as_ptr().cast(), bytes, offset) };
        if code == SQLITE_OK {
            self.told.written.fetch_add(data.len() as u64, Relaxed);
        } else if code == ffi::SQLITE_FULL || io::Error::last_os_error().kind() == io::ErrorKind::QuotaExceeded {
            self.told.no_room.store(true, Relaxed);
        }
        code
    }

    fn write(&mut self, data: &[u8], offset: sqlite3_int64) -> c_int {
        self.ahead.forget(); // what waits is written out before the next read, so nothing older is read ahead until then
        let follows = offset == self.end() && self.waiting.len() + data.len() <= JOINED_BYTES;
        if !follows {
            match self.flush() {
                SQLITE_OK if data.len() > JOINED_BYTES => return self.put(data, offset),
                SQLITE_OK => self.offset = offset,
                failed => return failed,
            }
        }
        self.waiting.extend_from_slice(data);
        SQLITE_OK
    }

    fn end(&self) -> sqlite3_int64 {
        self.offset + (self.waiting.len() as u64).cast_signed()
    }

    /// Reads `bytes` to `data`, and with them those that follow, where the last reads say that they will be wanted.
    ///
    /// # Safety
    /// There is room for `bytes` at `data`.
    unsafe fn read(&mut self, data: *mut c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
        let (Ok(len), Ok(from)) = (usize::try_from(bytes), u64::try_from(offset)) else { return ffi::SQLITE_MISUSE };
        let wanted = self.ahead.is_wanted(from) && len < AHEAD_BYTES;
        self.ahead.ends(from + len as u64);
        if wanted && self.ahead.at(from, len).is_none() {
            let real = self.real;
            // At the end of the file, or before a sector that can't be read, there is less; what was asked for may be there all the same.
            // SAFETY: the real file is open as long as `self` exists, and has as much room as it is told.
            self.ahead.fill(from, |room| unsafe {
                let bytes = c_int::try_from(room.len());
                bytes.is_ok_and(|bytes| real!(real, xRead, room.as_mut_ptr().cast(), bytes, offset) == SQLITE_OK)
            });
        }
        match self.ahead.at(from, len) {
            // SAFETY: by the contract there is room; SQLite's memory is not ours.
            Some(known) => unsafe { ptr::copy_nonoverlapping(known.as_ptr(), data.cast(), len) },
            // SAFETY: as above.
            None => return unsafe { real!(self.real, xRead, data, bytes, offset) },
        }
        SQLITE_OK
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // What waits was never asked to be durable, so SQLite ignores it when this fails.
    // SAFETY: SQLite closes an open file once and does not use it again, so what we put there is dropped once, after its last use.
    unsafe {
        let flushed = File::of(file).flush();
        let closed = real!(File::of(file).real, xClose);
        ptr::drop_in_place(file.cast::<File>());
        if flushed == SQLITE_OK { closed } else { flushed }
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    let Ok(bytes) = usize::try_from(bytes) else { return ffi::SQLITE_MISUSE };
    // SAFETY: SQLite calls it with an open file, and with so many bytes at `data`, which nobody changes until we return.
    unsafe { File::of(file).write(slice::from_raw_parts(data.cast(), bytes), offset) }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, data: *mut c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls it with an open file, and with room for so many bytes at `data`.
    unsafe {
        let file = File::of(file);
        match file.flush() {
            SQLITE_OK => file.read(data, bytes, offset),
            failed => failed,
        }
    }
}

/// Methods of a file that are the real one's, some of them once all that waits is written out.
macro_rules! of_the_real_file {
    ($($first:ident, $name:ident = $method:ident($($arg:ident: $type:ty),*);)*) => { $(
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($arg: $type),*) -> c_int {
            // SAFETY: SQLite calls it with an open file and with what the real one's method wants.
            unsafe {
                let file = File::of(file);
                match $first(file) {
                    SQLITE_OK => real!(file.real, $method $(, $arg)*),
                    failed => failed,
                }
            }
        }
    )* };
}

fn flushed(file: &mut File) -> c_int {
    file.flush()
}

fn changing(file: &mut File) -> c_int {
    file.ahead.forget();
    file.flush()
}

fn anew(file: &mut File) -> c_int {
    file.ahead.forget(); // whoever had the lock may have written
    SQLITE_OK
}

fn as_it_is(_: &mut File) -> c_int {
    SQLITE_OK
}

of_the_real_file! {
    changing, truncate = xTruncate(size: sqlite3_int64);
    flushed, sync = xSync(flags: c_int);
    flushed, file_size = xFileSize(size: *mut sqlite3_int64);
    flushed, unlock = xUnlock(level: c_int);
    anew, lock = xLock(level: c_int);
    as_it_is, check_reserved_lock = xCheckReservedLock(result: *mut c_int);
    as_it_is, file_control = xFileControl(operation: c_int, argument: *mut c_void);
    as_it_is, sector_size = xSectorSize();
    as_it_is, device_characteristics = xDeviceCharacteristics();
}
