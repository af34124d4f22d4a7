//! `thin`: every second reading of a topic goes, then every second of those that stayed, and so on.
//!
//! A pass goes from the oldest chunk to the newest and halves each until it was halved as often as those before it; then the next pass
//! begins at the oldest. So what waits is as dense everywhere, but for what came since the pass began, and each pass doubles the time
//! that fits. Small neighbours are joined, so that the rows stay few.

use std::{borrow::Cow, collections::HashMap, hash::BuildHasher};

use foldhash::quality::FixedState;

use super::{
    Chunk, LaneId, Pool,
    notice::{Rest, Span, follows},
    overflow::Rewrite,
};
use crate::{
    buffer::store::Head,
    reading::Timestamp,
    record::{
        kpl::{Malformed, Record, first_record, put_record},
        names_of,
    },
    status::Reason,
};

/// One of 1,024 readings stays; after that whole chunks go, as with `drop-oldest`.
pub(super) const MAX_LEVEL: u8 = 10;
/// Neighbours are joined up to this size.
const JOINED_BYTES: u64 = 64 << 10;
/// Topics that are counted one by one; those beyond count together.
const TOPICS: usize = 16 << 10;

/// How far one lane is thinned: all chunks before `cursor` were halved `level` times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pass {
    /// 0 until the file was asked.
    level: u8,
    cursor: u64,
    /// When what lies before the cursor arrived.
    pub(super) at: Option<Timestamp>,
}

impl Pass {
    /// Where it goes on, in `from..below`, and how often the chunks there are to be halved; none when all were halved as often as may be.
    pub(super) fn next(&mut self, from: u64, below: u64) -> Option<(u64, u8)> {
        if self.level > 0 && self.cursor >= below {
            *self = Self { level: self.level + 1, cursor: from, at: None };
        }
        (self.level <= MAX_LEVEL).then_some((self.cursor.max(from), self.level))
    }

    /// The chunk with number `number`, which arrived at `arrived`, was thinned, or dropped.
    pub(super) fn passed(&mut self, number: u64, arrived: Timestamp) {
        self.cursor = self.cursor.max(number + 1);
        self.at = Some(arrived);
    }
}

/// Which reading of each topic stays next. Counted across chunks, so that a topic with one reading in each is thinned too; and each
/// topic from another number on, so that not all topics of a chunk stay, or go, at once.
#[derive(Debug, Default)]
pub(in crate::buffer) struct Phases {
    seen: HashMap<u64, u32, FixedState>,
    others: u32,
}

impl Phases {
    /// Whether the next reading of `topic` in `lane` is the one of `step` that stays.
    fn keeps(&mut self, lane: LaneId, topic: &str, step: u32) -> bool {
        let topic = FixedState::default().hash_one((lane, topic));
        let seen = if self.seen.len() < TOPICS || self.seen.contains_key(&topic) {
            #[expect(clippy::cast_possible_truncation, reason = "any part of a hash will do")]
            self.seen.entry(topic).or_insert(topic as u32)
        } else {
            &mut self.others
        };
        let keeps = seen.is_multiple_of(step);
        *seen = seen.wrapping_add(1);
        keeps
    }
}

impl Pool {
    /// The file says that the chunks of `lane` before number `cursor` were halved `level` times.
    pub(in crate::buffer) fn surveyed(&mut self, lane: LaneId, level: u8, cursor: u64) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.thinned = Pass { level: level.max(1), cursor, at: None };
        }
    }

    /// The next of `heads`, from which the pass goes on in `lane`, that is to be halved, and the one before it if the two are to be
    /// joined; `before` is the row before all of `heads`. Copies in memory of what is named are gone then. Where none is named, the pass
    /// has gone beyond them.
    pub(in crate::buffer) fn plan_thin(
        &mut self,
        lane: LaneId,
        level: u8,
        before: Option<Head>,
        heads: &[Head],
    ) -> Option<(Option<Head>, Head)> {
        let state = self.lanes.get_mut(&lane)?;
        let to_be_halved = |head: &Head| head.readings > 0 && head.gap.is_none_or(|gap| gap.level < level);
        let Some(at) = heads.iter().position(to_be_halved).filter(|at| heads[*at].number < state.settled_below()) else {
            match heads.last() {
                Some(last) => state.thinned.passed(last.number, last.arrived),
                None => state.thinned.cursor = state.settled_below(),
            }
            return None;
        };
        let head = heads[at];
        let joins = |before: &Head| {
            let thinned = before.gap.is_some_and(|gap| gap.why == Reason::Thin && gap.level == level);
            // What is corrected later is corrected as one.
            let alike = before.readings == 0 || before.unsure == head.unsure;
            thinned
                && alike
                && before.number >= state.first_free()
                && follows(before, &head)
                && before.bytes + head.bytes / 2 <= JOINED_BYTES
        };
        let before = at.checked_sub(1).map(|at| heads[at]).or(before).filter(joins);
        state.forget_copies(head.number, &mut self.memory);
        Some((before, head))
    }

    /// The chunk could not be thinned: the pass goes on behind it.
    pub(in crate::buffer) fn skip(&mut self, lane: LaneId, head: &Head) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.thinned.passed(head.number, head.arrived);
        }
    }

    /// Halves `chunk` until that was done `level` times, and joins it to the chunk `before`, which was halved as often. Where all of its
    /// readings stay this is noted too: their neighbours went instead.
    pub(in crate::buffer) fn thin(
        &self,
        phases: &mut Phases,
        level: u8,
        before: Option<(Head, &Chunk)>,
        (head, chunk): (Head, &Chunk),
    ) -> Result<Option<Rewrite>, Malformed> {
        let Some(state) = self.lanes.get(&chunk.lane) else { return Ok(None) };
        let step = 1_u32 << (level - head.gap.map_or(0, |gap| gap.level)).min(MAX_LEVEL);
        let mut rest = Rest::default();
        let mut span = Span::of(before.as_ref().map_or(head, |(before, _)| *before));
        if let Some((_, before)) = before {
            span.add(head);
            copy(&mut rest, before, |_, _| true)?;
        }
        copy(&mut rest, chunk, |record, key| {
            let topic = names_of(record.data).map_or(Cow::Borrowed(key), |(topic, _)| topic);
            phases.keeps(chunk.lane, &topic, step)
        })?;
        let (chunk, gap) = span.chunk(&self.policy, &state.lane, Reason::Thin, level, rest);
        Ok(Some(Rewrite::of(&span, chunk, gap, None)))
    }
}

/// Adds the readings of `chunk` that `stays` names, which it is given with their partition key, byte for byte.
fn copy(rest: &mut Rest, chunk: &Chunk, mut stays: impl FnMut(&Record, &str) -> bool) -> Result<(), Malformed> {
    let mut fields = &chunk.data[..];
    if chunk.readings > 0 {
        rest.arrived.get_or_insert(chunk.arrived);
    }
    if chunk.notice {
        fields = &fields[first_record(fields)?.field_len..];
    }
    let keys = chunk.keys.as_deref().unwrap_or_default();
    while !fields.is_empty() {
        let record = first_record(fields)?;
        let (field, others) = fields.split_at(record.field_len);
        let key = usize::try_from(record.partition_key).ok().and_then(|index| keys.get(index)).map_or("", String::as_str);
        if stays(&record, key) {
            if keys.is_empty() {
                rest.data.extend_from_slice(field);
            } else {
                // Only keys that are used stay, so its place among them may be another one.
                let index = rest.keys.iter().position(|known| known == key).unwrap_or_else(|| {
                    rest.keys.push(key.to_owned());
                    rest.keys.len() - 1
                });
                put_record(&mut rest.data, u32::try_from(index).unwrap_or(u32::MAX), record.hash_key, record.data);
            }
            rest.readings += 1;
        }
        fields = others;
    }
    Ok(())
}
