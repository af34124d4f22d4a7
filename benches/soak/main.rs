//! The long campaign behind the promise that nothing is lost: `make soak`.
//!
//! Faults at random against the release binary, a real broker and an endpoint that misbehaves, then the parts that are programs of their
//! own. Each prints a line with its own account, and at the end comes one table; it ends with 1 when anything was lost or can't be
//! explained. A line names the seed that repeats its faults: `SOAK_ONLY=damage SOAK_SEED=N SOAK_MINUTES=0`.
//!
//! | variable | meaning |
//! |---|---|
//! | `SOAK_MINUTES` | how long seeds follow each other, 10 by default: 4 of 10 for installations, 3 for damaged buffers, 3 for crash points; 0 for one seed of each |
//! | `SOAK_SEED` | the first seed of each; the next one has the next; by default, of the clock |
//! | `SOAK_ONLY` | which parts, of `installation damage disk overflow crash fuzz backlog`; all by default |
//! | `SOAK_FUZZ_SECONDS` | how long each decoder gets random bytes, 10 by default; 0 leaves it out |
//! | `SOAK_BACKLOG_MIB` | how much waits in the deep backlog, 10,240 by default; 0 leaves it out |

#![allow(clippy::unwrap_used, reason = "a campaign that cannot go on has failed")]

mod parts;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    any::Any,
    env,
    panic::{self, AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use support::campaign::{self, Tally};

/// Power cuts of one installation, after which it drains and is audited.
const KILLS: u64 = 25;
/// How often each kind of damage befalls one.
const TIMES_DAMAGED: usize = 2;

/// What `SOAK_ONLY` may name.
const PARTS: [&str; 7] = ["installation", "damage", "disk", "overflow", "crash", "fuzz", "backlog"];

fn main() -> ExitCode {
    // Cargo gives it to every bench; it means nothing here.
    if env::args().skip(1).any(|arg| arg != "--bench") {
        eprintln!("soak takes no arguments; see SOAK_MINUTES and the others in benches/soak/main.rs");
        return ExitCode::from(2);
    }
    let only = env::var("SOAK_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split_whitespace().collect();
    if let Some(unknown) = only.iter().find(|part| !PARTS.contains(part)) {
        eprintln!("SOAK_ONLY: there is no part {unknown:?}; the parts are: {}", PARTS.join(" "));
        return ExitCode::from(2);
    }
    let takes = |part: &str| only.is_empty() || only.contains(&part);
    panic::set_hook(Box::new(|_| ())); // what it says is in the tally
    let minutes = number("SOAK_MINUTES").unwrap_or(10);
    let seed = number("SOAK_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs()
    });
    println!("Soak: {minutes} minutes of faults at random, from seed {seed} on, against {}", env!("CARGO_BIN_EXE_headwater"));

    let mut soak = Soak { started: Instant::now(), seed, all: Tally::default() };
    let tenths = |tenths: u64| Duration::from_secs(minutes * 6 * tenths);
    if takes("installation") {
        soak.seeds("installation", tenths(4), |seed| audited(campaign::run(seed, KILLS)));
    }
    if takes("damage") {
        soak.seeds("damage", tenths(3), |seed| audited(campaign::damage::befalls(seed, TIMES_DAMAGED)));
    }
    if takes("disk") {
        soak.adds("disk", &audited(campaign::disk::runs_full()));
    }
    if takes("overflow") {
        soak.adds("overflow", &audited(campaign::overflow::overflows()));
    }
    if takes("crash") {
        soak.seeds("crash", tenths(3), parts::crash_points);
    }
    let seconds = number("SOAK_FUZZ_SECONDS").unwrap_or(10);
    if takes("fuzz") && seconds > 0 {
        soak.adds("fuzz", &parts::fuzz(seconds));
    }
    let mib = number("SOAK_BACKLOG_MIB").unwrap_or(10 << 10);
    if takes("backlog") && mib > 0 {
        soak.adds("backlog", &parts::deep_backlog(mib));
    }

    println!("\nLedger audit, {} s\n{}", soak.started.elapsed().as_secs(), soak.all);
    if soak.all.is_clean() {
        println!("Nothing was lost.");
        ExitCode::SUCCESS
    } else {
        println!("NOT CLEAN: see above; SOAK_ONLY=PART SOAK_SEED=N SOAK_MINUTES=0 repeats the faults of one line");
        ExitCode::FAILURE
    }
}

/// The soak so far.
struct Soak {
    started: Instant,
    /// The first seed of each part.
    seed: u64,
    all: Tally,
}

impl Soak {
    /// One seed after the other, one at least, until so much time has passed.
    fn seeds(&mut self, part: &str, time: Duration, run: impl Fn(u64) -> Tally) {
        let began = Instant::now();
        for seed in self.seed.. {
            self.adds(&format!("{part}, seed {seed}"), &run(seed));
            if began.elapsed() >= time {
                return;
            }
        }
    }

    /// Adds the account of `part`, and says what it is.
    fn adds(&mut self, part: &str, tally: &Tally) {
        self.all.add(tally);
        tally.unexplained.iter().for_each(|what| println!("  {what}"));
        println!(
            "[{:>5} s] {part}: {} faults, {} readings, {} lost, {} unexplained; so far {} readings, {} lost",
            self.started.elapsed().as_secs(),
            tally.faults.values().sum::<u64>(),
            tally.sent,
            tally.lost,
            tally.unexplained.len(),
            self.all.sent,
            self.all.lost,
        );
    }
}

/// One installation, from the first reading to the audit. Whatever ends it early is unexplained.
fn audited(installation: impl Future<Output = Tally>) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = catch_unwind(AssertUnwindSafe(|| runtime.block_on(installation)));
    run.unwrap_or_else(|panic| Tally { unexplained: vec![words(&*panic)], ..Tally::default() })
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic without words".into())
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}
