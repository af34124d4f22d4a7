//! What the pool tells of what waits in it, and whether more may come.

use std::{collections::BTreeMap, time::Instant};

use super::Pool;
#[cfg(test)]
use super::Receipts;
use crate::{
    buffer::{LaneId, Layout, store::Earlier},
    config::WhenFull,
    reading::Timestamp,
    record::Previous,
};

impl Pool {
    /// What will be safe when all is written.
    #[cfg(test)]
    pub(in crate::buffer) fn receipts_to_come(&self) -> Receipts {
        self.groups.marks(u64::MAX).map(|mark| (mark.source, mark.up_to)).collect()
    }

    /// Whether a source may hand over more that goes to `streams`.
    pub(in crate::buffer) fn has_room<'a>(&self, mut streams: impl Iterator<Item = &'a str>, open_bytes: u64) -> bool {
        self.memory + open_bytes < self.policy.memory && !streams.any(|stream| self.is_held(stream))
    }

    /// Whether a stream has all that it may have, and nothing of it may be dropped.
    fn is_held(&self, stream: &str) -> bool {
        let bound = self.policy.streams.get(stream).filter(|rules| rules.when_full == WhenFull::Block);
        bound.and_then(|rules| rules.max_size).is_some_and(|max| self.waiting(stream).bytes >= max)
    }

    /// Whether some stream has.
    pub(in crate::buffer) fn holds_a_stream(&self) -> bool {
        self.policy.streams.keys().any(|stream| self.is_held(stream))
    }

    /// What waits of one stream.
    pub(in crate::buffer) fn waiting(&self, stream: &str) -> Earlier {
        let mut sum = Earlier::default();
        let lanes = self.lanes.values().filter(|state| state.lane.layout.stream == stream);
        lanes.for_each(|state| sum.add(state.waiting.readings, state.waiting.bytes));
        sum
    }

    /// By stream: what waits, and when the oldest of it arrived.
    pub(in crate::buffer) fn backlog(&self) -> BTreeMap<&str, (Earlier, Option<Timestamp>)> {
        let mut backlog: BTreeMap<&str, (Earlier, Option<Timestamp>)> = BTreeMap::new();
        for state in self.lanes.values() {
            let (waiting, oldest) = backlog.entry(&state.lane.layout.stream).or_default();
            waiting.add(state.waiting.readings, state.waiting.bytes);
            if state.waiting.readings > 0 {
                *oldest = [*oldest, state.oldest].into_iter().flatten().min();
            }
        }
        backlog
    }

    /// What `lane` is.
    pub(in crate::buffer) fn lane(&self, lane: LaneId) -> Option<&Layout> {
        self.lanes.get(&lane).map(|state| &state.lane.layout)
    }

    /// Rows of `lane` from this number on are about to be replaced by what is in memory.
    pub(in crate::buffer) fn settled_below(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(u64::MAX, super::LaneState::settled_below)
    }

    /// What waits in one lane, and since when, if the first of it is in memory.
    pub(in crate::buffer) fn lane_waiting(&self, lane: LaneId) -> (Earlier, Option<Instant>) {
        let Some(state) = self.lanes.get(&lane) else { return Default::default() };
        let first = state.memory.front().filter(|_| state.has_in_memory(state.position.number));
        (state.waiting, first.map(|held| held.since))
    }

    /// Whether everything that `lane` had is confirmed, or gone.
    pub(in crate::buffer) fn is_empty(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_none_or(|state| state.position.number >= state.next)
    }

    /// The last names that this run gave, and the number of the next chunk.
    pub(in crate::buffer) fn last_names(&self) -> Vec<(LaneId, u64, Previous)> {
        self.lanes.iter().filter_map(|(lane, state)| state.last_name.map(|name| (*lane, state.next, name))).collect()
    }

    /// Readings that are in memory alone.
    pub(in crate::buffer) fn unwritten_readings(&self) -> u64 {
        let held = self.lanes.values().flat_map(|state| &state.memory);
        held.filter(|held| !held.written).map(|held| held.chunk.readings).sum()
    }

    /// Bytes of chunks in memory.
    pub(in crate::buffer) fn memory(&self) -> u64 {
        self.memory
    }
}
