//! Which of several endpoints the next request goes to. Pure.
//!
//! The first one that is not known to be out of reach, in the order in which they were given: the regional name, then the zonal ones.
//! One that was left is asked from time to time whether it is back, beside the readings and never before them, and the less often the
//! more often it failed again.

use std::time::{Duration, Instant};

/// Between two looks at an endpoint that was left.
const LOOK: Duration = Duration::from_mins(1);
/// The same in the end, when it fails whenever it is used again.
const LONGEST_LOOK: Duration = Duration::from_mins(15);
/// Whoever has answered for so long has made up for its failures.
const STEADY: Duration = Duration::from_mins(10);

/// What is known of the endpoints of one destination, by their place in the list.
#[derive(Debug)]
pub(super) struct Failover(Vec<Health>);

#[derive(Debug, Default)]
struct Health {
    down: Option<Down>,
    /// Failures while others answered, one after the other.
    strikes: u32,
    /// Since when it answers.
    up: Option<Instant>,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    look_at: Instant,
    why: String,
}

impl Failover {
    /// Of so many endpoints, at least one; all of them are believed to answer.
    pub(super) fn of(count: usize) -> Self {
        Self((0..count).map(|_| Health::default()).collect())
    }

    /// Where the next request goes: while none is in reach, to the one that was tried longest ago.
    pub(super) fn next(&self) -> usize {
        let in_reach = self.0.iter().position(|end| end.down.is_none());
        let longest_ago = || (0..self.0.len()).min_by_key(|end| self.0[*end].down.as_ref().map(|down| down.since));
        in_reach.or_else(longest_ago).unwrap_or_default()
    }

    /// `end` gave an answer, of whatever kind.
    pub(super) fn answered(&mut self, now: Instant, end: usize) {
        let end = &mut self.0[end];
        end.down = None;
        let since = *end.up.get_or_insert(now);
        if now.saturating_duration_since(since) >= STEADY {
            end.strikes = 0;
        }
    }

    /// `end` could not be reached, or did not answer. `random` is uniform in 0..1.
    pub(super) fn failed(&mut self, now: Instant, end: usize, why: String, random: f64) {
        // When nobody answers it is the uplink, and says nothing about an endpoint.
        let alone = self.0.iter().enumerate().any(|(other, health)| other != end && health.down.is_none());
        let end = &mut self.0[end];
        end.strikes += u32::from(alone);
        end.up = None;
        let look = LOOK.saturating_mul(2_u32.saturating_pow(end.strikes.saturating_sub(1))).min(LONGEST_LOOK);
        end.down = Some(Down { since: now, look_at: now + look.mul_f64(0.75 + random / 4.0), why });
    }

    /// The endpoint that is to be asked now whether it is back: one before the one in use, whose time has come.
    pub(super) fn look(&mut self, now: Instant) -> Option<usize> {
        let due = |health: &&mut Health| health.down.as_ref().is_some_and(|down| down.look_at <= now);
        let current = self.next();
        let (end, health) = self.0[..current].iter_mut().enumerate().find(|(_, health)| due(health))?;
        // Until the look has come to an end, which says when the next one is.
        health.down.iter_mut().for_each(|down| down.look_at = now + LONGEST_LOOK);
        Some(end)
    }

    /// Why those before the one in use are not used.
    pub(super) fn left(&self) -> impl Iterator<Item = (usize, &str)> {
        let before = &self.0[..self.next()];
        before.iter().enumerate().filter_map(|(end, health)| Some((end, health.down.as_ref()?.why.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ends {
        failover: Failover,
        now: Instant,
    }

    impl Ends {
        fn new(count: usize) -> Self {
            Self { failover: Failover::of(count), now: Instant::now() }
        }

        fn fails(&mut self, end: usize) {
            self.now += Duration::from_secs(1);
            self.failover.failed(self.now, end, format!("end {end} is away"), 1.0);
        }

        fn answers(&mut self, end: usize) {
            self.now += Duration::from_secs(1);
            self.failover.answered(self.now, end);
        }

        /// How long it takes until somebody is looked at, and who.
        fn next_look(&mut self) -> (u64, usize) {
            for seconds in 1..=3600 {
                self.now += Duration::from_secs(1);
                if let Some(end) = self.failover.look(self.now) {
                    return (seconds, end);
                }
            }
            panic!("nobody within an hour");
        }
    }

    #[test]
    fn the_first_endpoint_is_used_until_it_fails_and_then_the_next_one_in_order() {
        let mut ends = Ends::new(3);
        assert_eq!(ends.failover.next(), 0);
        ends.fails(0);
        assert_eq!(ends.failover.next(), 1);
        ends.fails(1);
        assert_eq!(ends.failover.next(), 2);
        assert_eq!(ends.failover.left().collect::<Vec<_>>(), [(0, "end 0 is away"), (1, "end 1 is away")]);
    }

    #[test]
    fn while_none_answers_each_has_its_turn() {
        let mut ends = Ends::new(3);
        let mut tried = Vec::new();
        for _ in 0..7 {
            let end = ends.failover.next();
            tried.push(end);
            ends.fails(end);
        }
        assert_eq!(tried, [0, 1, 2, 0, 1, 2, 0]);
        ends.answers(1);
        assert_eq!(ends.failover.next(), 1);
    }

    #[test]
    fn an_earlier_endpoint_is_used_again_when_it_answers_a_look_and_not_before() {
        let mut ends = Ends::new(2);
        ends.fails(0);
        ends.answers(1);

        let (seconds, end) = ends.next_look();
        assert_eq!((seconds, end), (59, 0));
        assert_eq!(ends.failover.look(ends.now), None, "one look at a time");
        assert_eq!(ends.failover.next(), 1);
        ends.answers(0);

        assert_eq!(ends.failover.next(), 0);
        assert_eq!(ends.failover.left().count(), 0);
    }

    #[test]
    fn an_endpoint_that_fails_whenever_it_is_used_again_is_looked_at_less_often() {
        let mut ends = Ends::new(2);
        let mut waits = Vec::new();
        for _ in 0..6 {
            ends.fails(0);
            waits.push(ends.next_look().0);
            ends.answers(0);
        }
        assert_eq!(waits, [60, 120, 240, 480, 900, 900]);

        ends.now += STEADY;
        ends.answers(0);
        ends.fails(0);
        assert_eq!(ends.next_look().0, 60, "it was steady meanwhile");
    }

    #[test]
    fn an_outage_of_the_uplink_counts_against_no_endpoint() {
        let mut ends = Ends::new(2);
        for turn in 0..40 {
            ends.fails(turn % 2);
        }
        ends.answers(1);
        assert!(ends.next_look().0 <= 60);
    }

    #[test]
    fn one_endpoint_alone_is_never_left_and_never_looked_at() {
        let mut ends = Ends::new(1);
        ends.fails(0);
        ends.now += Duration::from_hours(1);
        assert_eq!((ends.failover.next(), ends.failover.look(ends.now)), (0, None));
        assert_eq!(ends.failover.left().count(), 0);
    }
}
