//! What one shard takes: a tank that refills at a steady rate, and a number of records a second.
//!
//! Pure: the time is an argument, so a test of a minute takes no time.

use std::time::Duration;

/// Largest record on a stream with default settings, data and partition key together. Source: Kinesis API reference, PutRecords.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// What every open shard takes.
///
/// Source: Kinesis API reference, PutRecords; AWS big data blog of October 2025 on larger records: "each shard has a capacity tank
/// that refills at 1 MiB per second" and holds 10 MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes that flow into the tank in a second; data and partition keys count.
    pub bytes_per_second: f64,
    /// Bytes that the tank holds when full.
    pub burst_bytes: f64,
    /// Records a second; there is no burst beyond one second of them.
    pub records_per_second: f64,
}

impl Limits {
    /// Those of the service.
    pub const SERVICE: Self = Self { bytes_per_second: 1_048_576.0, burst_bytes: 10_485_760.0, records_per_second: 1000.0 };

    /// The same shard, `factor` times as large. The tank keeps room for one record of full size, or that would never pass.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let Self { bytes_per_second, burst_bytes, records_per_second } = self;
        #[expect(clippy::cast_precision_loss, reason = "1 MiB is exact")]
        let smallest = MAX_RECORD_BYTES as f64;
        Self {
            bytes_per_second: bytes_per_second * factor,
            burst_bytes: (burst_bytes * factor).max(smallest),
            records_per_second: (records_per_second * factor).max(1.0),
        }
    }
}

/// How much one shard still takes.
#[derive(Clone, Copy, Debug)]
pub struct Tank {
    bytes: TokenBucket,
    records: TokenBucket,
}

impl Tank {
    /// Of a shard that opens at `now`.
    pub fn full(now: Duration) -> Self {
        Self { bytes: TokenBucket::full(now), records: TokenBucket::full(now) }
    }

    /// Takes one record of `bytes`, or refuses it and takes nothing.
    pub fn take(&mut self, now: Duration, limits: &Limits, bytes: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a record is far below 2^53 bytes")]
        let bytes = bytes as f64;
        let in_tank = self.bytes.level(now, limits.burst_bytes, limits.bytes_per_second);
        let countable = self.records.level(now, limits.records_per_second, limits.records_per_second);
        let fits = bytes <= in_tank && countable >= 1.0;
        if fits {
            self.bytes.remove(bytes);
            self.records.remove(1.0);
        }
        fits
    }
}

/// An amount that grows with time up to a bound.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    missing: f64,
    seen: Duration,
}

impl TokenBucket {
    fn full(now: Duration) -> Self {
        Self { missing: 0.0, seen: now }
    }

    /// What is there at `now`. Capacity and rate may differ from call to call: the amount that is missing stays.
    fn level(&mut self, now: Duration, capacity: f64, per_second: f64) -> f64 {
        let passed = now.saturating_sub(self.seen).as_secs_f64();
        self.missing = (self.missing - passed * per_second).max(0.0);
        self.seen = self.seen.max(now);
        capacity - self.missing
    }

    fn remove(&mut self, amount: f64) {
        self.missing += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_shard_takes_its_tank_at_once_and_then_a_mebibyte_a_second() {
        let mut tank = Tank::full(seconds(5));

        let at_once = (0..20).filter(|_| tank.take(seconds(5), &Limits::SERVICE, MIB)).count();
        let later = (0..20).filter(|_| tank.take(seconds(8), &Limits::SERVICE, MIB)).count();

        assert_eq!((at_once, later), (10, 3));
    }

    #[test]
    fn a_shard_takes_a_thousand_small_records_a_second_and_no_burst_of_them() {
        let mut tank = Tank::full(seconds(0));

        let first = (0..3000).filter(|_| tank.take(seconds(60), &Limits::SERVICE, 10)).count();
        let second = (0..3000).filter(|_| tank.take(seconds(61), &Limits::SERVICE, 10)).count();

        assert_eq!((first, second), (1000, 1000));
    }

    #[test]
    fn a_refused_record_takes_nothing_from_the_tank() {
        let mut tank = Tank::full(seconds(0));
        let limits = Limits { burst_bytes: 100.0, bytes_per_second: 1.0, records_per_second: 10.0 };

        assert!(!tank.take(seconds(0), &limits, 101));
        assert!(tank.take(seconds(0), &limits, 100));
    }

    #[test]
    fn a_throttled_shard_still_takes_a_record_of_full_size_in_the_end() {
        let mut tank = Tank::full(seconds(0));
        let limits = Limits::SERVICE.times(0.01);

        assert!(tank.take(seconds(0), &limits, MIB));
        assert!(!tank.take(seconds(50), &limits, MIB));
        assert!(tank.take(seconds(101), &limits, MIB));
    }
}
