//! One stream on its way out: which lanes go into the next request, and what an answer means for them. Pure.
//!
//! With `live-first`, a lane that is behind goes on in another part: what arrives from then on is live, and travels in requests of its own,
//! beside those that carry what has waited. Both keep to the rate of their shard.
//!
//! Invariant: one record of a lane, or of a part of one, is outstanding, so what was refused goes before anything later of it, and order
//! survives. Of the older parts of a lane only the oldest sends.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    bisect::{Ask, Search, Verdict},
    distribution::Distribution,
    lane::{Fate, Flow, LaneDrain},
};
use crate::{
    backoff::Backoff,
    buffer::{Lane, Waiting},
    config::{Aggregation, DrainOrder},
    kinesis::{
        Class,
        limits::{MAX_RECORDS_PER_REQUEST, OUR_MAX_RECORD},
    },
};

/// Smallest share of a request that a lane is given.
const LEAST_RECORD_BYTES: usize = 4 << 10;
/// What needs a person is tried again about this often.
const HOLD: Duration = Duration::from_mins(1);

/// How long to leave alone what needs a person. A little shorter for some, so that gateways that were refused together don't come
/// back together.
pub(super) fn hold(random: f64) -> Duration {
    HOLD.mul_f64(0.75 + random / 4.0)
}

/// A live reading that has waited for longer makes its lane one that is behind. A part is live for as long at least, and as long again for
/// every part that waits already, so that a link which can't carry even what arrives does not cut a lane into ever more.
const BEHIND: Duration = Duration::from_secs(2);

/// What of a stream goes into a request; one request of each is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Train {
    /// What arrives now, where that goes first.
    Live,
    /// What has waited, and where the order is oldest-first everything.
    Backlog,
}

impl Train {
    /// What goes first comes first.
    pub const ALL: [Self; 2] = [Self::Live, Self::Backlog];
}

/// One stream.
pub(super) struct Stream {
    /// The name under `[streams]`.
    pub(super) name: String,
    /// What it is called there.
    pub(super) target: String,
    /// Its place among the destinations.
    pub(super) destination: usize,
    /// How long a reading may wait for company.
    pub(super) linger: Duration,
    /// What of it goes first.
    order: DrainOrder,
    /// Where the link is slow, those with a higher one go first.
    pub(super) priority: u16,
    /// In any order; a place stays a lane's own.
    pub(super) lanes: Vec<LaneDrain>,
    pub(super) flows: Vec<Flow>,
    /// When a request of it last set out.
    pub(super) served: Option<Instant>,
    /// By train: a request is on its way.
    busy: [bool; 2],
    /// The lane that goes first, so that a small request is not always the same lanes'.
    turn: usize,
    /// Records that the service has accepted.
    pub(super) accepted: u64,
    /// Companies that were made.
    companies: u32,
    /// Waits while everything is called invalid.
    refused: Backoff,
    /// Why its records were refused last, and what to do about it.
    pub(super) refusal: (String, String),
    hold_until: Option<Instant>,
    /// The last request failed for its credentials, and a second one at once is not worth it.
    credentials_failed: bool,
    /// Whether its readings travel together.
    pub(super) distribution: Distribution,
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

impl Stream {
    pub(super) fn new(name: &str, target: &str, destination: usize, linger: Duration, order: DrainOrder, priority: u16) -> Self {
        Self {
            name: name.into(),
            target: target.into(),
            destination,
            linger,
            order,
            priority,
            lanes: Vec::new(),
            flows: Vec::new(),
            served: None,
            busy: [false; 2],
            turn: 0,
            accepted: 0,
            companies: 0,
            refused: Backoff::up_to(HOLD),
            refusal: Default::default(),
            hold_until: None,
            credentials_failed: false,
            distribution: Distribution::new(Aggregation::On),
        }
    }

    /// Whether the readings of `lane` travel one by one. Those that were accepted out of turn did, and so do the ones between them.
    pub(super) fn goes_one_by_one(&self, lane: usize) -> bool {
        !self.distribution.aggregates() || !self.lanes[lane].out_of_turn.is_empty()
    }

    /// So many readings fill a request, whatever their size.
    fn many(&self) -> u64 {
        if self.distribution.aggregates() { u64::MAX } else { MAX_RECORDS_PER_REQUEST as u64 }
    }

    /// Adds a lane, behind those that it has.
    pub(super) fn add(&mut self, lane: Lane, older: bool) {
        let flow = self.flows.iter().position(|flow| flow.layout == lane.layout).unwrap_or_else(|| {
            self.flows.push(Flow::new(lane.layout.clone()));
            self.flows.len() - 1
        });
        let age = self.lanes.iter().map(|lane| lane.age + 1).max().unwrap_or_default();
        let drain = LaneDrain::new(lane, older, age, flow);
        // A part that had become empty, and begins again.
        match self.lanes.iter_mut().find(|known| known.lane.id == drain.lane.id) {
            Some(known) => *known = drain,
            None => self.lanes.push(drain),
        }
    }

    /// The trains that it has, in the order in which they go.
    pub(super) fn trains(&self) -> &'static [Train] {
        match self.order {
            DrainOrder::OldestFirst => &[Train::Backlog],
            DrainOrder::LiveFirst => &Train::ALL,
        }
    }

    pub(super) fn is_busy(&self, train: Train) -> bool {
        self.busy[train as usize]
    }

    pub(super) fn set_busy(&mut self, train: Train, busy: bool) {
        self.busy[train as usize] = busy;
    }

    /// The train of a lane.
    pub(super) fn train(&self, lane: usize) -> Train {
        if self.order == DrainOrder::LiveFirst && !self.lanes[lane].older { Train::Live } else { Train::Backlog }
    }

    /// Lanes whose live readings have waited for too long, because more waits than their next record carries.
    pub(super) fn behind(&self, now: Instant, waiting: impl Fn(&Lane) -> Waiting, at_most: usize) -> Vec<usize> {
        if self.is_busy(Train::Live) {
            return Vec::new();
        }
        let today = (0..self.lanes.len()).filter(|lane| self.train(*lane) == Train::Live);
        let is_behind = |lane: &usize| {
            let (drain, wait) = (&self.lanes[*lane], waiting(&self.lanes[*lane].lane));
            let fits = wait.bytes <= self.record_bytes(*lane, at_most) as u64 && wait.readings <= self.many();
            if fits || wait.since.is_some_and(|since| now < since + BEHIND) {
                return false;
            }
            let other = |other: &&LaneDrain| other.older && other.flow == drain.flow && waiting(&other.lane).bytes > 0;
            let parts = u32::try_from(self.lanes.iter().filter(other).count()).unwrap_or(u32::MAX);
            drain.began.is_none_or(|began| now >= began + BEHIND * (1 + parts))
        };
        today.filter(is_behind).collect()
    }

    /// What `lane` has is backlog from now on, and `part` is live.
    pub(super) fn begin_part(&mut self, now: Instant, lane: usize, part: Lane) {
        self.lanes[lane].older = true;
        let id = part.id;
        self.add(part, false);
        if let Some(part) = self.lanes.iter_mut().find(|lane| lane.lane.id == id) {
            part.began = Some(now);
        }
    }

    /// What waits by now has waited for the link, and not because it carries too little.
    pub(super) fn was_away(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.began = None);
    }

    fn record_bytes(&self, lane: usize, share: usize) -> usize {
        share.min(OUR_MAX_RECORD.as_len()).min(self.flows[self.lanes[lane].flow].pace.record_bytes())
    }

    /// Of each lane, whether `train` may carry it now. An older layout sends its readings elsewhere, and those of a younger one must not
    /// overtake them; of the older parts of a lane, neither.
    fn may_send(&self, train: Train, waiting: &[Waiting]) -> Vec<bool> {
        let today = |lane: usize| !self.lanes[lane].older && self.train(lane) == train;
        let has_something = |lane: &usize| self.lanes[*lane].older && (waiting[*lane].bytes > 0 || waiting[*lane].expected);
        let mut older: Vec<usize> = (0..self.lanes.len()).filter(|_| train == Train::Backlog).filter(has_something).collect();
        older.sort_unstable_by_key(|lane| self.lanes[*lane].age);
        let Some(oldest) = older.first().map(|lane| self.lanes[*lane].generation()) else {
            return (0..self.lanes.len()).map(today).collect();
        };
        let mut may_send = vec![false; self.lanes.len()];
        let mut numbers = BTreeSet::new();
        let first = older.into_iter().take_while(|lane| self.lanes[*lane].generation() == oldest);
        first.filter(|lane| numbers.insert(self.lanes[*lane].lane.layout.number)).for_each(|lane| may_send[lane] = true);
        may_send
    }

    /// What to do now with `train`. `waiting` tells what waits in each lane; `at_most` is the size of a request; `hurry` when there is no
    /// time left to wait for company.
    pub(super) fn next(
        &mut self,
        now: Instant,
        train: Train,
        waiting: impl Fn(&Lane) -> Waiting,
        at_most: usize,
        hurry: bool,
    ) -> Next {
        if let Some(until) = self.hold_until.filter(|until| *until > now) {
            return Next::Wait(until);
        }
        let waiting: Vec<Waiting> = self.lanes.iter().map(|lane| waiting(&lane.lane)).collect();
        let may_send = self.may_send(train, &waiting);
        let count = self.lanes.len();
        let ready_at = |index: usize| {
            let lane = &self.lanes[index];
            let company = if hurry { Duration::ZERO } else { self.linger.max(self.flows[lane.flow].pace.company()) };
            let own = lane.ready_at(waiting[index], self.record_bytes(index, at_most), self.many(), company);
            own.max(self.flows[lane.flow].ready_at()).unwrap_or(now)
        };
        let candidates = (self.turn..self.turn + count)
            .map(|index| index % count)
            .filter(|index| waiting[*index].bytes > 0 && may_send[*index])
            .map(|index| (index, ready_at(index)));
        let (ready, later): (Vec<_>, Vec<_>) = candidates.partition(|(_, at)| *at <= now);
        if ready.is_empty() {
            return later.iter().map(|(_, at)| *at).min().map_or(Next::Idle, Next::Wait);
        }
        let company = self.lanes[ready[0].0].company;
        let mut chosen: Vec<usize> =
            ready.iter().map(|(index, _)| *index).filter(|index| self.lanes[*index].company == company).collect();
        chosen.truncate(MAX_RECORDS_PER_REQUEST.min((at_most / LEAST_RECORD_BYTES).max(1)));
        let share = at_most / chosen.len();
        // Whoever was ready and had to stay goes first next time.
        let left_out = ready.iter().map(|(index, _)| *index).find(|index| !chosen.contains(index));
        self.turn = left_out.unwrap_or((chosen[chosen.len() - 1] + 1) % count);
        Next::Send(chosen.into_iter().map(|index| (index, self.record_bytes(index, share))).collect())
    }

    /// The record of `lane`, of `bytes` and sent at `sent`, was answered.
    pub(super) fn settle(&mut self, lane: usize, sent: Instant, now: Instant, bytes: usize, fate: Fate, random: f64) {
        let lane = &mut self.lanes[lane];
        self.flows[lane.flow].settle(sent, now, bytes, fate, random);
        if fate == Fate::Accepted {
            lane.hold_until = None;
        }
    }

    /// Of the lanes that were `tried`, those that `failed` could not be read. Whether all lanes can be read, as far as is known: one that
    /// could not counts until it could.
    pub(super) fn could_be_read(&mut self, tried: &[usize], failed: &[usize]) -> bool {
        tried.iter().for_each(|lane| self.lanes[*lane].unread = failed.contains(lane));
        self.lanes.iter().all(|lane| !lane.unread)
    }

    /// All lanes, as after an outage.
    pub(super) fn begin_slowly(&mut self) {
        self.flows.iter_mut().for_each(|flow| flow.pace.begin_slowly());
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
            Some(search) if done => {
                search.set_aside();
                lane.out_of_turn.set_aside();
            }
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
                self.begin_slowly(); // whoever mends it mends it for all gateways
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
