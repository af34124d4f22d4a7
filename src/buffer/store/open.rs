//! The file as it is made and opened: its identity, its settings, and how its bound is shared out.

use std::{cell::Cell, io, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode};
use tracing::warn;

use super::{
    PAGE_BYTES, Store, WAL_FRAME_BYTES,
    aside::{COUNT, count_from},
    create::create,
    is_unreadable,
    lock::{self, Lock, owner_of},
    migrate::migrate,
    quarantine,
    reserve::Reserve,
    room::room_for,
    vfs,
};
use crate::{
    buffer::{
        BufferError, World,
        cold::{ColdFile, Found, beside},
    },
    clock,
    config::check::LEAST_MAX_SIZE,
};

/// Pages that a start may need for what is no reading.
const OWN_PAGES: u64 = 16;

impl Store {
    /// Opens the buffer, or makes it, with room for `max_size` bytes, all files together, and not below `keep_free` bytes of the file
    /// system. What is damaged is set aside first, as far as its header and its log tell.
    pub(in crate::buffer) fn open(path: &Path, max_size: u64, keep_free: u64) -> Result<Self, BufferError> {
        Self::open_in(World::default(), path, max_size, keep_free)
    }

    /// The same in another world.
    pub(in crate::buffer) fn open_in(world: World, path: &Path, max_size: u64, keep_free: u64) -> Result<Self, BufferError> {
        let unopened = |source: io::Error| BufferError::Open { path: path.into(), source: source.into() };
        let in_use = |by| BufferError::InUse { path: path.into(), by };
        let Some(lock) = lock::take(path).map_err(unopened)? else { return Err(in_use(owner_of(path))) };
        // Whoever looks at it with another program has SQLite's lock alone.
        if let Some(owner) = owner_of(path) {
            return Err(in_use(Some(owner)));
        }
        quarantine::finish(path).map_err(unopened)?;
        match ColdFile::look_at(path)? {
            Found::Damaged(what) => {
                let aside = quarantine::rename(path, clock::now())?;
                warn!(file = %path.display(), "the buffer is damaged: {what}; it is set aside as {}", aside.display());
            }
            Found::Newer(version) => {
                return Err(BufferError::Foreign { path: path.into(), what: format!("schema version {version}") });
            }
            Found::Foreign => return Err(BufferError::Foreign { path: path.into(), what: "another program's database".into() }),
            Found::Nothing | Found::Buffer => {}
        }
        if !path.exists() {
            create(world, path)?;
        }
        Self::open_file(world, path, max_size, keep_free, Some(lock))
    }

    fn open_file(world: World, path: &Path, max_size: u64, keep_free: u64, lock: Option<Lock>) -> Result<Self, BufferError> {
        let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                BufferError::InUse { path: path.into(), by: owner_of(path) }
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                BufferError::Damaged { path: path.into(), source: source.into() }
            }
            _ if is_unreadable(&source) => BufferError::Read { path: path.into(), source: source.into() },
            _ => BufferError::Open { path: path.into(), source: source.into() },
        };
        let mut connection = vfs::open(path, world.vfs).map_err(failed)?;
        // Until all is well, what a close would do to a damaged file is worse than a log that stays.
        quarantine::keep_log(&connection, true).map_err(failed)?;
        // Whoever has it open keeps it for years.
        connection.busy_timeout(Duration::ZERO).map_err(failed)?;
        // Exclusive, and before the WAL: no shared memory file, and no foreign reader that holds a snapshot and lets the WAL grow.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;

        let limits = Limits::within(max_size, room_for(path));
        let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(failed)?;
        let settings = [
            ("page_size", PAGE_BYTES.to_string()), // a commit's fixed cost is about three pages, so small ones wear least
            ("auto_vacuum", "NONE".into()),        // freed pages are used again; INCREMENTAL costs 8 % more bytes, always
            ("synchronous", world.synchronous.into()),
            ("journal_mode", "WAL".into()),
            ("wal_autocheckpoint", "0".into()), // `commit` does it, and counts what it wrote
            ("journal_size_limit", (limits.wal_frames * WAL_FRAME_BYTES).to_string()),
            ("secure_delete", "OFF".into()), // overwriting what was drained would write everything twice
            ("temp_store", "MEMORY".into()),
            ("cache_size", "-512".into()), // KiB; a chunk is written once and read once, so a larger cache holds nothing useful
            ("mmap_size", "0".into()),     // with a map, an I/O error is a SIGBUS
            // Beyond this SQLite says "full" while the file system still has room for the WAL, so deletes always work. A file that is
            // there already, or beyond, because the bound was lowered, gets what steps to a newer version and new lanes take.
            ("max_page_count", limits.pages.max(pages + OWN_PAGES).to_string()),
        ];
        let version = if tables == 0 { 0 } else { version };
        let prepare = |connection: &mut Connection| {
            settings.iter().try_for_each(|(name, value)| connection.pragma_update(None, name, value))?;
            migrate(connection, version)
        };
        let reserve = Reserve::of(path, limits.reserve);
        let mut prepared = prepare(&mut connection);
        if prepared.is_err() && vfs::found_no_room(&connection) {
            vfs::give_up(&connection);
            reserve.give_up();
            prepared = prepare(&mut connection);
        }
        prepared.map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(32);
        let set_aside = connection.query_row(COUNT, [], count_from).map_err(failed)?;
        let mut store = Self {
            connection,
            #[cfg(test)]
            mutant: world.mutant,
            path: path.into(),
            log_path: beside(path, "-wal"),
            page_budget: limits.pages,
            checkpoint_frames: limits.checkpoint_frames,
            wal_bytes: limits.wal_frames * WAL_FRAME_BYTES,
            keep_free,
            reserve,
            free_before: Cell::new(u64::MAX),
            free_is_unknown: Cell::new(false),
            pages_used: 0,
            set_aside,
            most_set_aside: limits.set_aside,
            page_count: 0,
            log_is_old: false,
            _lock: lock,
        };
        store.log_is_old = store.count().map_err(failed)? > 0;
        store.reserve.hold(store.free());
        store.begin_session().map_err(failed)?;
        quarantine::keep_log(&store.connection, false).map_err(failed)?;
        Ok(store)
    }
}

/// How `max_size` is shared out between the database, its WAL and the reserve.
struct Limits {
    pages: u64,
    checkpoint_frames: u64,
    wal_frames: u64,
    /// Bytes of the reserve.
    reserve: u64,
    /// Bytes of readings that are set aside.
    set_aside: u64,
}

impl Limits {
    /// Of a buffer that may have `max_size` bytes, on a file system that has `room` for it.
    fn within(max_size: u64, room: u64) -> Self {
        // On a small disk what is only for changes under way takes no more of it than of a small buffer.
        let shared = max_size.min(room.max(LEAST_MAX_SIZE.0));
        // A large WAL spares the disk, because a page that changes often is copied once; beyond 16 MiB there is little to gain.
        let checkpoint = (shared / 16).clamp(256 << 10, 16 << 20);
        let checkpoint_frames = checkpoint / WAL_FRAME_BYTES;
        // The WAL is emptied after the commit that fills it, so it can pass that mark by one transaction.
        let wal_frames = checkpoint_frames + (5 << 19) / WAL_FRAME_BYTES;
        let reserve = (shared / 32).clamp(256 << 10, 4 << 20);
        let others = wal_frames * WAL_FRAME_BYTES + reserve;
        Self {
            pages: max_size.saturating_sub(others) / PAGE_BYTES,
            checkpoint_frames,
            wal_frames,
            reserve,
            // Few, so that they never crowd out what can still be sent; and one of the largest always fits.
            set_aside: (max_size / 16).clamp(1 << 20, 64 << 20),
        }
    }
}
