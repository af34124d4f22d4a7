//! One gateway: its link, what waits in it, and who decides when it sends.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use headwater::{
    buffer::Waiting,
    config::DrainOrder,
    demo::{kinesis::Limits, random::Random},
    drain::rehearsal::{Law, Rehearsal, Train, Turn, base64_len},
};

use crate::{
    packing,
    rivals::{Bucket, FullSpeed},
};

/// What travels beside a record's data: the head of the request, its signature, and TLS.
const REQUEST_HEAD: usize = 1500;
/// A source gathers for so long.
const LINGER: Duration = Duration::from_millis(250);

/// The way to the service.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bytes a second, up.
    pub bandwidth: f64,
    pub round_trip: Duration,
    /// Whoever is cut off learns so at once, or only when nobody answers.
    pub black_hole: bool,
    busy_until: Option<Instant>,
}

impl Link {
    pub fn new(bits_per_second: f64, round_trip: Duration, black_hole: bool) -> Self {
        Self { bandwidth: bits_per_second / 8.0, round_trip, black_hole, busy_until: None }
    }

    /// When a record of `bytes` that sets out at `now` has arrived, behind what set out before it.
    pub fn arrival(&mut self, now: Instant, bytes: usize, random: &mut Random) -> Instant {
        let wire = (base64_len(bytes) + REQUEST_HEAD) as f64;
        let left = self.busy_until.map_or(now, |busy| busy.max(now)) + Duration::from_secs_f64(wire / self.bandwidth);
        self.busy_until = Some(left);
        left + self.one_way(random)
    }

    /// Half of a round trip, which is never quite the same.
    pub fn one_way(&self, random: &mut Random) -> Duration {
        self.round_trip.mul_f64(0.5 + 0.1 * random.fraction())
    }

    /// Bytes of records a second that it carries, one at a time, each as large as it carries in two seconds.
    pub fn carries(&self) -> f64 {
        let bytes = (2.0 * self.bandwidth * 3.0 / 4.0).min(1_024_000.0);
        bytes / ((base64_len(bytes as usize) + REQUEST_HEAD) as f64 / self.bandwidth + self.round_trip.as_secs_f64())
    }
}

/// Who decides when to send how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// This crate.
    Headwater(Law, DrainOrder),
    /// As fast as answers come, and exponential backoff with full jitter.
    FullSpeed,
    /// A token bucket that knows a shard's limits but not who else uses it.
    Bucket,
}

enum Sender {
    Headwater(Box<Rehearsal>),
    FullSpeed(FullSpeed),
    Bucket(Bucket),
}

/// Readings from one arrival to another; they arrive evenly.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The first that is not confirmed.
    from: u64,
    /// The first that belongs to the next part.
    to: Option<u64>,
}

/// A record on its way.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub sent: Instant,
    pub bytes: usize,
    pub accepted: bool,
    part: u32,
    readings: u64,
}

pub struct Gateway {
    pub link: Link,
    sender: Sender,
    parts: BTreeMap<u32, Part>,
    live: u32,
    /// What carries the newest readings.
    newest: Train,
    /// Readings that were there at the start of the simulation.
    before: u64,
    /// Readings a second.
    rate: f64,
    start: Instant,
    on_the_way: [Option<Request>; 2],
    /// When it is to be looked at again.
    pub wake: Option<Instant>,
    /// Bytes that its shard took.
    pub accepted: u64,
    /// Bytes that its shard refused.
    pub refused: u64,
    /// Its first answer; what arrives from then on is live.
    pub found: Option<Instant>,
    /// When nothing was behind any more.
    pub caught_up: Option<Instant>,
    /// When its rate first was a shard's.
    pub filled: Option<Instant>,
}

/// What a gateway does now.
pub enum Step {
    /// This record sets out.
    Send(Request),
    /// It looks again then, if nothing happens before.
    Wait(Instant),
    /// Whatever happens next makes it look again.
    Nothing,
}

impl Gateway {
    /// It has waited for `outage` when the simulation starts, at `rate` readings a second.
    pub fn new(kind: Kind, link: Link, start: Instant, rate: f64, outage: Duration) -> Self {
        let newest = match kind {
            Kind::Headwater(_, DrainOrder::LiveFirst) => Train::Live,
            _ => Train::Backlog,
        };
        let sender = match kind {
            Kind::Headwater(law, order) => Sender::Headwater(Box::new(Rehearsal::new(law, LINGER, order))),
            Kind::FullSpeed => Sender::FullSpeed(FullSpeed::default()),
            Kind::Bucket => Sender::Bucket(Bucket::new(start)),
        };
        Self {
            link,
            sender,
            parts: BTreeMap::from([(0, Part { from: 0, to: None })]),
            live: 0,
            newest,
            before: (outage.as_secs_f64() * rate) as u64,
            rate,
            start,
            on_the_way: [None; 2],
            wake: None,
            accepted: 0,
            refused: 0,
            found: None,
            caught_up: None,
            filled: None,
        }
    }

    /// Bytes of new readings a second.
    pub fn arrives(&self) -> f64 {
        self.rate * packing::FIELD as f64
    }

    /// How many readings have arrived.
    fn arrived(&self, now: Instant) -> u64 {
        self.before + ((now - self.start).as_secs_f64() * self.rate) as u64
    }

    /// When reading `number` arrived, if that was since the start.
    fn arrival(&self, number: u64) -> Option<Instant> {
        let since = number.checked_sub(self.before)?;
        Some(self.start + Duration::from_secs_f64((since + 1) as f64 / self.rate))
    }

    fn waiting(&self, now: Instant, part: u32) -> Waiting {
        let Some(Part { from, to }) = self.parts.get(&part).copied() else { return Waiting::default() };
        let readings = to.unwrap_or_else(|| self.arrived(now)).saturating_sub(from);
        let since = self.arrival(from).filter(|_| readings > 0);
        Waiting { readings, bytes: readings * packing::FIELD as u64, since, expected: false }
    }

    /// Bytes that have waited for longer than live readings do.
    pub fn backlog(&self, now: Instant) -> u64 {
        let waiting: u64 = self.parts.keys().map(|part| self.waiting(now, *part).readings).sum();
        waiting.saturating_sub((self.rate * 10.0) as u64 + 1) * packing::FIELD as u64
    }

    /// What to do with `train` now.
    pub fn step(&mut self, now: Instant, train: Train, random: &mut Random) -> Step {
        if self.on_the_way[train as usize].is_some() {
            return Step::Nothing;
        }
        let mut sender = std::mem::replace(&mut self.sender, Sender::FullSpeed(FullSpeed::default()));
        let turn = match &mut sender {
            Sender::Headwater(drain) => {
                if train == Train::Live && drain.is_behind(now, |part| self.waiting(now, part)) {
                    self.go_on(now, drain);
                }
                drain.next(now, train, |part| self.waiting(now, part))
            }
            _ if train != self.newest => Turn::Idle,
            Sender::FullSpeed(sender) => sender.next(now, self.waiting(now, 0)),
            Sender::Bucket(sender) => sender.next(now, self.waiting(now, 0), random),
        };
        self.sender = sender;
        match turn {
            Turn::Send(part, at_most) => {
                let readings = packing::readings(at_most).min(self.waiting(now, part).readings);
                let bytes = packing::bytes(readings);
                let request = Request { sent: now, bytes, accepted: false, part, readings };
                self.on_the_way[train as usize] = Some(request);
                Step::Send(request)
            }
            Turn::Wait(at) => Step::Wait(at),
            Turn::Idle if train == self.newest => match self.arrival(self.arrived(now)) {
                Some(next) => Step::Wait(next.max(now + LINGER / 4)),
                None => Step::Nothing,
            },
            Turn::Idle => Step::Nothing,
        }
    }

    /// The live part is behind: what arrives from now on goes in another.
    fn go_on(&mut self, now: Instant, drain: &mut Rehearsal) {
        let free = |number: &u32| self.parts.get(number).is_none_or(|part| part.to == Some(part.from));
        let Some(next) = (0..u32::MAX).find(free) else { return };
        let split = self.arrived(now);
        if let Some(part) = self.parts.get_mut(&self.live) {
            part.to = Some(split);
        }
        self.parts.insert(next, Part { from: split, to: None });
        self.live = next;
        drain.begin_part(now, next);
    }

    pub fn request(&mut self, train: Train) -> Option<&mut Request> {
        self.on_the_way[train as usize].as_mut()
    }

    /// The shard took `request`. The arrivals of its first and its last live reading, and how many there are.
    pub fn taken(&mut self, request: &Request) -> Option<(Instant, Instant, u64)> {
        self.accepted += request.bytes as u64;
        let part = self.parts.get_mut(&request.part)?;
        let from = part.from;
        part.from += request.readings;
        self.live_readings(from, from + request.readings)
    }

    /// The same of what is not confirmed at the end.
    pub fn left(&self, now: Instant) -> Vec<(Instant, Instant, u64)> {
        let of = |part: &Part| self.live_readings(part.from, part.to.unwrap_or_else(|| self.arrived(now)));
        self.parts.values().filter_map(of).collect()
    }

    fn live_readings(&self, from: u64, to: u64) -> Option<(Instant, Instant, u64)> {
        let first = from.max(self.arrived(self.found?) + 1);
        let last = to.checked_sub(1).filter(|last| *last >= first)?;
        Some((self.arrival(first)?, self.arrival(last)?, last - first + 1))
    }

    /// The answer to its request of `train` is here.
    pub fn answered(&mut self, now: Instant, train: Train, random: &mut Random) {
        let Some(Request { sent, bytes, accepted, .. }) = self.on_the_way[train as usize].take() else { return };
        self.found.get_or_insert(now);
        match &mut self.sender {
            Sender::Headwater(drain) => {
                drain.answered(train, sent, now, bytes, accepted, random.fraction());
                if self.filled.is_none() && drain.rate().is_none_or(|rate| rate >= 1 << 20) {
                    self.filled = Some(now);
                }
            }
            Sender::FullSpeed(sender) => sender.answered(sent, now, bytes, accepted, random.fraction()),
            Sender::Bucket(sender) => sender.answered(now, accepted, random.fraction()),
        }
        if self.caught_up.is_none() && self.backlog(now) == 0 {
            self.caught_up = Some(now);
        }
    }

    /// Whether it may send 98 % of what a shard takes.
    pub fn fills_a_shard(&self) -> bool {
        match &self.sender {
            Sender::Headwater(drain) => drain.rate().is_none_or(|rate| rate as f64 >= 0.98 * Limits::SERVICE.bytes_per_second),
            Sender::FullSpeed(_) | Sender::Bucket(_) => true,
        }
    }

    /// Its request of `train` was not answered.
    pub fn lost(&mut self, now: Instant, train: Train, random: &mut Random) {
        let Some(Request { sent, .. }) = self.on_the_way[train as usize].take() else { return };
        match &mut self.sender {
            Sender::Headwater(drain) => drain.lost(train, sent, now, random.fraction()),
            Sender::FullSpeed(sender) => sender.lost(now, random.fraction()),
            Sender::Bucket(sender) => sender.lost(now, random.fraction()),
        }
    }
}
