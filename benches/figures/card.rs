//! What the agent writes to the card in a day: with a good link, and with none.
//!
//! Whole agents, each with a block device of its own that counts, in real time and all at once: at these rates they leave a machine
//! idle. `FIGURES_CARD_SECONDS` is how long each is watched, 300 by default, which is multiplied up to a day.

use std::thread;

use crate::support::{
    Outcome,
    agent::{self, Agent, Setup},
    cloud::Cloud,
    disk::Disk,
    load::Broker,
    table::Table,
};

/// As `config/mosquitto/headwater.conf` sets it.
const WINDOW: usize = 1000;
/// Readings before it is measured, as fast as they are taken: the file has grown and its log has come round.
const WARM_UP: u64 = 100_000;
const DAY: u64 = 24 * 60 * 60;
const MIB: f64 = 1_048_576.0;

/// Readings a second, whether the link is good, and `hold`.
const CASES: [(u64, bool, &str); 7] = [
    (10, true, "1s"),
    (100, true, "1s"),
    (1000, true, "1s"),
    (10, false, "1s"),
    (100, false, "1s"),
    (1000, false, "1s"),
    (10, false, "15s"),
];

pub fn measure() -> Outcome<()> {
    let seconds: u64 = std::env::var("FIGURES_CARD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let table = Table::new(&format!("The card: bytes that reach the block device in a day, from {seconds} s (113-byte readings)"));
    if let Err(error) = Disk::new() {
        println!("  not measured: it needs root, a loop device and ext4 ({error})");
        return Ok(());
    }
    let written: Vec<Outcome<u64>> = thread::scope(|scope| {
        let cases = CASES.map(|(rate, good, hold)| scope.spawn(move || written(rate, good, hold, seconds)));
        cases.map(|case| case.join().unwrap_or_else(|_| Err("a case panicked".into()))).into()
    });
    for ((rate, good, hold), bytes) in CASES.into_iter().zip(written) {
        let bytes = bytes?;
        let link = if good { "link good" } else { "link away" };
        let what = format!("{rate} readings/s, {link}, hold = {hold}: a day");
        let day = (bytes * DAY / seconds) as f64 / MIB;
        if good {
            table.at_most(&what, day, 0.0, "MiB");
        } else {
            table.note(&what, format!("{day:.0} MiB"));
            table.note("  bytes for a reading", format!("{:.0}", bytes as f64 / (rate * seconds) as f64));
        }
    }
    Ok(())
}

/// Bytes that one agent writes in so many seconds.
fn written(rate: u64, good: bool, hold: &str, seconds: u64) -> Outcome<u64> {
    let disk = Disk::new()?;
    let folder = disk.folder();
    let mut cloud = Cloud::start(4, false, &agent::ca(folder))?;
    let mut broker = Broker::start()?;
    // The endpoint can tell raw readings apart. With a good link nothing is written, whatever they look like.
    let encoding = if good { "raw" } else { "cbor" };
    let setup = Setup { broker: broker.port, url: &cloud.url, encoding, hold, lanes: 1, window: WINDOW };
    let agent = Agent::start(folder, &setup)?;
    cloud.tell("away")?;
    broker.publish(WARM_UP, None, WINDOW)?;
    if good {
        cloud.tell("back")?;
        cloud.wait_for(WARM_UP)?;
        broker.publish(rate, Some(rate), WINDOW)?; // and what a drained buffer has to tidy up
    }
    let (before, _) = disk.written()?;
    broker.publish(rate * seconds, Some(rate), WINDOW)?;
    let (after, _) = disk.written()?;
    agent.stop()?;
    Ok(after - before)
}
