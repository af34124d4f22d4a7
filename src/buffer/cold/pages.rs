//! The pages of a buffer file and of its write-ahead log, read and never written.
//!
//! Invariant: no lock is taken, and nothing changes, so a card that is mounted read-only will do. The other side of it: not for a file
//! that this process has open through SQLite, whose locks would go when ours closes. Source: sqlite.org/howtocorrupt.html, section 2.2.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::wal::Wal;

/// Of every file of ours.
pub(super) const PAGE_LEN: usize = 2048;
const SQLITE: &[u8; 16] = b"SQLite format 3\0";

/// One page.
pub(super) type Page = [u8; PAGE_LEN];

/// What is read at any place. A test has one with bad sectors.
pub(super) trait ReadAt: Send {
    /// Its bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills `bytes` from the place `at` on.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn bytes(&self) -> io::Result<u64> {
        self.metadata().map(|of| of.len())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }
}

/// A database and its log.
pub(super) struct Pages {
    database: Option<Box<dyn ReadAt>>,
    /// Whole pages in the database's own file.
    pub(super) in_database: u32,
    /// Bytes of the database's own file, if there is one.
    pub(super) database_len: Option<u64>,
    pub(super) wal: Wal,
}

/// What page 1 says of the whole. Source: sqlite.org/fileformat2.html, section 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page_len: u16,
    pub(super) pages: u32,
    pub(super) first_free: u32,
    pub(super) version: u32,
    pub(super) application: u32,
}

/// The file that belongs to the database at `path` and is called like it, with `suffix`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl Pages {
    /// Opens the file at `path` and its log; either may be missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let existing = |path: &Path| -> io::Result<Option<Box<dyn ReadAt>>> {
            match File::open(path) {
                Ok(file) => Ok(Some(Box::new(file))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        Self::of(existing(path)?, existing(&beside(path, "-wal"))?)
    }

    /// A database and its log, from whatever gives their bytes.
    pub(super) fn of(database: Option<Box<dyn ReadAt>>, log: Option<Box<dyn ReadAt>>) -> io::Result<Self> {
        let database_len = database.as_ref().map(|file| file.bytes()).transpose()?;
        let in_database = u32::try_from(database_len.unwrap_or_default() / PAGE_LEN as u64).unwrap_or(u32::MAX);
        let mut pages = Self { database, in_database, database_len, wal: Wal::default() };
        if let Some(log) = log {
            pages.wal = Wal::read(log, |number| pages.in_file(number).and_then(Result::ok))?;
        }
        Ok(pages)
    }

    /// Page `number`, from 1; none beyond the end.
    pub(super) fn page(&self, number: u32) -> Option<io::Result<Page>> {
        self.wal.page(number).or_else(|| self.in_file(number))
    }

    fn in_file(&self, number: u32) -> Option<io::Result<Page>> {
        let index = number.checked_sub(1).filter(|_| number <= self.in_database)?;
        let mut page = [0; PAGE_LEN];
        let read = self.database.as_ref()?.read_at(&mut page, u64::from(index) * PAGE_LEN as u64);
        Some(read.map(|()| page))
    }

    /// The highest number of a page.
    pub(super) fn highest(&self) -> u32 {
        self.in_database.max(self.wal.highest())
    }

    /// The numbers of all pages, in order. Behind damage the log may name any number, so there may be gaps.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        (1..=self.in_database).chain(self.wal.behind(self.in_database))
    }

    /// How many pages there are, at most.
    pub(super) fn count(&self) -> usize {
        self.in_database as usize + self.wal.len()
    }

    /// Page 1's header, if that is one of an SQLite database.
    pub(super) fn header(&self) -> io::Result<Option<Header>> {
        let Some(page) = self.page(1).transpose()? else { return Ok(None) };
        if page[..16] != *SQLITE {
            return Ok(None);
        }
        let number = |at: usize| u32::from_be_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        Ok(Some(Header {
            page_len: u16::from_be_bytes([page[16], page[17]]),
            pages: number(28),
            first_free: number(32),
            version: number(60),
            application: number(68),
        }))
    }
}
