//! Decides whether the clock is right, from what it says, how it was moved, and what is known of time servers. Pure.
//!
//! Invariant: what nothing confirms is called right only where nothing could: then a time at which this program exists is believed.

use std::time::SystemTime;

use super::{Setting, Trust};
use crate::reading::Timestamp;

/// 2026-01-01: this program is not older, so no gateway runs it earlier.
const EARLIEST: Timestamp = Timestamp(1_767_225_600_000);
/// 2046-01-01: a damaged clock says anything, and no gateway runs this version for so long.
const LATEST: Timestamp = Timestamp(2_398_377_600_000);
/// By how much, in microseconds, two readings of one setting may differ: the two clocks can't be read at the same moment.
const BLUR: i64 = 20_000;
/// A leap second, or a time server that corrects what a quartz lost over a weekend, moves the clock by less, in microseconds.
const JUMP: i64 = 2_000_000;

/// What is known of time servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronized {
    /// Nobody here tells.
    Unknown,
    /// Not since the kernel started.
    NotYet,
    /// Another one than the last time that was looked means that the clock was confirmed in between.
    At(SystemTime),
}

/// Whether the clock was set between two readings.
pub(super) fn is_step(before: Setting, now: Setting) -> bool {
    now.0.abs_diff(before.0) > BLUR.unsigned_abs()
}

/// What is known of the clock.
#[derive(Debug)]
pub(super) struct Keeper {
    set: Setting,
    trust: Trust,
    /// Of the last look.
    synchronized: Synchronized,
    /// A time server has confirmed the clock, and it has not jumped since.
    confirmed: bool,
}

impl Keeper {
    /// After a first look.
    pub(super) fn new(set: Setting, now: Timestamp, synchronized: Synchronized) -> Self {
        let mut keeper = Self { set, trust: Trust::Right, synchronized: Synchronized::Unknown, confirmed: false };
        keeper.look(set, now, synchronized);
        keeper
    }

    /// Takes in what was seen: how the clock is set, what it says, and when it was synchronized.
    pub(super) fn look(&mut self, set: Setting, now: Timestamp, synchronized: Synchronized) {
        let jumped = set.0.abs_diff(self.set.0) > JUMP.unsigned_abs();
        let news = matches!(synchronized, Synchronized::At(_)) && synchronized != self.synchronized;
        let possible = (EARLIEST..LATEST).contains(&now);
        // A time server stops to confirm when it is out of reach, or restarted; the clock does not go wrong by that.
        self.confirmed = possible && (news || self.confirmed && !jumped);
        self.trust = match synchronized {
            _ if !possible => Trust::Wrong,
            _ if self.confirmed => Trust::Right,
            Synchronized::Unknown => Trust::Right,
            Synchronized::NotYet | Synchronized::At(_) => Trust::Unsure,
        };
        self.synchronized = synchronized;
        if is_step(self.set, set) {
            self.set = set;
        }
    }

    /// How the clock is set.
    pub(super) fn set(&self) -> Setting {
        self.set
    }

    /// What that is worth.
    pub(super) fn trust(&self) -> Trust {
        self.trust
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reading::Uptime;

    const HOUR: i64 = 3_600_000_000;
    /// The clock of a gateway that started two minutes ago, and does not know the time.
    const IN_1970: i64 = 0;
    /// 2026-11-21.
    const TRUE_TIME: i64 = 1_795_219_200_000_000;

    /// A clock, looked at every second.
    struct Gateway {
        keeper: Keeper,
        uptime: Uptime,
    }

    impl Gateway {
        fn starts(set: i64, synchronized: Synchronized) -> Self {
            let uptime = Uptime(120_000_000);
            Self { keeper: Keeper::new(Setting(set), Setting(set).time(uptime), synchronized), uptime }
        }

        fn then(&mut self, set: i64, synchronized: Synchronized) -> Trust {
            self.uptime.0 += 1_000_000;
            self.keeper.look(Setting(set), Setting(set).time(self.uptime), synchronized);
            self.keeper.trust()
        }
    }

    fn at(minute: u64) -> Synchronized {
        Synchronized::At(SystemTime::UNIX_EPOCH + Duration::from_mins(minute))
    }

    #[test]
    fn a_clock_in_1970_is_wrong_until_it_is_set_and_unsure_until_a_time_server_has_confirmed_it() {
        let mut gateway = Gateway::starts(IN_1970, Synchronized::NotYet);
        assert_eq!(gateway.keeper.trust(), Trust::Wrong);
        assert_eq!(gateway.then(TRUE_TIME - 90 * 24 * HOUR, Synchronized::NotYet), Trust::Unsure, "its last shutdown");
        assert_eq!(gateway.then(TRUE_TIME, at(1)), Trust::Right);
        assert_eq!(gateway.keeper.set(), Setting(TRUE_TIME));
    }

    #[test]
    fn where_nobody_tells_a_possible_time_is_right_and_an_impossible_one_is_wrong() {
        let mut gateway = Gateway::starts(IN_1970, Synchronized::Unknown);
        assert_eq!(gateway.keeper.trust(), Trust::Wrong);
        assert_eq!(gateway.then(TRUE_TIME, Synchronized::Unknown), Trust::Right);
        assert_eq!(gateway.then(TRUE_TIME - 3 * HOUR, Synchronized::Unknown), Trust::Right);
        assert_eq!(gateway.then(3 * TRUE_TIME, Synchronized::Unknown), Trust::Wrong, "no battery says 2140 and means it");
    }

    #[test]
    fn a_clock_that_jumps_is_unsure_until_it_is_confirmed_again() {
        let mut gateway = Gateway::starts(TRUE_TIME, at(1));
        assert_eq!(gateway.keeper.trust(), Trust::Right);
        assert_eq!(gateway.then(TRUE_TIME + 5 * HOUR, at(1)), Trust::Unsure);
        assert_eq!(gateway.then(TRUE_TIME, at(1)), Trust::Unsure, "that it is back where it was is not known");
        assert_eq!(gateway.then(TRUE_TIME, at(2)), Trust::Right);
        assert_eq!(gateway.then(TRUE_TIME + HOUR, at(3)), Trust::Right, "the time server itself has moved it");
    }

    #[test]
    fn a_time_server_that_is_out_of_reach_makes_no_clock_wrong() {
        let mut gateway = Gateway::starts(TRUE_TIME, at(1));
        assert_eq!(gateway.then(TRUE_TIME, Synchronized::Unknown), Trust::Right);
        assert_eq!(gateway.then(TRUE_TIME, Synchronized::NotYet), Trust::Right);
        let mut never_asked = Gateway::starts(TRUE_TIME, Synchronized::Unknown);
        assert_eq!(never_asked.then(TRUE_TIME, Synchronized::NotYet), Trust::Unsure, "now there is somebody who will tell");
    }

    #[test]
    fn a_small_step_is_followed_and_blur_is_not() {
        let mut gateway = Gateway::starts(TRUE_TIME, at(1));
        assert_eq!(gateway.then(TRUE_TIME + JUMP / 2, at(1)), Trust::Right);
        assert_eq!(gateway.keeper.set(), Setting(TRUE_TIME + JUMP / 2));
        gateway.then(TRUE_TIME + JUMP / 2 + BLUR, at(1));
        assert_eq!(gateway.keeper.set(), Setting(TRUE_TIME + JUMP / 2));
    }

    #[test]
    fn what_a_suspended_machine_shows_is_no_jump() {
        // Both clocks run on in suspend, so the setting is what it was.
        let mut gateway = Gateway::starts(TRUE_TIME, at(1));
        gateway.uptime.0 += 9 * HOUR;
        assert_eq!(gateway.then(TRUE_TIME, at(1)), Trust::Right);
    }
}
