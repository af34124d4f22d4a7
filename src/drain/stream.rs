//! One stream on its way out: which lanes go into the next request, and what an answer means for them. Pure.
//!
//! Invariant: one record a lane is outstanding, so what was refused goes before anything later of its lane, and order survives.

use std::time::{Duration, Instant};

use super::{
    bisect::{Ask, Search, Verdict},
    pace::Pace,
};
use crate::{
    backoff::Backoff,
    buffer::{Lane, Waiting},
    kinesis::{
        Class,
        limits::{MAX_RECORDS_PER_REQUEST, OUR_MAX_RECORD},
    },
};

/// Smallest share of a request that a lane is given.
const LEAST_RECORD_BYTES: usize = 4 << 10;
/// A lane whose readings can't be read from the disk is tried again after this.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait before what may pass by itself is tried again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// What needs a person is tried again about this often.
const HOLD: Duration = Duration::from_mins(1);

/// How long to leave alone what needs a person. A little shorter for some, so that gateways that were refused together don't come
/// back together.
pub(super) fn hold(random: f64) -> Duration {
    HOLD.mul_f64(0.75 + random / 4.0)
}

/// One stream.
pub(super) struct Stream {
    /// The name under `[streams]`.
    pub(super) name: String,
    /// The name of the Kinesis stream.
    pub(super) target: String,
    /// Its place among the destinations.
    pub(super) destination: usize,
    /// How long a reading may wait for company.
    pub(super) linger: Duration,
    /// Those of older layouts come first.
    pub(super) lanes: Vec<LaneDrain>,
    /// A request is on its way.
    pub(super) busy: bool,
    /// The lane that goes first, so that a small request is not always the same lanes'.
    turn: usize,
    /// Records that the service has accepted.
    accepted: u64,
    /// Companies that were made.
    companies: u32,
    /// Waits while everything is called invalid.
    refused: Backoff,
    /// Why its records were refused last, and what to do about it.
    pub(super) refusal: (String, String),
    hold_until: Option<Instant>,
    /// The last request failed for its credentials, and a second one at once is not worth it.
    credentials_failed: bool,
}

/// One lane.
pub(super) struct LaneDrain {
    pub(super) lane: Lane,
    /// It is not of today's layout, and drains before those that are. Layouts drain in the order in which they were made.
    pub(super) older: bool,
    pub(super) pace: Pace,
    /// Bytes that are on their way.
    pub(super) in_flight: usize,
    /// Bytes a second of the last record that was accepted.
    throughput: f64,
    hold_until: Option<Instant>,
    backoff: Backoff,
    /// While a record that the service calls invalid is being looked for: it goes only with lanes of the same company.
    company: Option<u32>,
    /// And once its own records are called invalid: the search for the reading.
    search: Option<Search>,
    /// Records that were sent again.
    pub(super) retries: u64,
    /// Records that were refused because the shard was full.
    pub(super) throttled: u64,
}

/// What a stream can do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send a record of each of these lanes, of at most so many bytes.
    Send(Vec<(usize, usize)>),
    /// Not before this.
    Wait(Instant),
    /// Nothing waits.
    Idle,
}

/// What became of one lane's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    Throttled,
    Failed,
}

/// What follows from a request that failed for a reason that is its stream's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Something else is tried at once.
    GoOn,
    /// A person has to act.
    Tell,
    /// The reading at the head of this lane is at fault.
    SetAside(usize),
}

impl LaneDrain {
    pub(super) fn new(lane: Lane, older: bool) -> Self {
        Self {
            lane,
            older,
            pace: Pace::default(),
            in_flight: 0,
            throughput: 0.0,
            hold_until: None,
            backoff: Backoff::up_to(LONGEST_WAIT),
            company: None,
            search: None,
            retries: 0,
            throttled: 0,
        }
    }

    /// What it has in common with the other lanes of its layout, and with no other layout of its stream.
    fn generation(&self) -> (u16, Option<&str>) {
        (self.lane.layout.of, self.lane.layout.template.as_deref())
    }

    /// When this lane may send what waits in it, `share` bytes at most.
    fn ready_at(&self, now: Instant, waiting: Waiting, share: usize, linger: Duration) -> Instant {
        let company = waiting.since.filter(|_| waiting.bytes < share as u64).map(|since| since + linger);
        [self.pace.ready_at(), self.hold_until, company].into_iter().flatten().max().unwrap_or(now)
    }

    /// Bytes a second that it may send: what its shard leaves it, or what the link carried last.
    pub(super) fn rate(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a throughput is positive")]
        self.pace.rate().unwrap_or(self.throughput as u64)
    }

    /// There was nothing to be had from it: not again at once.
    pub(super) fn pause(&mut self, now: Instant) {
        self.hold_until = Some(now + PAUSE);
    }

    /// Its record, sent at `sent`, was answered.
    pub(super) fn settle(&mut self, sent: Instant, now: Instant, bytes: usize, fate: Fate, random: f64) {
        match fate {
            Fate::Accepted => {
                self.pace.accepted(now, bytes);
                self.throughput = bytes as f64 / now.saturating_duration_since(sent).as_secs_f64().max(0.001);
                self.backoff.reset();
                self.hold_until = None;
            }
            Fate::Throttled => {
                self.pace.refused(sent, now, bytes);
                self.throttled += 1;
                self.retries += 1;
            }
            Fate::Failed => {
                self.hold_until = Some(now + self.backoff.pause(random));
                self.retries += 1;
            }
        }
    }
}

impl Stream {
    pub(super) fn new(name: &str, target: &str, destination: usize, linger: Duration, lanes: Vec<LaneDrain>) -> Self {
        Self {
            name: name.into(),
            target: target.into(),
            destination,
            linger,
            lanes,
            busy: false,
            turn: 0,
            accepted: 0,
            companies: 0,
            refused: Backoff::up_to(HOLD),
            refusal: Default::default(),
            hold_until: None,
            credentials_failed: false,
        }
    }

    /// What to do now. `waiting` tells what waits in each lane; `at_most` is the size of a request; `hurry` when there is no time left
    /// to wait for company.
    pub(super) fn next(&mut self, now: Instant, waiting: impl Fn(&Lane) -> Waiting, at_most: usize, hurry: bool) -> Next {
        if let Some(until) = self.hold_until.filter(|until| *until > now) {
            return Next::Wait(until);
        }
        let waiting: Vec<Waiting> = self.lanes.iter().map(|lane| waiting(&lane.lane)).collect();
        // Another layout sends its readings elsewhere; those of a younger one must not overtake them.
        let older = self.lanes.iter().zip(&waiting).filter(|(lane, waiting)| lane.older && (waiting.bytes > 0 || waiting.expected));
        let oldest = older.map(|(lane, _)| lane).min_by_key(|lane| lane.lane.id).map(LaneDrain::generation);
        let has_turn = |lane: &LaneDrain| oldest.is_none_or(|oldest| lane.older && lane.generation() == oldest);
        let linger = if hurry { Duration::ZERO } else { self.linger };
        let count = self.lanes.len();
        let candidates = (self.turn..self.turn + count)
            .map(|index| index % count)
            .filter(|index| waiting[*index].bytes > 0 && has_turn(&self.lanes[*index]))
            .map(|index| (index, self.lanes[index].ready_at(now, waiting[index], at_most.min(OUR_MAX_RECORD.as_len()), linger)));
        let (ready, later): (Vec<_>, Vec<_>) = candidates.partition(|(_, at)| *at <= now);
        if ready.is_empty() {
            return later.iter().map(|(_, at)| *at).min().map_or(Next::Idle, Next::Wait);
        }
        let company = self.lanes[ready[0].0].company;
        let mut chosen: Vec<usize> =
            ready.iter().map(|(index, _)| *index).filter(|index| self.lanes[*index].company == company).collect();
        chosen.truncate(MAX_RECORDS_PER_REQUEST.min((at_most / LEAST_RECORD_BYTES).max(1)));
        let share = at_most / chosen.len();
        let bytes = |index: usize| share.min(OUR_MAX_RECORD.as_len()).min(self.lanes[index].pace.record_bytes());
        // Whoever was ready and had to stay goes first next time.
        let left_out = ready.iter().map(|(index, _)| *index).find(|index| !chosen.contains(index));
        self.turn = left_out.unwrap_or((chosen[chosen.len() - 1] + 1) % count);
        Next::Send(chosen.into_iter().map(|index| (index, bytes(index))).collect())
    }

    /// What of `lane` goes into its next record.
    pub(super) fn ask(&self, lane: usize) -> Ask {
        self.lanes[lane].search.as_ref().map_or(Ask::ALL, |search| search.ask(self.accepted))
    }

    /// A request was answered, record by record.
    pub(super) fn answered(&mut self) {
        self.hold_until = None;
        self.credentials_failed = false;
    }

    /// A record of `lane` was accepted: `readings`, sent as `asked`.
    pub(super) fn accepted(&mut self, lane: usize, asked: Ask, readings: u64) {
        self.accepted += 1;
        self.refused.reset();
        let lane = &mut self.lanes[lane];
        lane.search.take_if(|search| search.accepted(asked, readings));
        lane.company = lane.company.filter(|_| lane.search.is_some());
    }

    /// A record of `lane` is invalid, for the service took or refused others with it: `readings`, sent as `asked`.
    pub(super) fn invalid(&mut self, now: Instant, lane: usize, asked: Ask, readings: u64, random: f64) -> Then {
        let (accepted, company) = (self.accepted, self.new_company());
        let drain = &mut self.lanes[lane];
        drain.company = Some(company);
        let search = drain.search.get_or_insert_with(|| Search::new(accepted));
        match search.refused(asked, readings, accepted) {
            Verdict::GoOn => Then::GoOn,
            Verdict::AtFault => Then::SetAside(lane),
            Verdict::Wait => self.wait(now, lane, random),
        }
    }

    /// There was nothing of what was asked of `lane`.
    pub(super) fn empty(&mut self, now: Instant, lane: usize, asked: Ask, random: f64) -> Then {
        match &mut self.lanes[lane].search {
            Some(search) if asked.skip > 0 => {
                search.nothing_behind();
                self.wait(now, lane, random)
            }
            _ => {
                self.lanes[lane].pause(now);
                Then::GoOn
            }
        }
    }

    /// The reading at the head of `lane` was set aside, or could not be.
    pub(super) fn set_aside(&mut self, now: Instant, lane: usize, done: bool) {
        let lane = &mut self.lanes[lane];
        match &mut lane.search {
            Some(search) if done => search.set_aside(),
            _ => lane.pause(now),
        }
    }

    /// Everything waits a while: no reading need be at fault.
    fn wait(&mut self, now: Instant, lane: usize, random: f64) -> Then {
        self.hold_until = Some(now + self.refused.pause(random));
        if let Some(search) = &mut self.lanes[lane].search {
            search.waited();
        }
        Then::Tell
    }

    fn new_company(&mut self) -> u32 {
        self.companies = self.companies.wrapping_add(1);
        self.companies
    }

    /// A request that carried `records` failed as a whole, for a reason that is this stream's own.
    pub(super) fn failed(&mut self, now: Instant, class: Class, records: &[(usize, Ask, u64)], random: f64) -> Then {
        let hold = now + hold(random);
        match class {
            Class::Credentials if !self.credentials_failed => {
                self.credentials_failed = true;
                Then::GoOn
            }
            Class::Credentials | Class::Held => {
                self.hold_until = Some(hold);
                Then::Tell
            }
            Class::Invalid | Class::TooLarge => match records {
                [(lane, asked, readings)] => self.invalid(now, *lane, *asked, *readings, random),
                _ => {
                    for half in records.chunks(records.len().div_ceil(2).max(1)) {
                        let company = self.new_company();
                        half.iter().for_each(|(lane, ..)| self.lanes[*lane].company = Some(company));
                    }
                    Then::GoOn
                }
            },
            Class::Away | Class::Barred | Class::Throttled => Then::GoOn,
        }
    }
}

#[cfg(test)]
mod tests;
