//! The drain's decisions about one stream with one lane, without buffer, network and clock: for simulations of whole fleets.
//!
//! Everything that decides is what the drain itself uses: [`Stream`], [`Pace`], [`Stride`] and [`Reach`].

use std::time::{Duration, Instant};

use super::{
    lane::Fate,
    pace::Pace,
    reach::{Gate, Reach},
    stream::{Next, Stream},
    stride::Stride,
};
pub use super::{pace::Law, stream::Train, stride::base64_len};
use crate::{
    buffer::{Lane, LaneId, Layout, Waiting},
    config::DrainOrder,
};

/// One gateway's drain. Its lane has parts: the first is number 0, and the youngest is the live one.
pub struct Rehearsal {
    stream: Stream,
    stride: Stride,
    reach: Reach,
}

/// What it can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send a record of this part, of at most so many bytes.
    Send(u32, usize),
    /// Not before this.
    Wait(Instant),
    /// Nothing, until something arrives or a request is answered.
    Idle,
}

impl Rehearsal {
    /// Of a gateway that has just started.
    pub fn new(law: Law, linger: Duration, order: DrainOrder) -> Self {
        let mut stream = Stream::new("readings", "readings", 0, linger, order, 0);
        stream.add(part(0), false);
        stream.flows.iter_mut().for_each(|flow| flow.pace = Pace::new(law));
        Self { stream, stride: Stride::default(), reach: Reach::default() }
    }

    /// Whether its live part is behind, and is to go on in another.
    pub fn is_behind(&self, now: Instant, waiting: impl Fn(u32) -> Waiting) -> bool {
        self.reach.is_open() && !self.stream.behind(now, |lane| waiting(lane.id.0), self.stride.bytes()).is_empty()
    }

    /// What arrives from now on belongs to part `number`.
    pub fn begin_part(&mut self, now: Instant, number: u32) {
        if let Some(live) = self.stream.lanes.iter().position(|lane| !lane.older) {
            self.stream.begin_part(now, live, part(number));
        }
    }

    /// What to do now with what waits in each part.
    pub fn next(&mut self, now: Instant, train: Train, waiting: impl Fn(u32) -> Waiting) -> Turn {
        if self.stream.is_busy(train) {
            return Turn::Idle;
        }
        match self.reach.gate(now) {
            Gate::Open => {}
            Gate::Closed(until) => return Turn::Wait(until),
            Gate::Probed => return Turn::Idle,
        }
        match self.stream.next(now, train, |lane| waiting(lane.id.0), self.stride.bytes(), false) {
            Next::Send(lanes) => match lanes[..] {
                [(lane, bytes)] => {
                    self.stream.set_busy(train, true);
                    self.reach.in_flight += 1;
                    Turn::Send(self.stream.lanes[lane].lane.id.0, bytes)
                }
                _ => Turn::Idle, // one lane sends one record of a train
            },
            Next::Wait(at) => Turn::Wait(at),
            Next::Idle => Turn::Idle,
        }
    }

    /// A record of `bytes`, sent at `sent`, was accepted, or refused because its shard was full.
    pub fn answered(&mut self, train: Train, sent: Instant, now: Instant, bytes: usize, accepted: bool, random: f64) {
        self.ended(train);
        self.stride.answered(bytes, now - sent);
        self.reach.found(true);
        self.stream.answered();
        let fate = if accepted { Fate::Accepted } else { Fate::Throttled };
        self.stream.settle(0, sent, now, bytes, fate, random);
    }

    /// A request that was sent at `sent` was not answered.
    pub fn lost(&mut self, train: Train, sent: Instant, now: Instant, random: f64) {
        self.ended(train);
        self.stream.was_away();
        if self.reach.lost(now, sent, None, random).is_some() {
            self.stride.lost();
        }
        if self.reach.is_long_away() {
            self.stream.begin_slowly();
        }
    }

    /// How long it waits for the answer to a request of `bytes`.
    pub fn timeout(&self, bytes: usize) -> Duration {
        self.stride.timeout(bytes)
    }

    /// Bytes a second that it may send; none where there is no limit.
    pub fn rate(&self) -> Option<u64> {
        self.stream.flows[0].pace.rate()
    }

    fn ended(&mut self, train: Train) {
        self.stream.set_busy(train, false);
        self.reach.in_flight -= 1;
    }
}

fn part(number: u32) -> Lane {
    let layout = Layout {
        stream: "readings".into(),
        number: 0,
        of: 1,
        partition_key: "gateway/readings/0".into(),
        hash_key: None,
        template: None,
    };
    Lane { id: LaneId(number), layout }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_hours(7 * 24);

    /// What becomes of a request: its train, when it was sent, the time now, and its bytes.
    type End = fn(&mut Rehearsal, Train, Instant, Instant, usize);

    /// A gateway that drains, and what it asks of its endpoint.
    struct Uplink {
        drain: Rehearsal,
        now: Instant,
        /// How often it looked at what it can do.
        looks: u32,
        requests: u32,
        bytes: usize,
        /// Its live part was to go on in another.
        behind: bool,
    }

    impl Uplink {
        fn new(order: DrainOrder) -> Self {
            let drain = Rehearsal::new(Law::KINESIS, Duration::from_millis(250), order);
            Self { drain, now: Instant::now(), looks: 0, requests: 0, bytes: 0, behind: false }
        }

        /// Until `time` has passed: every request `ends`. A part always has something, and the first one has waited for long.
        fn runs(&mut self, time: Duration, ends: End) {
            let (start, end) = (self.now, self.now + time);
            let waiting = |_| Waiting { readings: 1 << 20, bytes: 1 << 30, since: Some(start), expected: false };
            while self.now < end {
                self.behind |= self.drain.is_behind(self.now, waiting);
                let turns = Train::ALL.map(|train| (train, self.drain.next(self.now, train, waiting)));
                self.looks += 1;
                let (looked, mut next) = (self.now, end);
                for (train, turn) in turns {
                    match turn {
                        Turn::Send(_, bytes) => {
                            let sent = self.now;
                            self.now += Duration::from_millis(50);
                            self.requests += 1;
                            self.bytes += bytes;
                            ends(&mut self.drain, train, sent, self.now, bytes);
                            next = self.now;
                        }
                        Turn::Wait(at) => {
                            assert!(at > looked, "it would spin");
                            next = next.min(at);
                        }
                        Turn::Idle => {}
                    }
                }
                self.now = self.now.max(next);
            }
        }
    }

    #[test]
    fn a_week_without_an_answer_costs_two_small_requests_a_minute_and_grows_nothing() {
        for order in [DrainOrder::OldestFirst, DrainOrder::LiveFirst] {
            let mut uplink = Uplink::new(order);

            uplink.runs(WEEK, |drain, train, sent, now, _| drain.lost(train, sent, now, 0.5));

            assert!((20_000..21_000).contains(&uplink.requests), "{}", uplink.requests);
            assert!(uplink.bytes / uplink.requests as usize <= 2 << 10, "{}", uplink.bytes);
            assert!(!uplink.behind, "nothing is divided while nothing would pass");
        }
    }

    #[test]
    fn a_shard_that_takes_nothing_is_asked_every_few_seconds_and_with_little() {
        let mut uplink = Uplink::new(DrainOrder::OldestFirst);

        uplink.runs(Duration::from_hours(24), |drain, train, sent, now, bytes| drain.answered(train, sent, now, bytes, false, 0.5));

        assert!((32_000..36_000).contains(&uplink.requests), "{}", uplink.requests);
        assert!(uplink.bytes < 48 << 20, "{} bytes for nothing", uplink.bytes);
    }

    #[test]
    fn whatever_becomes_of_requests_it_looks_at_what_it_can_do_about_once_for_each_of_them() {
        let ways: [End; 5] = [
            |drain, train, sent, now, _| drain.lost(train, sent, now, 0.5),
            |drain, train, sent, now, bytes| drain.answered(train, sent, now, bytes, false, 0.5),
            |drain, train, sent, now, bytes| drain.answered(train, sent, now, bytes, true, 0.5),
            |drain, train, sent, now, bytes| drain.answered(train, sent, now, bytes, bytes.is_multiple_of(3), 0.5),
            |drain, train, sent, now, bytes| {
                if bytes.is_multiple_of(2) {
                    drain.lost(train, sent, now, 0.5);
                } else {
                    drain.answered(train, sent, now, bytes, true, 0.5);
                }
            },
        ];
        for order in [DrainOrder::OldestFirst, DrainOrder::LiveFirst] {
            for (way, ends) in ways.into_iter().enumerate() {
                let mut uplink = Uplink::new(order);

                uplink.runs(Duration::from_mins(10), ends);

                assert!(
                    uplink.requests > 10 && uplink.looks <= 2 * uplink.requests + 2,
                    "{way}: {} {}",
                    uplink.looks,
                    uplink.requests
                );
            }
        }
    }
}
