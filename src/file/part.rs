//! One file while it is written, and how it is finished.
//!
//! Invariant: a name without `.part` is given to a file only when all of it is on the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::warn;

use super::whole::whole_len;
use crate::{
    config::{Compression, Encoding},
    durable::{create_anew, create_new, folder_of, sync_folder},
};

/// Of zstd's levels the one that others take by default: a twelfth of JSON lines is left, at 100 MB/s on a small computer.
const LEVEL: i32 = 3;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    /// Bytes that are on the disk, whole.
    len: u64,
    begun: Instant,
}

impl Part {
    /// Makes an empty file at `path`, whose name ends in `.part`.
    pub(super) fn create(path: &Path, begun: Instant) -> io::Result<Self> {
        let file = create_new(path, 0o666)?;
        sync_folder(folder_of(path))?;
        Ok(Self { file, path: path.to_owned(), len: 0, begun })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= age
    }

    /// Whether its path still leads to it: somebody may have moved it away, or its disk.
    pub(super) fn is_still_there(&self) -> bool {
        let id = |file: fs::Metadata| (file.dev(), file.ino());
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => id(ours) == id(there),
            _ => false,
        }
    }

    /// Appends `records` and waits until the disk has them.
    pub(super) fn append(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        records.iter().try_for_each(|record| self.file.write_all(record))?;
        self.file.sync_data()?;
        self.len += records.iter().map(|record| record.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Takes back what of an append that failed may be in it.
    pub(super) fn undo(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.sync_data()
    }
}

/// Cuts off what is behind the last whole record of the file at `path`; says how many bytes that is.
pub(super) fn repair(path: &Path, encoding: Encoding) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let (whole, len) = (whole_len(BufReader::new(&file), encoding)?, file.metadata()?.len());
    if whole < len {
        file.set_len(whole)?;
    }
    // Of what was not synced before, all that is whole may stay.
    file.sync_all()?;
    Ok(len - whole)
}

/// Gives the file at `path` its final name, compressed if so wanted; an empty one is removed. Says how many bytes it has then.
///
/// It is left uncompressed where that fails, for lack of room perhaps.
pub(super) fn finish(path: &Path, compression: Compression) -> io::Result<u64> {
    let len = fs::metadata(path)?.len();
    if len == 0 {
        fs::remove_file(path)?;
        return Ok(0);
    }
    let plain = path.with_extension("");
    if compression == Compression::Zstd {
        match pack(path, &plain) {
            Ok(packed) => return Ok(packed),
            Err(error) => warn!(file = %path.display(), %error, "it can't be compressed and stays as it is"),
        }
    }
    fs::rename(path, &plain)?;
    sync_folder(folder_of(path))?;
    Ok(len)
}

/// Replaces the file at `path` by a compressed one, which is called as `plain` and `.zst`.
fn pack(path: &Path, plain: &Path) -> io::Result<u64> {
    let with = |end: &str| {
        let mut name = plain.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (packing, packed) = (with(".zst.part"), with(".zst"));
    let compress = || {
        let mut encoder = zstd::Encoder::new(create_anew(&packing, 0o666)?, LEVEL)?;
        encoder.include_checksum(true)?;
        io::copy(&mut File::open(path)?, &mut encoder)?;
        let file = encoder.finish()?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    };
    let len = match compress() {
        Ok(len) => len,
        Err(error) => {
            // A leftover would be removed at the next start anyway.
            let _removed: io::Result<()> = fs::remove_file(&packing);
            return Err(error);
        }
    };
    fs::rename(&packing, &packed)?;
    sync_folder(folder_of(path))?;
    fs::remove_file(path)?;
    Ok(len)
}
