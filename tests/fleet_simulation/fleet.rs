//! A fleet behind one shard, from before the end of an outage on, in simulated time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use headwater::{
    demo::{
        kinesis::{Limits, Tank},
        random::Random,
    },
    drain::rehearsal::Train,
};

use crate::{
    figures::{Counts, Latencies, Outcome, Second},
    gateway::{Gateway, Kind, Link, Step},
    packing,
};

/// The outage is looked at for so long before its end, so that every gateway probes as it would.
const LEAD: Duration = Duration::from_mins(5);
/// Whom nobody answers learns so after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The links: bits a second.
const LINKS: [f64; 5] = [64e3, 512e3, 4e6, 20e6, 100e6];

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub kind: Kind,
    pub gateways: usize,
    /// How long everybody was away.
    pub outage: Duration,
    /// How long it is looked at after that, at most.
    pub horizon: Duration,
    /// What part of the shard's rate new readings need.
    pub load: f64,
    /// How long after the outage all but the last gateway go for good, if they do.
    pub leave: Option<Duration>,
    pub seed: u64,
}

impl Scenario {
    pub fn new(kind: Kind, gateways: usize) -> Self {
        let (outage, horizon) = (Duration::from_hours(24), Duration::from_hours(1));
        Self { kind, gateways, outage, horizon, load: 0.1, leave: None, seed: 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Instant,
    /// Of two at the same time, the one that was planned first.
    number: u64,
    gateway: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake,
    Arrives(u8),
    Answered(u8),
    Lost(u8),
}

struct Fleet {
    gateways: Vec<Gateway>,
    events: BinaryHeap<Reverse<Event>>,
    number: u64,
    random: Random,
    tank: Tank,
    start: Instant,
    /// The end of the outage.
    end: Instant,
    /// When the last gateway is alone.
    alone: Option<Instant>,
    counts: Counts,
}

/// Runs all of them, as many at a time as there are processors; in the order of `scenarios`.
pub fn run_all(scenarios: &[Scenario]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(index) else { return done };
            done.push((index, run(scenario)));
        }
    };
    let mut done: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..available_parallelism().map_or(1, NonZero::get)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a simulation that panics is a test that fails")).collect()
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Runs it to the end.
pub fn run(scenario: &Scenario) -> Outcome {
    let start = Instant::now(); // any: only differences count
    let mut random = Random::new(scenario.seed);
    let rate = scenario.load * Limits::SERVICE.bytes_per_second / packing::FIELD as f64 / scenario.gateways as f64;
    let gateway = |index: usize| {
        // Alone, it has a link that fills a shard.
        let bits = if scenario.gateways == 1 { 20e6 } else { LINKS[index % LINKS.len()] };
        let round_trip = Duration::from_secs_f64(0.02 + 0.28 * random.fraction());
        let link = Link::new(bits, round_trip, random.fraction() < 0.5);
        // Nobody puts more on a link than it carries.
        let rate = rate.min(scenario.load * link.carries() / packing::FIELD as f64);
        Gateway::new(scenario.kind, link, start, rate, scenario.outage.saturating_sub(LEAD))
    };
    let gateways: Vec<_> = (0..scenario.gateways).map(gateway).collect();
    let end = start + LEAD;
    let counts = Counts {
        seconds: vec![Second::default(); scenario.horizon.as_secs() as usize + 1],
        latencies: Latencies::default(),
        first_answer: None,
        filled_alone: None,
        records: 0,
    };
    let (events, tank) = (BinaryHeap::new(), Tank::full(Duration::ZERO));
    let alone = scenario.leave.map(|leave| end + leave);
    let mut fleet = Fleet { gateways, events, number: 0, random, tank, start, end, alone, counts };
    for gateway in 0..scenario.gateways {
        let at = start + Duration::from_secs_f64(fleet.random.fraction());
        fleet.wakes(gateway, at);
    }
    let now = fleet.run(end + scenario.horizon);
    fleet.outcome(scenario, now)
}

impl Fleet {
    fn plan(&mut self, at: Instant, gateway: usize, what: What) {
        self.number += 1;
        self.events.push(Reverse(Event { at, number: self.number, gateway, what }));
    }

    fn wakes(&mut self, gateway: usize, at: Instant) {
        if self.gateways[gateway].wake.is_none_or(|wake| wake > at) {
            self.gateways[gateway].wake = Some(at);
            self.plan(at, gateway, What::Wake);
        }
    }

    /// Until nobody is behind, or `until`.
    fn run(&mut self, until: Instant) -> Instant {
        let mut behind = self.gateways.len();
        while let Some(Reverse(Event { at: now, gateway, what, .. })) = self.events.pop() {
            if now > until || behind == 0 {
                return now.min(until);
            }
            if self.is_gone(now, gateway) {
                continue;
            }
            match what {
                What::Wake if self.gateways[gateway].wake != Some(now) => continue,
                What::Wake => self.gateways[gateway].wake = None,
                What::Arrives(train) => {
                    self.arrives(now, gateway, Train::ALL[usize::from(train)]);
                    continue;
                }
                What::Answered(train) => {
                    let caught_up = self.gateways[gateway].caught_up.is_some();
                    self.gateways[gateway].answered(now, Train::ALL[usize::from(train)], &mut self.random);
                    behind -= usize::from(!caught_up && self.gateways[gateway].caught_up.is_some());
                    self.counts.first_answer.get_or_insert(now);
                    if let Some(alone) = self.alone.filter(|alone| now >= *alone && self.gateways[gateway].fills_a_shard()) {
                        self.counts.filled_alone.get_or_insert(now - alone);
                    }
                }
                What::Lost(train) => self.gateways[gateway].lost(now, Train::ALL[usize::from(train)], &mut self.random),
            }
            self.looks(now, gateway);
        }
        until
    }

    fn is_gone(&self, now: Instant, gateway: usize) -> bool {
        gateway + 1 < self.gateways.len() && self.alone.is_some_and(|alone| now >= alone)
    }

    /// A gateway looks at what it can do.
    fn looks(&mut self, now: Instant, gateway: usize) {
        for train in Train::ALL {
            match self.gateways[gateway].step(now, train, &mut self.random) {
                Step::Nothing => {}
                Step::Wait(at) => self.wakes(gateway, at.max(now + Duration::from_micros(1))),
                Step::Send(request) => {
                    let link = &mut self.gateways[gateway].link;
                    if now >= self.end {
                        let at = link.arrival(now, request.bytes, &mut self.random);
                        self.plan(at, gateway, What::Arrives(train as u8));
                    } else {
                        let wait = if link.black_hole { CONNECT_TIMEOUT } else { link.round_trip };
                        self.plan(now + wait, gateway, What::Lost(train as u8));
                    }
                }
            }
        }
    }

    /// A record has come to its shard.
    fn arrives(&mut self, now: Instant, index: usize, train: Train) {
        let gateway = &mut self.gateways[index];
        let Some(request) = gateway.request(train) else { return };
        request.accepted = self.tank.take(now - self.start, &Limits::SERVICE, request.bytes);
        let request = *request;
        self.counts.records += 1;
        let second = (now - self.end).as_secs() as usize;
        let Some(second) = self.counts.seconds.get_mut(second) else { return };
        if request.accepted {
            second.accepted += request.bytes as u64;
            if let Some((first, last, readings)) = gateway.taken(&request) {
                self.counts.latencies.count(now, first, last, readings);
            }
        } else {
            second.refused += request.bytes as u64;
            gateway.refused += request.bytes as u64;
        }
        let back = now + gateway.link.one_way(&mut self.random);
        self.plan(back, index, What::Answered(train as u8));
    }

    fn outcome(self, scenario: &Scenario, now: Instant) -> Outcome {
        let Self { gateways, mut counts, end, .. } = self;
        let left = gateways.iter().flat_map(|gateway| gateway.left(now));
        left.for_each(|(first, last, readings)| counts.latencies.count(now, first, last, readings));
        Outcome::of(scenario, &gateways, counts, end, now)
    }
}
