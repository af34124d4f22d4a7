//! Builds of the agent beside each other: what a choice of the compiler's settings costs in CPU and in bytes.
//!
//! `FIGURES_AGENTS` names the programs, separated by `:` as in `PATH`. Each takes and sends the same readings as fast as it can, in turns, so that a
//! busy machine is busy for all of them.

use std::{env, fs, path::Path};

use crate::support::{
    Outcome, READINGS,
    agent::{self, Agent, Setup},
    cloud::Cloud,
    load::Broker,
    median,
    table::Table,
};

const TURNS: usize = 5;
const WINDOW: usize = 1000;

pub fn measure() -> Outcome<()> {
    let table = Table::new("Builds of the agent: 113-byte readings, fsynced before each PUBACK, TLS to the endpoint");
    let Some(programs) = env::var_os("FIGURES_AGENTS") else {
        println!("  not measured: FIGURES_AGENTS names none");
        return Ok(());
    };
    let programs: Vec<_> = env::split_paths(&programs).collect();
    let mut costs = vec![Vec::new(); programs.len()];
    for _ in 0..TURNS {
        for (program, costs) in programs.iter().zip(&mut costs) {
            costs.push(cost(program)?);
        }
    }
    let costs: Vec<f64> = costs.into_iter().map(median).collect();
    for (program, cost) in programs.iter().zip(&costs) {
        table.note(&program.display().to_string(), format!("{} bytes", fs::metadata(program)?.len()));
        table.note("  CPU seconds per million readings", format!("{cost:.2}"));
        table.note("    over the first", format!("{:.2} x", cost / costs[0]));
    }
    Ok(())
}

/// CPU seconds per million readings, from the socket of the broker to that of the endpoint.
fn cost(program: &Path) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut cloud = Cloud::start(1, false, &agent::ca(folder))?;
    let mut broker = Broker::start()?;
    let url = cloud.url.clone();
    let setup = Setup { broker: broker.port, url: &url, encoding: "raw", hold: "0s", lanes: 1, window: WINDOW };
    let agent = Agent::of(program, folder, &setup)?;
    // The first request finds out what the link carries; before it there is nothing to compare.
    broker.publish(1000, None, WINDOW)?;
    cloud.wait_for(1000)?;
    cloud.tell("forget")?;
    let before = agent.cpu()?;
    broker.publish(READINGS, None, WINDOW)?;
    let arrived = cloud.wait_for(READINGS)?;
    let cpu = agent.cpu()?.saturating_sub(before);
    agent.stop()?;
    match (arrived.get("distinct"), arrived.get("disorder")) {
        (READINGS, 0) => Ok(cpu.as_secs_f64() * 1e6 / READINGS as f64),
        _ => Err(format!("{}: the stream is wrong: {arrived:?}", program.display()).into()),
    }
}
