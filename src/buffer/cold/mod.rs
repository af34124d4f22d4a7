//! A buffer file that no agent has open: a copied one, a dead gateway's, a damaged one.
//!
//! It is read page by page and without SQLite, because SQLite gives up a whole branch, or all, where one page of a tree can't be read,
//! passes over a flipped bit without a word, and changes what it opens. Each chunk has its own checksum, so what is found is known to be
//! what was written, wherever it was found.
//!
//! Invariant: nothing is changed; memory is bounded by a few bytes a page.

mod pages;
mod row;
#[cfg(any(test, fuzzing))]
mod sectors;
mod small;
mod tree;
mod wal;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use pages::beside;
pub use small::Unread;
pub use tree::{Chunks, Item};

use self::{
    pages::{Header, PAGE_LEN, Pages},
    row::Value,
    tree::Survey,
};
use super::{
    BufferError, Lane, LaneId, Layout,
    store::{APPLICATION_ID, SCHEMA_VERSION, checksum, fingerprints_from},
};
use crate::{
    clock::{Boot, Setting},
    reading::{Fingerprint, Timestamp},
    record::{Previous, RunId},
};

/// A version far beyond any is not a later program's but damage.
const LARGEST_VERSION: u32 = 9_999;

/// An open file.
pub struct ColdFile {
    path: PathBuf,
    pages: Pages,
    header: Option<Header>,
}

/// What lies where a buffer should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or a file that was being made when the power went.
    Nothing,
    /// A buffer of this version or an older one, as far as its first page and its log tell.
    Buffer,
    /// A buffer of a later version: not ours to touch.
    Newer(u32),
    /// Another program's database: not ours to touch.
    Foreign,
    /// Something that is not as it was written.
    Damaged(String),
}

/// A lane of the file.
#[derive(Clone, Debug)]
pub struct ColdLane {
    /// What it is.
    pub lane: Lane,
    /// It holds what was salvaged from an earlier file, so it is older than the others.
    pub(super) salvaged: bool,
    /// The last name that its row knows.
    pub(super) previous: Option<Previous>,
    /// Of the lanes of its stream, the one that began last has the highest.
    pub(super) rank: i64,
}

impl ColdFile {
    /// Opens the file at `path`, and its write-ahead log if there is one. Errors: neither is there, or the disk can't be read.
    pub fn open(path: &Path) -> Result<Self, BufferError> {
        let failed = |source: io::Error| BufferError::Read { path: path.into(), source: source.into() };
        Self::of(path, Pages::open(path).map_err(failed)?)
    }

    fn of(path: &Path, pages: Pages) -> Result<Self, BufferError> {
        if pages.database_len.is_none() && !pages.wal.exists {
            return Err(BufferError::Missing { path: path.into() });
        }
        // A page that can't be read is damage like any other; there may be more behind it.
        let header = pages.header().unwrap_or_default();
        Ok(Self { path: path.into(), pages, header })
    }

    /// What lies at `path`. Reads the first pages, and the log once. Errors: the disk can't be read.
    pub fn look_at(path: &Path) -> Result<Found, BufferError> {
        match Self::open(path) {
            Ok(file) => Ok(file.found()),
            Err(BufferError::Missing { .. }) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// What it is, by its first pages and its log.
    pub fn found(&self) -> Found {
        let damaged = |what: &str| Found::Damaged(what.to_owned());
        let log = !self.pages.wal.is_empty();
        match self.pages.database_len {
            None if log => return damaged("its write-ahead log is there, and it is not"),
            None => return Found::Nothing,
            Some(0) if beside(&self.path, "-journal").exists() => return Found::Nothing,
            Some(0) => return damaged("it is empty"),
            Some(_) => {}
        }
        let Some(header) = self.header else { return damaged("it does not begin as a database does") };
        let tables = self.tables();
        let ours = i64::from(header.application) == APPLICATION_ID;
        let like_ours = tables.as_ref().is_some_and(|tables| ["lane", "chunk"].iter().all(|name| tables.contains(name)));
        if !ours && header.application == 0 && tables.as_ref().is_some_and(Tables::is_empty) {
            return Found::Nothing; // cut off between SQLite's first write and ours
        }
        if !ours && !like_ours {
            return if tables.is_some() { Found::Foreign } else { damaged("its first page is damaged") };
        }
        if ours && (SCHEMA_VERSION + 1..=i64::from(LARGEST_VERSION)).contains(&i64::from(header.version)) {
            return Found::Newer(header.version);
        }
        if !ours || !(1..=SCHEMA_VERSION).contains(&i64::from(header.version)) || usize::from(header.page_len) != PAGE_LEN {
            return damaged("its header is damaged");
        }
        if !like_ours {
            return damaged("a table is missing");
        }
        if let Some(what) = self.pages.wal.damage {
            return damaged(what);
        }
        let pages = self.pages.wal.pages.unwrap_or(header.pages);
        if pages > self.pages.highest() {
            return damaged("its end is missing");
        }
        if self.lacks_its_log() {
            return damaged("its write-ahead log is missing");
        }
        Found::Buffer
    }

    /// Whether whoever had the file open last left a write-ahead log that is not there any more.
    pub fn lacks_its_log(&self) -> bool {
        self.is_open() && !self.pages.wal.has_header
    }

    /// The lanes that the file knows: those that hold older readings first. None when its list of lanes can't be read.
    pub fn lanes(&self) -> Option<Vec<ColdLane>> {
        let mut lanes: Vec<ColdLane> = self.rows("lane")?.iter().map(lane_from).collect::<Option<_>>()?;
        lanes.sort_by_key(|lane| (!lane.salvaged, lane.rank, lane.lane.id));
        Some(lanes)
    }

    /// All chunks of the file, lane by lane in the order of [`Self::lanes`], each lane in its own order. Walks the tree first, and reads
    /// every page where that is damaged.
    pub fn chunks(&self) -> Chunks<'_> {
        self.chunks_in_order(self.lanes().unwrap_or_default().iter().map(|lane| lane.lane.id))
    }

    /// The same in this order of lanes, and behind them the chunks of all others.
    pub(super) fn chunks_in_order(&self, lanes: impl Iterator<Item = LaneId>) -> Chunks<'_> {
        let root = self.tables().and_then(|tables| tables.root("chunk"));
        let survey = Survey::of_chunks(&self.pages, self.header, root);
        let beside = ["unsure", "gap"].map(|table| self.tables().and_then(|tables| tables.root(table)));
        Chunks::new(&self.pages, survey, beside, lanes)
    }

    /// The fingerprints that were kept, by source, oldest first; as many as can be read.
    pub(crate) fn receipts(&self) -> Vec<(String, Vec<Fingerprint>)> {
        let receipt = |(_, columns): &(i64, Vec<Value>)| match columns.as_slice() {
            [_, Value::Text(source), Value::Blob(bytes), ..] => Some((source.clone(), fingerprints_from(bytes))),
            _ => None,
        };
        self.rows("receipt").unwrap_or_default().iter().filter_map(receipt).collect()
    }

    /// How the clock was set in earlier boots when it was right, as far as that can be read.
    pub fn settings(&self) -> Vec<(Boot, Setting)> {
        let setting = |(boot, columns): &(i64, Vec<Value>)| {
            Some((Boot(boot.cast_unsigned()), Setting(columns.get(1).and_then(Value::integer)?)))
        };
        self.rows("boot").unwrap_or_default().iter().filter_map(setting).collect()
    }

    /// Readings that their destination refused, in the order in which they were set aside, as many as can be read; and what can't. None
    /// where the file has no such table.
    pub fn rejected(&self) -> (Vec<Refused>, Unread) {
        let mut found = Vec::new();
        let unread = self.each_rejected(|refused| found.push(refused));
        (found, unread)
    }

    /// How many of those there are, and what can't be read.
    pub(crate) fn rejected_readings(&self) -> (u64, Unread) {
        let mut readings = 0;
        let unread = self.each_rejected(|_| readings += 1);
        (readings, unread)
    }

    fn each_rejected(&self, mut show: impl FnMut(Refused)) -> Unread {
        let tables = self.tables();
        let root = tables.as_ref().and_then(|tables| tables.root("rejected"));
        // Where nobody knows what tables there are, any page may have some.
        if (tables.is_some() && root.is_none()) || self.pages.highest() == 0 {
            return Unread::default();
        }
        let survey = Survey::of(&self.pages, self.header, root, |page, _, cell| row::is_rejected(page, cell));
        let mut unread = Unread { pages: survey.damaged, rows: 0 };
        small::each(&self.pages, &survey, |columns| match columns.as_deref().and_then(refused_from) {
            Some(refused) => {
                unread.rows += u64::from(refused.data.is_none());
                show(refused);
            }
            None => unread.rows += 1,
        });
        unread
    }

    /// The tables and indexes of which something can't be read, and what; the chunks are not among them.
    pub fn unread(&self) -> Vec<(String, Unread)> {
        let unread = |(name, root): &(String, u32)| match name.as_str() {
            "chunk" => None,
            "rejected" => Some((name.clone(), self.rejected_readings().1)),
            _ => Some((name.clone(), small::unread(&self.pages, *root))),
        };
        let tables = self.tables().map(|tables| tables.0).unwrap_or_default();
        tables.iter().filter_map(unread).filter(|(_, unread)| !unread.is_nothing()).collect()
    }

    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        self.pages.database_len.unwrap_or_default() + self.pages.wal.bytes
    }

    /// Whether it was in use when it was left.
    fn is_open(&self) -> bool {
        let rows = self.rows("session").unwrap_or_default();
        rows.first().is_some_and(|(_, columns)| columns.first().and_then(Value::integer) == Some(1))
    }

    fn tables(&self) -> Option<Tables> {
        let rows = small::rows(&self.pages, 1)?;
        let table = |(_, columns): &(i64, Vec<Value>)| {
            Some((columns.get(1)?.text()?.to_owned(), u32::try_from(columns.get(3)?.integer()?).ok()?))
        };
        rows.iter().map(table).collect::<Option<_>>().map(Tables)
    }

    /// All rows of a small table. None where any page of it can't be read.
    fn rows(&self, table: &str) -> Option<Vec<(i64, Vec<Value>)>> {
        small::rows(&self.pages, self.tables()?.root(table)?)
    }
}

/// A reading that its destination refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its lane.
    pub lane: LaneId,
    /// Its run.
    pub run: RunId,
    /// Its number.
    pub seq: u64,
    /// When it was set aside.
    pub at: Timestamp,
    /// What the destination said.
    pub reason: String,
    /// Its partition key, where that is not the lane's own.
    pub key: Option<String>,
    /// The user record; none where it is not what was written.
    pub data: Option<Vec<u8>>,
}

impl ColdLane {
    /// The id of a lane that no list tells: SQLite counts from 1.
    pub(super) const UNLISTED: LaneId = LaneId(0);

    /// A lane of a file whose own list of lanes can't be read.
    pub(super) fn guessed(layout: Layout) -> Self {
        Self { lane: Lane { id: Self::UNLISTED, layout }, salvaged: false, previous: None, rank: 0 }
    }
}

/// Names of tables, and where each begins.
struct Tables(Vec<(String, u32)>);

impl Tables {
    fn root(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(table, _)| table == name).map(|(_, root)| *root)
    }

    fn contains(&self, name: &str) -> bool {
        self.root(name).is_some()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn refused_from(columns: &[Value]) -> Option<Refused> {
    let [_, lane, run, seq, _, at, Value::Text(reason), _, key, crc, Value::Blob(data), ..] = columns else { return None };
    let key = key.text().map(ToOwned::to_owned);
    let intact = crc.unsigned() == Some(checksum(key.as_deref(), data).into());
    Some(Refused {
        lane: LaneId(lane.unsigned()?.try_into().ok()?),
        run: RunId(run.integer()?.cast_unsigned()),
        seq: seq.unsigned()?,
        at: Timestamp(at.integer()?),
        reason: reason.clone(),
        data: intact.then(|| data.clone()),
        key,
    })
}

fn lane_from((id, columns): &(i64, Vec<Value>)) -> Option<ColdLane> {
    let text = |index: usize| columns.get(index).and_then(Value::text).map(ToOwned::to_owned);
    let number = |index: usize| columns.get(index).and_then(Value::unsigned);
    let layout = Layout {
        stream: text(1)?,
        number: number(2)?.try_into().ok()?,
        of: number(3)?.try_into().ok()?,
        partition_key: text(4)?,
        hash_key: text(5).and_then(|key| key.parse().ok()),
        template: text(6),
    };
    let run = columns.get(8).and_then(Value::integer).map(|run| RunId(run.cast_unsigned()));
    let previous = run.zip(number(9)).map(|(run, seq)| Previous { run, seq });
    let rank = columns.get(10).and_then(Value::integer).unwrap_or_default();
    let salvaged = matches!(columns.get(11), Some(Value::Text(_)));
    Some(ColdLane { lane: Lane { id: LaneId((*id).try_into().ok()?), layout }, salvaged, previous, rank })
}
