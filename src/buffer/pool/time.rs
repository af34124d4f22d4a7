//! When readings arrived whose clock was set later.
//!
//! Invariant: a chunk keeps what the clock said and how it was set then; what that means is worked out whenever somebody asks, so it is
//! as right as what is known by then.

use super::{BTreeMap, Belief, Boot, Chunk, Instant, LaneId, Pool, Setting, Timestamp, Trust, Unsure, write::Right};

impl Pool {
    /// Takes over what the file knows: how the clock was set in earlier boots when it was right, and whether any reading needs that.
    pub(in crate::buffer) fn add_settings(&mut self, right: Vec<(Boot, Setting)>, needed: bool) {
        self.right.extend(right);
        self.writing.unsure_rows = needed;
    }

    /// What is believed of the clock. Where it jumps again, what was right before is still the best that is known.
    pub(in crate::buffer) fn clock_is(&mut self, now: Instant, belief: Belief) {
        let Belief { boot, set, trust } = belief;
        self.clock_is_right = trust == Trust::Right;
        if trust != Trust::Right || self.right.insert(boot, set) == Some(set) {
            return;
        }
        self.writing.right = Some(Right { boot, set, since: now });
        for state in self.lanes.values_mut().filter(|state| state.memory_from() <= state.position.number) {
            state.oldest = state.memory.front().map(|held| arrival(&self.right, &held.chunk));
        }
    }

    /// Milliseconds to be added to the time of readings that are `unsure`; none while that is not known.
    pub(in crate::buffer) fn correction(&self, unsure: Unsure) -> Option<i64> {
        correction(&self.right, unsure)
    }

    /// A time that was taken with a clock that may be `unsure`, as far as is known.
    pub(in crate::buffer) fn corrected(&self, time: Timestamp, unsure: Option<Unsure>) -> Timestamp {
        corrected(&self.right, time, unsure)
    }

    /// Lanes whose first chunk is on the disk alone, and its number.
    pub(in crate::buffer) fn heads_on_disk(&self) -> Vec<(LaneId, u64)> {
        let on_disk = self.lanes.values().filter(|state| state.position.number < state.memory_from());
        on_disk.map(|state| (state.lane.id, state.position.number)).collect()
    }

    /// The first chunk of `lane` arrived at another time than was believed.
    pub(in crate::buffer) fn head_arrived(&mut self, lane: LaneId, arrived: Timestamp) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.oldest = Some(arrived);
        }
    }
}

/// When the first reading of `chunk` arrived, as far as is known.
pub(super) fn arrival(right: &BTreeMap<Boot, Setting>, chunk: &Chunk) -> Timestamp {
    corrected(right, chunk.arrived, chunk.unsure)
}

fn corrected(right: &BTreeMap<Boot, Setting>, time: Timestamp, unsure: Option<Unsure>) -> Timestamp {
    let add = unsure.and_then(|unsure| correction(right, unsure));
    Timestamp(time.0.saturating_add(add.unwrap_or_default()))
}

fn correction(right: &BTreeMap<Boot, Setting>, unsure: Unsure) -> Option<i64> {
    right.get(&unsure.boot).map(|right| right.since(unsure.set))
}
