//! How long to wait before something that failed is tried again.
//!
//! What comes back after an outage meets all of its gateways at once, so each of them waits a random part of a time that doubles
//! ("full jitter": AWS Architecture Blog, "Exponential Backoff And Jitter").

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Backoff {
    /// Waits of up to one second first, and of up to `longest` in the end.
    pub const fn up_to(longest: Duration) -> Self {
        Self { failures: 0, longest }
    }

    /// How long to wait after one more failure; `random` is uniform in 0..1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.longest).mul_f64(random)
    }

    /// It went well: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Uniform in 0..1. Without randomness from the system waits are at their longest: all that is lost is that many gateways try at the
/// same time.
pub fn random() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_one_second_to_the_longest() {
        let mut backoff = Backoff::up_to(Duration::from_mins(1));
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause(1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let mut for_ever = Backoff { failures: u32::MAX, longest: Duration::from_mins(1) };
        assert_eq!(for_ever.pause(1.0), Duration::from_mins(1));
        backoff.reset();
        assert_eq!(backoff.pause(1.0).as_secs(), 1);
    }

    #[test]
    fn a_pause_is_any_part_of_the_longest() {
        let backoff = Backoff { failures: 9, longest: Duration::from_mins(1) };
        assert_eq!({ backoff }.pause(0.0), Duration::ZERO);
        assert_eq!({ backoff }.pause(0.5), Duration::from_secs(30));
        assert!((0.0..1.0).contains(&random()));
    }
}
