//! The whole agent through an outage: it fills its buffer, is killed, starts again behind all that, and drains it.
//!
//! `FIGURES_BACKLOG_MIB` is how much waits, 256 by default, as in `deep`.

use crate::support::{
    Outcome,
    agent::{self, Agent, Setup},
    cloud::Cloud,
    disk::grows_cold,
    load::Broker,
    machine::resident,
    payload,
    table::Table,
};

const WINDOW: usize = 1000;
const MIB: f64 = 1_048_576.0;
/// Most memory, in MiB.
const MEMORY: f64 = 48.0;
/// Longest start, in milliseconds.
const START: f64 = 1000.0;
/// Readings between two looks.
const AT_ONCE: u64 = 500_000;

pub fn measure() -> Outcome<()> {
    let mib = std::env::var("FIGURES_BACKLOG_MIB").ok().and_then(|mib| mib.parse::<u64>().ok()).unwrap_or(256);
    let table = Table::new(&format!("The whole agent, {mib} MiB of payload waiting (113-byte readings, raw, one lane)"));
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut cloud = Cloud::start(4, false, &agent::ca(folder))?;
    let mut broker = Broker::start()?;
    let url = cloud.url.clone();
    let setup = Setup { broker: broker.port, url: &url, encoding: "raw", hold: "1s", lanes: 1, window: WINDOW };
    let room = format!("{} MiB", 4 * mib + 1024);
    let settings = [("HEADWATER__BUFFER__MAX_SIZE", room.as_str()), ("HEADWATER__BUFFER__KEEP_FREE", "0 B")];
    let peak = |agent: &Agent| -> Outcome<f64> { Ok(resident(agent.pid())?.1 as f64 / MIB) };

    let (agent, empty) = Agent::ready(folder, &setup, &settings)?;
    table.at_most("start to READY, empty", empty.as_secs_f64() * 1e3, START, "ms");
    cloud.tell("away")?;
    let readings = (mib << 20) / payload::BYTES as u64;
    let mut sent = 0;
    while sent < readings {
        let some = AT_ONCE.min(readings - sent);
        broker.publish(some, None, WINDOW)?;
        sent += some;
        println!("  … {sent} of {readings} readings wait");
    }
    table.at_most("resident at most, until all wait", peak(&agent)?, MEMORY, "MiB");
    agent.power_off()?;
    let state = folder.join("state");
    let file = std::fs::metadata(state.join("buffer.db"))?.len();
    grows_cold(&state)?;
    table.note("the buffer's file", format!("{:.0} MiB", file as f64 / MIB));

    let (agent, deep) = Agent::ready(folder, &setup, &settings)?;
    table.at_most("start to READY behind them, after kill -9, with cold files", deep.as_secs_f64() * 1e3, START, "ms");
    let started = std::time::Instant::now();
    cloud.tell("back")?;
    let arrived = cloud.wait_for(readings)?;
    table.note("drained", format!("{:.0}/s", readings as f64 / started.elapsed().as_secs_f64()));
    table.at_most("  readings missing", (readings - arrived.get("distinct").min(readings)) as f64, 0.0, "");
    table.at_most("  resident at most", peak(&agent)?, MEMORY, "MiB");
    agent.stop()
}
