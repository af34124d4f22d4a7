//! A lane in parts, where what arrives now does not wait for what has waited long (`drain_order = "live-first"`).
//!
//! When a lane is behind, another part of it begins, and what is appended from then on goes there. Each part is a lane with a row of its
//! own, and so without holes: what is delivered of the youngest leaves none in those before it, and counting, dropping and setting aside
//! know nothing of parts. One that is empty is used again.
//!
//! Invariant: `today` is the part that began last. The file knows that by the transaction which brings the first chunk into it.

use super::{Lane, LaneId, LaneState, Layout, Pool, StoredLane};

/// Parts of all lanes of a stream, about: each takes some hundred bytes of memory and of the file.
const PARTS_A_STREAM: u16 = 256;
/// Of one lane at least so many, and no more than so many: then the youngest one has to wait until another is empty.
const PARTS_A_LANE: (u16, u16) = (4, 64);

/// The parts of one lane.
#[derive(Debug)]
pub(super) struct Parts {
    today: LaneId,
    all: Vec<LaneId>,
}

impl Parts {
    fn most(layout: &Layout) -> usize {
        usize::from((PARTS_A_STREAM / layout.of.max(1)).clamp(PARTS_A_LANE.0, PARTS_A_LANE.1))
    }
}

impl LaneState {
    fn is_empty(&self) -> bool {
        self.position.number >= self.next && self.memory.is_empty() && self.waiting.readings == 0 && self.outstanding == 0
    }
}

impl Pool {
    /// Lets `lane`, which ingest knows by this name, have parts; `others` are parts that it has had.
    pub(in crate::buffer) fn has_parts(&mut self, lane: LaneId, others: impl IntoIterator<Item = LaneId>) {
        self.parts.insert(lane, Parts { today: lane, all: std::iter::once(lane).chain(others).collect() });
    }

    /// The part of `lane` that takes what is appended.
    pub(super) fn today(&self, lane: LaneId) -> LaneId {
        self.parts.get(&lane).map_or(lane, |parts| parts.today)
    }

    /// Begins another part of the lane whose youngest one is `today`; none while there is no empty one.
    pub(in crate::buffer) fn begin_part(&mut self, today: LaneId) -> Option<LaneId> {
        let lanes = &mut self.lanes;
        let parts = self.parts.values_mut().find(|parts| parts.today == today)?;
        let part = parts.all.iter().copied().find(|part| lanes.get(part).is_some_and(LaneState::is_empty) && *part != today)?;
        let state = lanes.get_mut(&part)?;
        self.begun += 1;
        state.begun = Some(self.begun);
        state.thinned = super::thin::Pass::default();
        parts.today = part;
        Some(part)
    }

    /// What a part is needed of: a lane that has no empty one besides its youngest, and not too many.
    pub(in crate::buffer) fn needs_part(&self) -> Option<(LaneId, Layout)> {
        self.parts.iter().find_map(|(lane, parts)| {
            let layout = &self.lanes.get(lane)?.lane.layout;
            let is_spare = |part: &LaneId| *part != parts.today && self.lanes.get(part).is_some_and(LaneState::is_empty);
            let needs = parts.all.len() < Parts::most(layout) && !parts.all.iter().any(is_spare);
            needs.then(|| (*lane, layout.clone()))
        })
    }

    /// `part` was made for `lane`.
    pub(in crate::buffer) fn add_part(&mut self, lane: LaneId, part: Lane) {
        if let Some(parts) = self.parts.get_mut(&lane) {
            parts.all.push(part.id);
            self.add_lane(StoredLane::new(part));
        }
    }

    /// Of `lanes`, those of which the file does not know yet that they have begun, in the order in which they did.
    pub(in crate::buffer) fn begun(&self, lanes: impl IntoIterator<Item = LaneId>) -> Vec<LaneId> {
        let mut begun: Vec<(u64, LaneId)> =
            lanes.into_iter().filter_map(|lane| Some((self.lanes.get(&lane)?.begun?, lane))).collect();
        begun.sort_unstable();
        begun.dedup();
        begun.into_iter().map(|(_, lane)| lane).collect()
    }

    /// The file knows that they have begun.
    pub(super) fn have_begun(&mut self, lanes: &[LaneId]) {
        for lane in lanes {
            if let Some(state) = self.lanes.get_mut(lane) {
                state.begun = None;
            }
        }
    }
}
