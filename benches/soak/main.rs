//! The long campaign behind the promise that nothing is lost: `make soak`.
//!
//! Faults at random for `SOAK_MINUTES`, against the release binary, a real broker and an endpoint that misbehaves; then the parts that
//! are programs of their own. It ends with one table, and with 1 when anything was lost or cannot be explained. A seed that found
//! something is run again with `SOAK_SEED`, which repeats its faults.
//!
//! | variable | meaning |
//! |---|---|
//! | `SOAK_MINUTES` | how long the random campaign runs, 10 by default |
//! | `SOAK_SEED` | the first installation's seed; the next one has the next; by default, of the clock |
//! | `SOAK_CRASH_SEEDS` | workloads of the buffer that are cut at each point, one a minute by default; 0 leaves them out |
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

fn main() -> ExitCode {
    // Cargo gives it to every bench; it means nothing here.
    if env::args().skip(1).any(|arg| arg != "--bench") {
        eprintln!("soak takes no arguments; see SOAK_MINUTES and the others in benches/soak/main.rs");
        return ExitCode::from(2);
    }
    panic::set_hook(Box::new(|_| ())); // what it says is in the tally
    let minutes = number("SOAK_MINUTES").unwrap_or(10);
    let seed = number("SOAK_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs()
    });
    let started = Instant::now();
    println!("Soak: {minutes} minutes of faults at random, from seed {seed} on, against {}", env!("CARGO_BIN_EXE_headwater"));

    let mut all = Tally::default();
    let mut installations = 0;
    while installations == 0 || started.elapsed() < Duration::from_secs(minutes * 60) {
        let seed = seed + installations;
        let tally = audited(&format!("seed {seed}"), campaign::run(seed, KILLS));
        all.add(&tally);
        installations += 1;
        tally.unexplained.iter().for_each(|what| println!("  {what}"));
        println!(
            "[{:>5} s] seed {seed}: {} readings, {} lost, {} unexplained; so far {} faults, {} readings, {} lost",
            started.elapsed().as_secs(),
            tally.sent,
            tally.lost,
            tally.unexplained.len(),
            all.faults.values().sum::<u64>(),
            all.sent,
            all.lost,
        );
    }
    for seed in seed..seed + minutes.max(1) {
        all.add(&audited(&format!("damage, seed {seed}"), campaign::damage::befalls(seed, 2)));
    }
    all.add(&audited("a full disk", campaign::disk::runs_full()));
    all.add(&audited("an overflow", campaign::overflow::overflows()));
    parts::crash_points(seed, number("SOAK_CRASH_SEEDS").unwrap_or(minutes.max(1)), &mut all);
    parts::fuzz(number("SOAK_FUZZ_SECONDS").unwrap_or(10), &mut all);
    parts::deep_backlog(number("SOAK_BACKLOG_MIB").unwrap_or(10 << 10), &mut all);

    println!("\nLedger audit of {installations} installations, {} s\n{all}", started.elapsed().as_secs());
    if all.is_clean() {
        println!("Nothing was lost.");
        ExitCode::SUCCESS
    } else {
        println!("NOT CLEAN: see above; SOAK_SEED=N SOAK_MINUTES=0 repeats the faults of seed N");
        ExitCode::FAILURE
    }
}

/// One installation, from the first reading to the audit. Whatever ends it early is unexplained.
fn audited(name: &str, installation: impl Future<Output = Tally>) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = catch_unwind(AssertUnwindSafe(|| runtime.block_on(installation)));
    run.unwrap_or_else(|panic| Tally { unexplained: vec![format!("{name}: {}", words(&*panic))], ..Tally::default() })
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic without words".into())
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}
