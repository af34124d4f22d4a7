//! What is in memory alone when there is no room, and gives way: with `drop-newest` the newest of it; with `drop-oldest` and `thin`, where
//! nothing on the disk can go, the oldest of it. One notice in its place grows while that lasts.
//!
//! Invariant: the readings are acknowledged only once the notice is on the disk, so that what is acknowledged is never gone unsaid.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{
    Chunk, Gap, Held, LaneId, LaneState, Pool, arrival,
    notice::{Rest, Span, follows},
    overflow::Dropped,
};
use crate::{buffer::store::Head, config::WhenFull, status::Reason};

/// The last row of a lane, when it stands for others and nothing else: what gives way behind it is added to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail(Head);

impl Tail {
    pub(super) fn of(number: u64, chunk: &Chunk, earlier: super::Earlier, gap: Option<Gap>) -> Option<Self> {
        (chunk.readings == 0 && gap.is_some()).then(|| Self(head_of(number, chunk, earlier, gap)))
    }
}

fn head_of(number: u64, chunk: &Chunk, earlier: super::Earlier, gap: Option<Gap>) -> Head {
    Head {
        number,
        readings: chunk.readings,
        bytes: chunk.data.len() as u64,
        arrived: chunk.arrived,
        earlier,
        run: chunk.run,
        first_seq: chunk.first_seq,
        unsure: chunk.unsure,
        gap,
    }
}

impl Held {
    fn head(&self) -> Head {
        head_of(self.number, &self.chunk, self.earlier, self.gap)
    }
}

impl LaneState {
    /// Whether something of it is being sent.
    fn is_on_its_way(&self) -> bool {
        self.outstanding > self.position.number
    }

    /// What is in memory alone and may give way.
    fn alone(&self) -> impl DoubleEndedIterator<Item = &Held> {
        let free = self.first_free();
        self.memory.iter().filter(move |held| !held.written && held.number >= free && held.chunk.readings > 0)
    }
}

impl Pool {
    /// Refuses chunks that are in memory alone, of the lanes that `which` names, the newest first, until they `cost` no more than
    /// `surplus` less.
    pub(super) fn refuse(
        &mut self,
        which: impl Fn(&LaneState) -> bool,
        cost: impl Fn(&Chunk) -> u64,
        mut surplus: u64,
    ) -> Vec<Dropped> {
        let mut cuts: Vec<(LaneId, u64)> = Vec::new();
        for (id, state) in self.lanes.iter().filter(|(_, state)| which(state)) {
            let mut cut = None;
            for held in state.alone().rev() {
                if surplus == 0 {
                    break;
                }
                surplus = surplus.saturating_sub(cost(&held.chunk));
                cut = Some(held.number);
            }
            cuts.extend(cut.map(|cut| (*id, cut)));
        }
        cuts.into_iter().filter_map(|(lane, cut)| self.give_up_alone(lane, cut..=u64::MAX, Reason::DropNewest)).collect()
    }

    /// Gives up chunks that are in memory alone, of the lanes that `which` names, the oldest first, until they `cost` no more than
    /// `surplus` less. Not of a lane that has something on its way: the answer to that may make room, or let more of it go.
    pub(super) fn shed(
        &mut self,
        which: impl Fn(&LaneState) -> bool,
        cost: impl Fn(&Chunk) -> u64,
        mut surplus: u64,
    ) -> Vec<Dropped> {
        let lanes = self.lanes.iter().filter(|(_, state)| which(state) && !state.is_on_its_way());
        let mut oldest: Vec<(u64, LaneId, u64, u64)> =
            lanes.flat_map(|(id, state)| state.alone().map(|held| (held.group, *id, held.number, cost(&held.chunk)))).collect();
        oldest.sort_unstable();
        let mut cuts: BTreeMap<LaneId, RangeInclusive<u64>> = BTreeMap::new();
        for (_, lane, number, cost) in oldest {
            if surplus == 0 {
                break;
            }
            surplus = surplus.saturating_sub(cost);
            let cut = cuts.entry(lane).or_insert(number..=number);
            *cut = *cut.start()..=number;
        }
        let thins = |pool: &Self, lane| {
            let rules = pool.lane(lane).and_then(|layout| pool.policy.streams.get(&layout.stream));
            rules.is_some_and(|rules| rules.when_full == WhenFull::Thin)
        };
        let give_up = |(lane, cut)| {
            let why = if thins(self, lane) { Reason::Thin } else { Reason::DropOldest };
            self.give_up_alone(lane, cut, why)
        };
        cuts.into_iter().filter_map(give_up).collect()
    }

    /// Puts one notice in the place of the chunks of `lane` with numbers in `cut`, which are in memory alone, and of a notice before them
    /// that says the same.
    fn give_up_alone(&mut self, lane: LaneId, cut: RangeInclusive<u64>, why: Reason) -> Option<Dropped> {
        let state = self.lanes.get_mut(&lane)?;
        let free = state.first_free();
        let behind = state.memory.split_off(state.memory.partition_point(|held| held.number <= *cut.end()));
        let mut parts = state.memory.split_off(state.memory.partition_point(|held| held.number < *cut.start()));
        let first = parts.front()?.head();
        let joins = |before: &Head| {
            let says_the_same = before.readings == 0 && before.gap.is_some_and(|gap| gap.why == why);
            says_the_same && before.number >= free && follows(before, &first)
        };
        let before = match state.memory.pop_back_if(|held| joins(&held.head())) {
            Some(held) => {
                parts.push_front(held);
                None
            }
            None => state.tail.map(|tail| tail.0).filter(joins),
        };
        let mut heads = before.into_iter().chain(parts.iter().map(Held::head));
        let mut span = Span::of(heads.next()?);
        heads.for_each(|head| span.add(head));
        let (chunk, gap) = span.chunk(&self.policy, &state.lane, why, 0, Rest::default());

        let readings = parts.iter().map(|held| held.chunk.readings).sum();
        let bytes = parts.iter().map(|held| held.chunk.data.len() as u64).sum::<u64>();
        let bytes = bytes + before.map_or(0, |before| before.bytes);
        state.waiting.add(0, chunk.data.len() as u64);
        state.waiting.subtract(readings, bytes);
        let mut groups = Vec::new();
        for held in &parts {
            self.memory -= held.chunk.bytes();
            if !held.written {
                self.unwritten -= held.chunk.bytes();
                groups.push(held.group);
                groups.extend(&held.also);
            }
        }
        groups.sort_unstable();
        self.memory += chunk.bytes();
        self.unwritten += chunk.bytes();
        let from = before.map_or_else(|| parts.front().map_or(*cut.start(), |held| held.from), |before| before.number);
        let group = groups.remove(0); // there is one: what is in memory alone is of a group that is not safe
        let since = parts.front()?.since;
        let number = span.last.number;
        if state.position.number >= from {
            let next = behind.iter().find(|held| held.chunk.readings > 0);
            state.oldest = next.map(|held| arrival(&self.right, &held.chunk)).or(state.oldest);
        }
        let held =
            Held { number, chunk, earlier: span.first.earlier, gap: Some(gap), from, group, also: groups, since, written: false };
        state.memory.push_back(held);
        state.memory.extend(behind);
        Some(Dropped { stream: state.lane.layout.stream.clone(), why, readings })
    }
}
