//! Which readings of a stream were seen, which came twice, and which are missing.
//!
//! Invariant: memory is bounded. Beyond [`MAX_RUNS`] the run that was silent longest is forgotten: were it to speak again, its readings
//! would count as new. Beyond [`MAX_HOLES`] the oldest gap of the run at hand stays missing for good.

mod run;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt};

use self::run::{Hole, Run};
use super::envelope::Names;

/// Runs that are remembered: so many lanes of so many gateways, and their restarts.
const MAX_RUNS: usize = 4096;
/// Gaps that may still be filled. A stream that distributes records itself has the readings of a lane in all of its shards: one page of a
/// shard, 10,000 records, leaves as many gaps for the others to fill.
const MAX_HOLES: usize = 1 << 18;

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
        // There: it was, or the lines above have put it in; `make_room` came before that.
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
