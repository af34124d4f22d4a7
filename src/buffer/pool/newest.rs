//! `drop-newest`: what is in memory alone when there is no room gives way, and one notice at the end of its lane grows while that lasts.
//!
//! Invariant: the readings are acknowledged only once the notice is on the disk, so that what is acknowledged is never gone unsaid.

use super::{
    Chunk, Gap, Held, LaneId, LaneState, Pool,
    notice::{Rest, Span},
    overflow::Dropped,
    write::WriteRow,
};
use crate::{buffer::store::Head, status::Reason};

/// The last row of a lane, when it stands for what was refused: the next that is refused is added to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail(Head);

impl Tail {
    pub(super) fn of(row: &WriteRow) -> Option<Self> {
        let of_the_newest = row.chunk.readings == 0 && row.gap.is_some_and(|gap| gap.why == Reason::DropNewest);
        of_the_newest.then(|| Self(head_of(row.number, &row.chunk, row.earlier, row.gap)))
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

    fn is_refusal(&self) -> bool {
        self.chunk.readings == 0 && self.gap.is_some_and(|gap| gap.why == Reason::DropNewest)
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
            let free = state.memory.iter().rev().take_while(|held| !held.written && held.number >= state.first_free());
            for held in free {
                if surplus == 0 {
                    break;
                }
                if held.chunk.readings > 0 {
                    surplus = surplus.saturating_sub(cost(&held.chunk));
                    cut = Some(held.number);
                }
            }
            cuts.extend(cut.map(|cut| (*id, cut)));
        }
        cuts.into_iter().filter_map(|(lane, cut)| self.refuse_from(lane, cut)).collect()
    }

    /// Puts one notice in the place of all chunks of `lane` from number `cut` on, which are in memory alone, and of a notice of the same
    /// kind before them.
    fn refuse_from(&mut self, lane: LaneId, cut: u64) -> Option<Dropped> {
        let state = self.lanes.get_mut(&lane)?;
        let free = state.first_free();
        let index = state.memory.partition_point(|held| held.number < cut);
        let mut parts = state.memory.split_off(index);
        let first = parts.front()?.head();
        let joins = |before: &Head| before.number >= free && super::notice::follows(before, &first);
        let before = match state.memory.pop_back_if(|held| held.is_refusal() && joins(&held.head())) {
            Some(held) => {
                parts.push_front(held);
                None
            }
            None => state.refused.map(|tail| tail.0).filter(joins),
        };
        let mut heads = before.into_iter().chain(parts.iter().map(Held::head));
        let mut span = Span::of(heads.next()?);
        heads.for_each(|head| span.add(head));
        let (chunk, gap) = span.chunk(&self.policy, &state.lane, Reason::DropNewest, 0, Rest::default());

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
        let from = before.map_or_else(|| parts.front().map_or(cut, |held| held.from), |before| before.number);
        let group = if groups.is_empty() { self.next_group } else { groups.remove(0) };
        let since = parts.front()?.since;
        let number = span.last.number;
        let held =
            Held { number, chunk, earlier: span.first.earlier, gap: Some(gap), from, group, also: groups, since, written: false };
        state.memory.push_back(held);
        Some(Dropped { stream: state.lane.layout.stream.clone(), why: Reason::DropNewest, readings })
    }
}
