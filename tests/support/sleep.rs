//! A gateway that is suspended now and then: afterwards its wall clock and the time since boot have gone on, and its other clocks have not.
//!
//! A library of our own stands between the agent and the C library. Invariant: the two clocks go on at the same moment, by the same amount.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use super::process::Headwater;

/// For how long it has slept altogether.
pub struct Sleep {
    seconds: File,
    slept: i64,
}

impl Sleep {
    /// From the next start on `agent` can sleep.
    pub fn of(agent: &mut Headwater) -> Self {
        agent.lives_behind("tests/support/slept.c");
        let slept = agent.dir().join("slept");
        fs::write(&slept, 0_i64.to_ne_bytes()).expect("the temp dir can be written");
        agent.finds("SLEPT", Some(&slept.to_string_lossy()));
        Self { seconds: File::options().write(true).open(slept).expect("it was written just now"), slept: 0 }
    }

    /// The machine is suspended for so many hours.
    pub fn takes_hours(&mut self, agent: &Headwater, hours: i64) {
        agent.freezes();
        self.slept += hours * 3600;
        self.seconds.write_all_at(&self.slept.to_ne_bytes(), 0).expect("the temp dir can be written");
        agent.thaws();
    }
}
