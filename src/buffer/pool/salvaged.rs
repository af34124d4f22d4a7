//! What comes from a damaged file: straight onto the disk, into lanes of its own, which drain before today's.

use super::{BTreeSet, Chunk, Earlier, Gap, LaneId, Pool};
use crate::{buffer::store::Insert, record::Notice};

/// A chunk with its place in its new lane.
#[derive(Debug)]
pub(in crate::buffer) struct SalvagedRow {
    pub(in crate::buffer) number: u64,
    pub(in crate::buffer) earlier: Earlier,
    pub(in crate::buffer) gap: Option<Gap>,
    pub(in crate::buffer) chunk: Chunk,
}

impl SalvagedRow {
    /// What the lane counts here.
    fn counted(&self) -> Earlier {
        let gone = self.gap.map_or(0, |gap| gap.readings);
        Earlier { readings: self.chunk.readings + gone, bytes: self.chunk.data.len() as u64 }
    }

    /// As it is written.
    pub(in crate::buffer) fn insert(&self) -> Insert<'_> {
        Insert { number: self.number, chunk: &self.chunk, earlier: self.earlier, gap: self.gap, from: self.number }
    }
}

/// What was dropped is not counted again, but the notice is still one.
fn gap_of(chunk: &Chunk) -> Option<Gap> {
    /// A file can say anything, and SQLite's integers have 63 bits.
    const MOST: u64 = 1 << 48;
    let Notice { to, n, why, .. } = chunk.notice().filter(|_| chunk.notice)?;
    let (to, n) = (to.min(i64::MAX.cast_unsigned()), n.min(MOST));
    Some(Gap { readings: n, bytes: 0, last: to, why, level: 0, notice: true })
}

impl Pool {
    /// Places `chunks` behind what their lanes have; [`Self::salvaged`] makes it so.
    pub(in crate::buffer) fn place(&self, chunks: &[Chunk]) -> Vec<SalvagedRow> {
        let mut rows: Vec<SalvagedRow> = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let before = rows.iter().rev().find(|row| row.chunk.lane == chunk.lane);
            let (number, earlier) = match before {
                Some(row) => {
                    let mut earlier = row.earlier;
                    earlier.add(row.counted().readings, row.counted().bytes);
                    (row.number + 1, earlier)
                }
                None => self.lanes.get(&chunk.lane).map_or_else(Default::default, |state| (state.next, state.total)),
            };
            rows.push(SalvagedRow { number, earlier, gap: gap_of(chunk), chunk: chunk.clone() });
        }
        rows
    }

    /// `rows` are on the disk.
    pub(in crate::buffer) fn salvaged(&mut self, rows: &[SalvagedRow]) {
        for row @ SalvagedRow { number, chunk, .. } in rows {
            let Some(state) = self.lanes.get_mut(&chunk.lane) else { continue };
            debug_assert!(state.memory.is_empty() && state.next == *number, "such a lane has no other way in");
            let bytes = chunk.data.len() as u64;
            state.next = number + 1;
            state.written_below = number + 1;
            state.total.add(row.counted().readings, bytes);
            state.waiting.add(chunk.readings, bytes);
            state.oldest.get_or_insert(chunk.arrived);
        }
    }

    /// The stream of a lane.
    pub(in crate::buffer) fn stream_of(&self, lane: LaneId) -> Option<String> {
        self.lanes.get(&lane).map(|state| state.lane.layout.stream.clone())
    }

    /// From now on more comes for `lanes`, and for no others.
    pub(in crate::buffer) fn expect(&mut self, lanes: BTreeSet<LaneId>) {
        self.coming = lanes;
    }

    /// Whether younger lanes have to wait for what is still to come for this one.
    pub(in crate::buffer) fn is_expected(&self, lane: LaneId) -> bool {
        self.coming.contains(&lane)
    }
}
