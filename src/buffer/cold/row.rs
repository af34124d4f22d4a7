//! Rows as they lie on a b-tree page. Source: sqlite.org/fileformat2.html, sections 1.5, 1.6 and 2.1.

use super::pages::{PAGE_LEN, Page, Pages};

/// No row of ours is larger: a chunk is sealed at 64 KiB, or with the one reading of at most 1,000 KiB that takes it beyond.
const LARGEST_ROW: u64 = 4 << 20;
/// The part of a row that stays on its page. Source: fileformat2.html, section 1.6, with a page of 2048 bytes.
const MAX_LOCAL: usize = PAGE_LEN - 35;
const MIN_LOCAL: usize = (PAGE_LEN - 12) * 32 / 255 - 23;

/// What a page of a table holds.
pub(super) enum Node {
    /// Pages further down, in order, each with the highest id that it leads to.
    Inner(Vec<(i64, u32)>),
    /// Rows: their ids and where they begin, in order.
    Leaf(Vec<(i64, Cell)>),
}

/// Where a row's content begins on its page, and its whole length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    at: usize,
    len: u64,
}

/// A column's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    pub(super) fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    pub(super) fn unsigned(&self) -> Option<u64> {
        self.integer().and_then(|value| value.try_into().ok())
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(value) = self { Some(value) } else { None }
    }
}

/// Reads page `number` as part of a table; none where it is not one.
pub(super) fn node(number: u32, page: &Page) -> Option<Node> {
    let start = if number == 1 { 100 } else { 0 };
    let count = usize::from(two(page, start + 3));
    let (inner, head) = match page[start] {
        0x05 => (true, start + 12),
        0x0D => (false, start + 8),
        _ => return None,
    };
    if head + 2 * count > PAGE_LEN {
        return None;
    }
    let cells = (0..count).map(|index| usize::from(two(page, head + 2 * index)));
    if inner {
        let child = |at: usize| Some((varint(&mut page.get(at + 4..)?)?, four(page, at)));
        let mut children = cells.map(child).collect::<Option<Vec<(i64, u32)>>>()?;
        children.push((i64::MAX, four(page, start + 8)));
        return Some(Node::Inner(children));
    }
    let mut rows: Vec<(i64, Cell)> = Vec::with_capacity(count);
    for at in cells {
        let mut rest = page.get(at..)?;
        let len = varint(&mut rest)?.cast_unsigned();
        let id = varint(&mut rest)?;
        if len > LARGEST_ROW || rows.last().is_some_and(|(before, _)| *before >= id) {
            return None;
        }
        rows.push((id, Cell { at: PAGE_LEN - rest.len(), len }));
    }
    Some(Node::Leaf(rows))
}

/// The pages that a page of an index leads to. None where it is not one.
pub(super) fn index_node(page: &Page) -> Option<Vec<u32>> {
    let head = match page[0] {
        0x02 => 12,
        0x0A => 8,
        _ => return None,
    };
    let cells = (0..usize::from(two(page, 3))).map(|index| page.get(head + 2 * index..).filter(|rest| rest.len() > 1));
    let cells = cells.map(|cell| cell.map(|cell| usize::from(two(cell, 0)))).collect::<Option<Vec<usize>>>()?;
    if cells.iter().any(|at| at + 4 > PAGE_LEN) {
        return None;
    }
    let children = cells.into_iter().map(|at| four(page, at)).chain([four(page, 8)]);
    Some(if head == 12 { children.collect() } else { Vec::new() })
}

/// All columns of a row. None where they can't be read.
pub(super) fn columns(pages: &Pages, page: &Page, cell: Cell) -> Option<Vec<Value>> {
    decode(&content(pages, page, cell)?, usize::MAX)
}

/// As many of the first columns of a row as its own page holds, without those that it only begins.
pub(super) fn first_columns(page: &Page, cell: Cell) -> Option<Vec<Value>> {
    let local = local_len(usize::try_from(cell.len).ok()?);
    let content = page.get(cell.at..cell.at + local)?;
    decode(content, content.len())
}

fn content(pages: &Pages, page: &Page, cell: Cell) -> Option<Vec<u8>> {
    let len = usize::try_from(cell.len).ok()?;
    let local = local_len(len);
    if (len - local) / PAGE_LEN > pages.count() {
        return None; // so it would go in circles
    }
    let mut content = Vec::with_capacity(len);
    content.extend_from_slice(page.get(cell.at..cell.at + local)?);
    let mut missing = len - local;
    let mut next = if missing > 0 { four(page, cell.at + local) } else { 0 };
    while missing > 0 {
        let page = pages.page(next)?.ok()?;
        let part = missing.min(PAGE_LEN - 4);
        content.extend_from_slice(&page[4..4 + part]);
        missing -= part;
        next = four(&page, 0);
    }
    Some(content)
}

fn local_len(len: usize) -> usize {
    if len <= MAX_LOCAL {
        return len;
    }
    let local = MIN_LOCAL + (len - MIN_LOCAL) % (PAGE_LEN - 4);
    if local <= MAX_LOCAL { local } else { MIN_LOCAL }
}

/// Bytes of the last column of a row, as its head says.
pub(super) fn last_len(page: &Page, cell: Cell) -> Option<u64> {
    Some(value_len(*kinds(page, cell)?.last()?)? as u64)
}

/// Whether a row's head is that of one of the table `rejected`.
pub(super) fn is_rejected(page: &Page, cell: Cell) -> bool {
    let (is_integer, is_text) = (|kind: &u64| matches!(kind, 1..=6 | 8 | 9), |kind: u64| kind >= 13 && kind % 2 == 1);
    let Some(kinds) = kinds(page, cell) else { return false };
    let [0, names @ .., reason, topic, key, crc, data] = kinds.as_slice() else { return false };
    names.len() == 5
        && names.iter().chain([crc]).all(is_integer)
        && is_text(*reason)
        && [topic, key].iter().all(|kind| **kind == 0 || is_text(**kind))
        && *data >= 12
        && data % 2 == 0
}

/// The kinds of a row's columns, as its head says.
fn kinds(page: &Page, cell: Cell) -> Option<Vec<u64>> {
    let local = local_len(usize::try_from(cell.len).ok()?);
    let (mut head, _) = parts(page.get(cell.at..cell.at + local)?)?;
    let mut kinds = Vec::new();
    while !head.is_empty() {
        kinds.push(varint(&mut head)?.cast_unsigned());
    }
    Some(kinds)
}

/// The kinds of a record's values, and the values.
fn parts(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = record;
    let head_len = usize::try_from(varint(&mut rest)?).ok()?;
    let taken = record.len() - rest.len();
    Some((record.get(taken..head_len)?, record.get(head_len..)?))
}

fn value_len(kind: u64) -> Option<usize> {
    Some(match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind).ok()?,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => usize::try_from((kind - 12) / 2).ok()?,
    })
}

/// The columns that lie within the first `at_most` bytes of a record.
fn decode(record: &[u8], at_most: usize) -> Option<Vec<Value>> {
    let (mut head, mut body) = parts(record)?;
    let mut values = Vec::new();
    while !head.is_empty() {
        let kind = varint(&mut head)?.cast_unsigned();
        let len = value_len(kind)?;
        let Some(bytes) = body.get(..len) else {
            return (at_most < usize::MAX).then_some(values);
        };
        body = &body[len..];
        values.push(match kind {
            0 | 7 => Value::Null, // no column of ours is a float
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(signed(bytes)),
            _ if kind % 2 == 0 => Value::Blob(bytes.to_vec()),
            _ => Value::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        });
    }
    Some(values)
}

fn signed(bytes: &[u8]) -> i64 {
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
    bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

/// Source: fileformat2.html, section 1.6: big-endian, seven bits a byte, the ninth byte whole.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for index in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if index == 8 {
            return Some((value << 8 | u64::from(*byte)).cast_signed());
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some(value.cast_signed());
        }
    }
    None
}

fn two(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn four(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(bytes) => u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        None => 0, // no page has this number
    }
}
