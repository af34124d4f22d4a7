//! What a commit costs the card: bytes that reach the device for a byte of payload, beside a log that keeps nothing but the bytes.

use std::{path::Path, process::Command};

use crate::support::{
    Outcome,
    agent::{self, Agent, Setup},
    cloud::Cloud,
    disk::{Disk, Log},
    gate::{Gate, group},
    load::Broker,
    payload,
    table::Table,
};

/// Payload bytes before and while it is measured: the WAL has come round twice before.
const WARM_UP: u64 = 40 << 20;
const MEASURED: u64 = 60 << 20;
/// Bytes that wait, when the buffer is drained as it is filled.
const BACKLOG: u64 = 1 << 20;

pub fn measure() -> Outcome<()> {
    let table = Table::new("Wear: bytes that reach the block device for a byte of payload (113-byte readings)");
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(error) => {
            println!("  not measured: it needs root, a loop device and ext4 ({error})");
            return Ok(());
        }
    };
    for (readings, goal) in [(256, 1.6), (1024, 1.3)] {
        let log = log(&disk, readings)?;
        let (steady, flushes) = buffer(&disk, readings, Some(BACKLOG))?;
        let (filled, _) = buffer(&disk, readings, None)?;
        table.note(&format!("{readings} readings a commit: CRC log, pre-allocated"), format!("{log:.2} x"));
        table.note("  buffer, drained as it is filled", format!("{steady:.2} x"));
        table.at_most("    over the log", steady / log, goal, "x");
        table.note("  buffer, filled only (every page goes to WAL and database)", format!("{filled:.2} x"));
        table.note("    over the log", format!("{:.2} x", filled / log));
        table.note("  device flushes a commit", format!("{flushes:.3}"));
        match syncs(disk.folder(), readings) {
            Ok(syncs) => table.at_most("  fdatasyncs a commit (strace)", syncs, 1.05, ""),
            Err(error) => println!("  fdatasyncs not counted: {error}"),
        }
    }
    good_link(&table, &disk)
}

fn log(disk: &Disk, readings: u64) -> Outcome<f64> {
    let mut log = Log::new(disk.folder())?;
    let data = group(0, readings);
    let commits = MEASURED / (readings * payload::BYTES as u64);
    let (before, _) = disk.written()?;
    (0..commits).try_for_each(|_| log.append(&data))?;
    let (after, _) = disk.written()?;
    Ok((after - before) as f64 / (commits * readings * payload::BYTES as u64) as f64)
}

/// Device bytes for a byte of payload, and device flushes for a commit.
fn buffer(disk: &Disk, readings: u64, backlog: Option<u64>) -> Outcome<(f64, f64)> {
    let folder = tempfile::tempdir_in(disk.folder())?;
    let mut gate = Gate::open(folder.path())?;
    let data = group(0, readings);
    let mut commit = |bytes: u64| -> Outcome<u64> {
        let commits = bytes / (readings * payload::BYTES as u64);
        for _ in 0..commits {
            gate.commit(&data, readings)?;
            backlog.map_or(Ok(()), |backlog| gate.drain_to(backlog))?;
        }
        Ok(commits)
    };
    commit(WARM_UP)?;
    let before = disk.written()?;
    let commits = commit(MEASURED)?;
    let after = disk.written()?;
    gate.close();
    let payload = commits * readings * payload::BYTES as u64;
    // Each look at the counters flushes once.
    Ok(((after.0 - before.0) as f64 / payload as f64, (after.1 - before.1) as f64 / commits as f64))
}

/// Commits that the process of [`syncs`] does.
const COMMITS: u64 = 1000;

/// `fdatasync` and `fsync` calls for a commit, the opening and closing of the file included.
fn syncs(folder: &Path, readings: u64) -> Outcome<f64> {
    let folder = tempfile::tempdir_in(folder)?;
    let report = folder.path().join("strace");
    let status = Command::new("strace")
        .args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&report)
        .arg(std::env::current_exe()?)
        .args(["as", "writer"])
        .arg(folder.path())
        .arg(readings.to_string())
        .status()
        .map_err(|error| format!("strace: {error}"))?;
    if !status.success() {
        return Err(format!("strace ended with {status}").into());
    }
    let report = std::fs::read_to_string(report)?;
    let calls =
        report.lines().filter(|line| line.ends_with("sync")).filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    Ok(calls.sum::<u64>() as f64 / COMMITS as f64)
}

/// What the process of [`syncs`] does.
pub fn write_groups(args: &[&str]) -> Outcome<()> {
    let [folder, readings] = args else { return Err("as writer FOLDER READINGS".into()) };
    let readings = readings.parse()?;
    let mut gate = Gate::open(Path::new(folder))?;
    let data = group(0, readings);
    for _ in 0..COMMITS {
        gate.commit(&data, readings)?;
        gate.drain_to(BACKLOG)?;
    }
    gate.close();
    Ok(())
}

/// While readings are confirmed from memory, nothing is written at all.
fn good_link(table: &Table, disk: &Disk) -> Outcome<()> {
    let seconds: u64 = std::env::var("FIGURES_IDLE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let folder = disk.folder();
    let mut cloud = Cloud::start(1, true, &agent::ca(folder))?;
    let mut broker = Broker::start()?;
    let setup = Setup { broker: broker.port, url: &cloud.url, encoding: "cbor", hold: "1s", lanes: 1, window: 20 };
    let agent = Agent::start(folder, &setup)?;
    broker.publish(50, Some(10), 20)?;
    let (before, _) = disk.written()?;
    broker.publish(10 * seconds, Some(10), 20)?;
    let (after, _) = disk.written()?;
    agent.stop()?;
    cloud.tell("forget")?;
    table.at_most(&format!("link good, 10 readings/s for {seconds} s: bytes to the device"), (after - before) as f64, 0.0, "");
    Ok(())
}
