//! How the reading at the head of a lane leaves it, to be set aside.

use super::{Earlier, Gap, Held, Instant, LaneId, LaneState, Pool, Position, Receipts};
use crate::{
    buffer::{Chunk, Rejected},
    record::{
        kpl::{self, Malformed},
        names_of,
    },
};

/// Why a whole chunk is set aside.
pub(in crate::buffer) const NO_READINGS: &str = "the bytes are what was written, and no readings";

/// A chunk, what its lane had before it, and what is gone in it.
#[derive(Debug)]
pub(in crate::buffer) struct Whole {
    pub(in crate::buffer) chunk: Chunk,
    pub(in crate::buffer) earlier: Earlier,
    pub(in crate::buffer) gap: Option<Gap>,
}

/// A chunk whose first readings go.
#[derive(Debug)]
pub(in crate::buffer) struct Cut {
    pub(in crate::buffer) number: u64,
    /// What is left of it, and what its lane had before that; none when nothing is left.
    pub(in crate::buffer) rest: Option<(Chunk, Earlier)>,
    /// What is gone in what is left.
    pub(in crate::buffer) gap: Option<Gap>,
    /// The last one that goes. Those before it are delivered, but for a notice, which stays.
    pub(in crate::buffer) reading: Rejected,
    /// 1; 0 where it is a notice that stands alone; as many as it says where it is a whole chunk.
    pub(in crate::buffer) readings: u64,
    /// The number of the last reading that is or was in the chunk.
    pub(in crate::buffer) last_seq: u64,
    /// Bytes of that.
    bytes: u64,
}

impl Whole {
    fn last_seq(&self) -> u64 {
        let Chunk { first_seq, readings, .. } = self.chunk;
        self.gap.map_or(first_seq.saturating_add(readings).saturating_sub(1), |gap| gap.last)
    }
}

impl Cut {
    /// Cuts a chunk behind the first reading that is not delivered, which is at `position`.
    pub(in crate::buffer) fn new(whole: &Whole, position: Position, reason: &str) -> Result<Self, Malformed> {
        let &Whole { ref chunk, earlier, gap } = whole;
        let offset = usize::try_from(position.offset).map_err(|_| Malformed)?;
        let fields = chunk.data.get(offset..).ok_or(Malformed)?;
        // A notice that is not delivered stays in front of what is left, unless nothing else is there that could be at fault.
        let notice = if chunk.notice && offset == 0 && chunk.readings > 0 { kpl::first_record(fields)?.field_len } else { 0 };
        let record = kpl::first_record(&fields[notice..])?;
        let key = match &chunk.keys {
            None => None,
            Some(keys) => Some(usize::try_from(record.partition_key).ok().and_then(|key| keys.get(key)).ok_or(Malformed)?.clone()),
        };
        let names = names_of(record.data);
        let (gone, bytes) = (position.readings + chunk.readings.min(1), record.field_len as u64);
        let reading = Rejected {
            run: chunk.run,
            seq: names.as_ref().map_or(chunk.first_seq + position.readings, |(_, seq)| *seq),
            arrived: chunk.arrived,
            reason: reason.to_owned(),
            topic: names.map(|(topic, _)| topic.into_owned()),
            partition_key: key,
            data: chunk.data.slice_ref(record.data),
        };
        let behind = chunk.data.slice(offset + notice + record.field_len..);
        let mut before = Earlier { readings: earlier.readings + gone, bytes: earlier.bytes + position.offset + bytes };
        let mut cut = Self {
            number: position.number,
            rest: None,
            gap: None,
            reading,
            readings: chunk.readings.min(1),
            last_seq: whole.last_seq(),
            bytes,
        };
        if notice > 0 {
            let data = [&chunk.data[..notice], &behind[..]].concat().into();
            cut.rest = Some((Chunk { readings: chunk.readings - gone, data, ..chunk.clone() }, before));
            cut.gap = gap;
        } else if chunk.readings > gone {
            // What was gone is said already; that some numbers are missing here is still to be known.
            let (readings, bytes) = gap.map_or((0, 0), |gap| (gap.readings, gap.bytes));
            before.readings += readings;
            before.bytes = before.bytes.saturating_add_signed(bytes);
            let next = names_of(kpl::first_record(&behind)?.data).map_or(chunk.first_seq + gone, |(_, seq)| seq);
            let rest = Chunk { readings: chunk.readings - gone, first_seq: next, notice: false, data: behind, ..chunk.clone() };
            cut.rest = Some((rest, before));
            cut.gap = gap.map(|gap| Gap { readings: 0, bytes: 0, notice: false, ..gap });
        }
        Ok(cut)
    }

    /// All that is not delivered of a chunk that is no readings, in a lane where no more than `waiting` waits.
    pub(in crate::buffer) fn all(whole: &Whole, position: Position, waiting: Earlier) -> Self {
        let chunk = &whole.chunk;
        let offset = usize::try_from(position.offset).unwrap_or(usize::MAX).min(chunk.data.len());
        let data = chunk.data.slice(offset..);
        Self {
            number: position.number,
            rest: None,
            gap: None,
            // A row of an earlier version may say anything of itself.
            readings: chunk.readings.saturating_sub(position.readings).min(waiting.readings),
            last_seq: whole.last_seq(),
            bytes: (data.len() as u64).min(waiting.bytes),
            reading: Rejected {
                run: chunk.run,
                seq: chunk.first_seq.saturating_add(position.readings),
                arrived: chunk.arrived,
                reason: NO_READINGS.to_owned(),
                topic: None,
                partition_key: None,
                data,
            },
        }
    }
}

impl Pool {
    /// What is at the head of `lane`: its place, and the chunk if it is in memory. None when `lane` has nothing on its way.
    pub(in crate::buffer) fn head(&self, lane: LaneId) -> Option<(Position, Option<Whole>)> {
        let state = self.lanes.get(&lane).filter(|state| state.outstanding > state.position.number)?;
        let LaneState { position, ref memory, .. } = *state;
        let held =
            if state.has_in_memory(position.number) { memory.iter().find(|held| held.number >= position.number) } else { None };
        let whole = |held: &Held| Whole { chunk: held.chunk.clone(), earlier: held.earlier, gap: held.gap };
        Some((held.map_or(position, |held| position.within(held.number)), held.map(whole)))
    }

    /// Rows of `lane` from this number on are not deleted yet.
    pub(in crate::buffer) fn deleted_below(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(0, |state| state.deleted_below)
    }

    /// `cut` of `lane` is on the disk.
    pub(in crate::buffer) fn set_aside(&mut self, now: Instant, lane: LaneId, cut: &Cut) -> Receipts {
        self.have_begun(&[lane]);
        let Some(state) = self.lanes.get_mut(&lane) else { return Receipts::new() };
        state.outstanding = 0;
        state.waiting.subtract(cut.readings, cut.bytes);
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
        if let Some(held) = state.held(cut.number).and_then(|index| state.memory.get_mut(index)) {
            let (before, after) = (held.chunk.bytes(), rest.bytes());
            self.memory -= before - after;
            held.chunk = rest.clone();
            held.earlier = *earlier;
            held.gap = cut.gap;
            if !std::mem::replace(&mut held.written, true) {
                self.unwritten -= before;
                self.groups.close(held);
            }
        }
        self.close_groups()
    }
}
