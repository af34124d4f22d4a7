//! Each call that SQLite makes of its files fails once, or for a while, and what was promised holds all the same: no receipt for what is
//! not safe, and when the fault has ended by itself everything goes on.
//!
//! A sync that fails is taken at its worst: the system has given up what it could not write, and the next sync says that all is well. A
//! file system that has become read-only refuses to write as a broken disk does.

use rusqlite::ffi::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ, SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE,
};

use super::{
    Dice, Known, Plan,
    cuts::{Folders, Mode},
    number, plan, recover,
    stepped::passes,
    tape::{Call, Fault, Tape},
    workload::Workload,
};
use crate::{buffer::LaneId, status::BEAT};

impl Tape {
    /// From now on.
    pub(super) fn fails(&mut self, fault: Option<Fault>) {
        self.fault = fault;
        self.calls = 0;
        self.failed = 0;
    }
}

impl Workload {
    /// What is first in each lane is read, and stays.
    fn looks_at_all(&mut self) {
        let lanes: Vec<LaneId> = self.stepped().all_lanes().map(|lane| lane.id).collect();
        for lane in lanes {
            let taken = self.stepped().answers(async move |buffer| buffer.oldest(lane, 1).await);
            assert!(taken.is_ok(), "{taken:?}");
            self.stepped().buffer().release(lane);
        }
    }

    /// Whether everything has its receipt and nothing is wrong any more.
    pub(super) fn goes_on(&mut self) -> Result<(), String> {
        let safe = self.recording.tape().seen().safe;
        let state = self.stepped().status.clone();
        let state = state.lock();
        let problems: Vec<_> = state.problems.iter().filter(|(part, _)| *part == "buffer").collect();
        let ledger = state.ledger_total();
        match (safe.max(self.given_up) == self.ordinal && problems.is_empty(), ledger.balances()) {
            (true, true) => Ok(()),
            _ => Err(format!("{safe} of {} are safe, {problems:?}, {ledger:?}", self.ordinal)),
        }
    }
}

const STEPS: u64 = 20;
/// What may go wrong, and how often in a row.
const FAULTS: [(Call, i32, u64); 11] = [
    (Call::Open, SQLITE_CANTOPEN, 1),
    (Call::Read, SQLITE_IOERR_READ, 1),
    (Call::Read, SQLITE_IOERR_READ, 40),
    (Call::Write, SQLITE_FULL, 1),
    (Call::Write, SQLITE_FULL, 40),
    (Call::Write, SQLITE_IOERR_WRITE, 1),
    (Call::Write, SQLITE_IOERR_WRITE, 40),
    (Call::Sync, SQLITE_IOERR_FSYNC, 1),
    (Call::Sync, SQLITE_IOERR_FSYNC, 40),
    (Call::Truncate, SQLITE_IOERR_TRUNCATE, 1),
    (Call::Delete, SQLITE_IOERR_DELETE, 1),
];

/// Runs a workload in which calls fail from the one with number `first` on. Says whether any did, or what is wrong.
fn run(plan: Plan, fault: Fault) -> Result<bool, String> {
    let mut workload = Workload::new(plan);
    workload.recording.tape().fails(Some(fault));
    workload.opens();
    for _ in 0..plan.steps {
        workload.step();
    }
    let failed = workload.recording.tape().failed > 0;
    workload.recording.tape().fails(None);
    if !failed {
        return Ok(false);
    }
    // It ends by itself.
    for _ in 0..3 {
        passes(BEAT);
        workload.settled();
    }
    workload.looks_at_all();
    workload.goes_on()?;
    let run = workload.ends();

    let (mut dice, mut known, mut result) = (Dice(plan.seed | 1), Known::new(), Ok(true));
    // Where it failed, and where all was well again.
    let looked_at = [run.tape.failed_at.unwrap_or_default(), run.tape.entries.len()];
    run.at_each_point(Folders::Strict, |point, storage, promised| {
        let modes = if looked_at.contains(&point) { &[Mode::Nothing, Mode::SomeWrites][..] } else { &[] };
        for mode in modes {
            let cut = storage.cut(*mode, &mut dice);
            let found = known.entry(cut.key()).or_insert_with(|| recover(plan, &cut, false));
            let holds = found.as_ref().map_err(Clone::clone).and_then(|found| promised.holds(found));
            if let Err(what) = holds {
                result = Err(format!("a cut at {point}, {mode:?}: {what}"));
            }
        }
        result.is_ok()
    });
    result
}

/// Lets every call of each kind fail, or one of so many.
fn every_call(faults: &[(Call, i32, u64)]) {
    let every = number("HEADWATER_FAULTS_EVERY", 1);
    let mut failures = Vec::new();
    for (call, code, times) in faults.iter().copied() {
        let plan = Plan { steps: STEPS, ..plan() };
        let mut runs = 0;
        for first in (0..).step_by(usize::try_from(every).unwrap()) {
            let fault = Fault { call, first, times, code };
            match run(plan, fault) {
                Ok(true) => runs += 1,
                Ok(false) => break,
                Err(what) => failures.push(format!("seed {}, {fault:?}: {what}", plan.seed)),
            }
        }
        eprintln!("{call:?} with {code}, {times} times: {runs} runs, {} failures", failures.len());
        assert!(runs + failures.len() > 0, "{call:?} is never called");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn whatever_write_fails_nothing_acknowledged_is_lost_or_doubled_and_the_buffer_goes_on() {
    let writes: Vec<_> = FAULTS.into_iter().filter(|(call, ..)| *call == Call::Write).collect();
    every_call(&writes);
}

#[test]
fn whatever_other_call_fails_nothing_acknowledged_is_lost_or_doubled_and_the_buffer_goes_on() {
    let others: Vec<_> = FAULTS.into_iter().filter(|(call, ..)| *call != Call::Write).collect();
    every_call(&others);
}
