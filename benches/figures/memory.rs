//! Resident memory of the agent: with a good link, and with a backlog that grows.

use crate::support::{
    Outcome,
    agent::{self, Agent, Setup},
    cloud::Cloud,
    load::Broker,
    machine::resident,
    table::Table,
};

const RATE: u64 = 10_000;
const WINDOW: usize = 1000;
const MIB: f64 = 1_048_576.0;

pub fn measure() -> Outcome<()> {
    let table = Table::new("Resident memory of the release binary (peak so far)");
    for encoding in ["raw", "cbor"] {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        let mut cloud = Cloud::start(4, false, &agent::ca(folder))?;
        let mut broker = Broker::start()?;
        let setup = Setup { broker: broker.port, url: &cloud.url, encoding, hold: "1s", lanes: 1, window: WINDOW };
        let agent = Agent::start(folder, &setup)?;
        let peak = || -> Outcome<f64> { Ok(resident(agent.pid())?.1 as f64 / MIB) };

        broker.publish(RATE * 20, Some(RATE), WINDOW)?;
        table.at_most(&format!("{encoding}: 10,000 readings/s, link good, 20 s"), peak()?, 20.0, "MiB");
        cloud.tell("away")?;
        broker.publish(RATE * 20, Some(RATE), WINDOW)?;
        let first = peak()?;
        table.at_most("  link away, 200,000 readings wait", first, 20.0, "MiB");
        broker.publish(800_000, None, WINDOW)?;
        let second = peak()?;
        table.at_most("  link away, 1,000,000 readings wait", second, 20.0, "MiB");
        table.at_most("    growth for 800,000 more (taken flat out)", (second - first).max(0.0), 2.0, "MiB");
        cloud.tell("back")?;
        if encoding == "raw" {
            cloud.wait_for(RATE * 40 + 800_000)?;
            table.at_most("  drained", peak()?, 20.0, "MiB");
        }
        agent.stop()?;
    }
    Ok(())
}
