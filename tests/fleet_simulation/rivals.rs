//! What others do.

use std::time::{Duration, Instant};

use headwater::{backoff::Backoff, buffer::Waiting, drain::rehearsal::Turn};

const SHARD: f64 = 1_048_576.0;
/// The largest record that is sent.
const LARGEST: usize = 1_024_000;
/// What a link is expected to carry in two seconds, at first.
const FIRST: usize = 128 << 10;

/// Sends the next record as soon as the last one was accepted, and after a refusal waits a random part of a time that doubles.
pub struct FullSpeed {
    backoff: Backoff,
    free_at: Option<Instant>,
    /// What the link carries in about two seconds: nobody sends more on a slow link.
    at_most: usize,
}

impl Default for FullSpeed {
    fn default() -> Self {
        Self { backoff: Backoff::up_to(Duration::from_mins(1)), free_at: None, at_most: FIRST }
    }
}

impl FullSpeed {
    pub fn next(&self, now: Instant, waiting: Waiting) -> Turn {
        match self.free_at.filter(|at| *at > now) {
            Some(at) => Turn::Wait(at),
            None if waiting.readings == 0 => Turn::Idle,
            None => Turn::Send(0, self.at_most),
        }
    }

    pub fn answered(&mut self, sent: Instant, now: Instant, bytes: usize, accepted: bool, random: f64) {
        let fits = bytes as f64 * 2.0 / (now - sent).as_secs_f64().max(0.001);
        self.at_most = (fits as usize).clamp(self.at_most / 2, self.at_most * 2).clamp(8 << 10, LARGEST);
        if accepted {
            self.backoff.reset();
            self.free_at = None;
        } else {
            self.free_at = Some(now + self.backoff.pause(random));
        }
    }

    pub fn lost(&mut self, now: Instant, random: f64) {
        self.free_at = Some(now + self.backoff.pause(random));
    }
}

/// The Kinesis Producer Library's way: a token bucket as large as a shard's tank, which refills at one and a half times a shard's rate, and
/// aggregates of 50 KiB. What is refused goes again through the bucket.
///
/// Source: amazon-kinesis-producer 1.0.7, `limiter.h` and `default_config.properties` (`RateLimit = 150`, `AggregationMaxSize = 51200`).
pub struct Bucket {
    tokens: f64,
    seen: Instant,
    reconnect: Backoff,
    free_at: Option<Instant>,
}

/// Bytes in a record.
const AGGREGATE: usize = 51_200;
const REFILL: f64 = 1.5 * SHARD;
const TANK: f64 = 10.0 * SHARD;
/// It looks at its queues so often.
const TICK: Duration = Duration::from_millis(25);

impl Bucket {
    pub fn new(now: Instant) -> Self {
        Self { tokens: TANK, seen: now, reconnect: Backoff::up_to(Duration::from_mins(1)), free_at: None }
    }

    pub fn next(&mut self, now: Instant, waiting: Waiting, random: &mut headwater::demo::random::Random) -> Turn {
        if let Some(at) = self.free_at.filter(|at| *at > now) {
            return Turn::Wait(at);
        }
        if waiting.readings == 0 {
            return Turn::Idle;
        }
        self.tokens = (self.tokens + (now - self.seen).as_secs_f64() * REFILL).min(TANK);
        self.seen = now;
        if self.tokens < AGGREGATE as f64 {
            return Turn::Wait(now + TICK.mul_f64(0.5 + random.fraction()));
        }
        self.tokens -= AGGREGATE as f64;
        Turn::Send(0, AGGREGATE)
    }

    pub fn answered(&mut self, now: Instant, accepted: bool, random: f64) {
        self.reconnect.reset();
        self.free_at = (!accepted).then(|| now + TICK.mul_f64(0.5 + random));
    }

    pub fn lost(&mut self, now: Instant, random: f64) {
        self.free_at = Some(now + self.reconnect.pause(random));
    }
}
