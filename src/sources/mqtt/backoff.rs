//! How long to wait before a broker is tried again.
//!
//! A broker that restarts meets all of its gateways at once, so each of them waits a random part of a time that doubles ("full
//! jitter": AWS Architecture Blog, "Exponential Backoff And Jitter").

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// A connection that stood this long was a good one. A shorter one may be the next refusal: a second client with our id, for
/// example, ends each of our connections just after it stands.
const STOOD: Duration = Duration::from_secs(10);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure; `random` is drawn evenly from all of `u32`.
    pub fn pause(&mut self, random: u32) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// A connection ended that had stood for `time`.
    pub fn stood(&mut self, time: Duration) {
        if time >= STOOD {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_one_second_to_a_minute() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause(u32::MAX).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_pause_is_any_part_of_the_longest() {
        assert_eq!(Backoff { failures: 9 }.pause(0), Duration::ZERO);
        assert!((29..=30).contains(&Backoff { failures: 9 }.pause(u32::MAX / 2).as_secs()));
    }

    #[test]
    fn only_a_connection_that_stood_for_a_while_starts_the_count_again() {
        let mut backoff = Backoff { failures: 5 };
        backoff.stood(Duration::from_millis(50));
        assert_eq!(backoff.pause(u32::MAX).as_secs(), 32);
        backoff.stood(STOOD);
        assert_eq!(backoff.pause(u32::MAX).as_secs(), 1);
    }
}
