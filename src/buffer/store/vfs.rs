//! Fewer and larger writes: a thin VFS over SQLite's own, which joins writes that follow each other in a file.
//!
//! SQLite writes a WAL frame as two calls, 24 bytes and a page, and a checkpoint writes page by page. These calls are the largest part
//! of what a reading costs on its way to the disk; joined, a commit is one. They are also where bytes are counted, for the wear.
//!
//! Invariant: a file gets what SQLite wrote, in SQLite's order, nothing left out. Nothing waits any longer when a sync, a truncation,
//! a read, the size or an unlock is asked for. Between two files order is kept where SQLite counts on it, which is only where it
//! syncs the first: the journal before the database, the WAL before a checkpoint. Sources: sqlite.org/atomiccommit.html, section 3.7;
//! sqlite.org/wal.html, section 2.3.
//!
//! An error comes with a later call than the write it is about. SQLite ignores what an unlock returns, and when a read finds the disk
//! full it takes one statement back, while those before it can still be committed. So what could not be written stays, is tried again
//! before anything else, and no sync succeeds without it, until [`give_up`] says that the transaction is over.

#![allow(unsafe_code, reason = "a VFS is a table of C functions, and the only way between SQLite and its files")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    io,
    path::Path,
    ptr, slice,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use rusqlite::{
    Connection, Error, OpenFlags,
    ffi::{self, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs},
};

/// Under which SQLite knows it.
pub(in crate::buffer) const NAME: &CStr = c"headwater-joined";
/// Most that waits of a file; beyond it, a call more costs nothing beside the copying.
const JOINED_BYTES: usize = 64 << 10;
/// Why no method is missing.
const COMPLETE: &str = "a VFS has every method of the first version";

/// Opens a database whose writes are joined by the VFS `name`: [`NAME`], or one that a test has put over another disk.
pub(super) fn open(path: &Path, name: &CStr) -> rusqlite::Result<Connection> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    // SAFETY: without a name it finds the default VFS, which is part of SQLite itself and is there for ever.
    match *REGISTERED.get_or_init(|| unsafe { register(NAME, ffi::sqlite3_vfs_find(ptr::null())) }) {
        SQLITE_OK => Connection::open_with_flags_and_vfs(path, OpenFlags::default(), name),
        code => Err(Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// Bytes written to the database and its journals since it was opened; zero for one that [`open`] did not open.
pub(super) fn written(connection: &Connection) -> u64 {
    let mut bytes = 0;
    each_file(connection, |file| bytes = file.told.written.load(Relaxed));
    bytes
}

/// Whether a write has found no room on the file system since this was asked last. SQLite itself says the same of a database that has
/// reached its bound.
pub(super) fn found_no_room(connection: &Connection) -> bool {
    let mut found = false;
    each_file(connection, |file| found |= file.told.no_room.swap(false, Relaxed));
    found
}

/// Forgets what a failed transaction left waiting, so that it neither needs room nor comes back. Nothing happens while a transaction is
/// open. Without one nothing else can wait: with `synchronous` at FULL or above, each commit and each checkpoint ends with a sync.
pub(super) fn give_up(connection: &Connection) {
    if connection.is_autocommit() {
        each_file(connection, |file| file.waiting.clear());
    }
}

/// Shows `look` the database's file, and its journal's if that is open.
fn each_file(connection: &Connection, mut look: impl FnMut(&mut File)) {
    for which in [ffi::SQLITE_FCNTL_FILE_POINTER, ffi::SQLITE_FCNTL_JOURNAL_POINTER] {
        let mut file: *mut sqlite3_file = ptr::null_mut();
        // SAFETY: the handle is open while `connection` is borrowed, and no other thread uses it, because it is not `Sync`. These two
        // operations put a pointer where theirs points: to a file that stays while the connection does, and that is open and one of
        // ours exactly if it has our methods. None of its methods runs, as we are not called from SQLite.
        unsafe {
            ffi::sqlite3_file_control(connection.handle(), ptr::null(), which, (&raw mut file).cast());
            if file.as_ref().is_some_and(|file| ptr::eq(file.pMethods, &raw const METHODS)) {
                look(File::of(file));
            }
        }
    }
}

/// Makes `name` a VFS over `real`, for as long as the process lives: SQLite does not say when it looks at one for the last time.
///
/// # Safety
/// `real` is null or a VFS that is never freed.
unsafe fn register(name: &'static CStr, real: *mut sqlite3_vfs) -> c_int {
    // SAFETY: by the contract above.
    let Some(theirs) = (unsafe { real.as_ref() }) else { return ffi::SQLITE_ERROR };
    let Ok(ours) = c_int::try_from(size_of::<File>()) else { return ffi::SQLITE_ERROR };
    let vfs = sqlite3_vfs {
        iVersion: theirs.iVersion.min(2), // what the third adds is for SQLite's own tests
        szOsFile: ours + theirs.szOsFile,
        mxPathname: theirs.mxPathname,
        pNext: ptr::null_mut(),
        zName: name.as_ptr(),
        pAppData: real.cast(),
        xOpen: Some(open_file),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: Some(dl_sym),
        xDlClose: Some(dl_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    };
    // SAFETY: what is leaked stays, and so does the name; every function of it has the type that SQLite calls.
    unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) }
}

/// Makes `name` a VFS over the one that a test has registered as `real`.
#[cfg(test)]
pub(in crate::buffer) fn join_over(name: &'static CStr, real: &CStr) {
    // SAFETY: what tests register stays.
    let code = unsafe { register(name, ffi::sqlite3_vfs_find(real.as_ptr())) };
    assert_eq!(code, SQLITE_OK);
}

/// Methods of the VFS that are the real one's.
macro_rules! of_the_real_vfs {
    ($($name:ident = $method:ident($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => { $(
        unsafe extern "C" fn $name(vfs: *mut sqlite3_vfs, $($arg: $type),*) $(-> $out)? {
            // SAFETY: SQLite calls it with a VFS that `register` made, so `pAppData` is the real one, which lives for ever; the other
            // arguments are those that SQLite would have given to the real one itself.
            unsafe {
                let real: *mut sqlite3_vfs = (*vfs).pAppData.cast();
                (*real).$method.expect(COMPLETE)(real, $($arg),*)
            }
        }
    )* };
}

type Symbol = Option<unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char)>;

of_the_real_vfs! {
    delete = xDelete(name: *const c_char, sync: c_int) -> c_int;
    access = xAccess(name: *const c_char, flags: c_int, result: *mut c_int) -> c_int;
    full_pathname = xFullPathname(name: *const c_char, room: c_int, full: *mut c_char) -> c_int;
    dl_open = xDlOpen(name: *const c_char) -> *mut c_void;
    dl_error = xDlError(room: c_int, message: *mut c_char);
    dl_sym = xDlSym(library: *mut c_void, symbol: *const c_char) -> Symbol;
    dl_close = xDlClose(library: *mut c_void);
    randomness = xRandomness(room: c_int, bytes: *mut c_char) -> c_int;
    sleep = xSleep(micros: c_int) -> c_int;
    current_time = xCurrentTime(days: *mut f64) -> c_int;
    get_last_error = xGetLastError(room: c_int, message: *mut c_char) -> c_int;
    current_time_int64 = xCurrentTimeInt64(millis: *mut sqlite3_int64) -> c_int;
}

/// An open file, in memory that SQLite gave us; the real one's follows it.
#[repr(C)]
struct File {
    /// First, so that SQLite's pointer is ours.
    base: sqlite3_file,
    real: *mut sqlite3_file,
    /// What SQLite wrote and the file has not got yet, and where it belongs.
    waiting: Vec<u8>,
    offset: sqlite3_int64,
    /// Of the database and its journals together.
    told: Arc<Told>,
}

/// What writes have told.
#[derive(Default)]
struct Told {
    /// Bytes that the files got.
    written: AtomicU64,
    /// One found the file system full, or the user's share of it.
    no_room: AtomicBool,
}

/// Of the first version: without shared memory, which an exclusive lock spares us, and without a map, past which reads would go.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
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

/// Calls a method of the real file. To be used where `$file` is open.
macro_rules! real {
    ($file:expr, $method:ident $(, $arg:expr)*) => {
        (*(*$file.real).pMethods).$method.expect(COMPLETE)($file.real $(, $arg)*)
    };
}

impl File {
    /// # Safety
    /// `file` was opened by [`open_file`] and is not closed; the caller has no other reference to it.
    unsafe fn of<'a>(file: *mut sqlite3_file) -> &'a mut Self {
        // SAFETY: `open_file` put a `File` there, and `File` begins with what SQLite calls a file. SQLite uses a file in one thread at a
        // time, and no method of it calls another one.
        unsafe { &mut *file.cast() }
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
        let code = unsafe { real!(self, xWrite, data.as_ptr().cast(), bytes, offset) };
        if code == SQLITE_OK {
            self.told.written.fetch_add(data.len() as u64, Relaxed);
        } else if code == ffi::SQLITE_FULL || io::Error::last_os_error().kind() == io::ErrorKind::QuotaExceeded {
            self.told.no_room.store(true, Relaxed);
        }
        code
    }

    fn write(&mut self, data: &[u8], offset: sqlite3_int64) -> c_int {
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
}

unsafe extern "C" fn open_file(
    vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes at `file`, aligned for anything: ours, and then the real file's, which is aligned because
    // our size is a multiple of our alignment. `vfs` is one that `register` made. A file without methods is not closed by SQLite; the
    // real one's `xOpen` says in the same way whether it has to be, and sets its methods also where it fails. A WAL or a rollback
    // journal has a name that SQLite made, from which it finds the database's file; that one is of ours exactly if it has our methods,
    // and none of its methods is running while SQLite opens a journal.
    unsafe {
        (*file).pMethods = ptr::null();
        let real_vfs: *mut sqlite3_vfs = (*vfs).pAppData.cast();
        let real: *mut sqlite3_file = file.cast::<File>().add(1).cast();
        let code = (*real_vfs).xOpen.expect(COMPLETE)(real_vfs, name, real, flags, flags_out);
        if code != SQLITE_OK {
            if let Some(methods) = (*real).pMethods.as_ref() {
                methods.xClose.expect(COMPLETE)(real);
            }
            return code;
        }
        let mut told = Arc::default();
        if flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0 {
            let database = ffi::sqlite3_database_file_object(name);
            if ptr::eq((*database).pMethods, &raw const METHODS) {
                told = File::of(database).told.clone();
            }
        }
        let base = sqlite3_file { pMethods: &raw const METHODS };
        file.cast::<File>().write(File { base, real, waiting: Vec::new(), offset: 0, told });
    }
    SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // What waits was never asked to be durable, so SQLite ignores it when this fails.
    // SAFETY: SQLite closes an open file once and does not use it again, so what we put there is dropped once, after its last use.
    unsafe {
        let flushed = File::of(file).flush();
        let closed = real!(File::of(file), xClose);
        ptr::drop_in_place(file.cast::<File>());
        if flushed == SQLITE_OK { closed } else { flushed }
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    let Ok(bytes) = usize::try_from(bytes) else { return ffi::SQLITE_MISUSE };
    // SAFETY: SQLite calls it with an open file, and with so many bytes at `data`, which nobody changes until we return.
    unsafe { File::of(file).write(slice::from_raw_parts(data.cast(), bytes), offset) }
}

/// Methods of a file that are the real one's, some of them once all that waits is written out.
macro_rules! of_the_real_file {
    ($($first:ident, $name:ident = $method:ident($($arg:ident: $type:ty),*);)*) => { $(
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($arg: $type),*) -> c_int {
            // SAFETY: SQLite calls it with an open file and with what the real one's method wants.
            unsafe {
                let file = File::of(file);
                match $first(file) {
                    SQLITE_OK => real!(file, $method $(, $arg)*),
                    failed => failed,
                }
            }
        }
    )* };
}

fn flushed(file: &mut File) -> c_int {
    file.flush()
}

fn as_it_is(_: &mut File) -> c_int {
    SQLITE_OK
}

of_the_real_file! {
    flushed, read = xRead(data: *mut c_void, bytes: c_int, offset: sqlite3_int64);
    flushed, truncate = xTruncate(size: sqlite3_int64);
    flushed, sync = xSync(flags: c_int);
    flushed, file_size = xFileSize(size: *mut sqlite3_int64);
    flushed, unlock = xUnlock(level: c_int);
    as_it_is, lock = xLock(level: c_int);
    as_it_is, check_reserved_lock = xCheckReservedLock(result: *mut c_int);
    as_it_is, file_control = xFileControl(operation: c_int, argument: *mut c_void);
    as_it_is, sector_size = xSectorSize();
    as_it_is, device_characteristics = xDeviceCharacteristics();
}

#[cfg(test)]
pub(in crate::buffer) mod bad_sectors;
#[cfg(test)]
mod tests;
