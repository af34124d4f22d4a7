//! The chunks of a file: found through the table's tree, and, where a page of that is damaged, on every page that is left.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use bytes::Bytes;

use super::{
    pages::{Header, PAGE_LEN, Page, Pages},
    row::{self, Cell, Node, Value},
};
use crate::{
    buffer::{
        Chunk, LaneId,
        store::{Columns, Earlier, Seal, checksum, keys_from, lane_of, row_ids},
    },
    clock::{Boot, Setting, Unsure},
    reading::Timestamp,
    record::{
        RunId,
        kpl::{cut, first_record},
        names_of,
    },
};

/// A tree of ours has fewer levels; one with more is a circle.
pub(super) const DEEPEST: usize = 20;

/// The row `id` of a table. None where it is not there, or can't be read.
fn find(pages: &Pages, root: u32, id: i64) -> Option<Vec<Value>> {
    let mut number = root;
    for _ in 0..DEEPEST {
        let page = pages.page(number)?.ok()?;
        match row::node(number, &page)? {
            Node::Inner(children) => number = children.iter().find(|(highest, _)| *highest >= id)?.1,
            Node::Leaf(cells) => {
                let (_, cell) = cells.into_iter().find(|(found, _)| *found == id)?;
                return row::columns(pages, &page, cell);
            }
        }
    }
    None
}

/// Where the rows of a table lie.
pub(super) struct Survey {
    /// First id on a page, and the page.
    pub(super) leaves: Vec<(i64, u32)>,
    /// Pages of the table that can't be read, or that are not what they should be.
    pub(super) damaged: u64,
}

impl Survey {
    /// Walks the tree at `root`, and where that is damaged looks at every page. `is_row` tells a row of the table from others.
    pub(super) fn of(pages: &Pages, header: Option<Header>, root: Option<u32>, is_row: impl Fn(&Page, i64, Cell) -> bool) -> Self {
        let mut seen = Seen::new(pages);
        let mut leaves = Vec::new();
        let mut damaged = match root {
            Some(root) => {
                walk(pages, root, &mut seen, |number, _, cells| leaves.extend(cells.first().map(|(id, _)| (*id, number))))
            }
            None => 1,
        };
        // Behind damage in the log stands an older copy of a page, which leads to what was there then.
        damaged += u64::from(!leaves.is_sorted()) + u64::from(pages.wal.damage.is_some());
        if damaged > 0 {
            mark_free(pages, header, &mut seen);
            for number in pages.numbers().filter(|number| !seen.contains(*number)) {
                let Some(Ok(page)) = pages.page(number) else { continue };
                if let Some(Node::Leaf(cells)) = row::node(number, &page)
                    && let Some((id, cell)) = cells.first()
                    && is_row(&page, *id, *cell)
                {
                    leaves.push((*id, number));
                }
            }
            leaves.sort_unstable();
        }
        Self { leaves, damaged }
    }

    /// The same of the chunks.
    pub(super) fn of_chunks(pages: &Pages, header: Option<Header>, root: Option<u32>) -> Self {
        Self::of(pages, header, root, |page, id, cell| Row::read(page, id, cell).is_some())
    }
}

/// Shows `leaf` each page with rows of a tree, in order; returns how many pages of it could not be read.
pub(super) fn walk(pages: &Pages, root: u32, seen: &mut Seen, mut leaf: impl FnMut(u32, &Page, Vec<(i64, Cell)>)) -> u64 {
    let mut damaged = 0;
    let mut stack = vec![(root, 0)];
    while let Some((number, depth)) = stack.pop() {
        let first = depth < DEEPEST && seen.insert(number);
        let page = pages.page(number).and_then(Result::ok).filter(|_| first);
        match page.as_ref().and_then(|page| row::node(number, page)) {
            Some(Node::Inner(children)) => stack.extend(children.into_iter().rev().map(|(_, child)| (child, depth + 1))),
            Some(Node::Leaf(cells)) => leaf(number, page.as_ref().unwrap_or(&[0; PAGE_LEN]), cells),
            None => {
                // So that what is on it after all is found; but what leads here again is a circle.
                if first {
                    seen.remove(number);
                }
                damaged += 1;
            }
        }
    }
    damaged
}

/// Marks the pages that are not in use: what is on them was deleted. Source: sqlite.org/fileformat2.html, section 1.5.
fn mark_free(pages: &Pages, header: Option<Header>, seen: &mut Seen) {
    let mut trunk = header.map_or(0, |header| header.first_free);
    while let Some(Ok(page)) = pages.page(trunk)
        && seen.insert(trunk)
    {
        let word =
            |index: usize| u32::from_be_bytes([page[4 * index], page[4 * index + 1], page[4 * index + 2], page[4 * index + 3]]);
        let count = usize::try_from(word(1)).unwrap_or(usize::MAX).min(PAGE_LEN / 4 - 2);
        for index in 0..count {
            seen.insert(word(2 + index));
        }
        trunk = word(0);
    }
}

/// One bit a page, and the numbers of those that only the log names.
pub(super) struct Seen {
    bits: Vec<u64>,
    beyond: BTreeSet<u32>,
}

impl Seen {
    pub(super) fn new(pages: &Pages) -> Self {
        Self { bits: vec![0; pages.in_database as usize / 64 + 1], beyond: BTreeSet::new() }
    }

    fn contains(&self, number: u32) -> bool {
        match self.bits.get(number as usize / 64) {
            Some(bits) => bits >> (number % 64) & 1 == 1,
            None => self.beyond.contains(&number),
        }
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let Some(bits) = self.bits.get_mut(number as usize / 64) else { return self.beyond.insert(number) };
        let bit = 1 << (number % 64);
        let new = *bits & bit == 0;
        *bits |= bit;
        new
    }

    fn remove(&mut self, number: u32) {
        match self.bits.get_mut(number as usize / 64) {
            Some(bits) => *bits &= !(1 << (number % 64)),
            None => {
                self.beyond.remove(&number);
            }
        }
    }
}

/// One chunk of the file.
#[derive(Debug)]
pub struct Item {
    /// Its row.
    pub(crate) id: i64,
    /// The lane of the file that it belongs to.
    pub lane: LaneId,
    /// Its readings.
    pub readings: u64,
    /// Readings that the lane counted here, and that were dropped.
    pub(in crate::buffer) gone: u64,
    /// What the lane had before it, so that two that follow each other tell what is missing between them; none where the row's columns
    /// are not those that were written.
    pub(in crate::buffer) earlier: Option<Earlier>,
    /// Bytes of it.
    pub(in crate::buffer) bytes: u64,
    /// None where the bytes are not those that were written.
    pub chunk: Option<Chunk>,
}

/// Rows of a page that are still to be looked at.
type Cells = std::vec::IntoIter<(i64, Cell)>;

/// The chunks of a file, in order.
pub struct Chunks<'a> {
    pages: &'a Pages,
    survey: Survey,
    /// Where the table begins that says how the clock was set.
    unsure: Option<u32>,
    /// Where the table begins that says what was dropped.
    gap: Option<u32>,
    /// What is still to be read: of each lane the ids, and then everything whose lane nobody knows.
    ranges: std::vec::IntoIter<RangeInclusive<i64>>,
    known: Vec<LaneId>,
    range: Option<RangeInclusive<i64>>,
    leaf: usize,
    page: Option<(Box<Page>, Cells)>,
    last: Option<i64>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(
        pages: &'a Pages,
        survey: Survey,
        [unsure, gap]: [Option<u32>; 2],
        lanes: impl Iterator<Item = LaneId>,
    ) -> Self {
        let known: Vec<LaneId> = lanes.collect();
        let mut ranges: Vec<_> = known.iter().map(|lane| row_ids(*lane)).collect();
        ranges.push(0..=i64::MAX);
        Self { pages, survey, unsure, gap, ranges: ranges.into_iter(), known, range: None, leaf: 0, page: None, last: None }
    }

    /// Pages of the table that can't be read, or are not what they should be.
    pub fn damaged_pages(&self) -> u64 {
        self.survey.damaged
    }

    /// Goes on behind the row `id`, where an earlier look has ended.
    pub(crate) fn skip_to(&mut self, id: i64) {
        let lane = lane_of(id);
        let of_its_lane = if self.known.contains(&lane) { row_ids(lane) } else { 0..=i64::MAX };
        if let Some(range) = self.ranges.find(|range| *range == of_its_lane) {
            match id.checked_add(1) {
                Some(next) => self.begin(next..=*range.end()),
                None => self.range = None,
            }
        }
    }

    fn begin(&mut self, range: RangeInclusive<i64>) {
        // The last leaf that begins at or before the range may reach into it, and with damage so may some before that.
        let first = self.survey.leaves.partition_point(|(id, _)| id <= range.start());
        self.leaf = if self.survey.damaged > 0 { 0 } else { first.saturating_sub(1) };
        self.range = Some(range);
        self.page = None;
        self.last = None;
    }

    /// How the clock was set when the readings of a chunk arrived, if nobody knew it to be right.
    fn unsure(&self, id: i64) -> Option<Unsure> {
        let columns = find(self.pages, self.unsure?, id)?;
        let (boot, set) = (columns.get(1)?.integer()?, columns.get(2)?.integer()?);
        Some(Unsure { boot: Boot(boot.cast_unsigned()), set: Setting(set) })
    }

    /// Readings that were dropped and that a chunk stands for.
    fn gone(&self, id: i64) -> Option<u64> {
        find(self.pages, self.gap?, id)?.get(1)?.unsigned()
    }

    fn next_cell(&mut self) -> Option<(i64, Cell)> {
        loop {
            let Some(range) = self.range.clone() else {
                let next = self.ranges.next()?;
                self.begin(next);
                continue;
            };
            if let Some((_, cells)) = &mut self.page {
                for (id, cell) in cells {
                    let unknown = self.ranges.len() == 0;
                    if range.contains(&id)
                        && self.last.is_none_or(|last| last < id)
                        && !(unknown && self.known.contains(&lane_of(id)))
                    {
                        self.last = Some(id);
                        return Some((id, cell));
                    }
                }
                self.page = None;
            }
            match self.survey.leaves.get(self.leaf) {
                Some((first, number)) if first <= range.end() => {
                    self.leaf += 1;
                    if let Some(Ok(page)) = self.pages.page(*number)
                        && let Some(Node::Leaf(cells)) = row::node(*number, &page)
                    {
                        self.page = Some((Box::new(page), cells.into_iter()));
                    }
                }
                _ => self.range = None,
            }
        }
    }
}

impl Iterator for Chunks<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let (id, cell) = self.next_cell()?;
            let (page, _) = self.page.as_ref()?;
            if let Some(row) = Row::read(page, id, cell) {
                let chunk = row.chunk(self.pages, page, cell).map(|chunk| Chunk { unsure: self.unsure(id), ..chunk });
                let readings = match &chunk {
                    Some(chunk) => chunk.readings,
                    None if row.sound => row.columns.readings,
                    None => 0, // what is missing is known from the next row that is sound
                };
                let gone = self.gone(id).unwrap_or_default();
                let Columns { earlier, bytes, .. } = row.columns;
                let earlier = row.sound.then_some(earlier);
                return Some(Item { id, lane: row.lane, readings, gone, earlier, bytes, chunk });
            }
        }
    }
}

/// A row of the table of chunks, without its data.
struct Row {
    lane: LaneId,
    columns: Columns,
    seal: Seal,
    /// The columns are those that were written.
    sound: bool,
}

impl Row {
    /// None where the row is not a chunk's.
    fn read(page: &Page, id: i64, cell: Cell) -> Option<Self> {
        /// Readings of a chunk: each takes some bytes.
        const MOST: u64 = 1 << 22;
        let columns = row::first_columns(page, cell)?;
        let [Value::Null, readings, earlier, earlier_bytes, arrived, run, seq, crc, ..] = columns.as_slice() else { return None };
        let columns = Columns {
            id,
            readings: readings.integer()?.cast_unsigned(),
            earlier: Earlier { readings: earlier.integer()?.cast_unsigned(), bytes: earlier_bytes.integer()?.cast_unsigned() },
            arrived: Timestamp(arrived.integer()?),
            run: RunId(run.integer()?.cast_unsigned()),
            first_seq: seq.integer()?.cast_unsigned(),
            bytes: row::last_len(page, cell)?,
        };
        let seal = Seal(crc.integer()?);
        let Earlier { readings: before, bytes } = columns.earlier;
        let possible = columns.readings <= MOST && [before, bytes, columns.first_seq].iter().all(|n| i64::try_from(*n).is_ok());
        Some(Self { lane: lane_of(id), columns, seal, sound: possible && seal.fits(&columns) }).filter(|_| id >= 0)
    }

    fn chunk(&self, pages: &Pages, page: &Page, cell: Cell) -> Option<Chunk> {
        let columns = row::columns(pages, page, cell)?;
        let keys = match columns.get(8)? {
            Value::Null => None,
            keys => Some(keys.text()?),
        };
        let Value::Blob(data) = columns.get(9)? else { return None };
        if !self.seal.fits_content(checksum(keys, data)) {
            return None;
        }
        let Columns { readings, arrived, run, first_seq, .. } = self.columns;
        let keys = keys.map(|keys| keys_from(keys).collect::<Arc<[String]>>());
        let data = Bytes::from(data.clone());
        let chunk = Chunk { lane: self.lane, readings, run, first_seq, arrived, unsure: None, notice: false, keys, data };
        let chunk = Chunk { notice: chunk.notice().is_some(), ..chunk };
        let believed = self.sound && (self.seal.covers_columns() || chunk.data.is_empty());
        if believed { Some(chunk) } else { named_by_its_readings(&chunk).or_else(|| self.sound.then_some(chunk)) }
    }
}

/// What is said of a chunk can't be believed, but what is in it can: so it is as many readings as that has, and the number of the first
/// is what that says of itself, where it does.
fn named_by_its_readings(chunk: &Chunk) -> Option<Chunk> {
    let first = first_record(&chunk.data).ok()?;
    let behind = if chunk.notice { first.field_len } else { 0 };
    let readings = cut(&chunk.data[behind..], usize::MAX, 0).ok()?.records;
    let named = chunk.notice().map(|notice| notice.from).or_else(|| names_of(first.data).map(|(_, seq)| seq));
    let possible = |seq: &u64| i64::try_from(seq.saturating_add(readings)).is_ok();
    let first_seq = named.into_iter().chain([chunk.first_seq]).find(possible).unwrap_or_default();
    Some(Chunk { readings, first_seq, ..chunk.clone() })
}
