//! The power goes at any moment, and takes along whatever was not synced.
//!
//! A workload runs once on a recording disk. Then, for each point of the record and each way in which caches lose what they hold, the
//! files are made as the cut would have left them, opened by the buffer, drained and added to, and compared with what had been promised
//! by then. The same must find what is wrong with programs that sync too little, acknowledge too early, or count from the start.
//!
//! A seed is all that a run depends on, but for the salts of SQLite's log, which come from the whole process. `HEADWATER_CRASH_SEED` is
//! the first, `HEADWATER_CRASH_SEEDS` how many follow each other; `HEADWATER_CRASH_POINT` looks at one point of each alone.

mod cuts;
mod events;
mod faults;
mod oracle;
mod recorder;
mod salvage;
mod stepped;
mod tape;
mod workload;

use std::{collections::HashMap, env, fs, path::Path, time::Duration};

use tempfile::TempDir;

use self::{
    cuts::{Cut, Folders, Mode, Storage},
    oracle::{Found, Promised},
    recorder::{Recording, locked, tape_at},
    tape::{Op, Tape},
    workload::{Did, Plan, Run, Workload},
};
use crate::buffer::{World, world::Mutant};

/// Whoever goes past SQLite tells what it did: a file has another name.
pub(in crate::buffer) fn renamed(from: &Path, to: &Path) {
    if let (Some((tape, from)), Some((_, to))) = (tape_at(from), tape_at(to)) {
        locked(&tape).renamed(from, to);
    }
}

/// An empty file is there.
pub(in crate::buffer) fn created(path: &Path) {
    if let Some((tape, name)) = tape_at(path) {
        locked(&tape).opened(&name);
    }
}

/// A file is gone.
pub(in crate::buffer) fn removed(path: &Path) {
    if let Some((tape, name)) = tape_at(path) {
        locked(&tape).deleted(&name, false);
    }
}

/// Which files there are in the folder of `path` is durable.
pub(in crate::buffer) fn synced(path: &Path) {
    if let Some((tape, _)) = tape_at(path) {
        locked(&tape).add(Op::SyncFolder);
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Where nobody asks for another one.
const SEED: u64 = 1;
/// Of so many images one is cut again.
const CUT_AGAIN: u64 = 8;

/// What a search has found.
#[derive(Debug, Default)]
struct Verdict {
    points: usize,
    states: usize,
    /// States that were not the same files as another one.
    images: usize,
    did: Did,
    failures: Vec<String>,
}

/// Which states are looked at.
struct Search<'a> {
    folders: &'a [Folders],
    /// No more failures than this.
    until: usize,
}

const ALL: Search = Search { folders: &[Folders::Strict, Folders::OwnSync], until: 5 };

const FIRST: Search = Search { until: 1, ..ALL };

/// What came back from files, by their key.
type Known = HashMap<u64, Result<Found, String>>;

impl Plan {
    /// Runs the workload, and cuts the power wherever `search` says.
    fn cuts(self, search: &Search) -> Verdict {
        let run = Workload::new(self).run();
        let (mut verdict, mut known) = (Verdict { did: run.did, ..Verdict::default() }, Known::new());
        for folders in search.folders {
            run.judge(*folders, search.until, self, &mut known, &mut verdict);
        }
        verdict
    }

    /// How the buffer is opened after a cut: by the program as it is, where the fault is none of counting.
    fn after(self) -> Self {
        let mutant = self.mutant.filter(|mutant| *mutant == Mutant::NumbersRestart);
        Self { hold: Duration::ZERO, bounds: false, synchronous: World::default().synchronous, mutant, ..self }
    }
}

impl Run {
    /// Shows `look` the storage at each point of the record, and what was promised by then, until it has seen enough.
    fn at_each_point(&self, folders: Folders, mut look: impl FnMut(usize, &Storage, &Promised) -> bool) {
        let mut storage = Storage::new(folders, &self.tape.before);
        let mut promised = Promised::nothing();
        let mut events = self.events.iter().peekable();
        for point in 0..=self.tape.entries.len() {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= point) {
                promised.hears(event);
            }
            promised.sees(self.tape.seen_at(point));
            if !look(point, &storage, &promised) {
                return;
            }
            if let Some(entry) = self.tape.entries.get(point) {
                storage.does(&entry.op);
            }
        }
    }

    fn judge(&self, folders: Folders, until: usize, plan: Plan, known: &mut Known, verdict: &mut Verdict) {
        let only = env::var("HEADWATER_CRASH_POINT").ok().map(|point| point.parse::<u64>().expect("a number"));
        let mut dice = Dice(plan.seed | 1);
        self.at_each_point(folders, |point, storage, promised| {
            verdict.points += 1;
            for mode in Mode::ALL {
                let cut = storage.cut(mode, &mut dice);
                if only.is_some_and(|only| only != point as u64) {
                    continue;
                }
                verdict.states += 1;
                let found = known.entry(cut.key()).or_insert_with(|| {
                    verdict.images += 1;
                    recover(plan, &cut, cut.key().is_multiple_of(CUT_AGAIN))
                });
                let holds = found.as_ref().map_err(Clone::clone).and_then(|found| promised.holds(found));
                if let Err(what) = holds {
                    verdict.failures.push(format!("seed {}, point {point}, {mode:?}, {folders:?}: {what}", plan.seed));
                }
            }
            verdict.failures.len() < until
        });
    }
}

/// What comes back from what a cut has left; `cut_again`: the power goes again while the buffer looks at it.
fn recover(plan: Plan, cut: &Cut, cut_again: bool) -> Result<Found, String> {
    let dir = TempDir::new().unwrap();
    for (name, data) in cut.files() {
        fs::write(dir.path().join(name), data).unwrap();
    }
    let settings = workload::settings(dir.path().join("buffer.db"), &plan.after());
    if !cut_again {
        return oracle::recover(&settings);
    }
    let recording = Recording::of(dir.path(), Tape::over(dir.path()));
    oracle::looks_in(&settings)?;
    let tape = recording.ends();
    let mut storage = Storage::new(Folders::Strict, &tape.before);
    let mut dice = Dice(cut.key() | 1);
    let point = usize::try_from(dice.roll(tape.entries.len() as u64 + 1)).unwrap();
    tape.entries.iter().take(point).for_each(|entry| storage.does(&entry.op));
    let mode = Mode::ALL[usize::try_from(dice.roll(Mode::ALL.len() as u64)).unwrap()];
    recover(plan, &storage.cut(mode, &mut dice), false).map_err(|what| format!("{what}; cut again at {point}, {mode:?}"))
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn plan() -> Plan {
    let seed = number("HEADWATER_CRASH_SEED", SEED);
    Plan { seed, steps: 160, hold: Duration::ZERO, bounds: true, synchronous: World::default().synchronous, mutant: None }
}

fn finds_nothing(plan: Plan) {
    for seed in plan.seed..plan.seed + number("HEADWATER_CRASH_SEEDS", 1) {
        let verdict = Plan { seed, ..plan }.cuts(&ALL);
        let Verdict { points, states, images, did, failures } = verdict;
        println!("seed {seed}: {points} points, {states} states, {images} of them different; {did:?}");
        assert!(failures.is_empty(), "{failures:#?}");
        let did_all = did.dropped_oldest.min(did.dropped_newest).min(did.thinned).min(did.set_aside) > 0;
        assert!(did_all || seed != SEED, "it drops by every rule, and sets aside: {did:?}");
    }
}

#[test]
fn power_cut_at_any_moment_every_acknowledged_reading_is_there_once() {
    finds_nothing(plan());
}

#[test]
fn power_cut_at_any_moment_with_readings_held_in_memory_every_acknowledged_reading_is_there_once() {
    finds_nothing(Plan { hold: Duration::from_secs(1), bounds: false, ..plan() });
}

#[test]
fn what_syncs_too_little_is_found_out() {
    for synchronous in ["OFF", "NORMAL"] {
        let verdict = Plan { synchronous, ..plan() }.cuts(&FIRST);
        assert!(!verdict.failures.is_empty(), "{synchronous}: {verdict:?}");
        eprintln!("{synchronous}: {verdict:?}");
    }
}

#[test]
fn what_does_not_sync_the_folder_is_found_out() {
    let search = Search { folders: &[Folders::OwnSync], until: 1 };
    let verdict = Plan { synchronous: "FULL", ..plan() }.cuts(&search);
    assert!(!verdict.failures.is_empty(), "{verdict:?}");
    eprintln!("{verdict:?}");
}

#[test]
fn a_receipt_before_the_commit_is_found_out() {
    let verdict = Plan { mutant: Some(Mutant::ReceiptsFirst), ..plan() }.cuts(&FIRST);
    assert!(!verdict.failures.is_empty(), "{verdict:?}");
    eprintln!("{verdict:?}");
}

#[test]
fn numbers_that_begin_anew_are_found_out() {
    let verdict = Plan { mutant: Some(Mutant::NumbersRestart), ..plan() }.cuts(&FIRST);
    assert!(!verdict.failures.is_empty(), "{verdict:?}");
    eprintln!("{verdict:?}");
}
