//! A gateway for which time goes by faster than for the test, so that it lives through hours of an outage.
//!
//! A library of our own stands between the agent and the C library. Invariant: its clock for waits never goes back and never jumps, and
//! its wall clock is the real one.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use super::process::Headwater;

/// How fast time goes by.
pub struct Haste {
    file: File,
    /// Nanoseconds outside, nanoseconds in there, and how many times as fast it goes by since.
    since: [i64; 3],
}

impl Haste {
    /// From the next start on `agent` can be made to live faster.
    pub fn of(agent: &mut Headwater) -> Self {
        agent.lives_behind("tests/support/hasty.c");
        let path = agent.dir().join("haste");
        let now = outside();
        fs::write(&path, bytes([now, now, 1])).expect("the temp dir can be written");
        agent.finds("HASTE", Some(&path.to_string_lossy()));
        Self { file: File::options().write(true).open(path).expect("it was written just now"), since: [now, now, 1] }
    }

    /// From now on time goes by so many times as fast.
    pub fn is(&mut self, agent: &Headwater, speed: i64) {
        agent.freezes();
        self.since = [outside(), self.here(), speed];
        self.file.write_all_at(&bytes(self.since), 0).expect("the temp dir can be written");
        agent.thaws();
    }

    /// What its clock says, since any moment.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.here().unsigned_abs())
    }

    fn here(&self) -> i64 {
        let [outside_then, here, speed] = self.since;
        here + (outside() - outside_then) * speed
    }
}

fn outside() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn bytes(numbers: [i64; 3]) -> Vec<u8> {
    numbers.into_iter().flat_map(i64::to_ne_bytes).collect()
}
