//! Whether a request may go to a destination: pure, with time and randomness as arguments.
//!
//! Invariant: while a destination is out of reach, one request at a time goes there, as a probe, after waits that grow.

use std::time::{Duration, Instant};

use super::lane::LONGEST_WAIT;
use crate::backoff::Backoff;

/// After a shorter outage nobody need begin slowly: a shard that gave nothing for so long has as much in its tank.
const SHORT: Duration = Duration::from_secs(10);

/// What is known of the way to one destination.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// Requests on their way.
    pub(super) in_flight: usize,
    /// The last request was answered.
    open: bool,
    /// Set while it is out of reach.
    down: Option<Down>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    backoff: Backoff,
    /// When it was first found to be so.
    began: Instant,
    /// When it was last found to be so.
    since: Instant,
    retry_at: Instant,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Not before this.
    Closed(Instant),
    /// Not before the probe that is on its way has come to an end, which wakes us.
    Probed,
}

impl Reach {
    /// Whether a request may go at `now`.
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match &self.down {
            Some(down) if down.retry_at > now => Gate::Closed(down.retry_at),
            Some(_) if self.in_flight > 0 => Gate::Probed,
            _ => Gate::Open,
        }
    }

    /// Whether the last request was answered, so that the next one is likely to be.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// What failed until now need not wait any longer.
    pub(super) fn try_at(&mut self, now: Instant) {
        if let Some(down) = &mut self.down {
            down.retry_at = now;
        }
    }

    /// A request that went at `started` found it out of reach. How long to wait: `pause`, where that is known. None when it was on its way
    /// with another that failed: that is one failure.
    pub(super) fn lost(&mut self, now: Instant, started: Instant, pause: Option<Duration>, random: f64) -> Option<Duration> {
        self.open = false;
        if self.down.is_some_and(|down| down.since > started) {
            return None;
        }
        let (began, mut backoff) = self.down.map_or((now, Backoff::up_to(LONGEST_WAIT)), |down| (down.began, down.backoff));
        let pause = pause.unwrap_or_else(|| backoff.pause(random));
        self.down = Some(Down { backoff, began, since: now, retry_at: now + pause });
        Some(pause)
    }

    /// A request was not lost; it was `answered`, unless it never set out.
    pub(super) fn found(&mut self, answered: bool) {
        self.open |= answered;
        self.down = None;
    }

    /// Whether it will have been out of reach, when it is tried again, for so long that others who come back with us matter.
    pub(super) fn is_long_away(&self) -> bool {
        self.down.is_some_and(|down| down.retry_at >= down.began + SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_is_out_of_reach_one_request_at_a_time_goes_there_after_a_wait() {
        let now = Instant::now();
        let mut reach = Reach::default();
        assert_eq!(reach.gate(now), Gate::Open);
        let pause = reach.lost(now, now, None, 0.5).unwrap();
        assert_eq!(reach.gate(now), Gate::Closed(now + pause));
        assert_eq!(reach.gate(now + pause), Gate::Open);
        reach.in_flight = 1;
        assert_eq!(reach.gate(now + pause), Gate::Probed);
        reach.try_at(now);
        reach.in_flight = 0;
        assert_eq!(reach.gate(now), Gate::Open);
    }

    #[test]
    fn requests_that_were_on_their_way_together_fail_once() {
        let start = Instant::now();
        let later = |ms| start + Duration::from_millis(ms);
        let mut reach = Reach::default();
        assert!(reach.lost(later(100), start, None, 1.0).is_some());
        assert!(reach.lost(later(200), start, None, 1.0).is_none());
        assert_eq!(reach.lost(later(1300), later(1100), None, 1.0), Some(Duration::from_secs(2)));
    }

    #[test]
    fn no_request_goes_before_its_wait_is_over_and_in_an_hour_there_are_some_hundred() {
        let start = Instant::now();
        let (mut now, mut reach, mut requests) = (start, Reach::default(), 0);
        while now < start + Duration::from_hours(1) {
            match reach.gate(now) {
                Gate::Closed(until) => now = until,
                Gate::Open => {
                    requests += 1;
                    reach.lost(now, now, None, 0.5).unwrap();
                }
                Gate::Probed => panic!("nothing is on its way"),
            }
        }
        assert!((120..130).contains(&requests), "{requests}");
    }

    #[test]
    fn an_outage_is_long_before_the_first_request_that_may_end_it() {
        let start = Instant::now();
        let mut reach = Reach::default();
        for seconds in [0, 1, 3] {
            let now = start + Duration::from_secs(seconds);
            reach.lost(now, now, None, 1.0);
            assert!(!reach.is_long_away(), "{seconds}");
        }
        let now = start + Duration::from_secs(7);
        reach.lost(now, now, None, 1.0);
        assert!(reach.is_long_away(), "the next request goes after 15 s");
        reach.found(true);
        assert!(reach.is_open() && !reach.is_long_away());
        reach.lost(now, now, Some(Duration::from_mins(1)), 1.0);
        assert!(reach.is_long_away());
    }
}
