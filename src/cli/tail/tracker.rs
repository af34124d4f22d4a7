//! Which readings of a stream were seen, which came twice, and which are missing.
//!
//! Invariant: memory is bounded. Beyond [`MAX_RUNS`] the run that was silent longest is forgotten: were it to speak again, its readings
//! would count as new. Beyond [`MAX_HOLES`] the oldest gap of the run at hand stays missing for good.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::envelope::Names;

/// Runs that are remembered: so many lanes of so many gateways, and their restarts.
const MAX_RUNS: usize = 4096;
/// Gaps that may still be filled. A stream that distributes records itself has the readings of a lane in all of its shards: one page of a
/// shard, 10,000 records, leaves as many gaps for the others to fill.
const MAX_HOLES: usize = 1 << 18;
/// Notices of one run that leave some of what they speak of.
const MAX_THINNED: usize = 1024;

/// What to do with a record, and what it showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It was seen before.
    pub(super) duplicate: bool,
    /// What should have come before it.
    pub(super) gaps: Vec<Gap>,
}

/// Readings `from..=to` of a run did not come when they were due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    run: RunKey,
    from: u64,
    to: u64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { run: RunKey { dev, run, lane }, from, to } = self;
        let n = (to - from).saturating_add(1);
        write!(f, "{n} readings are missing: dev {dev}, lane {lane}, run {run}, seq {from} to {to}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RunKey {
    dev: String,
    run: String,
    lane: String,
}

/// What was seen, by the names that readings carry.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    runs: HashMap<RunKey, Run>,
    /// Records that were looked at: the clock by which a run is silent.
    clock: u64,
    counts: Counts,
    /// Gaps of all runs.
    holes: usize,
    forgotten_missing: u64,
    /// Readings that notices account for without saying which: those that stayed come behind the notice.
    excused: u64,
}

/// How many readings had which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings that were new.
    pub readings: u64,
    /// Readings that came again.
    pub duplicates: u64,
    /// Readings that are missing, and that no notice accounts for.
    pub missing: u64,
    /// Readings that their gateway says it dropped.
    pub dropped: u64,
}

impl Tracker {
    /// Looks at one named record.
    pub(super) fn look(&mut self, names: &Names) -> Verdict {
        self.clock += 1;
        let mut verdict = Verdict::default();
        let key = RunKey { dev: names.dev.clone(), run: names.run.clone(), lane: names.lane.clone() };
        if let Some(previous) = &names.prev {
            let before = RunKey { run: previous.run.clone(), ..key.clone() };
            verdict.gaps.extend(self.expect_until(before, previous.seq));
        }
        let Some((from, to)) = names.span() else { return verdict };
        if !self.runs.contains_key(&key) {
            let followed = self.runs.iter().filter(|(known, _)| known.dev == key.dev && known.lane == key.lane);
            let since = followed.map(|(_, run)| run.since).min();
            let arrived = names.arrived();
            // Where a lane was followed before, a new run of it is known to begin with 0. One that arrived earlier is an old one, whose
            // readings have waited while later ones were sent: what came of it before we began to read is not known.
            let is_new = since.is_some_and(|since| arrived >= since);
            let first = if is_new { 0 } else { from };
            self.make_room();
            let run = Run::beginning_with(first, arrived);
            self.holes += run.holes.len();
            self.runs.insert(key.clone(), run);
        }
        let run = self.runs.get_mut(&key).expect("it was put in just now");
        run.heard = self.clock;
        self.holes -= run.holes.len();
        let n = names.dropped.unwrap_or_default();
        let (new, gap) = if names.dropped.is_some_and(|n| n <= to - from) {
            let (fresh, gap) = run.announce(from, to, n);
            self.excused = self.excused.saturating_add(fresh);
            (fresh > 0, gap)
        } else {
            run.mark(from, to)
        };
        verdict.duplicate = !new;
        verdict.gaps.extend(gap.map(|(from, to)| Gap { run: key, from, to }));
        self.forgotten_missing = self.forgotten_missing.saturating_add(run.close_oldest_holes(MAX_HOLES - self.holes));
        self.holes += run.holes.len();
        match (new, names.dropped) {
            (true, Some(n)) => self.counts.dropped = self.counts.dropped.saturating_add(n),
            (true, None) => self.counts.readings += 1,
            (false, _) => self.counts.duplicates += 1,
        }
        verdict
    }

    /// How it stands now.
    pub(super) fn counts(&self) -> Counts {
        // Saturating, here and below: a foreign producer may write any number.
        let missing = self.runs.values().map(Run::missing).fold(self.forgotten_missing, u64::saturating_add);
        Counts { missing: missing.saturating_sub(self.excused), ..self.counts }
    }

    /// A run has given numbers up to `last`, its successor says. It may have given more that never reached its disk.
    fn expect_until(&mut self, key: RunKey, last: u64) -> Option<Gap> {
        // No number can follow the last of all: a foreign producer's.
        let run = self.runs.get_mut(&key).filter(|run| run.next <= last && last < u64::MAX)?;
        let from = run.next;
        self.holes -= run.holes.len();
        run.next = last.saturating_add(1);
        run.holes.insert(from, Hole { end: run.next, missed: true });
        self.forgotten_missing = self.forgotten_missing.saturating_add(run.close_oldest_holes(MAX_HOLES - self.holes));
        self.holes += run.holes.len();
        Some(Gap { run: key, from, to: last })
    }

    fn make_room(&mut self) {
        if self.runs.len() < MAX_RUNS {
            return;
        }
        let silent = self.runs.iter().min_by_key(|(_, run)| run.heard).map(|(key, _)| key.clone());
        if let Some(run) = silent.and_then(|key| self.runs.remove(&key)) {
            self.holes -= run.holes.len();
            self.forgotten_missing = self.forgotten_missing.saturating_add(run.missing());
        }
    }
}

/// The numbers of one run that were seen: all below `next` but those in `holes`.
#[derive(Debug)]
struct Run {
    next: u64,
    holes: BTreeMap<u64, Hole>,
    /// By their first number, the last and how many of them are gone, what notices say that leave some.
    thinned: BTreeMap<u64, (u64, u64)>,
    heard: u64,
    /// When the first reading that was seen of it arrived, if that is known.
    since: Option<i64>,
}

/// Numbers up to `end`, not included.
#[derive(Clone, Copy, Debug)]
struct Hole {
    end: u64,
    /// Whether they should have come; else they lie before the place where we began to read.
    missed: bool,
}

impl Run {
    fn beginning_with(first: u64, since: Option<i64>) -> Self {
        let before = (first > 0).then_some((0, Hole { end: first, missed: false }));
        Self { next: first, holes: before.into_iter().collect(), thinned: BTreeMap::new(), heard: 0, since }
    }

    /// Notes `from..=to`. Says whether any of it is new, and which numbers before it are missing.
    fn mark(&mut self, from: u64, to: u64) -> (bool, Option<(u64, u64)>) {
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
    fn announce(&mut self, from: u64, to: u64, n: u64) -> (u64, Option<(u64, u64)>) {
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
    fn close_oldest_holes(&mut self, most: usize) -> u64 {
        let mut closed = 0;
        while self.holes.len() > most {
            let oldest = self.holes.pop_first().map_or(0, |(start, hole)| hole.missing_from(start));
            closed = u64::saturating_add(closed, oldest);
        }
        closed
    }

    fn missing(&self) -> u64 {
        self.holes.iter().map(|(start, hole)| hole.missing_from(*start)).fold(0, u64::saturating_add)
    }
}

impl Hole {
    fn missing_from(&self, start: u64) -> u64 {
        if self.missed { self.end - start } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::tests::cases;

    fn reading(run: &str, seq: u64) -> Names {
        Names { dev: "gw".into(), run: run.into(), lane: "readings/0".into(), seq: Some(seq), ..Names::default() }
    }

    fn gaps(verdict: &Verdict) -> Vec<(&str, u64, u64)> {
        verdict.gaps.iter().map(|gap| (&*gap.run.run, gap.from, gap.to)).collect()
    }

    #[test]
    fn a_reading_that_comes_again_is_a_duplicate_in_its_lane_and_run_only() {
        let mut tracker = Tracker::default();
        for seq in 0..3 {
            assert_eq!(tracker.look(&reading("a", seq)), Verdict::default());
        }

        assert!(tracker.look(&reading("a", 1)).duplicate);
        assert!(!tracker.look(&Names { lane: "readings/1".into(), ..reading("a", 1) }).duplicate);
        assert!(!tracker.look(&Names { dev: "other".into(), ..reading("a", 1) }).duplicate);
        assert_eq!(tracker.counts(), Counts { readings: 5, duplicates: 1, ..Counts::default() });
    }

    #[test]
    fn a_gap_is_reported_once_and_may_still_be_filled() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 0));

        let verdict = tracker.look(&reading("a", 5));
        assert_eq!(gaps(&verdict), [("a", 1, 4)]);
        assert_eq!(verdict.gaps[0].to_string(), "4 readings are missing: dev gw, lane readings/0, run a, seq 1 to 4");
        assert_eq!(tracker.counts().missing, 4);

        assert_eq!(tracker.look(&reading("a", 2)), Verdict::default());
        assert_eq!(tracker.counts().missing, 3);
        assert!(tracker.look(&reading("a", 2)).duplicate);
        for seq in [1, 3, 4] {
            assert_eq!(tracker.look(&reading("a", seq)), Verdict::default());
        }
        assert_eq!(tracker.counts(), Counts { readings: 6, duplicates: 1, ..Counts::default() });
    }

    #[test]
    fn what_lies_before_the_place_where_we_began_is_not_missing() {
        let mut tracker = Tracker::default();

        assert_eq!(tracker.look(&reading("a", 7)), Verdict::default());
        assert_eq!(tracker.counts().missing, 0);

        // The agent was restarted, and sends the chunk again that it had sent in part.
        assert_eq!(tracker.look(&reading("a", 6)), Verdict::default());
        assert!(tracker.look(&reading("a", 6)).duplicate);
        assert!(tracker.look(&reading("a", 7)).duplicate);
    }

    #[test]
    fn a_new_run_says_where_the_one_before_ended() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 0));
        let ended = |seq| Some(super::super::envelope::Previous { run: "a".into(), seq });

        let verdict = tracker.look(&Names { prev: ended(2), ..reading("b", 0) });
        assert_eq!(gaps(&verdict), [("a", 1, 2)]);

        // What was delivered from memory is not known to the successor: that run had more than it says.
        let mut tracker = Tracker::default();
        (0..5).for_each(|seq| drop(tracker.look(&reading("a", seq))));
        assert_eq!(tracker.look(&Names { prev: ended(2), ..reading("b", 0) }), Verdict::default());
    }

    #[test]
    fn the_first_readings_of_a_new_run_are_missed_where_the_lane_was_followed_before() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 9));
        assert_eq!(gaps(&tracker.look(&reading("b", 3))), [("b", 0, 2)]);
    }

    #[test]
    fn a_run_whose_readings_have_waited_while_later_ones_came_lacks_only_what_it_skips() {
        let mut tracker = Tracker::default();
        let arrived = |run, seq, ts| Names { ts: Some(ts), ..reading(run, seq) };
        let ended = Some(super::super::envelope::Previous { run: "old".into(), seq: 9 });
        tracker.look(&Names { prev: ended, ..arrived("new", 0, 1000) });

        assert_eq!(tracker.look(&arrived("old", 7, 500)), Verdict::default(), "it may have sent the first seven before");
        assert_eq!(tracker.look(&arrived("new", 1, 1001)), Verdict::default());
        assert_eq!(gaps(&tracker.look(&arrived("old", 9, 502))), [("old", 8, 8)]);
        assert_eq!(tracker.look(&arrived("old", 8, 501)), Verdict::default());
        assert_eq!(tracker.counts(), Counts { readings: 5, ..Counts::default() });

        assert_eq!(gaps(&tracker.look(&arrived("newer", 2, 2000))), [("newer", 0, 1)]);
    }

    #[test]
    fn what_waits_while_later_readings_come_is_told_of_once_and_not_missing_when_it_came() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 0));
        let live = |n| 100 + n;
        let told: usize = (0..10).map(|n| tracker.look(&reading("a", live(n))).gaps.len()).sum();
        assert_eq!((told, tracker.counts().missing), (1, 99));
        for n in 1..100 {
            assert_eq!(tracker.look(&reading("a", n)), Verdict::default());
            assert_eq!(tracker.look(&reading("a", live(9 + n))), Verdict::default());
        }
        assert_eq!(tracker.counts().missing, 0);
    }

    #[test]
    fn what_the_gateway_says_it_dropped_is_not_missing() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 0));
        let notice = Names { seq: None, from: Some(1), to: Some(4), dropped: Some(4), ..reading("a", 0) };

        assert_eq!(tracker.look(&notice), Verdict::default());
        assert_eq!(tracker.look(&reading("a", 5)), Verdict::default());
        assert!(tracker.look(&notice).duplicate);
        assert_eq!(tracker.counts(), Counts { readings: 2, duplicates: 1, dropped: 4, missing: 0 });
    }

    proptest! {
        #![proptest_config(cases(512))]

        #[test]
        fn what_is_new_and_what_is_missing_is_what_a_set_of_numbers_says(
            spans in prop::collection::vec((0..40_u64, prop::sample::select(vec![0, 0, 0, 3, 9])), 1..40),
        ) {
            let (mut tracker, mut seen) = (Tracker::default(), BTreeSet::new());
            let began = spans[0].0;
            let mut next = began;
            for (from, more) in spans {
                let to = from + more;
                let names = Names { seq: None, from: Some(from), to: Some(to), dropped: Some(more + 1), ..reading("a", 0) };

                let verdict = tracker.look(&names);

                let before = seen.len();
                seen.extend(from..=to);
                prop_assert_eq!(verdict.duplicate, seen.len() == before);
                let gap = (from > next).then(|| ("a", next, from - 1));
                prop_assert_eq!(gaps(&verdict), gap.into_iter().collect::<Vec<_>>());
                next = next.max(to + 1);
                let missing = (began..next).filter(|n| !seen.contains(n)).count();
                prop_assert_eq!(tracker.counts().missing, missing as u64);
            }
        }
    }

    #[test]
    fn the_last_number_of_all_is_no_gap() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", u64::MAX));
        let ended = Some(super::super::envelope::Previous { run: "a".into(), seq: u64::MAX });
        assert_eq!(tracker.look(&Names { prev: ended, ..reading("b", 0) }), Verdict::default());
        assert!(tracker.look(&reading("a", u64::MAX)).duplicate);
    }

    #[test]
    fn of_readings_that_were_thinned_those_that_stayed_are_new_and_the_others_not_missing() {
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 0));
        let notice = Names { seq: None, from: Some(1), to: Some(8), dropped: Some(4), ..reading("a", 0) };

        assert_eq!(tracker.look(&notice), Verdict::default());
        for seq in [1, 3, 5, 7, 9] {
            assert_eq!(tracker.look(&reading("a", seq)), Verdict::default());
        }
        assert_eq!(tracker.counts(), Counts { readings: 6, duplicates: 0, dropped: 4, missing: 0 });
        assert!(tracker.look(&notice).duplicate);
        assert!(tracker.look(&reading("a", 3)).duplicate);

        // Five of the eight are gone, and four are said to be.
        let mut tracker = Tracker::default();
        tracker.look(&reading("a", 0));
        tracker.look(&notice);
        [1, 3, 5, 9].iter().for_each(|seq| drop(tracker.look(&reading("a", *seq))));
        assert_eq!(tracker.counts().missing, 1);
    }

    #[test]
    fn memory_stays_bounded_and_the_count_of_what_is_missing_right() {
        let mut tracker = Tracker::default();
        let many = MAX_HOLES as u64 + 5_000;
        (0..=many).for_each(|n| drop(tracker.look(&reading("a", 2 * n))));
        assert_eq!((tracker.runs.values().next().unwrap().holes.len(), tracker.holes), (MAX_HOLES, MAX_HOLES));
        assert_eq!(tracker.counts().missing, many);

        for n in 0..5_000 {
            tracker.look(&Names { dev: format!("gw-{n}"), ..reading("a", 0) });
        }
        assert_eq!(tracker.runs.len(), MAX_RUNS);
        assert_eq!((tracker.counts().missing, tracker.holes), (many, 0));
    }
}
