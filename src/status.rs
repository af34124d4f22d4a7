//! What the agent knows of itself: the ledger of every reading, and the state of every part.
//!
//! Invariant: per stream, `received = delivered + buffered + dropped + rejected` at every moment. Each method moves readings from one
//! column to another under one lock, so nobody ever sees a reading in two columns, or in none. Stages report whole batches, so the
//! lock is taken a few times a batch, never per reading.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Serialize, ser::SerializeMap};

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

/// The state of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamState {
    /// Where its readings are.
    pub ledger: Ledger,
    /// Bytes of its readings that wait, and the arrival of the first of them.
    pub backlog_bytes: u64,
    /// When the oldest of them arrived.
    pub oldest: Option<Timestamp>,
    /// The stream has left the configuration: what is buffered of it stays, and is dropped first.
    pub orphaned: bool,
    /// By lane number.
    pub lanes: Vec<LaneState>,
    /// How its readings travel; none where they can't but together.
    pub aggregation: Option<AggregationState>,
}

/// How the readings of a stream travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AggregationState {
    /// Together, many in a record; otherwise one by one.
    pub on: bool,
    /// Why.
    pub why: &'static str,
}

/// The state of one lane.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LaneState {
    /// Bytes a second that it may send now.
    pub rate: u64,
    /// Bytes that are on their way.
    pub in_flight: u64,
    /// Records that were sent again.
    pub retries: u64,
    /// Records that the service refused because of its throughput.
    pub throttled: u64,
}

/// Where the readings of one stream are. All counts are readings, since the agent started; what it found in the buffer counts as
/// received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Taken from a source, or found in the buffer at the start.
    pub received: u64,
    /// Confirmed by the destination.
    pub delivered: u64,
    /// Waiting, in memory or on disk.
    pub buffered: u64,
    /// Given up, by reason.
    pub dropped: Reasons,
    /// Not to be carried, by reason.
    pub rejected: Reasons,
    /// Sent again after an answer was lost: the stream may have them twice, with the same name.
    pub duplicated: u64,
}

impl Ledger {
    /// Whether every reading is in exactly one column.
    pub fn balances(&self) -> bool {
        self.received == self.delivered + self.buffered + self.dropped.total() + self.rejected.total()
    }

    /// Adds another ledger, column by column.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.delivered += other.delivered;
        self.buffered += other.buffered;
        self.duplicated += other.duplicated;
        other.dropped.iter().for_each(|(why, n)| self.dropped.add(why, n));
        other.rejected.iter().for_each(|(why, n)| self.rejected.add(why, n));
    }
}

/// Why a reading did not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The buffer was full, and the oldest gave way.
    DropOldest,
    /// The buffer was full, and what arrived was not kept.
    DropNewest,
    /// The buffer was full, and some of each topic's readings gave way.
    Thin,
    /// It had waited for longer than `max_age`.
    MaxAge,
    /// QoS 0 has no way to hold the sender, and the buffer was full.
    NoRoom,
    /// The bytes on disk are not those that were written.
    Corrupt,
    /// Over 1,000 KiB when encoded.
    TooLarge,
    /// No stream takes it.
    Unrouted,
    /// Its destination calls it invalid, and took others: it is set aside.
    Refused,
}

impl Reason {
    /// As it stands in the status and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Thin => "thin",
            Self::MaxAge => "max_age",
            Self::NoRoom => "no_room",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::Unrouted => "unrouted",
            Self::Refused => "refused",
        }
    }

    /// The reason whose [`Self::name`] is `name`.
    pub fn named(name: &str) -> Option<Self> {
        use Reason::{Corrupt, DropNewest, DropOldest, MaxAge, NoRoom, Thin, TooLarge, Unrouted};
        [DropOldest, DropNewest, Thin, MaxAge, NoRoom, Corrupt, TooLarge, Unrouted].into_iter().find(|why| why.name() == name)
    }
}

/// Counts by reason; reasons that never happened are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<Reason, u64>);

impl Reasons {
    /// Over all reasons.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// In a stable order.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.0.iter().map(|(why, n)| (*why, *n))
    }

    /// How many for this reason.
    pub fn get(&self, why: Reason) -> u64 {
        self.0.get(&why).copied().unwrap_or_default()
    }

    fn add(&mut self, why: Reason, n: u64) {
        *self.0.entry(why).or_default() += n;
    }
}

impl Serialize for Reasons {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (why, n) in self.iter() {
            map.serialize_entry(why.name(), &n)?;
        }
        map.end()
    }
}

/// The state of one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceState {
    /// `connecting`, `connected`, `waiting` (for room), `stopped`.
    pub state: &'static str,
    /// Readings that it delivered, repeated ones left out.
    pub received: u64,
    /// Publishes that the broker repeated and that we recognised.
    pub repeated: u64,
    /// Frames or packets that were no reading.
    pub invalid: u64,
    /// Readings whose payload was not what the source's `payload` says; they travel as bytes, with the reason.
    pub unreadable: u64,
    /// When the last reading arrived.
    pub last_ts: Option<Timestamp>,
    /// Why it is not connected.
    pub error: Option<String>,
}

/// The state of the way to one destination.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkState {
    /// Whether the last request was answered.
    pub up: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// The URL that requests go to.
    pub endpoint: String,
    /// The address that it was last reached at.
    pub address: Option<SocketAddr>,
    /// Why it is not up; none before the first request has come to an end.
    pub error: Option<String>,
    /// When it is tried again, while it is not up.
    pub retry_at: Option<Timestamp>,
    /// Body bytes sent, refused ones included.
    pub uploaded: u64,
    /// Record bytes that the service refused.
    pub refused: u64,
    /// Time that requests took, from sending to answer.
    pub put: Durations,
    /// What it is signed with.
    pub credentials: CredentialsState,
}

/// What requests to one destination are signed with.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CredentialsState {
    /// Where they come from, as `kind` has it.
    pub kind: &'static str,
    /// When those that are in use expire; none when they don't, or before the first are there.
    pub expires: Option<Timestamp>,
    /// Until when the certificate that stands for us is valid; none where none does.
    pub certificate_expires: Option<Timestamp>,
}

impl LinkState {
    /// Whether anything is known of it: before, it is neither up nor down.
    pub fn tried(&self) -> bool {
        self.up || self.error.is_some()
    }
}

/// What is believed of the gateway's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockState {
    /// Whether it is right.
    pub trust: Trust,
    /// Since when that is so; none before the first look.
    pub since: Option<Timestamp>,
    /// By how many milliseconds it was moved last; none while the agent has not seen that.
    pub moved: Option<i64>,
}

/// What the buffer holds, and where.
#[derive(Clone, Debug, Default)]
pub struct BufferState {
    /// Bytes on disk, all files together.
    pub disk_used: u64,
    /// The bound of that.
    pub disk_max: u64,
    /// Bytes of free space in the file system.
    pub disk_free: u64,
    /// Bytes written to the buffer's files since the start.
    pub disk_written: u64,
    /// It is full and may not drop: what arrives stays with its source.
    pub blocked: bool,
    /// Bytes of readings in memory.
    pub memory: u64,
    /// Readings that are set aside in the file, those of earlier runs included.
    pub set_aside: u64,
    /// Bytes of them.
    pub set_aside_bytes: u64,
    /// Of those that were set aside, how many have made room for others since the start.
    pub set_aside_gone: u64,
    /// Time that commits took.
    pub commit: Durations,
}

/// How long something took, as a histogram with fixed bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
    /// How many took at most [`DURATION_BOUNDS`] seconds, bound by bound, not cumulated; the last entry is for the rest.
    pub buckets: [u64; DURATION_BOUNDS.len() + 1],
}

/// Upper bounds of the buckets of [`Durations`], in seconds: from a fast disk's commit to a slow link's put.
pub const DURATION_BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

impl Durations {
    /// Counts one that took `seconds`.
    pub fn observe(&mut self, seconds: f64) {
        let bucket = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BOUNDS.len());
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += seconds;
    }
}

/// Something that a person should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong, with what.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// An error and what caused it.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Of an error whose text reads `WHAT; WHAT TO DO`: what is wrong, with its causes, on one line; and what to do about it.
pub fn what_and_remedy(error: &(dyn std::error::Error + 'static)) -> (String, String) {
    let text = error.to_string();
    let (what, remedy) = text.split_once("; ").unwrap_or((&text, "see the log"));
    let causes = error.source().map(|cause| format!(": {}", with_causes(cause))).unwrap_or_default();
    // The AWS SDK lists on several lines where it has looked for credentials.
    let causes: Vec<_> = causes.lines().map(str::trim).collect();
    (format!("{what}{}", causes.join(", ").replace(":, ", ": ")), remedy.to_owned())
}

impl Status {
    /// Reads or changes everything under one lock. Not for long work.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A stage that panics stops the agent; until then the counts of the others are still worth having.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of one source.
    pub fn source(&self, name: &str, change: impl FnOnce(&mut SourceState)) {
        change(self.lock().sources.entry(name.to_owned()).or_default());
    }

    /// Changes what is known of the way to one destination.
    pub fn link(&self, name: &str, change: impl FnOnce(&mut LinkState)) {
        change(self.lock().links.entry(name.to_owned()).or_default());
    }

    /// Says what is wrong with `part`; `true` when that is news.
    pub fn problem(&self, part: &str, now: Timestamp, what: String, remedy: &str) -> bool {
        let mut state = self.lock();
        let problem = state.problems.entry(part.to_owned()).or_insert_with(|| Problem {
            since: now,
            what: String::new(),
            remedy: String::new(),
        });
        let news = problem.what != what;
        problem.what = what;
        remedy.clone_into(&mut problem.remedy);
        news
    }

    /// `part` is well again; `true` when it was not before.
    pub fn solved(&self, part: &str) -> bool {
        self.lock().problems.remove(part).is_some()
    }

    /// Says how the readings of `stream` travel; `true` when that is news.
    pub fn aggregation(&self, stream: &str, on: bool, why: &'static str) -> bool {
        let now = Some(AggregationState { on, why });
        let mut state = self.lock();
        let known = &mut state.streams.entry(stream.to_owned()).or_default().aggregation;
        let news = *known != now;
        *known = now;
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
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.to_owned(), StreamState::default());
        }
        let ledger = self.streams.get_mut(stream).map(|stream| &mut stream.ledger);
        ledger.expect("it was put in just now")
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
    fn an_error_says_apart_what_is_wrong_on_one_line_and_what_to_do() {
        #[derive(Debug, thiserror::Error)]
        #[error("no way out; open the door")]
        struct Shut(#[source] std::io::Error);

        let (what, remedy) = what_and_remedy(&Shut(std::io::Error::other("tried:\n  the window")));

        assert_eq!((what.as_str(), remedy.as_str()), ("no way out: tried: the window", "open the door"));
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
