//! How the reading at the head of a lane leaves it, to be set aside.

use super::{Earlier, Instant, LaneId, Pool, Position, Receipts};
use crate::{
    buffer::{Chunk, Rejected},
    record::{
        kpl::{self, Malformed},
        topic_of,
    },
};

/// A chunk whose first readings go.
#[derive(Debug)]
pub(in crate::buffer) struct Cut {
    pub(in crate::buffer) number: u64,
    /// What is left of it, and what its lane had before that; none when nothing is left.
    pub(in crate::buffer) rest: Option<(Chunk, Earlier)>,
    /// The last one that goes. Those before it are delivered.
    pub(in crate::buffer) reading: Rejected,
    /// Bytes of that one.
    bytes: u64,
}

impl Cut {
    /// Cuts `chunk` behind the first reading that is not delivered, which is at `position`.
    pub(in crate::buffer) fn new(chunk: &Chunk, earlier: Earlier, position: Position, reason: &str) -> Result<Self, Malformed> {
        let offset = usize::try_from(position.offset).map_err(|_| Malformed)?;
        let record = kpl::first_record(chunk.data.get(offset..).ok_or(Malformed)?)?;
        let key = match &chunk.keys {
            None => None,
            Some(keys) => Some(usize::try_from(record.partition_key).ok().and_then(|key| keys.get(key)).ok_or(Malformed)?.clone()),
        };
        let reading = Rejected {
            run: chunk.run,
            seq: chunk.first_seq + position.readings,
            arrived: chunk.arrived,
            reason: reason.to_owned(),
            topic: topic_of(record.data),
            partition_key: key,
            data: chunk.data.slice_ref(record.data),
        };
        let (gone, bytes) = (position.readings + 1, record.field_len as u64);
        let rest = (chunk.readings > gone).then(|| {
            let data = chunk.data.slice(offset + record.field_len..);
            let rest = Chunk { readings: chunk.readings - gone, first_seq: chunk.first_seq + gone, data, ..chunk.clone() };
            let before = Earlier { readings: earlier.readings + gone, bytes: earlier.bytes + position.offset + bytes };
            (rest, before)
        });
        Ok(Self { number: position.number, rest, reading, bytes })
    }
}

impl Pool {
    /// What is at the head of `lane`: its place, and the chunk if it is in memory. None when `lane` has nothing on its way.
    pub(in crate::buffer) fn head(&self, lane: LaneId) -> Option<(Position, Option<(Chunk, Earlier)>)> {
        let state = self.lanes.get(&lane).filter(|state| state.outstanding > state.position.number)?;
        let index = state.position.number.checked_sub(state.memory_from()).and_then(|index| usize::try_from(index).ok());
        let held = index.and_then(|index| state.memory.get(index));
        Some((state.position, held.map(|held| (held.chunk.clone(), held.earlier))))
    }

    /// Rows of `lane` from this number on are not deleted yet.
    pub(in crate::buffer) fn deleted_below(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(0, |state| state.deleted_below)
    }

    /// `cut` of `lane` is on the disk.
    pub(in crate::buffer) fn set_aside(&mut self, now: Instant, lane: LaneId, cut: &Cut) -> Receipts {
        let Some(state) = self.lanes.get_mut(&lane) else { return Receipts::new() };
        state.outstanding = 0;
        state.waiting.subtract(1, cut.bytes);
        state.deleted_below = state.deleted_below.max(cut.number);
        let Some((rest, earlier)) = &cut.rest else {
            state.deleted_below = state.deleted_below.max(cut.number + 1);
            state.written_below = state.written_below.max(cut.number + 1);
            self.advance(now, lane, Position { number: cut.number + 1, ..Position::default() });
            return self.close_groups();
        };
        self.writing.unsure_rows |= rest.unsure.is_some();
        state.written_below = state.written_below.max(cut.number + 1);
        state.position = Position { number: cut.number, ..Position::default() };
        let index = cut.number.checked_sub(state.memory_from()).and_then(|index| usize::try_from(index).ok());
        if let Some(held) = index.and_then(|index| state.memory.get_mut(index)) {
            let (before, after) = (held.chunk.bytes(), rest.bytes());
            self.memory -= before - after;
            held.chunk = rest.clone();
            held.earlier = *earlier;
            if !std::mem::replace(&mut held.written, true) {
                self.unwritten -= before;
                let group = held.group;
                self.close_chunk(group);
            }
        }
        self.close_groups()
    }
}
