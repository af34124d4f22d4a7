//! A gateway that is suspended now and then: afterwards its wall clock and the time since boot have gone on, and its other clocks have not.
//!
//! A library of our own stands between the agent and the C library. Invariant: the two clocks go on at the same moment, by the same amount.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
};

use super::{in_repository, process::Headwater};

/// For how long it has slept altogether.
pub struct Sleep {
    seconds: File,
    slept: i64,
}

impl Sleep {
    /// From the next start on `agent` can sleep.
    pub fn of(agent: &mut Headwater) -> Self {
        let (library, slept) = (agent.dir().join("slept.so"), agent.dir().join("slept"));
        // SQLite needs a C compiler too.
        let mut cc = Command::new("cc");
        let made = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(in_repository("tests/support/slept.c")).output();
        let made = made.expect("there is a C compiler");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(&slept, 0_i64.to_ne_bytes()).expect("the temp dir can be written");
        agent.finds("LD_PRELOAD", Some(&library.to_string_lossy()));
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
