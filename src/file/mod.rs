//! Stage 5 of 5, beside `kinesis`: a folder of files, for sites without a network and for looking.
//!
//! ```text
//! gw-0042-20261127T231205.123Z-readings.jsonl        finished; .jsonl.zst when it is compressed
//! gw-0042-20261128T001205.456Z-readings.jsonl.part   being written
//! ```
//!
//! All calls wait for the disk, so they belong on a thread of their own.
//!
//! Invariants: what was put is on the disk, whole, when the call returns without an error. The names of a stream's files sort in the order
//! of writing, however the clock moves. A folder is never made, because below a mount point without its disk it would fill another disk.

mod error;
mod name;
mod part;
mod whole;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::Access;
use tracing::{info, warn};

pub use self::error::FolderError;
use self::{
    name::{Name, State},
    part::Part,
};
use crate::{
    config::{Compression, Encoding, FileConfig, Keep},
    reading::Timestamp,
    units::ByteCount,
};

/// What the files of one stream are called by, behind device and time.
///
/// Shape: `STREAM.jsonl`, `STREAM.cborseq` (RFC 8742) or `STREAM.raw`.
pub fn target(stream: &str, encoding: Encoding) -> String {
    format!("{stream}.{}", whole::extension(encoding))
}

/// One folder; cheap to clone.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: FileConfig,
    device: String,
    inner: Mutex<Inner>,
}

/// How much is in a folder, and how much more may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of this device's files.
    pub used: ByteCount,
    /// Bytes that its file system has left.
    pub free: ByteCount,
}

/// What is known of the folder's files.
#[derive(Debug, Default)]
struct Inner {
    /// Whether what a former run left was looked after; until then nothing else here counts.
    ready: bool,
    /// By target.
    open: BTreeMap<String, Part>,
    /// Bytes of all our files, or more, where somebody else has taken some away.
    used: u64,
    /// The time in the latest name.
    latest: Timestamp,
}

impl Folder {
    /// The folder of `config`, for the files of `device`. Nothing is looked at yet.
    pub fn new(config: &FileConfig, device: &str) -> Self {
        Self(Arc::new(Shared { config: config.clone(), device: device.to_owned(), inner: Mutex::default() }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.config.path
    }

    /// Writes `records` one behind the other to the file of `target` that is open, or to a new one, and waits until the disk has them.
    ///
    /// `at` is for how old a file is, `time` for the name of a new one. After an error nothing of `records` counts as written; the same
    /// may be put again.
    pub fn put(&self, target: &str, records: &[Vec<u8>], at: Instant, time: Timestamp) -> Result<(), FolderError> {
        let Shared { config, device, .. } = &*self.0;
        let mut inner = self.lock();
        inner.get_ready(config, device)?;
        let bytes: u64 = records.iter().map(|record| record.len() as u64).sum();
        let full = |part: &Part| part.len() > 0 && part.len() + bytes > config.file_size.0;
        if inner.open.get(target).is_some_and(|part| full(part) || part.is_older_than(config.file_age, at)) {
            inner.finish(target, config.compress)?;
        }
        inner.make_room(config, device, bytes)?;
        let mut part = match inner.open.remove(target) {
            Some(part) => part,
            None => inner.begin(config, device, target, at, time)?,
        };
        match part.append(records) {
            Ok(()) => {
                inner.used += bytes;
                inner.open.insert(target.to_owned(), part);
                Ok(())
            }
            Err(source) => {
                let path = part.path().to_owned();
                if part.undo().is_ok() {
                    inner.open.insert(target.to_owned(), part);
                } else {
                    inner.ready = false; // what is in it is looked at again
                }
                Err(FolderError::Write { path, source })
            }
        }
    }

    /// What is there, and whether readings could be written now; changes nothing.
    pub fn look(&self) -> Result<Room, FolderError> {
        let Shared { config, device, .. } = &*self.0;
        let mut inner = Inner::default();
        inner.look(config, device)?;
        let unusable = |source: io::Error| FolderError::Folder { path: config.path.clone(), source };
        rustix::fs::access(&config.path, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| unusable(error.into()))?;
        if let Some(why) = inner.lacks(config, 0)?.filter(|_| config.keep == Keep::All) {
            return Err(why);
        }
        let free = free_for(&config.path).map_err(unusable)?;
        Ok(Room { used: ByteCount(inner.used), free: ByteCount(free) })
    }

    /// Finishes the files that have become old enough.
    pub fn tidy(&self, at: Instant) -> Result<(), FolderError> {
        let config = &self.0.config;
        let mut inner = self.lock();
        let old = |part: &Part| part.is_older_than(config.file_age, at);
        let due: Vec<String> = inner.open.iter().filter(|(_, part)| old(part)).map(|(target, _)| target.clone()).collect();
        due.iter().try_for_each(|target| inner.finish(target, config.compress))
    }

    /// Finishes every file, without taking the time to compress it.
    pub fn close(&self) -> Result<(), FolderError> {
        let mut inner = self.lock();
        let open: Vec<String> = inner.open.keys().cloned().collect();
        open.iter().try_for_each(|target| inner.finish(target, Compression::None))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Makes sure that the folder is there, and that the open files are still those in it.
    fn get_ready(&mut self, config: &FileConfig, device: &str) -> Result<(), FolderError> {
        if self.open.values().any(|part| !part.is_still_there()) {
            self.ready = false;
        }
        if self.ready {
            return Ok(());
        }
        // Whatever is open is left to be found, as after a power cut.
        self.open.clear();
        let names = self.look(config, device)?;
        let whole: BTreeSet<_> = names.iter().filter(|name| name.state == State::Packed).map(Name::id).collect();
        for name in &names {
            let path = config.path.join(name.file(device));
            let done = match name.state {
                State::Open if whole.contains(&name.id()) => fs::remove_file(&path), // it was cut off between the two
                State::Open => recover(&path, name, config),
                State::Packing => fs::remove_file(&path),
                State::Whole | State::Packed => Ok(()),
            };
            done.map_err(|source| FolderError::Write { path, source })?;
        }
        self.look(config, device)?;
        self.ready = true;
        Ok(())
    }

    /// Finds our files, and what they take.
    fn look(&mut self, config: &FileConfig, device: &str) -> Result<Vec<Name>, FolderError> {
        let unusable = |source| FolderError::Folder { path: config.path.clone(), source };
        let mut names = Vec::new();
        self.used = 0;
        for entry in fs::read_dir(&config.path).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            let Some(name) = entry.file_name().to_str().and_then(|file| Name::parse(device, file)) else { continue };
            // One that is gone by now takes nothing.
            self.used += entry.metadata().map_or(0, |file| file.len());
            self.latest = self.latest.max(name.time);
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn begin(
        &mut self,
        config: &FileConfig,
        device: &str,
        target: &str,
        at: Instant,
        time: Timestamp,
    ) -> Result<Part, FolderError> {
        let time = time.max(self.latest.after(Duration::from_millis(1)));
        let name = Name { time, target: target.to_owned(), state: State::Open };
        let path = config.path.join(name.file(device));
        let part = Part::create(&path, at).map_err(|source| FolderError::Write { path, source })?;
        self.latest = time;
        Ok(part)
    }

    fn finish(&mut self, target: &str, compression: Compression) -> Result<(), FolderError> {
        let Some(part) = self.open.get(target) else { return Ok(()) };
        let before = part.len();
        let path = part.path().to_owned();
        let after = part::finish(&path, compression).map_err(|source| FolderError::Write { path, source })?;
        self.open.remove(target);
        self.used = self.used.saturating_sub(before) + after;
        Ok(())
    }

    /// Why there is no room for so many bytes more.
    fn lacks(&self, config: &FileConfig, bytes: u64) -> Result<Option<FolderError>, FolderError> {
        let path = &config.path;
        if self.used + bytes > config.max_size.0 {
            return Ok(Some(FolderError::Full { path: path.clone(), max_size: config.max_size }));
        }
        let free = free_for(path).map_err(|source| FolderError::Folder { path: path.clone(), source })?;
        let short = free < config.keep_free.0.saturating_add(bytes);
        Ok(short.then(|| FolderError::NoSpace { path: path.clone(), free: ByteCount(free), keep_free: config.keep_free }))
    }

    /// Makes room for so many bytes more, as far as `keep` allows.
    fn make_room(&mut self, config: &FileConfig, device: &str, bytes: u64) -> Result<(), FolderError> {
        if self.lacks(config, bytes)?.is_none() {
            return Ok(());
        }
        // Somebody may have taken files away.
        let names = self.look(config, device)?;
        let mut finished = names.into_iter().filter(|name| matches!(name.state, State::Whole | State::Packed));
        while let Some(why) = self.lacks(config, bytes)? {
            let Some(oldest) = finished.next().filter(|_| config.keep == Keep::Newest) else { return Err(why) };
            let file = config.path.join(oldest.file(device));
            let len = fs::metadata(&file).map_or(0, |file| file.len());
            fs::remove_file(&file).map_err(|source| FolderError::Write { path: file.clone(), source })?;
            info!(file = %file.display(), "removed, because newer readings are kept where there is no room for all");
            self.used = self.used.saturating_sub(len);
        }
        Ok(())
    }
}

/// Cuts off what a power cut left of the last record, and finishes the file.
fn recover(path: &Path, name: &Name, config: &FileConfig) -> io::Result<()> {
    let cut = part::repair(path, name.encoding())?;
    if cut > 0 {
        warn!(file = %path.display(), bytes = cut, "its end was not whole and is cut off; what was in it is still in the buffer");
    }
    part::finish(path, config.compress).map(|_| ())
}

/// Bytes that the file system of `path` still has for us.
fn free_for(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(test)]
mod tests;
