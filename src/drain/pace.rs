//! How fast one lane may send, and how large its records may be: pure, with time and randomness as arguments.
//!
//! A lane has its shard to itself, or shares it with a thousand others that come back from the same outage; nobody tells it which. All
//! that it ever learns is that a record was refused, and the upload of that record is lost. So after an outage it begins slowly and
//! doubles every second. The first refusal says that the shard's tank is empty, and what the lane carried of all that the shard gave out
//! until then is about its share. From there each refusal takes a third of the rate, at most once a round trip, and the calm after it
//! raises it: by little at first, and the longer the calm lasts, the faster. So in a crowd each lane is refused every minute and a half,
//! however many share the shard; and when the crowd is gone, or there was none, nobody waits for long.
//!
//! A record holds what the rate carries in [`Law::record`]. That makes lanes equal in the end: a shard refuses large records more often
//! than small ones, in proportion. And as both the climb and the fall are in proportion to the rate, the same small part of the upload is
//! refused however many share the shard: with [`Law::KINESIS`] 12 to 20 in a thousand.
//!
//! A lost connection teaches nothing about the shard. A lane that was never refused, nor away, sends as fast as answers come.

use std::time::{Duration, Instant};

use crate::kinesis::limits::{OUR_MAX_RECORD, SHARD_BURST, SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};

/// What one shard takes, in bytes a second.
const SHARD_RATE: f64 = SHARD_BYTES_PER_SECOND.0 as f64;
/// What a rested shard takes at once.
const TANK: f64 = SHARD_BURST.0 as f64;
/// The most for a lane that was refused: a little less, so that one that has its shard for itself is not refused again and again.
const MOST: f64 = 0.99 * SHARD_RATE;
/// The most after an outage, whatever was carried before.
const MOST_AT_FIRST: f64 = SHARD_RATE / 16.0;
/// A rate that has risen to this without a refusal is no limit.
const FAST_ENOUGH: f64 = 16.0 * SHARD_RATE;
/// A rate that has risen to all that a shard gives, and was not refused for this long, is no limit either: there may be no shard at all.
const LONG_UNREFUSED: Duration = Duration::from_mins(10);
/// Who needs so little for so long has caught up, and keeps to what arrives.
const LONG_UNFILLED: Duration = Duration::from_mins(1);
/// A shard takes so many bytes for each record that it takes: a smaller one costs as much.
const RECORD_COST: f64 = SHARD_RATE / SHARD_RECORDS_PER_SECOND as f64;
/// What is less than a record waits for company for as long as the rate takes for so many, and never longer than the time beside it: so
/// a thousand lanes that send what is live beside what has waited keep to the records that their shard takes.
const COMPANY: f64 = 3.0;
const LONGEST_COMPANY: Duration = Duration::from_millis(2500);
/// The longest that one record keeps a lane from sending the next, so that it always notices when its shard has room again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A lane that was late, because an answer took long, may catch up with so much.
const LATE: Duration = Duration::from_secs(1);
/// What a lane carried is looked at over so long, and half as long at least. The tank holds what the shard gives in half of this.
const LATELY: Duration = Duration::from_secs(20);
/// No climb is for a longer time without an answer than this.
const LONGEST_CLIMB: Duration = Duration::from_secs(5);

/// The numbers of the pacer. They are one set for all sizes of fleets; `make fleet-sim` shows what others would do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// Bytes a second after an outage, if no more was carried before it.
    pub first: f64,
    /// Bytes a second, at least: what one shard leaves each of 2,000 lanes.
    pub least: f64,
    /// Bytes a second that the first refusal leaves: what one shard leaves each of a thousand.
    pub least_share: f64,
    /// Bytes in a record, at least: a thousand records a second are all that a shard takes.
    pub least_record: f64,
    /// How long the rate takes to double, before it is refused for the first time. It never climbs faster.
    pub doubling: Duration,
    /// A record before the first refusal holds what the rate carries in this time: short, because the first refusals come all at once.
    pub first_record: Duration,
    /// A record holds what the rate carries in this time: some round trips.
    pub record: Duration,
    /// By what part of itself the rate falls when it is refused.
    pub fall: f64,
    /// By how many doublings the rate climbs in the first [`Law::rhythm`] after a refusal; in the next one by twice as many, and so on.
    pub climb: f64,
    /// About half of the time between two refusals in a crowd.
    pub rhythm: Duration,
    /// The rhythm after one refusal only: that need not be a crowd, which would soon refuse again.
    pub first_rhythm: Duration,
    /// Whoever was not refused for so long meets another crowd.
    pub memory: Duration,
}

impl Law {
    /// What is used.
    pub const KINESIS: Self = Self {
        first: 2048.0,
        least: 512.0,
        least_share: 1024.0,
        least_record: 1280.0,
        doubling: Duration::from_secs(1), // from 2 KiB to 1 MiB a second in 9 s
        first_record: Duration::from_millis(150),
        record: Duration::from_millis(750),
        fall: 0.35,
        climb: 0.15,
        rhythm: Duration::from_secs(55),
        first_rhythm: Duration::from_secs(10),
        memory: Duration::from_secs(500),
    };
}

/// How fast one lane may send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    law: Law,
    limit: Option<Limit>,
    lately: Option<Lately>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    /// Bytes a second.
    rate: f64,
    /// When it last climbed, or could have.
    climbed: Option<Instant>,
    /// When it last fell.
    fell: Option<Instant>,
    /// How often it fell in this crowd.
    falls: u32,
    /// When it was last refused.
    refused: Option<Instant>,
    /// Since when it was not refused, and no record was as large as it might have been.
    unfilled: Option<Instant>,
    /// When what was sent last has been paid for.
    free_at: Option<Instant>,
}

impl Limit {
    fn new(rate: f64) -> Self {
        Self { rate, climbed: None, fell: None, falls: 0, refused: None, unfilled: None, free_at: None }
    }

    /// Bytes that a record should have.
    fn record(&self, law: &Law) -> f64 {
        let time = if self.refused.is_none() { law.first_record } else { law.record };
        (self.rate * time.as_secs_f64()).clamp(law.least_record, OUR_MAX_RECORD.0 as f64)
    }

    fn climbs(&mut self, law: &Law, now: Instant) {
        let before = self.climbed.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(before).min(LONGEST_CLIMB);
        let most = passed.as_secs_f64() / law.doubling.as_secs_f64();
        let Some(refused) = self.refused else {
            self.rate *= most.exp2();
            return;
        };
        let rhythm = if self.falls == 1 { law.first_rhythm } else { law.rhythm };
        // In a calm of `at`, so many doublings.
        let after = |at: Instant| law.climb * (at.saturating_duration_since(refused).as_secs_f64() / rhythm.as_secs_f64()).exp2();
        let doublings = (after(now) - after(before)).min(most);
        self.rate = (self.rate * doublings.exp2()).min(MOST);
    }

    /// The first time to its `share`.
    fn falls(&mut self, law: &Law, now: Instant, share: f64) {
        let rate = if self.refused.is_none() { share.min(self.rate / 2.0) } else { self.rate * (1.0 - law.fall) };
        self.rate = rate.clamp(law.least, MOST);
        let forgotten = self.refused.is_none_or(|refused| now >= refused + law.memory);
        // Refused again before anything was accepted, it met the same trouble.
        let again = self.fell.is_some() && self.fell == self.climbed;
        self.falls = if forgotten { 1 } else { self.falls.saturating_add(u32::from(!again)) };
        self.fell = Some(now);
        self.climbed = Some(now);
    }

    /// Whether it is no limit any more.
    fn is_none(&self, now: Instant) -> bool {
        let unrefused = self.refused.is_some_and(|refused| now >= refused + LONG_UNREFUSED);
        let unfilled = self.unfilled.is_some_and(|since| now >= since + LONG_UNFILLED);
        self.rate >= FAST_ENOUGH || (unrefused && self.rate >= MOST) || unfilled
    }
}

/// What was carried in the last seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lately {
    since: Instant,
    until: Instant,
    bytes: f64,
}

impl Lately {
    /// Bytes a second.
    fn rate(&self) -> f64 {
        self.bytes / self.until.saturating_duration_since(self.since).max(LATELY / 2).as_secs_f64()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(Law::KINESIS)
    }
}

impl Pace {
    /// Without a limit.
    pub(super) fn new(law: Law) -> Self {
        Self { law, limit: None, lately: None }
    }

    /// An outage was, or there is much that waits: whoever else has the same comes back now, too. All of them together carried no more
    /// than their shard before, so each may begin with what it did.
    pub(super) fn begin_slowly(&mut self) {
        let before = self.lately.take();
        if before.is_none() && self.limit.is_some_and(|limit| limit == Limit::new(limit.rate)) {
            return; // nothing was answered since it was last said
        }
        let rate = before.map_or(0.0, |lately| lately.rate()).clamp(self.law.first, MOST_AT_FIRST);
        self.limit = Some(Limit::new(rate));
    }

    /// When the lane may send next; none when now.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.limit.and_then(|limit| limit.free_at)
    }

    /// Most bytes that a record of this lane should have.
    pub(super) fn record_bytes(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| whole(limit.record(&self.law)))
    }

    /// How long what is less than a record should wait for more.
    pub(super) fn company(&self) -> Duration {
        let time = |limit: Limit| Duration::from_secs_f64(COMPANY * RECORD_COST / limit.rate);
        self.limit.map_or(Duration::ZERO, time).min(LONGEST_COMPANY)
    }

    /// Bytes a second, where they are limited.
    pub(super) fn rate(&self) -> Option<u64> {
        self.limit.map(|limit| whole(limit.rate) as u64)
    }

    /// A record of `bytes`, sent at `sent`, was accepted. `random` is uniform in 0..1 and keeps lanes from marching in step.
    pub(super) fn accepted(&mut self, sent: Instant, now: Instant, bytes: usize, random: f64) {
        // What the link or the field does not fill says nothing about more.
        let filled = bytes.saturating_mul(2) >= self.record_bytes();
        self.carried(now, bytes as f64);
        let Some(limit) = &mut self.limit else { return };
        if filled {
            limit.climbs(&self.law, now);
            limit.unfilled = None;
        }
        limit.unfilled = limit.unfilled.or((!filled).then_some(now));
        if limit.is_none(now) {
            self.limit = None;
            return;
        }
        let paid_until = limit.free_at.unwrap_or(sent).max(before(sent, LATE));
        let cost = (bytes as f64).max(RECORD_COST);
        limit.free_at = Some((paid_until + time_for(cost, limit.rate, random)).min(now + LONGEST_PAUSE));
    }

    /// A record of `bytes`, sent at `sent`, was refused because its shard was full.
    pub(super) fn refused(&mut self, sent: Instant, now: Instant, bytes: usize, random: f64) {
        let share = self.share(now, bytes as f64).max(self.law.least_share);
        let limit = self.limit.get_or_insert(Limit::new(FAST_ENOUGH));
        // One crowd, one fall: what was sent before the last one says nothing new.
        if limit.fell.is_none_or(|fell| fell <= sent) {
            limit.falls(&self.law, now, share);
        }
        (limit.refused, limit.unfilled) = (Some(now), None);
        let again = (bytes as f64).min(limit.record(&self.law));
        limit.free_at = Some(now + time_for(again, limit.rate, random).min(LONGEST_PAUSE));
    }

    fn carried(&mut self, now: Instant, bytes: f64) {
        let lately = self.lately.get_or_insert(Lately { since: now, until: now, bytes: 0.0 });
        let age = now.saturating_duration_since(lately.since);
        if age > 2 * LATELY {
            (lately.since, lately.bytes) = (now, 0.0);
        } else if age > LATELY {
            (lately.since, lately.bytes) = (lately.since + age / 2, lately.bytes / 2.0);
        }
        (lately.until, lately.bytes) = (now, lately.bytes + bytes);
    }

    /// Bytes a second: the part that this lane has of all that its shard gave out lately, if the tank was full before.
    fn share(&self, now: Instant, refused: f64) -> f64 {
        let age = self.lately.map_or(Duration::ZERO, |lately| now.saturating_duration_since(lately.since));
        let carried = self.lately.map_or(0.0, |lately| lately.bytes).max(refused);
        SHARD_RATE * carried / (TANK + SHARD_RATE * age.as_secs_f64())
    }
}

/// About how long `bytes` take at `rate`.
fn time_for(bytes: f64, rate: f64, random: f64) -> Duration {
    Duration::from_secs_f64(bytes / rate * (0.75 + random / 2.0))
}

fn before(at: Instant, by: Duration) -> Instant {
    at.checked_sub(by).unwrap_or(at)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and at most 16 MiB a second")]
fn whole(bytes: f64) -> usize {
    bytes as usize
}

#[cfg(test)]
mod tests;
