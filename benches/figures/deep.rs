//! A deep backlog: what an append, a drain and a start cost behind gigabytes that wait, beside an empty buffer in the same run.
//!
//! Both buffers do the same in turn, so that a busy machine is busy for both. CPU is judged, and time where others leave the machine to us.
//! Drains begin with cold files: what is read from the device costs more than what the kernel still has, and that is no matter of depth. The
//! longest start is judged by itself, because a gateway's watchdog waits for it, and so is one with a damaged file.
//!
//! `FIGURES_BACKLOG_MIB` is how much waits, 256 by default; a week of 1,000 readings/s is 10,240 and more, and that must be free on the disk
//! of `TMPDIR`.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::support::{
    Outcome,
    disk::grows_cold,
    gate::{Gate, group},
    machine::{is_busy, own_cpu},
    median,
    table::Table,
};

/// Turns that each figure is the median of.
const TURNS: usize = 9;
/// Commits of a turn, and readings of one.
const COMMITS: u64 = 300;
const READINGS: u64 = 256;
/// Bytes of the backlog that are appended before a wait.
const FILL_BYTES: u64 = 1 << 20;
/// What the drain takes at a time.
const RECORD: u64 = 1000 << 10;
/// The goal: as if it were empty.
const GOAL: f64 = 1.2;
/// Longest start, in milliseconds.
const START: f64 = 1000.0;
/// The same with a damaged file.
const DAMAGED_START: f64 = 5000.0;
/// Bytes at the beginning of a database that say what it is.
const HEADER: usize = 100;

pub fn measure() -> Outcome<()> {
    let mib = std::env::var("FIGURES_BACKLOG_MIB").ok().and_then(|mib| mib.parse::<u64>().ok()).unwrap_or(256);
    let table = Table::new(&format!("Deep backlog: {mib} MiB wait, beside an empty buffer (113-byte readings)"));
    let (empty, deep) = (Place::new(mib)?, Place::new(mib)?);
    let rows = deep.fill(mib << 20)?;
    table.note("readings that wait", rows * READINGS);
    turns(&table, &empty, &deep)?;
    starts(&table, "start", &empty, &deep, |_| Ok(()))?;
    starts(&table, "start after kill -9", &empty, &deep, Place::is_killed)?;
    damaged_start(&table, &deep)?;
    rest(&table, &deep)
}

/// Where one of the buffers is.
struct Place {
    folder: tempfile::TempDir,
    max_size: u64,
}

/// CPU and time.
#[derive(Clone, Copy, Default)]
struct Cost {
    cpu: Duration,
    time: Duration,
}

impl Place {
    fn new(mib: u64) -> Outcome<Self> {
        Ok(Self { folder: tempfile::tempdir()?, max_size: (mib << 20) + (mib << 18) + (1 << 30) })
    }

    fn open(&self) -> Outcome<Gate> {
        Gate::with_room(self.folder.path(), self.max_size)
    }

    /// Puts `bytes` into it; says how many chunks those are.
    fn fill(&self, bytes: u64) -> Outcome<u64> {
        let mut gate = self.open()?;
        let data = group(0, READINGS);
        let at_once = FILL_BYTES / data.len() as u64;
        let (mut rows, mut told) = (0, Instant::now());
        while gate.waiting() < bytes {
            (0..at_once).for_each(|_| gate.append(&data, READINGS));
            rows += at_once;
            gate.buffer.write();
            gate.settle()?;
            if told.elapsed() >= Duration::from_secs(10) {
                println!("  … {} of {} MiB are in", gate.waiting() >> 20, bytes >> 20);
                told = Instant::now();
            }
        }
        gate.close();
        Ok(rows)
    }

    /// Another process writes to it, and is killed with its WAL full.
    fn is_killed(&self) -> Outcome<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["as", "victim"]).arg(self.folder.path()).arg(self.max_size.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut written = [0];
        let told = child.stdout.take().ok_or("no pipe")?.read_exact(&mut written);
        child.kill()?;
        child.wait()?;
        Ok(told?)
    }
}

/// What the process of [`Place::is_killed`] does: it waits to be killed, in the middle of its WAL.
pub fn write_until_killed(args: &[&str]) -> Outcome<()> {
    let [folder, max_size] = args else { return Err("as victim FOLDER BYTES".into()) };
    let mut gate = Gate::with_room(Path::new(folder), max_size.parse()?)?;
    let data = group(0, READINGS);
    (0..COMMITS).try_for_each(|_| gate.commit(&data, READINGS))?;
    println!("written");
    loop {
        std::thread::park();
    }
}

fn measured<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Cost)> {
    let (cpu, started) = (own_cpu(), Instant::now());
    let done = work()?;
    Ok((done, Cost { cpu: own_cpu().saturating_sub(cpu), time: started.elapsed() }))
}

/// Appends and drains of both buffers in turn.
fn turns(table: &Table, empty: &Place, deep: &Place) -> Outcome<()> {
    let data: Bytes = group(0, READINGS);
    let (mut appends, mut drains) = (Vec::new(), Vec::new());
    // The first turn fills caches and makes both files grow to their size.
    for turn in 0..=TURNS {
        let mut gates = [empty.open()?, deep.open()?];
        // The log of the last turn is emptied. If it went on, an empty buffer would have the pages in it already that it uses again, and
        // spare writing them back: a matter of drains that keep up, and not of depth.
        gates.iter_mut().try_for_each(|gate| gate.commit(&data, READINGS))?;
        let mut costs = [(Cost::default(), Cost::default()); 2];
        let waiting = [gates[0].waiting(), gates[1].waiting()];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..COMMITS {
            for ((gate, cost), times) in gates.iter_mut().zip(&mut costs).zip(&mut times) {
                let ((), commit) = measured(|| gate.commit(&data, READINGS))?;
                cost.0.cpu += commit.cpu;
                times.push(commit.time.as_secs_f64());
            }
        }
        for (cost, times) in costs.iter_mut().zip(times) {
            // One that the disk or another process held up says nothing of depth.
            cost.0.time = Duration::from_secs_f64(median(times) * COMMITS as f64);
        }
        for (((gate, place), cost), before) in gates.iter_mut().zip([empty, deep]).zip(&mut costs).zip(waiting) {
            // What has waited for days is in no cache, wherever it waits.
            grows_cold(place.folder.path())?;
            cost.1 = measured(|| {
                gate.drain_in_pieces(before, RECORD)?;
                // The rows go with the next insert, and that is part of what a drain costs.
                gate.commit(&data, READINGS)
            })?
            .1;
        }
        if turn > 0 {
            appends.push(costs.map(|cost| cost.0));
            drains.push(costs.map(|cost| cost.1));
        }
        gates.into_iter().for_each(Gate::close);
    }
    let mib = (COMMITS * data.len() as u64) as f64 / f64::from(1 << 20);
    told(table, "commit of 256 readings", &appends, COMMITS as f64);
    told(table, "drain of a MiB", &drains, mib);
    Ok(())
}

fn told(table: &Table, what: &str, costs: &[[Cost; 2]], parts: f64) {
    let of = |which: usize, part: fn(&Cost) -> Duration| {
        median(costs.iter().map(|pair| part(&pair[which]).as_secs_f64() * 1e6 / parts).collect())
    };
    let ratio = |part: fn(&Cost) -> Duration| of(1, part) / of(0, part);
    table.note(&format!("{what}, empty: CPU, time"), format!("{:.0}, {:.0} µs", of(0, |c| c.cpu), of(0, |c| c.time)));
    table.note(&format!("{what}, deep: CPU, time"), format!("{:.0}, {:.0} µs", of(1, |c| c.cpu), of(1, |c| c.time)));
    table.at_most("  CPU over the empty one", ratio(|cost| cost.cpu), GOAL, "x");
    let time = ratio(|cost| cost.time);
    if is_busy() {
        table.note("  time over the empty one (not judged: others keep us waiting)", format!("{time:.2} x"));
    } else {
        table.at_most("  time over the empty one", time, GOAL, "x");
    }
}

/// Starts of both buffers in turn, from the call to the open buffer.
fn starts(table: &Table, what: &str, empty: &Place, deep: &Place, before: fn(&Place) -> Outcome<()>) -> Outcome<()> {
    let mut costs = Vec::new();
    for _ in 0..TURNS {
        let mut pair = [Cost::default(); 2];
        for (place, cost) in [empty, deep].into_iter().zip(&mut pair) {
            before(place)?;
            let (gate, took) = measured(|| place.open())?;
            *cost = took;
            gate.close();
        }
        costs.push(pair);
    }
    told(table, what, &costs, 1.0);
    let longest = costs.iter().map(|[_, deep]| deep.time.as_secs_f64() * 1e3).fold(0.0, f64::max);
    table.at_most("  longest, deep", longest, START, "ms");
    Ok(())
}

/// A start with a damaged file, up to a first reading that is safe: what can be read goes into a new file meanwhile.
fn damaged_start(table: &Table, deep: &Place) -> Outcome<()> {
    let path = deep.folder.path().join("buffer.db");
    let mut header = [0; HEADER];
    File::open(&path)?.read_exact(&mut header)?;
    write_header(&path, &[0xA7; HEADER])?;
    let (gate, cost) = measured(|| {
        let mut gate = deep.open()?;
        gate.commit(&group(0, READINGS), READINGS)?;
        Ok(gate)
    })?;
    gate.close();
    table.at_most("start with a damaged file, up to the first commit", cost.time.as_secs_f64() * 1e3, DAMAGED_START, "ms");

    // As it was before.
    for entry in fs::read_dir(deep.folder.path())? {
        let aside = entry?.path();
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(time) = name.strip_prefix("buffer.db.corrupt-").filter(|time| !time.contains(".sent")) {
            let suffix = time.find('-').map_or("", |at| &time[at..]);
            fs::rename(&aside, path.with_file_name(format!("buffer.db{suffix}")))?;
        }
    }
    write_header(&path, &header)
}

fn write_header(path: &Path, header: &[u8]) -> Outcome<()> {
    File::options().write(true).open(path)?.write_all(header)?;
    Ok(())
}

/// Drains all of it: how long it stands still at most, and what it takes of memory, for the file is given back on the way.
fn rest(table: &Table, deep: &Place) -> Outcome<()> {
    let mut gate = deep.open()?;
    let data = group(0, READINGS);
    let (mut longest, mut told) = (Duration::ZERO, Instant::now());
    let (_, before) = crate::support::machine::resident(std::process::id())?;
    let (mib, started) = (gate.waiting() >> 20, Instant::now());
    while gate.waiting() > FILL_BYTES {
        gate.drain_in_pieces(gate.waiting().saturating_sub(RECORD), RECORD)?;
        let commit = Instant::now();
        gate.commit(&data, READINGS)?;
        longest = longest.max(commit.elapsed());
        if told.elapsed() >= Duration::from_secs(10) {
            println!("  … {} of {mib} MiB are left", gate.waiting() >> 20);
            told = Instant::now();
        }
    }
    let rate = mib as f64 / started.elapsed().as_secs_f64();
    let (_, most) = crate::support::machine::resident(std::process::id())?;
    gate.close();
    let left = fs::metadata(deep.folder.path().join("buffer.db"))?.len();
    table.note("drained to its end, an append after each record", format!("{rate:.0} MiB/s"));
    table.at_most("  longest append meanwhile", longest.as_secs_f64() * 1e3, START, "ms");
    table.at_most(
        "  memory that it took at most beyond what it had",
        most.saturating_sub(before) as f64 / f64::from(1 << 20),
        16.0,
        "MiB",
    );
    table.at_most("  what is left of the file", left as f64 / f64::from(1 << 20), 64.0, "MiB");
    Ok(())
}
