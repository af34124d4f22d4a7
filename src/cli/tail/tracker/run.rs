//! What was seen of one run.

use std::collections::BTreeMap;

/// Notices of one run that leave some of what they speak of.
const MAX_THINNED: usize = 1024;

/// The numbers of one run that were seen: all below `next` but those in `holes`.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) next: u64,
    pub(super) holes: BTreeMap<u64, Hole>,
    /// By their first number, the last and how many of them are gone, what notices say that leave some.
    thinned: BTreeMap<u64, (u64, u64)>,
    pub(super) heard: u64,
    /// When the first reading that was seen of it arrived, if that is known.
    pub(super) since: Option<i64>,
}

/// Numbers up to `end`, not included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub(super) end: u64,
    /// Whether they should have come; else they lie before the place where we began to read.
    pub(super) missed: bool,
}

impl Run {
    pub(super) fn beginning_with(first: u64, since: Option<i64>) -> Self {
        let before = (first > 0).then_some((0, Hole { end: first, missed: false }));
        Self { next: first, holes: before.into_iter().collect(), thinned: BTreeMap::new(), heard: 0, since }
    }

    /// Notes `from..=to`. Says whether any of it is new, and which numbers before it are missing.
    pub(super) fn mark(&mut self, from: u64, to: u64) -> (bool, Option<(u64, u64)>) {
        let end = to.saturating_add(1);
        let gap = (from > self.next).then(|| (self.next, from - 1));
        if gap.is_some() {
            self.holes.insert(self.next, Hole { end: from, missed: true });
        }
        let filled = self.fill(from, end);
        let beyond = end > self.next;
        self.next = self.next.max(end);
        (filled || beyond, gap)
    }

    /// Notes that `n` of `from..=to` are gone, and the others may follow. Says how many of the `n` are news, and which numbers before are
    /// missing.
    pub(super) fn announce(&mut self, from: u64, to: u64, n: u64) -> (u64, Option<(u64, u64)>) {
        let gap = (from > self.next).then(|| (self.next, from - 1));
        if gap.is_some() {
            self.holes.insert(self.next, Hole { end: from, missed: true });
        }
        let (begin, end) = (self.next.max(from), to.saturating_add(1));
        if end > self.next {
            self.holes.insert(begin, Hole { end, missed: true });
            self.next = end;
        }
        let known = self.thinned.insert(from, (to, n)).map_or(0, |(_, n)| n);
        if self.thinned.len() > MAX_THINNED {
            self.thinned.pop_first();
        }
        (n.saturating_sub(known), gap)
    }

    /// Takes `from..end` out of the holes; whether there was anything to take.
    fn fill(&mut self, from: u64, end: u64) -> bool {
        let touched: Vec<(u64, Hole)> =
            self.holes.range(..end).rev().take_while(|(_, hole)| hole.end > from).map(|(start, hole)| (*start, *hole)).collect();
        for &(start, hole) in &touched {
            self.holes.remove(&start);
            if start < from {
                self.holes.insert(start, Hole { end: from, ..hole });
            }
            if end < hole.end {
                self.holes.insert(end, hole);
            }
        }
        !touched.is_empty()
    }

    /// Forgets the oldest holes beyond `most`, and says how many readings are missing in them.
    pub(super) fn close_oldest_holes(&mut self, most: usize) -> u64 {
        let mut closed = 0;
        while self.holes.len() > most {
            let oldest = self.holes.pop_first().map_or(0, |(start, hole)| hole.missing_from(start));
            closed = u64::saturating_add(closed, oldest);
        }
        closed
    }

    pub(super) fn missing(&self) -> u64 {
        self.holes.iter().map(|(start, hole)| hole.missing_from(*start)).fold(0, u64::saturating_add)
    }
}

impl Hole {
    fn missing_from(&self, start: u64) -> u64 {
        if self.missed { self.end - start } else { 0 }
    }
}
