//! What gives way when there is no room: whole chunks, oldest first, never one that is on its way.
//!
//! Only chunks on the disk are taken: what is in memory alone is younger than all of those, and is bounded.

use super::{Delete, Earlier, Instant, LaneId, LaneState, Pool, Position, WhenFull};
use crate::{
    buffer::store::{Head, Stored},
    reading::Timestamp,
};

/// The lane whose oldest chunk goes next, and the first number that may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Victim {
    pub(in crate::buffer) lane: LaneId,
    pub(in crate::buffer) from: u64,
}

/// Readings that were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Dropped {
    pub(in crate::buffer) stream: String,
    pub(in crate::buffer) readings: u64,
    pub(in crate::buffer) bytes: u64,
}

impl Pool {
    /// A stream with a bound of its own that has passed it and drops: its oldest chunk.
    pub(in crate::buffer) fn over_quota(&self) -> Option<Victim> {
        let mut over = self.policy.streams.iter().filter(|(stream, policy)| {
            policy.when_full == WhenFull::DropOldest && policy.max_size.is_some_and(|max| self.waiting(stream).bytes > max)
        });
        over.find_map(|(stream, _)| self.victim_of(|state| state.lane.layout.stream == *stream))
    }

    /// The oldest chunk that may be dropped to make room in the whole buffer: of a stream that nobody configures any more, or else of
    /// any that drops.
    pub(in crate::buffer) fn victim(&self) -> Option<Victim> {
        let policy = |state: &LaneState| self.policy.streams.get(&state.lane.layout.stream);
        self.victim_of(|state| policy(state).is_none())
            .or_else(|| self.victim_of(|state| policy(state).is_some_and(|policy| policy.when_full == WhenFull::DropOldest)))
    }

    fn victim_of(&self, may_drop: impl Fn(&LaneState) -> bool) -> Option<Victim> {
        let candidates = self.lanes.values().filter(|state| may_drop(state) && state.first_droppable() < state.written_below);
        let oldest = candidates.min_by_key(|state| state.oldest.unwrap_or(Timestamp(i64::MAX)))?;
        Some(Victim { lane: oldest.lane.id, from: oldest.first_droppable() })
    }

    /// Drops the chunk of `lane` that `head` describes; nothing when it went on its way meanwhile.
    pub(in crate::buffer) fn drop_chunk(&mut self, now: Instant, lane: LaneId, head: &Head) -> Option<Dropped> {
        let state = self.lanes.get_mut(&lane).filter(|state| head.number >= state.first_droppable())?;
        let dropped = state.count_out(head.number, head.readings, head.bytes);
        state.oldest = Some(head.arrived);
        // Its copy in memory goes too; everything before it was written as well.
        while state.memory_from() <= head.number
            && let Some(held) = state.memory.pop_front()
        {
            self.memory -= held.chunk.bytes();
        }
        if state.outstanding > state.position.number {
            let first = state.hole.as_ref().map_or(head.number, |hole| hole.start);
            state.hole = Some(first..head.number + 1);
            let hole = Earlier { readings: dropped.readings, bytes: dropped.bytes };
            self.writing.dropped.push(Delete { lane, from: head.number, up_to: head.number, hole });
        } else {
            self.advance(now, lane, Position { number: head.number + 1, ..Position::default() });
        }
        Some(dropped)
    }

    /// Gives up the chunk at the head of `lane`, which can't be read back.
    pub(in crate::buffer) fn give_up(&mut self, now: Instant, lane: LaneId, head: &Stored) -> Option<Dropped> {
        let state = self.lanes.get_mut(&lane)?;
        state.outstanding = 0;
        let dropped = state.count_out(head.number, head.readings, head.bytes);
        self.advance(now, lane, Position { number: head.number + 1, ..Position::default() });
        Some(dropped)
    }
}

impl LaneState {
    /// Takes what is left of a chunk out of what waits.
    fn count_out(&mut self, number: u64, readings: u64, bytes: u64) -> Dropped {
        let begun = if self.position.number == number { self.position } else { Position::default() };
        let (readings, bytes) = (readings - begun.readings, bytes - begun.offset);
        self.waiting.subtract(readings, bytes);
        Dropped { stream: self.lane.layout.stream.clone(), readings, bytes }
    }

    fn first_droppable(&self) -> u64 {
        let first = self.outstanding.max(self.position.number);
        self.hole.as_ref().map_or(first, |hole| first.max(hole.end))
    }
}
