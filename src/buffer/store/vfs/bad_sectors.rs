//! A disk with bad sectors, for tests: a read of what contains [`BAD`] fails, as where a card has worn out.

use std::{
    ffi::{CStr, c_int, c_void},
    ptr, slice,
    sync::OnceLock,
};

use rusqlite::ffi::{self, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::register;

/// What can't be read.
pub(in crate::buffer) const BAD: &str = "this sector can't be read";
const DISK: &CStr = c"headwater-bad-sectors";
const JOINED: &CStr = c"headwater-joined-bad-sectors";

type Read = unsafe extern "C" fn(*mut sqlite3_file, *mut c_void, c_int, sqlite3_int64) -> c_int;

/// The same for all of SQLite's own files.
static READ: OnceLock<Read> = OnceLock::new();

/// The VFS that joins writes, over such a disk.
pub(in crate::buffer) fn name() -> &'static CStr {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    // SAFETY: SQLite's own VFS is there for ever, and so is its copy, which is leaked.
    REGISTERED.get_or_init(|| unsafe {
        let own = ffi::sqlite3_vfs_find(ptr::null());
        let disk = sqlite3_vfs { zName: DISK.as_ptr(), pAppData: own.cast(), xOpen: Some(open), ..*own };
        let disk = Box::leak(Box::new(disk));
        assert_eq!(ffi::sqlite3_vfs_register(disk, 0), SQLITE_OK);
        assert_eq!(register(JOINED, disk), SQLITE_OK);
    });
    JOINED
}

unsafe extern "C" fn open(
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
            READ.get_or_init(|| own.xRead.unwrap());
            (*file).pMethods = Box::leak(Box::new(sqlite3_io_methods { xRead: Some(read), ..own }));
        }
        code
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, data: *mut c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and SQLite has room for so many bytes at `data`.
    let (code, read) = unsafe {
        let code = READ.get().unwrap()(file, data, bytes, offset);
        (code, slice::from_raw_parts(data.cast::<u8>(), usize::try_from(bytes).unwrap()))
    };
    let bad = read.windows(BAD.len()).any(|bytes| bytes == BAD.as_bytes());
    if bad { ffi::SQLITE_IOERR_READ } else { code }
}
