//! What goes through the buffer: lanes, chunks of readings, and places in them.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    clock::Unsure,
    reading::{Fingerprint, Ordinal, SourceId, Timestamp},
    record::{
        Notice, RunId,
        kpl::{self, first_record},
    },
};

/// A lane's row in the file; the same for as long as its layout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

/// One ordered sequence of readings, with the keys that they are sent under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its row.
    pub id: LaneId,
    /// What it is.
    pub layout: Layout,
}

/// What makes a lane. One with another number of siblings or another key is another lane, and the old one drains first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The name under `[streams]`.
    pub stream: String,
    /// Which of the stream's lanes, from 0.
    pub number: u16,
    /// How many lanes the stream has.
    pub of: u16,
    /// The partition key of its records.
    pub partition_key: String,
    /// The explicit hash key of its records.
    pub hash_key: Option<u128>,
    /// Template of the readings' own partition keys, where they are not the lane's.
    pub template: Option<String>,
}

/// A run of readings of one lane, encoded, ready to be concatenated with the next.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Whose readings they are.
    pub lane: LaneId,
    /// How many.
    pub readings: u64,
    /// The run that named them.
    pub run: RunId,
    /// The number of the first; the others follow without a gap.
    pub first_seq: u64,
    /// When the first arrived.
    pub arrived: Timestamp,
    /// How the clock was set when they arrived, if nobody knew it to be right.
    pub unsure: Option<Unsure>,
    /// The first record is a notice and no reading.
    pub notice: bool,
    /// The partition keys of the readings, where they are not the lane's own.
    pub keys: Option<Arc<[String]>>,
    /// KPL `records` fields.
    pub data: Bytes,
}

impl Chunk {
    /// What its first record says, if that is a notice.
    pub fn notice(&self) -> Option<Notice> {
        Notice::decode(first_record(&self.data).ok()?.data)
    }

    /// What it takes of memory and disk, its keys included.
    pub fn bytes(&self) -> u64 {
        let keys: usize = self.keys.iter().flat_map(|keys| keys.iter()).map(|key| key.len() + KEY_OVERHEAD).sum();
        (self.data.len() + keys) as u64
    }
}

/// What a key takes besides its text, in memory and on disk.
const KEY_OVERHEAD: usize = 24;

/// All that had arrived up to a moment: nothing before it is missing, nothing after it is in.
#[derive(Debug)]
pub struct Group {
    /// At most one a lane.
    pub chunks: Vec<Chunk>,
    /// How far the sources are with it.
    pub marks: Vec<Mark>,
    /// When the first of its readings arrived.
    pub since: Instant,
}

/// How far one source is with a group.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which source.
    pub source: SourceId,
    /// All its readings up to this one are in this group or before it.
    pub up_to: Ordinal,
    /// Of its readings in this group, those that the sender may repeat.
    pub fingerprints: Vec<Fingerprint>,
    /// How many publishes, these included, the sender may repeat as far as the source knows; a window of them is kept anyway.
    pub repeatable: usize,
}

/// What of a lane is to be sent next; outstanding until [`super::Buffer::forget`] or [`super::Buffer::release`].
#[derive(Debug)]
pub struct Taken {
    /// Whose it is.
    pub lane: LaneId,
    /// In order; the first may begin inside a chunk, behind what was delivered of it.
    pub pieces: Vec<Piece>,
    /// They come from the disk: what was written, whatever that is.
    pub from_disk: bool,
}

/// A chunk, or the rest of one.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it begins.
    pub position: Position,
    /// Readings in it.
    pub readings: u64,
    /// When the chunk's first reading arrived.
    pub arrived: Timestamp,
    /// It begins with a notice, which is no reading.
    pub notice: bool,
    /// As in [`Chunk`].
    pub unsure: Option<Unsure>,
    /// As in [`Chunk`].
    pub keys: Option<Arc<[String]>>,
    /// As in [`Chunk`].
    pub data: Bytes,
}

/// A place between two readings of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The chunk's number in its lane.
    pub number: u64,
    /// Bytes of it that lie before.
    pub offset: u64,
    /// Readings of it that lie before.
    pub readings: u64,
}

impl Position {
    /// Where the lane goes on in chunk `number`, the first that is left of it: those before may have given way.
    pub(super) fn within(self, number: u64) -> Self {
        if self.number == number { self } else { Self { number, ..Self::default() } }
    }
}

/// What a destination confirmed of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// How many readings.
    pub readings: u64,
    /// How many bytes of chunks.
    pub bytes: u64,
    /// What is to be sent next.
    pub up_to: Position,
}

/// A reading that its destination calls invalid, and that is kept out of its lane's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The run that named it.
    pub run: RunId,
    /// Its number.
    pub seq: u64,
    /// When the first reading of its chunk arrived.
    pub arrived: Timestamp,
    /// What the destination said, or what is wrong with it.
    pub reason: String,
    /// Where the encoding tells.
    pub topic: Option<String>,
    /// Where it is not the lane's own.
    pub partition_key: Option<String>,
    /// The user record; a whole chunk where that is no readings.
    pub data: Bytes,
}

/// What waits in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Readings, in memory and on disk.
    pub readings: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// When the first of them arrived; none when it is on the disk alone, and so long ago.
    pub since: Option<Instant>,
    /// More is on its way from a damaged file, and goes before anything of a younger lane.
    pub expected: bool,
}

impl Piece {
    /// Whether it can be taken apart into readings: one that can't makes whatever it is joined to unreadable for its consumers.
    pub fn is_readings(&self) -> bool {
        // Without keys of their own, readings have the lane's.
        kpl::is_run(&self.data, self.keys.as_ref().map_or(1, |keys| keys.len()))
    }

    /// The chunk with number `number`, less what lies before `position` of it.
    pub(super) fn starting_at(number: u64, chunk: &Chunk, position: Position) -> Self {
        let position = position.within(number);
        let offset = usize::try_from(position.offset).unwrap_or(usize::MAX).min(chunk.data.len());
        Self {
            position,
            readings: chunk.readings.saturating_sub(position.readings), // a row of an earlier version may say anything of itself
            arrived: chunk.arrived,
            unsure: chunk.unsure,
            notice: chunk.notice && position.offset == 0,
            keys: chunk.keys.clone(),
            data: chunk.data.slice(offset..),
        }
    }
}
