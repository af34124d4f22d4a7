//! The comparison with the peers: the same load, the same endpoint, on one machine beside both.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{
    Outcome, READINGS,
    agent::{self, Agent, Setup},
    cloud::{Arrived, Cloud},
    load::{Broker, Published},
    machine::{fdatasync_time, resident},
    median,
    table::Table,
};

const RUNS: usize = 3;
const WINDOW: usize = 1000;
const MIB: f64 = 1_048_576.0;

/// One agent between a broker and an endpoint of its own.
struct Plant {
    folder: TempDir,
    cloud: Cloud,
    broker: Broker,
    lanes: u16,
}

impl Plant {
    fn new(shards: u16, limits: bool) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let cloud = Cloud::start(shards.into(), limits, &agent::ca(folder.path()))?;
        Ok(Self { cloud, broker: Broker::start()?, lanes: shards, folder })
    }

    fn agent(&self) -> Outcome<Agent> {
        let Self { folder, cloud, broker, lanes } = self;
        let setup = Setup { broker: broker.port, url: &cloud.url, encoding: "raw", hold: "0s", lanes: *lanes, window: WINDOW };
        Agent::start(folder.path(), &setup)
    }
}

pub fn measure() -> Outcome<()> {
    let table =
        Table::new("Side by side with the peers: 113-byte readings, 100 topics, QoS 1, window 1,000, fsynced before each PUBACK");
    let sync = fdatasync_time(tempfile::tempdir()?.path())?;
    table.note("an fdatasync of 4 KiB here", format!("{:.2} ms", sync.as_secs_f64() * 1e3));
    flat_out(&table)?;
    outage(&table)?;
    trickle(&table)?;
    power_cut(&table)?;
    limits(&table)?;
    refusals(&table)
}

struct FlatOut {
    rate: f64,
    cpu: f64,
    peak: f64,
    arrived: Arrived,
}

fn flat_out(table: &Table) -> Outcome<()> {
    let runs: Vec<FlatOut> = (0..RUNS).map(|_| flat_out_once()).collect::<Outcome<_>>()?;
    let of = |figure: fn(&FlatOut) -> f64| median(runs.iter().map(figure).collect());
    let count = READINGS as f64;
    table.at_least("readings/s", of(|run| run.rate), 200_000.0, "");
    table.at_most("CPU seconds per million readings", of(|run| run.cpu), 2.5, "");
    table.at_most("resident, peak", of(|run| run.peak), 20.0, "MiB");
    table.at_most("HTTP body bytes a reading", of(|run| run.arrived.get("body") as f64) / count, 165.0, "");
    table.at_most("Kinesis records per 1,000 readings", of(|run| run.arrived.get("records") as f64) / count * 1e3, 5.0, "");
    table.at_most("latency p50, publish to endpoint", of(|run| run.arrived.get("p50") as f64), 300.0, "ms");
    table.at_most("latency p99", of(|run| run.arrived.get("p99") as f64), 1000.0, "ms");
    let sum = |name: &str| runs.iter().map(|run| run.arrived.get(name)).sum::<u64>() as f64;
    table.at_most("out of order within a sensor, all runs", sum("disorder"), 0.0, "");
    table.at_most("lost, all runs", READINGS as f64 * RUNS as f64 - sum("distinct"), 0.0, "");
    table.at_most("more than once, all runs", sum("again"), 0.0, "");
    Ok(())
}

fn flat_out_once() -> Outcome<FlatOut> {
    let mut plant = Plant::new(1, false)?;
    let agent = plant.agent()?;
    // The first request finds out what the link carries; before it there is nothing to compare.
    plant.broker.publish(1000, None, WINDOW)?;
    plant.cloud.wait_for(1000)?;
    plant.cloud.tell("forget")?;
    let before = agent.cpu()?;
    let Published { took, .. } = plant.broker.publish(READINGS, None, WINDOW)?;
    let arrived = plant.cloud.wait_for(READINGS)?;
    let cpu = agent.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / READINGS as f64;
    let (_, peak) = resident(agent.pid())?;
    agent.stop()?;
    Ok(FlatOut { rate: READINGS as f64 / took.as_secs_f64(), cpu, peak: peak as f64 / MIB, arrived })
}

fn outage(table: &Table) -> Outcome<()> {
    const WAITING: u64 = 300_000;
    let once = || -> Outcome<f64> {
        let mut plant = Plant::new(1, false)?;
        let agent = plant.agent()?;
        plant.broker.publish(1000, None, WINDOW)?;
        plant.cloud.wait_for(1000)?;
        plant.cloud.tell("away")?;
        plant.cloud.tell("forget")?;
        plant.broker.publish(WAITING, None, WINDOW)?;
        plant.cloud.tell("back")?;
        let arrived = plant.cloud.wait_for(WAITING)?;
        agent.stop()?;
        Ok(arrived.get("distinct") as f64 / Duration::from_millis(arrived.get("took_ms")).as_secs_f64())
    };
    let rates = (0..RUNS).map(|_| once()).collect::<Outcome<_>>()?;
    table.at_least("drain of 300,000 after an outage, first to last, readings/s", median(rates), 100_000.0, "");
    Ok(())
}

/// With next to nothing to send, a reading waits for `linger` at its default and for one round trip.
fn trickle(table: &Table) -> Outcome<()> {
    let mut plant = Plant::new(1, true)?;
    let agent = plant.agent()?;
    plant.broker.publish(300, Some(10), WINDOW)?;
    let arrived = plant.cloud.wait_for(300)?;
    agent.stop()?;
    table.note("10 readings/s for 30 s: latency p50", format!("{} ms", arrived.get("p50")));
    table.at_most("  latency p99", arrived.get("p99") as f64, 1000.0, "ms");
    exactly_once(table, 300, &arrived);
    Ok(())
}

fn power_cut(table: &Table) -> Outcome<()> {
    let (mut lost, mut again, mut repeated) = (0, 0, 0);
    for run in 0..RUNS as u64 {
        let mut plant = Plant::new(1, false)?;
        let agent = plant.agent()?;
        plant.broker.begin(READINGS, None, WINDOW, READINGS / 4 * (run + 1))?;
        plant.broker.reached()?;
        agent.power_off()?;
        let agent = plant.agent()?;
        repeated += plant.broker.done()?.repeated;
        let arrived = plant.cloud.wait_for(READINGS)?;
        lost += READINGS - arrived.get("distinct");
        again += arrived.get("again");
        agent.stop()?;
    }
    table.at_most(&format!("SIGKILL in mid-load, {RUNS} times: acknowledged readings lost"), lost as f64, 0.0, "");
    table.note("  sent again by the broker; more than once in the stream", format!("{repeated}; {again}"));
    Ok(())
}

fn limits(table: &Table) -> Outcome<()> {
    let mut plant = Plant::new(4, true)?;
    let agent = plant.agent()?;
    let started = Instant::now();
    plant.broker.publish(600_000, Some(10_000), WINDOW)?;
    let arrived = plant.cloud.wait_for(600_000)?;
    let rate = 600_000.0 / started.elapsed().as_secs_f64();
    agent.stop()?;
    table.at_least("4 shards with the service's limits, 10,000 readings/s for 60 s", rate, 9_900.0, "");
    exactly_once(table, 600_000, &arrived);
    Ok(())
}

fn refusals(table: &Table) -> Outcome<()> {
    for (percent, rate, seconds) in [("2", 20_000_u64, 30), ("20", 20_000, 15)] {
        let count = rate * seconds;
        let mut plant = Plant::new(4, false)?;
        let agent = plant.agent()?;
        plant.cloud.tell(&format!("refuse {percent}"))?;
        let started = Instant::now();
        plant.broker.publish(count, Some(rate), WINDOW)?;
        let published = started.elapsed();
        let arrived = plant.cloud.wait_for(count)?;
        agent.stop()?;
        let what = format!("{percent} % of records refused at random, 20,000 readings/s for {seconds} s");
        table.at_least(&what, count as f64 / published.as_secs_f64(), 19_800.0, "");
        table.note(
            "  records refused, of",
            format!("{} of {}", arrived.get("refused"), arrived.get("refused") + arrived.get("records")),
        );
        table.note("  latency p50, p99", format!("{}, {} ms", arrived.get("p50"), arrived.get("p99")));
        exactly_once(table, count, &arrived);
    }
    Ok(())
}

fn exactly_once(table: &Table, published: u64, arrived: &Arrived) {
    table.at_most("  lost", (published - arrived.get("distinct")) as f64, 0.0, "");
    table.at_most("  duplicated", arrived.get("again") as f64, 0.0, "");
    table.at_most("  out of order within a sensor", arrived.get("disorder") as f64, 0.0, "");
}
