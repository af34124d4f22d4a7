//! What of a lane goes out as records of its own, one a reading, and which of them were accepted.
//!
//! The service takes or refuses each by itself, so between those that were accepted there are holes. What was refused goes again, with
//! what follows it, and the buffer forgets what is before the first hole.
//!
//! Invariant: a reading stays out of a request only if it was accepted at the same place of the same chunk, which nobody changes
//! meanwhile.

use std::collections::BTreeSet;

use super::bisect::Ask;
use crate::{
    buffer::{Delivered, Layout, Piece, Position},
    clock::Unsure,
    kinesis::{Record, limits::MAX_RECORDS_PER_REQUEST},
    record::{
        correct::correct,
        kpl::{self, Malformed},
    },
};

/// Nothing new is sent of a lane while so many records lie between its first hole and its end,
const MOST_RECORDS: usize = 2 * MAX_RECORDS_PER_REQUEST;
/// or so many bytes.
const MOST_BYTES: u64 = 1 << 20;
/// Bytes that a record takes in a request besides its data and its key.
const OVERHEAD: usize = 64;

/// A chunk's number in its lane, and bytes of the chunk.
type Place = (u64, u64);

/// The readings of one lane that were accepted while one before them was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OutOfTurn {
    accepted: BTreeSet<Place>,
    /// Bytes of chunks from the first hole to behind the last of them.
    span: u64,
    /// The reading at the first hole, and its length.
    hole: Option<(Place, u64)>,
}

impl OutOfTurn {
    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// How much to take out of the buffer so that `more` bytes lie behind it.
    pub(super) fn and(&self, more: usize) -> u64 {
        self.span + more as u64
    }

    /// Chunks below this number may not change.
    pub(super) fn end(&self) -> u64 {
        self.accepted.last().map_or(0, |(number, _)| number + 1)
    }

    /// The reading at the first hole was set aside: what is behind it in its chunk has moved up to the chunk's beginning.
    pub(super) fn set_aside(&mut self) {
        let Some(((number, offset), len)) = self.hole.take() else {
            *self = Self::default(); // a notice stays before what is behind it: all of it goes again, under the same names
            return;
        };
        let moved = |(other, at): Place| if other == number { (other, at.saturating_sub(offset + len)) } else { (other, at) };
        self.accepted = std::mem::take(&mut self.accepted).into_iter().map(moved).collect();
        self.span = self.span.saturating_sub(len);
    }
}

/// What a request has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Some of the readings of a lane, each as a record.
#[derive(Debug, Default)]
pub(super) struct Plain {
    pub(super) records: Vec<Record>,
    pub(super) sent: Sent,
}

/// Which those are, and what lies between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    records: Vec<Looked>,
    /// How many of the sent ones are readings, and no notices.
    pub(super) readings: u64,
}

/// A record that was looked at.
#[derive(Clone, Copy, Debug)]
struct Looked {
    at: Place,
    len: u64,
    after: Position,
    is_reading: bool,
    sent: bool,
    /// Of the record that was sent.
    size: usize,
}

/// Chooses from `pieces`, which begin at the head of the lane, what `asked` says, but for what is `known` to be accepted, as much as there
/// is `room` for; at least one record, whatever its size. Readings and notices count alike.
///
/// `correction` is as in [`super::pack::pack`].
pub(super) fn choose(
    layout: &Layout,
    pieces: &[Piece],
    known: &OutOfTurn,
    asked: Ask,
    room: Room,
    correction: impl Fn(Unsure) -> Option<i64>,
) -> Result<Plain, Malformed> {
    let mut choice =
        Choice { layout, known, room, skip: asked.skip, most: asked.most, span: 0, open: true, plain: Plain::default() };
    for piece in pieces {
        let add = piece.unsure.and_then(&correction);
        for record in records_of(piece) {
            let (record, looked) = record?;
            choice.look(piece, record, looked, add)?;
            if choice.is_over(looked.at) {
                return Ok(choice.plain);
            }
        }
    }
    Ok(choice.plain)
}

/// The records of `piece`, and where they lie.
fn records_of(piece: &Piece) -> impl Iterator<Item = Result<(kpl::Record<'_>, Looked), Malformed>> {
    let Position { number, offset, readings: before } = piece.position;
    let (mut used, mut readings) = (0, 0);
    std::iter::from_fn(move || {
        let rest = piece.data.get(used..).filter(|rest| !rest.is_empty())?;
        let record = match kpl::first_record(rest) {
            Ok(record) => record,
            Err(malformed) => return Some(Err(malformed)),
        };
        let (at, is_reading) = ((number, offset + used as u64), !(piece.notice && used == 0));
        used += record.field_len;
        readings += u64::from(is_reading);
        let after = if used == piece.data.len() {
            Position { number: number + 1, ..Position::default() }
        } else {
            Position { number, offset: offset + used as u64, readings: before + readings }
        };
        Some(Ok((record, Looked { at, len: record.field_len as u64, after, is_reading, sent: false, size: 0 })))
    })
}

/// What is chosen so far.
struct Choice<'a> {
    layout: &'a Layout,
    known: &'a OutOfTurn,
    room: Room,
    skip: u64,
    most: u64,
    span: u64,
    /// More may be sent.
    open: bool,
    plain: Plain,
}

impl Choice<'_> {
    fn look(&mut self, piece: &Piece, record: kpl::Record, mut looked: Looked, add: Option<i64>) -> Result<(), Malformed> {
        self.open &= self.plain.sent.records.is_empty()
            || (self.plain.sent.records.len() < MOST_RECORDS && self.span < MOST_BYTES && self.most > 0);
        if self.open && !self.known.accepted.contains(&looked.at) {
            if self.skip > 0 {
                self.skip -= 1;
            } else {
                let record = plain(self.layout, piece, record, add)?;
                looked.size = record.size();
                looked.sent = self.send(record);
                self.plain.sent.readings += u64::from(looked.sent && looked.is_reading);
            }
        }
        self.span += looked.len;
        self.plain.sent.records.push(looked);
        Ok(())
    }

    /// Whether there was room for `record`.
    fn send(&mut self, record: Record) -> bool {
        let cost = record.size() + OVERHEAD;
        self.open = self.plain.records.is_empty() || (self.room.records > 0 && self.room.bytes >= cost);
        if self.open {
            self.room.records = self.room.records.saturating_sub(1);
            self.room.bytes = self.room.bytes.saturating_sub(cost);
            self.most -= 1;
            self.plain.records.push(record);
        }
        self.open
    }

    /// Whether nothing behind `at` matters.
    fn is_over(&self, at: Place) -> bool {
        !(self.open && self.most > 0) && self.known.accepted.last().is_none_or(|last| *last <= at)
    }
}

fn plain(layout: &Layout, piece: &Piece, record: kpl::Record, add: Option<i64>) -> Result<Record, Malformed> {
    let partition_key = match &piece.keys {
        None => layout.partition_key.clone(),
        Some(keys) => usize::try_from(record.partition_key).ok().and_then(|key| keys.get(key)).ok_or(Malformed)?.clone(),
    };
    let mut data = Vec::with_capacity(record.data.len());
    match add {
        None => data.extend_from_slice(record.data),
        Some(add) => correct(&mut data, record.data, add),
    }
    Ok(Record { partition_key, explicit_hash_key: layout.hash_key, data })
}

impl Sent {
    /// Data and partition keys of those that were sent and for which `which` holds, by their places in the request.
    pub(super) fn bytes_of(&self, which: impl Fn(usize) -> bool) -> usize {
        let sent = self.records.iter().filter(|record| record.sent).enumerate();
        sent.filter(|(nth, _)| which(*nth)).map(|(_, record)| record.size).sum()
    }

    /// Enters into `known` which of those that were sent are accepted, by their places in the request. Returns what the buffer may forget:
    /// what is before the first hole.
    pub(super) fn settle(&self, accepted: impl Fn(usize) -> bool, known: &mut OutOfTurn) -> Option<Delivered> {
        let sent = self.records.iter().filter(|record| record.sent).enumerate();
        known.accepted.extend(sent.filter(|(nth, _)| accepted(*nth)).map(|(_, record)| record.at));
        let hole = self.records.iter().position(|record| !known.accepted.contains(&record.at)).unwrap_or(self.records.len());
        let (before, behind) = self.records.split_at(hole);
        let seen = self.records.last().map(|last| last.at);
        // What was not met on the way has left the buffer; what lies behind was not looked at.
        known.accepted.retain(|at| Some(*at) > seen || behind.binary_search_by_key(at, |record| record.at).is_ok());
        known.hole = behind.first().filter(|record| record.is_reading).map(|record| (record.at, record.len));
        let bytes = before.iter().map(|record| record.len).sum();
        known.span = match known.accepted.last() {
            None => 0,
            Some(last) if Some(*last) > seen => known.span.saturating_sub(bytes),
            Some(last) => behind.iter().take_while(|record| record.at <= *last).map(|record| record.len).sum(),
        };
        let readings = before.iter().filter(|record| record.is_reading).count() as u64;
        before.last().map(|last| Delivered { readings, bytes, up_to: last.after })
    }
}

#[cfg(test)]
mod tests;
