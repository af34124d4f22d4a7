//! A VFS that writes down what SQLite does to its files, under the one that joins writes.
//!
//! Files are in a real folder, so that whoever goes past SQLite finds them; a sync is written down and not done, as what would survive
//! is worked out from the record. Folders that nobody has asked to record are left alone, but for the syncs.

#![allow(unsafe_code, reason = "a VFS is a table of C functions, and the only way between SQLite and its files")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr, slice,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rusqlite::ffi::{self, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::tape::{Call, Op, Tape};
use crate::buffer::store;

const RECORDED: &CStr = c"headwater-recorded";
/// The one that joins writes, over it.
const JOINED: &CStr = c"headwater-joined-recorded";
/// Why no method is missing.
const COMPLETE: &str = "SQLite's own VFS has every method of the first version";

/// By folder: what is recorded there.
static TAPES: Mutex<BTreeMap<PathBuf, Shared>> = Mutex::new(BTreeMap::new());

/// A record, to which each open file adds.
pub(super) type Shared = Arc<Mutex<Tape>>;

/// Records `folder` until it is dropped.
pub(super) struct Recording {
    folder: PathBuf,
    tape: Shared,
}

impl Recording {
    pub(super) fn of(folder: &Path, tape: Tape) -> Self {
        let tape = Arc::new(Mutex::new(tape));
        locked(&TAPES).insert(folder.to_owned(), tape.clone());
        Self { folder: folder.to_owned(), tape }
    }

    pub(super) fn tape(&self) -> MutexGuard<'_, Tape> {
        locked(&self.tape)
    }

    pub(super) fn ends(self) -> Tape {
        std::mem::take(&mut *self.tape())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        locked(&TAPES).remove(&self.folder);
    }
}

/// The record of the folder that the file `path` is in, and its name there.
pub(super) fn tape_at(path: &Path) -> Option<(Shared, String)> {
    let tape = locked(&TAPES).get(path.parent()?)?.clone();
    Some((tape, path.file_name()?.to_str()?.to_owned()))
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name under which SQLite knows it, with writes joined.
pub(super) fn vfs() -> &'static CStr {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // SAFETY: without a name it finds SQLite's own VFS, which is there for ever; ours is a copy of it that is leaked, with functions
        // of the types that SQLite calls, and with room for a `File` in front of what its own files take.
        unsafe {
            let own = ffi::sqlite3_vfs_find(ptr::null());
            let recorded = sqlite3_vfs {
                iVersion: 2,
                szOsFile: (*own).szOsFile + c_int::try_from(size_of::<File>()).unwrap(),
                pNext: ptr::null_mut(),
                zName: RECORDED.as_ptr(),
                pAppData: own.cast(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*own
            };
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(recorded)), 0), SQLITE_OK);
        }
        store::join_over(JOINED, RECORDED);
    });
    JOINED
}

/// An open file, in memory that SQLite gave us; the real one's follows it.
#[repr(C)]
struct File {
    /// First, so that SQLite's pointer is ours.
    base: sqlite3_file,
    real: *mut sqlite3_file,
    /// None where nobody records.
    tape: Option<Shared>,
    inode: usize,
    /// The next sync is one of the folder too: SQLite's own VFS does that with a new journal.
    syncs_folder: bool,
}

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
    /// `file` was opened by [`open`] and is not closed; the caller has no other reference to it.
    unsafe fn of<'a>(file: *mut sqlite3_file) -> &'a mut Self {
        // SAFETY: `open` put a `File` there. SQLite uses a file in one thread at a time, and no method of it calls another one.
        unsafe { &mut *file.cast() }
    }

    /// Writes `op` down, if anyone records.
    fn record(&self, op: impl FnOnce(usize) -> Op) {
        if let Some(tape) = &self.tape {
            locked(tape).add(op(self.inode));
        }
    }

    /// What a call has to fail with.
    fn fault(&self, call: Call) -> Option<c_int> {
        self.tape.as_ref().and_then(|tape| locked(tape).fault(call))
    }
}

/// The record of the folder of the file `name`, and its name in there.
///
/// # Safety
/// `name` is null or ends with a zero.
unsafe fn tape_of(name: *const c_char) -> Option<(Shared, String)> {
    if name.is_null() {
        return None;
    }
    // SAFETY: by the contract above.
    tape_at(Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())))
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes at `file`, aligned for anything: ours, and then the real file's. `vfs` is ours, so `pAppData`
    // is SQLite's own. A file without methods is not closed by SQLite.
    unsafe {
        (*file).pMethods = ptr::null();
        let own: *mut sqlite3_vfs = (*vfs).pAppData.cast();
        let real: *mut sqlite3_file = file.cast::<File>().add(1).cast();
        let found = tape_of(name);
        if let Some(code) = found.as_ref().and_then(|(tape, _)| locked(tape).fault(Call::Open)) {
            return code;
        }
        let code = (*own).xOpen.expect(COMPLETE)(own, name, real, flags, flags_out);
        if code != SQLITE_OK {
            return code;
        }
        let inode = found.as_ref().map_or(0, |(tape, name)| locked(tape).opened(name));
        let journal = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
        let base = sqlite3_file { pMethods: &raw const METHODS };
        let tape = found.map(|(tape, _)| tape);
        file.cast::<File>().write(File { base, real, tape, inode, syncs_folder: journal && flags & ffi::SQLITE_OPEN_CREATE != 0 });
    }
    SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite calls it with our VFS and the name of a file.
    unsafe {
        let own: *mut sqlite3_vfs = (*vfs).pAppData.cast();
        let found = tape_of(name);
        if let Some(code) = found.as_ref().and_then(|(tape, _)| locked(tape).fault(Call::Delete)) {
            return code;
        }
        let code = (*own).xDelete.expect(COMPLETE)(own, name, 0);
        if let Some((tape, name)) = found.filter(|_| code == SQLITE_OK) {
            locked(&tape).deleted(&name, sync != 0);
        }
        code
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open file once and does not use it again, so what we put there is dropped once, after its last use.
    unsafe {
        let closed = real!(File::of(file), xClose);
        ptr::drop_in_place(file.cast::<File>());
        closed
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, data: *mut c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls it with an open file and room for so many bytes.
    unsafe {
        let file = File::of(file);
        file.fault(Call::Read).unwrap_or_else(|| real!(file, xRead, data, bytes, offset))
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, bytes: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls it with an open file, and with so many bytes at `data`, which nobody changes until we return. What fails
    // has written a part.
    unsafe {
        let file = File::of(file);
        let end = u64::try_from(offset).unwrap() + u64::try_from(bytes).unwrap();
        let fault =
            file.fault(Call::Write).or_else(|| file.tape.as_ref().and_then(|tape| locked(tape).over_quota(file.inode, end)));
        let bytes = if fault.is_some() { bytes / 2 } else { bytes };
        let code = real!(file, xWrite, data, bytes, offset);
        if code == SQLITE_OK && bytes > 0 {
            let data = slice::from_raw_parts(data.cast::<u8>(), bytes.try_into().unwrap());
            file.record(|inode| Op::Write { inode, offset: offset.try_into().unwrap(), data: data.into() });
        }
        fault.unwrap_or(code)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls it with an open file.
    unsafe {
        let file = File::of(file);
        if let Some(code) = file.fault(Call::Truncate) {
            return code;
        }
        let code = real!(file, xTruncate, size);
        if code == SQLITE_OK {
            file.record(|inode| Op::Truncate { inode, len: size.try_into().unwrap() });
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite calls it with an open file.
    let file = unsafe { File::of(file) };
    if let Some(code) = file.fault(Call::Sync) {
        file.record(|inode| Op::SyncFailed { inode });
        return code;
    }
    let folder = std::mem::take(&mut file.syncs_folder);
    file.record(|inode| Op::Sync { inode, folder });
    SQLITE_OK
}

/// Methods of a file that are the real one's.
macro_rules! of_the_real_file {
    ($($name:ident = $method:ident($($arg:ident: $type:ty),*);)*) => { $(
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($arg: $type),*) -> c_int {
            // SAFETY: SQLite calls it with an open file and with what the real one's method wants.
            unsafe {
                let file = File::of(file);
                real!(file, $method $(, $arg)*)
            }
        }
    )* };
}

of_the_real_file! {
    file_size = xFileSize(size: *mut sqlite3_int64);
    lock = xLock(level: c_int);
    unlock = xUnlock(level: c_int);
    check_reserved_lock = xCheckReservedLock(result: *mut c_int);
    file_control = xFileControl(operation: c_int, argument: *mut c_void);
    sector_size = xSectorSize();
    device_characteristics = xDeviceCharacteristics();
}
