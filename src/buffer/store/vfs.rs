//! Fewer and larger writes and reads: a thin VFS over SQLite's own, which joins those that follow each other in a file. It is also where
//! bytes are counted, for the wear.

#![allow(unsafe_code, reason = "a VFS is a table of C functions, and the only way between SQLite and its files")]

mod ahead;
mod file;

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    path::Path,
    ptr,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

use rusqlite::{
    Connection, Error, OpenFlags,
    ffi::{self, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_vfs},
};

use self::file::{File, METHODS};

/// Under which SQLite knows it.
pub(in crate::buffer) const NAME: &CStr = c"headwater-joined";
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
        each_file(connection, File::give_up);
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
        file.cast::<File>().write(File::over(real, told));
    }
    SQLITE_OK
}

#[cfg(test)]
pub(in crate::buffer) mod bad_sectors;
#[cfg(test)]
mod tests;
