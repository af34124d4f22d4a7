//! Bytes that lie in no file, and a card with bad sectors: for tests.

#[cfg(test)]
use std::fs;
use std::{io, ops::Range, path::Path};

use super::{
    ColdFile,
    pages::{Pages, ReadAt},
};

/// The bytes of a file, of which some are not given.
struct Worn {
    bytes: Vec<u8>,
    bad: Range<u64>,
}

impl ReadAt for Worn {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        if at < self.bad.end && at + bytes.len() as u64 > self.bad.start {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        let at = usize::try_from(at).map_err(io::Error::other)?;
        bytes.copy_from_slice(self.bytes.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ColdFile {
    /// A file of these bytes, and its log.
    pub(crate) fn of_bytes(database: Vec<u8>, log: Option<Vec<u8>>) -> Option<Self> {
        let whole = |bytes| -> Box<dyn ReadAt> { Box::new(Worn { bytes, bad: 0..0 }) };
        let pages = Pages::of(Some(whole(database)), log.map(whole)).ok()?;
        Self::of(Path::new("buffer.db"), pages).ok()
    }

    /// The file at `path` and its log, of which those bytes can't be read.
    #[cfg(test)]
    pub(in crate::buffer) fn worn(path: &Path, in_database: Range<u64>, in_log: Range<u64>) -> Self {
        let worn = |suffix: &str, bad: Range<u64>| -> Option<Box<dyn ReadAt>> {
            let bytes = fs::read(super::beside(path, suffix)).ok()?;
            Some(Box::new(Worn { bytes, bad }))
        };
        Self::of(path, Pages::of(worn("", in_database), worn("-wal", in_log)).unwrap()).unwrap()
    }
}
