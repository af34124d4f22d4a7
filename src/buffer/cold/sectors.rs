//! A card with bad sectors, for tests.

use std::{fs, io, ops::Range, path::Path};

use super::{
    ColdFile,
    pages::{Pages, ReadAt, beside},
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
        let at = usize::try_from(at).unwrap();
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }
}

impl ColdFile {
    /// Opens the file at `path` and its log, of which those bytes can't be read.
    pub(in crate::buffer) fn worn(path: &Path, in_database: Range<u64>, in_log: Range<u64>) -> Self {
        let worn = |suffix: &str, bad: Range<u64>| -> Option<Box<dyn ReadAt>> {
            let bytes = fs::read(beside(path, suffix)).ok()?;
            Some(Box::new(Worn { bytes, bad }))
        };
        Self::of(path, Pages::of(worn("", in_database), worn("-wal", in_log)).unwrap()).unwrap()
    }
}
