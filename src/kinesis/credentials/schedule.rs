//! When credentials are used, renewed and given up, and how long nobody is asked after a failure. Pure.

use std::time::{Duration, SystemTime};

use crate::backoff::Backoff;

/// Shortest time between two questions that were answered with credentials, whatever the clocks or the service say of these.
pub(super) const MIN_AGE: Duration = Duration::from_mins(1);
/// Credentials without an expiry may have been replaced in their file after this time.
const MAX_AGE: Duration = Duration::from_mins(15);
/// Share of their life after which credentials are renewed, at the least; and how much of it chance may add, so that gateways which
/// came back together don't renew together for ever. Of an hour, that leaves 6 to 18 minutes for an endpoint that is away.
const EARLIEST: f64 = 0.7;
/// See [`EARLIEST`].
const SPREAD: f64 = 0.2;
/// Nothing that we could ask again would be answered otherwise: a person has to act. Greengrass waits as long.
const AFTER_REFUSAL: Duration = Duration::from_mins(2);
/// It is not our fault, and asking more often does not help. Greengrass waits as long.
const AFTER_FAULT: Duration = Duration::from_mins(1);
/// Longest wait when nobody could be reached: the way may be open again any moment.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What may be done with credentials that were given to us some time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Use them.
    Good,
    /// Use them, and ask for new ones.
    Due,
    /// Ask for new ones.
    Expired,
}

/// What is known of credentials.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// By the service's clock; none: never.
    pub(super) expiry: Option<SystemTime>,
    /// When to renew them, by the same clock.
    pub(super) renew_at: SystemTime,
    /// The service did not accept them.
    pub(super) refused: bool,
}

impl Terms {
    /// Of credentials that came `now` and last until `expiry`; `random` is uniform in 0..1.
    pub(super) fn new(now: SystemTime, expiry: Option<SystemTime>, random: f64) -> Self {
        let renew_at = match expiry {
            Some(expiry) => now + expiry.duration_since(now).unwrap_or_default().mul_f64(EARLIEST + SPREAD * random),
            None => now + MAX_AGE,
        };
        Self { expiry, renew_at, refused: false }
    }

    /// What to do with them at `now`, when they are here since `age`.
    pub(super) fn freshness(&self, now: SystemTime, age: Duration) -> Freshness {
        match self.expiry {
            _ if age < MIN_AGE => Freshness::Good,
            _ if self.refused => Freshness::Expired,
            Some(expiry) if now >= expiry => Freshness::Expired,
            _ if now >= self.renew_at => Freshness::Due,
            _ => Freshness::Good,
        }
    }
}

/// Whose fault it is that there are no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A person's: of the settings here, or of the account.
    Ours,
    /// The source's: it does not work now.
    Theirs,
    /// The way's: nobody was reached.
    TheWay,
}

/// How long nobody is asked after a failure; `random` is uniform in 0..1.
pub(super) fn pause(fault: Fault, backoff: &mut Backoff, random: f64) -> Duration {
    match fault {
        // Not less: whoever asks again earlier is refused again.
        Fault::Ours => AFTER_REFUSAL.mul_f64(1.0 + random / 4.0),
        Fault::Theirs => AFTER_FAULT.mul_f64(1.0 + random / 4.0),
        Fault::TheWay => backoff.pause(random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn credentials_are_renewed_in_the_last_third_of_their_life_and_serve_until_its_end() {
        let early = Terms::new(NOW, Some(NOW + HOUR), 0.0);
        let late = Terms::new(NOW, Some(NOW + HOUR), 1.0);
        let minute = |terms: Terms, minute: u64| terms.freshness(NOW + Duration::from_mins(minute), Duration::from_mins(minute));

        assert_eq!([41, 42, 59, 60].map(|at| minute(early, at)), {
            use Freshness::{Due, Expired, Good};
            [Good, Due, Due, Expired]
        });
        assert_eq!([53, 54].map(|at| minute(late, at)), [Freshness::Good, Freshness::Due]);
    }

    #[test]
    fn credentials_without_an_end_are_looked_up_again_after_a_while_and_serve_until_there_are_others() {
        let terms = Terms::new(NOW, None, 0.5);
        assert_eq!(terms.freshness(NOW + MAX_AGE / 2, MAX_AGE / 2), Freshness::Good);
        assert_eq!(terms.freshness(NOW + 9_000 * HOUR, 9_000 * HOUR), Freshness::Due);
    }

    #[test]
    fn a_clock_that_is_years_ahead_asks_no_more_than_once_a_minute() {
        let terms = Terms::new(NOW + 9_000 * HOUR, Some(NOW + HOUR), 0.5);
        assert_eq!(terms.freshness(NOW + 9_000 * HOUR, Duration::from_secs(59)), Freshness::Good);
        assert_eq!(terms.freshness(NOW + 9_000 * HOUR, MIN_AGE), Freshness::Expired);
        assert_eq!(terms.freshness(NOW, MIN_AGE), Freshness::Good, "once the service has told the time");
    }

    #[test]
    fn a_clock_that_is_years_behind_keeps_nothing_beyond_its_end_once_the_service_has_told_the_time() {
        let terms = Terms::new(NOW, Some(NOW + 9_000 * HOUR), 0.5);
        assert_eq!(terms.freshness(NOW + HOUR, HOUR), Freshness::Good);
        assert_eq!(terms.freshness(NOW + 9_000 * HOUR, HOUR), Freshness::Expired);
    }

    #[test]
    fn what_the_service_refused_is_replaced_once_a_minute_at_most() {
        let terms = Terms { refused: true, ..Terms::new(NOW, Some(NOW + HOUR), 0.5) };
        assert_eq!(terms.freshness(NOW, Duration::from_secs(59)), Freshness::Good);
        assert_eq!(terms.freshness(NOW, MIN_AGE), Freshness::Expired);
    }

    #[test]
    fn who_refused_is_left_alone_for_minutes_and_a_way_that_is_closed_is_tried_after_growing_waits() {
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        assert_eq!(pause(Fault::Ours, &mut backoff, 0.0), Duration::from_mins(2));
        assert_eq!(pause(Fault::Theirs, &mut backoff, 1.0), Duration::from_secs(75));
        let waits: Vec<_> = (0..8).map(|_| pause(Fault::TheWay, &mut backoff, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
