//! What waits, and where it lies: decided here, without a clock and without a file.
//!
//! A lane's chunks are numbered. The last ones are in memory, written already or not; those before are on the disk alone. A group is a
//! point in the order of arrival: when all of its chunks, and all groups before it, are confirmed or written, its readings are safe.
//!
//! Invariant: a chunk stays, in memory or on disk, until its destination confirmed it (`forget`), it was set aside
//! (`aside.rs`), or overflow took it (`overflow.rs`).

mod alone;
mod aside;
mod groups;
mod notice;
mod overflow;
mod parts;
mod repeats;
mod salvaged;
mod thin;
mod time;
mod view;
mod write;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Chunk, Delivered, Group, Lane, LaneId, Layout, Mark, Piece, Position, StreamRules, Taken,
    store::{Delete, Earlier, Gap, StoredLane},
};
use crate::{
    clock::{Belief, Boot, Setting, Trust, Unsure},
    reading::{Fingerprint, Ordinal, SourceId, Timestamp},
    record::Previous,
};

use self::{groups::Groups, repeats::Repeats, time::arrival};
pub(super) use aside::{Cut, NO_READINGS, Whole};
pub(super) use overflow::{GiveWay, Rewrite};
pub(super) use salvaged::SalvagedRow;
pub(super) use thin::Phases;
pub(super) use write::{Right, Write};

/// When something has to be written, and what gives way.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// The longest an unconfirmed reading stays in memory only.
    pub(super) hold: Duration,
    /// Bytes of readings in memory, at most.
    pub(super) memory: u64,
    /// The gateway's name, for notices.
    pub(super) device: String,
    /// By stream; one that is not here has left the configuration.
    pub(super) streams: BTreeMap<String, StreamRules>,
}

#[derive(Debug)]
pub(super) struct Pool {
    policy: Policy,
    lanes: BTreeMap<LaneId, LaneState>,
    /// By the name that ingest knows, lanes that may have parts.
    parts: BTreeMap<LaneId, parts::Parts>,
    /// Parts that began since the start.
    begun: u64,
    groups: Groups,
    /// By source, what its broker may still repeat.
    repeats: BTreeMap<SourceId, Repeats>,
    next_receipt: u64,
    /// By boot, how the clock was set when it was right.
    right: BTreeMap<Boot, Setting>,
    /// It is now, as far as this process was told.
    clock_is_right: bool,
    /// Bytes of chunks in memory, and how many of them are there alone.
    memory: u64,
    unwritten: u64,
    writing: write::State,
    /// Lanes that more is to come for from a damaged file.
    coming: BTreeSet<LaneId>,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane,
    /// The number of the next chunk.
    next: u64,
    /// What the lane had since it began, when the next chunk is added.
    total: Earlier,
    /// What waits, on disk and in memory.
    waiting: Earlier,
    /// What is to be sent next.
    position: Position,
    /// Chunks below this number are on their way, and may not be dropped.
    outstanding: u64,
    /// Chunks below this number hold readings that were confirmed out of turn, and stay as they are.
    pinned: u64,
    /// The chunks in memory; the last one has number `next - 1`.
    memory: VecDeque<Held>,
    /// Rows below this number were written.
    written_below: u64,
    /// Rows below this number were deleted.
    deleted_below: u64,
    /// Rows from this number on were written by this process, so that they are no older than it.
    ours_from: u64,
    /// Rows below this number have nothing left to drop, or had not when they were looked at.
    spent_below: u64,
    /// Not before this is it looked at again for what has waited too long.
    look_again: Option<Instant>,
    /// How far the readings on disk are thinned.
    thinned: thin::Pass,
    /// The last row, if it stands for others alone.
    tail: Option<alone::Tail>,
    /// Arrival of what is to be sent next, or of something before it.
    oldest: Option<Timestamp>,
    /// The last name that this run gave.
    last_name: Option<Previous>,
    /// It is the so manieth part that began, and the file does not know that yet.
    begun: Option<u64>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    chunk: Chunk,
    earlier: Earlier,
    /// What is gone here, and the first number that it stands for.
    gap: Option<Gap>,
    from: u64,
    group: u64,
    /// Later groups whose chunks it stands for.
    also: Vec<u64>,
    since: Instant,
    written: bool,
}

/// Sources whose watermark rose, and to what.
pub(super) type Receipts = Vec<(SourceId, Ordinal)>;

/// Where the oldest chunks of a lane lie.
#[derive(Debug)]
pub(super) enum Oldest {
    Nothing,
    InMemory(Taken),
    /// On disk, from this position on.
    OnDisk(Position),
}

impl Earlier {
    fn add(&mut self, readings: u64, bytes: u64) {
        // Saturating, because what a file says of itself may be anything.
        self.readings = self.readings.saturating_add(readings);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn subtract(&mut self, readings: u64, bytes: u64) {
        debug_assert!(self.readings >= readings && self.bytes >= bytes, "more left the lane than was in it");
        self.readings = self.readings.saturating_sub(readings);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl LaneState {
    /// The number of the first chunk that is in memory, or of the next one.
    fn memory_from(&self) -> u64 {
        self.memory.front().map_or(self.next, |held| held.number)
    }

    /// Whether what has number `number`, or stands for it, is in memory.
    fn has_in_memory(&self, number: u64) -> bool {
        self.memory.front().is_some_and(|held| held.from <= number)
    }

    /// Rows below this number are on the disk, and nothing in memory is about to take their place.
    fn settled_below(&self) -> u64 {
        self.memory.iter().find(|held| !held.written).map_or(self.written_below, |held| held.from.min(self.written_below))
    }

    /// The place in memory of the chunk with number `number`.
    fn held(&self, number: u64) -> Option<usize> {
        self.memory.binary_search_by_key(&number, |held| held.number).ok()
    }

    /// The range of rows that are confirmed, and wait for their delete.
    fn deletable(&self) -> Option<Delete> {
        let below = self.position.number.min(self.written_below);
        (below > self.deleted_below).then(|| Delete { lane: self.lane.id, from: self.deleted_below, up_to: below - 1 })
    }
}

impl Pool {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            lanes: BTreeMap::new(),
            parts: BTreeMap::new(),
            begun: 0,
            groups: Groups::default(),
            repeats: BTreeMap::new(),
            next_receipt: 0,
            right: BTreeMap::new(),
            clock_is_right: false,
            memory: 0,
            unwritten: 0,
            writing: write::State::default(),
            coming: BTreeSet::new(),
        }
    }

    /// Takes over what the file holds of a lane.
    pub(super) fn add_lane(&mut self, stored: StoredLane) {
        let (first, waiting, total, oldest) = match stored.ends {
            None => (stored.next, Earlier::default(), Earlier::default(), None),
            Some((first, last)) => {
                let mut total = last.earlier;
                total.add(last.counted().readings, last.counted().bytes);
                let (gone, gone_bytes) = stored.gone;
                let waiting = Earlier {
                    readings: total.readings.saturating_sub(first.earlier.readings.saturating_add(gone)),
                    bytes: total.bytes.saturating_sub(first.earlier.bytes).saturating_add_signed(-gone_bytes),
                };
                (first.number, waiting, total, Some(first.arrived))
            }
        };
        let state = LaneState {
            next: stored.next,
            total,
            waiting,
            position: Position { number: first, ..Position::default() },
            outstanding: 0,
            pinned: 0,
            memory: VecDeque::new(),
            written_below: stored.next,
            deleted_below: first,
            ours_from: stored.next,
            spent_below: 0,
            look_again: None,
            thinned: thin::Pass::default(),
            tail: None,
            oldest,
            last_name: None,
            begun: None,
            lane: stored.lane,
        };
        self.lanes.insert(state.lane.id, state);
    }

    /// `source`'s broker may repeat `window` publishes; `rows` of the file hold how many of them.
    pub(super) fn add_source(&mut self, source: SourceId, window: usize, rows: Vec<(u64, usize)>) {
        self.next_receipt = rows.iter().map(|(row, _)| row + 1).max().unwrap_or_default().max(self.next_receipt);
        self.repeats.insert(source, Repeats::new(window, rows));
    }

    /// Adds a group behind all others.
    pub(super) fn append(&mut self, group: Group) -> Receipts {
        // Readings that no stream takes are safe with what is before them. A group for each of their batches would have no bound while the
        // disk can't be written. What is being written already stays as it is.
        if group.chunks.is_empty() {
            self.groups.join(group.marks, self.writing.under_way);
            return self.close_groups();
        }
        let number = self.groups.next();
        self.groups.add(group.chunks.len(), group.marks);
        for mut chunk in group.chunks {
            chunk.lane = self.today(chunk.lane);
            // To pass over it would acknowledge what is nowhere.
            let state = self.lanes.get_mut(&chunk.lane).expect("ingest makes chunks only for lanes that it got from here");
            let bytes = chunk.data.len() as u64;
            self.memory += chunk.bytes();
            self.unwritten += chunk.bytes();
            state.oldest.get_or_insert_with(|| arrival(&self.right, &chunk));
            let seq = chunk.first_seq + chunk.readings.saturating_sub(1);
            state.last_name = Some(Previous { run: chunk.run, seq });
            let earlier = state.total;
            state.total.add(chunk.readings, bytes);
            state.waiting.add(chunk.readings, bytes);
            state.memory.push_back(Held {
                number: state.next,
                chunk,
                earlier,
                gap: None,
                from: state.next,
                group: number,
                also: Vec::new(),
                since: group.since,
                written: false,
            });
            state.next += 1;
        }
        self.writing.look_again(); // it may be what gives way
        self.ask_if_half_full();
        self.close_groups()
    }

    /// What of `lane` is to be sent next: as much as holds `at_most` bytes, and at least one chunk if there is one. It is outstanding
    /// until `forget` or `release`.
    pub(super) fn oldest(&mut self, lane: LaneId, at_most: u64) -> Oldest {
        let Some(state) = self.lanes.get_mut(&lane) else { return Oldest::Nothing };
        let position = state.position;
        if position.number >= state.next {
            return Oldest::Nothing;
        }
        if !state.has_in_memory(position.number) {
            state.outstanding = u64::MAX; // until `took` knows how far the read went
            return Oldest::OnDisk(position);
        }
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for held in state.memory.iter().filter(|held| held.number >= position.number) {
            if bytes >= at_most && !pieces.is_empty() {
                break;
            }
            let piece = Piece::starting_at(held.number, &held.chunk, position);
            bytes += piece.data.len() as u64;
            state.outstanding = held.number + 1;
            pieces.push(piece);
        }
        Oldest::InMemory(Taken { lane, pieces, from_disk: false })
    }

    /// The chunks of `lane` below `below` were read from disk, and are on their way; none when there were no rows left.
    pub(super) fn took(&mut self, now: Instant, lane: LaneId, below: Option<(u64, Timestamp)>) {
        self.writing.look_again();
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.outstanding = below.map_or(0, |(number, _)| number);
        match below {
            Some((_, oldest)) => state.oldest = Some(oldest),
            None => {
                // A row that what is in memory has joined stays until that is written or confirmed.
                let number = state.memory.front().map_or(state.next, |held| held.from);
                self.advance(now, lane, Position { number, ..Position::default() });
            }
        }
    }

    /// What was outstanding of `lane` waits again.
    pub(super) fn release(&mut self, lane: LaneId) {
        self.writing.look_again();
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.outstanding = 0;
            // What was on its way may be dropped like any other.
            state.spent_below = 0;
        }
    }

    /// Chunks of `lane` below `below` hold readings that were confirmed out of turn.
    pub(super) fn pin(&mut self, lane: LaneId, below: u64) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        if below < state.pinned {
            self.writing.look_again();
            state.spent_below = 0; // as when it is released
        }
        state.pinned = below;
    }

    /// `delivered` of `lane` was confirmed. The rows of what was written go with the next insert.
    pub(super) fn forget(&mut self, now: Instant, lane: LaneId, delivered: &Delivered) -> Receipts {
        self.writing.look_again();
        let Some(state) = self.lanes.get_mut(&lane) else { return Receipts::new() };
        state.outstanding = 0;
        state.waiting.subtract(delivered.readings, delivered.bytes);
        self.advance(now, lane, delivered.up_to);
        self.close_groups()
    }

    /// What is before `position` of `lane` is not needed any more.
    fn advance(&mut self, now: Instant, lane: LaneId, position: Position) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.position = position;
        while state.memory_from() < position.number
            && let Some(mut held) = state.memory.pop_front()
        {
            self.memory -= held.chunk.bytes();
            if !held.written {
                self.unwritten -= held.chunk.bytes();
                self.groups.close(&mut held);
            }
        }
        if position.number >= state.memory_from() {
            state.oldest = state.memory.front().map(|held| arrival(&self.right, &held.chunk));
        }
        if state.deletable().is_some() {
            self.writing.delete_since.get_or_insert(now);
        }
    }

    /// Takes off the groups that are safe, in order.
    fn close_groups(&mut self) -> Receipts {
        let mut receipts = Receipts::new();
        for mark in self.groups.take_safe() {
            match receipts.iter_mut().find(|(source, _)| *source == mark.source) {
                Some((_, up_to)) => *up_to = mark.up_to,
                None => receipts.push((mark.source, mark.up_to)),
            }
            if let Some(repeats) = self.repeats.get_mut(&mark.source) {
                repeats.confirmed(mark.fingerprints, mark.repeatable);
            }
        }
        receipts
    }
}
