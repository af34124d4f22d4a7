//! What the agent knows of itself: the ledger of every reading, and the state of every part.
//!
//! Invariant: per stream, `received = delivered + buffered + dropped + rejected` at every moment. Each method moves readings from one
//! column to another under one lock, so nobody ever sees a reading in two columns, or in none. Stages report whole batches, so the
//! lock is taken a few times a batch, never per reading.

mod ledger;
mod parts;
mod problem;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use self::{
    ledger::{Ledger, Reason, Reasons},
    parts::{
        AggregationState, BufferState, ClockState, CredentialsState, DURATION_BOUNDS, Durations, LaneState, LinkState, MonthState,
        Pause, SourceState, StreamState,
    },
    problem::{Problem, what_and_remedy, with_causes},
};
use crate::{clock::Trust, reading::Timestamp};

/// Shared by all stages of one agent; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<State>>);

/// Everything that is known, as one consistent picture.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// By stream name. Readings that no stream takes are under [`UNROUTED`].
    pub streams: BTreeMap<String, StreamState>,
    /// By source name.
    pub sources: BTreeMap<String, SourceState>,
    /// By destination name.
    pub links: BTreeMap<String, LinkState>,
    /// What the buffer holds, and where.
    pub buffer: BufferState,
    /// What is wrong now, by the part it is wrong with.
    pub problems: BTreeMap<String, Problem>,
    /// Whether the time is right.
    pub clock: ClockState,
    /// The buffer has no room, and a source waits for it.
    pub holding: bool,
    /// When each stage last showed that it moves.
    pub beats: BTreeMap<String, Instant>,
    /// The buffer is open, and every stage was started.
    pub running: bool,
    /// SIGTERM has arrived.
    pub stopping: bool,
    /// Where the local page is served, once it is.
    pub page: Option<SocketAddr>,
}

/// Not a stream's name: where readings are counted that no stream takes.
pub const UNROUTED: &str = "";

/// A stage that has nothing to do shows at least this often that it could.
pub const BEAT: Duration = Duration::from_secs(10);
/// A stage that has shown nothing for this long is stuck.
const STUCK: Duration = Duration::from_mins(2);

impl Status {
    /// Reads or changes everything under one lock. Not for long work.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A stage that panics stops the agent; until then the counts of the others are still worth having.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of one source.
    pub fn source(&self, name: &str, change: impl FnOnce(&mut SourceState)) {
        change(known(&mut self.lock().sources, name));
    }

    /// Changes what is known of the way to one destination.
    pub fn link(&self, name: &str, change: impl FnOnce(&mut LinkState)) {
        change(known(&mut self.lock().links, name));
    }

    /// Says what is wrong with `part`; `true` when that is news.
    pub fn problem(&self, part: &str, now: Timestamp, what: String, remedy: &str) -> bool {
        self.lock().problem(part, now, what, remedy)
    }

    /// `part` is well again; `true` when it was not before.
    pub fn solved(&self, part: &str) -> bool {
        self.lock().problems.remove(part).is_some()
    }

    /// Says how the readings of `stream` travel; `true` when that is news.
    pub fn aggregation(&self, stream: &str, on: bool, why: &'static str) -> bool {
        let now = Some(AggregationState { on, why });
        let mut state = self.lock();
        let before = &mut known(&mut state.streams, stream).aggregation;
        let news = *before != now;
        *before = now;
        news
    }

    /// `stage` moves.
    pub fn beat(&self, stage: &str, now: Instant) {
        let beats = &mut self.lock().beats;
        match beats.get_mut(stage) {
            Some(last) => *last = now,
            None => drop(beats.insert(stage.to_owned(), now)),
        }
    }

    /// `stage` has ended in order, and shows nothing any more.
    pub fn rests(&self, stage: &str) {
        self.lock().beats.remove(stage);
    }

    /// `n` readings of `stream` were taken, and wait.
    pub fn received(&self, stream: &str, n: u64) {
        let mut state = self.lock();
        let ledger = state.ledger(stream);
        ledger.received += n;
        ledger.buffered += n;
    }

    /// `n` readings of `stream` that waited were confirmed by the destination.
    pub fn delivered(&self, stream: &str, n: u64) {
        let mut state = self.lock();
        let ledger = state.ledger(stream);
        ledger.buffered -= n;
        ledger.delivered += n;
    }

    /// `n` readings of `stream` that waited were given up.
    pub fn dropped(&self, stream: &str, why: Reason, n: u64) {
        let mut state = self.lock();
        let ledger = state.ledger(stream);
        ledger.buffered -= n;
        ledger.dropped.add(why, n);
    }

    /// `n` readings of `stream` arrived and were given up before they could wait.
    pub fn dropped_at_the_door(&self, stream: &str, why: Reason, n: u64) {
        let mut state = self.lock();
        let ledger = state.ledger(stream);
        ledger.received += n;
        ledger.dropped.add(why, n);
    }

    /// `n` readings of `stream` arrived and can't be carried.
    pub fn rejected(&self, stream: &str, why: Reason, n: u64) {
        let mut state = self.lock();
        let ledger = state.ledger(stream);
        ledger.received += n;
        ledger.rejected.add(why, n);
    }

    /// `n` readings of `stream` that waited can't be carried, and are set aside.
    pub fn set_aside(&self, stream: &str, why: Reason, n: u64) {
        let mut state = self.lock();
        let ledger = state.ledger(stream);
        ledger.buffered -= n;
        ledger.rejected.add(why, n);
    }

    /// `n` readings of `stream` were sent again after an answer was lost.
    pub fn duplicated(&self, stream: &str, n: u64) {
        self.lock().ledger(stream).duplicated += n;
    }
}

impl State {
    fn ledger(&mut self, stream: &str) -> &mut Ledger {
        &mut known(&mut self.streams, stream).ledger
    }

    /// As [`Status::problem`], for who changes something else in the same moment.
    pub fn problem(&mut self, part: &str, now: Timestamp, what: String, remedy: &str) -> bool {
        let problem = self.problems.entry(part.to_owned()).or_insert_with(|| Problem {
            since: now,
            what: String::new(),
            remedy: String::new(),
        });
        let news = problem.what != what;
        problem.what = what;
        remedy.clone_into(&mut problem.remedy);
        news
    }

    /// The clock was `moved` by so many milliseconds, and is to be trusted so far; `true` when it was not so before. What was told of
    /// times before is moved with it: a span stays as long as it is.
    pub fn clock_is(&mut self, trust: Trust, moved: i64, now: Timestamp) -> bool {
        let told = self.problems.values_mut().map(|problem| &mut problem.since);
        let told = told.chain(self.links.values_mut().map(|link| &mut link.since)).chain(self.clock.since.as_mut());
        let last = self.sources.values_mut().filter_map(|source| source.last_ts.as_mut());
        told.chain(last).for_each(|time| time.0 = time.0.saturating_add(moved));
        self.clock.moved = Some(moved).filter(|moved| *moved != 0).or(self.clock.moved);
        let changed = self.clock.trust != trust;
        if changed || self.clock.since.is_none() {
            (self.clock.trust, self.clock.since) = (trust, Some(now));
        }
        changed
    }

    /// A stage that does not move any more.
    pub fn stuck(&self, now: Instant) -> Option<&str> {
        self.beats.iter().find(|(_, last)| now.saturating_duration_since(**last) > STUCK).map(|(stage, _)| stage.as_str())
    }

    /// The sum over all streams, and the readings that no stream takes.
    pub fn ledger_total(&self) -> Ledger {
        let mut total = Ledger::default();
        self.streams.values().for_each(|stream| total.add(&stream.ledger));
        total
    }
}

/// What is known of `name`. This is asked for every few readings, so the name is copied only where it is new.
fn known<'a, T: Default>(all: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    if !all.contains_key(name) {
        all.insert(name.to_owned(), T::default());
    }
    // There: it was, or the lines above have put it in.
    all.get_mut(name).expect("it was put in just now")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_in_exactly_one_column_whatever_happens_to_it() {
        let status = Status::default();
        status.received("readings", 10);
        status.delivered("readings", 4);
        status.dropped("readings", Reason::DropOldest, 3);
        status.rejected("readings", Reason::TooLarge, 1);
        status.dropped_at_the_door("readings", Reason::NoRoom, 2);
        status.rejected(UNROUTED, Reason::Unrouted, 5);

        let total = status.lock().ledger_total();

        assert!(total.balances());
        assert_eq!((total.received, total.delivered, total.buffered), (18, 4, 3));
        assert_eq!(total.dropped.get(Reason::DropOldest), 3);
        assert_eq!(total.rejected.get(Reason::Unrouted), 5);
    }

    #[test]
    fn a_span_stays_as_long_as_it_is_when_the_clock_is_set() {
        let status = Status::default();
        status.problem("link cloud", Timestamp(60_000), "away".into(), "");
        status.source("broker", |source| source.last_ts = Some(Timestamp(61_000)));
        status.lock().clock_is(Trust::Wrong, 0, Timestamp(50_000));

        let changed = status.lock().clock_is(Trust::Right, 1_000_000, Timestamp(1_070_000));

        let state = status.lock();
        assert_eq!(state.problems["link cloud"].since, Timestamp(1_060_000));
        assert_eq!(state.sources["broker"].last_ts, Some(Timestamp(1_061_000)));
        assert_eq!((changed, state.clock.since, state.clock.moved), (true, Some(Timestamp(1_070_000)), Some(1_000_000)));
    }

    #[test]
    fn a_stage_that_shows_nothing_for_minutes_is_stuck() {
        let (status, now) = (Status::default(), Instant::now());
        status.beat("drain", now);
        status.beat("ingest", now + STUCK);
        assert_eq!(status.lock().stuck(now + STUCK), None);
        assert_eq!(status.lock().stuck(now + STUCK + BEAT), Some("drain"));
    }
}
