//! Parts of the soak that are programs of their own: each is run to its end, and shows its lines.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::support::campaign::Tally;

/// The figures of a backlog of so many MiB; a goal that is missed is unexplained.
pub fn deep_backlog(mib: u64) -> Tally {
    let mut cargo = cargo();
    cargo.args(["bench", "--locked", "--bench", "figures", "--", "deep"]).env("FIGURES_BACKLOG_MIB", mib.to_string());
    let (said, mut tally) = run("deep backlog", &mut cargo);
    tally.inject("deep backlog, MiB", mib);
    let missed = said.iter().filter(|line| line.ends_with("MISSED"));
    tally.unexplained.extend(missed.map(|line| format!("deep backlog: {}", line.trim())));
    tally
}

/// Cuts the power at every point of workloads that follow from `seed`.
pub fn crash_points(seed: u64) -> Tally {
    let mut cargo = cargo();
    cargo.args(["test", "--locked", "--lib", "--", "--nocapture", "power_cut_at_any_moment", "a_power_cut_while"]);
    let (said, mut tally) = run("crash points of the buffer", cargo.env("HEADWATER_CRASH_SEED", seed.to_string()));
    // "…: 312 points, 4992 states, 1834 of them different; …"
    let states = |line: &String| line.split(", ").find_map(|part| part.strip_suffix(" states")?.parse::<u64>().ok());
    let states = said.iter().filter_map(states).sum();
    if states == 0 {
        tally.unexplained.push("crash points of the buffer: none was tried".into());
    }
    tally.inject("buffer: states that a power cut can leave", states);
    tally
}

/// Random bytes for every decoder, for so many seconds each.
pub fn fuzz(seconds: u64) -> Tally {
    let mut make = Command::new("make");
    make.arg("--no-print-directory").arg("fuzz").env("FUZZ_SECONDS", seconds.to_string());
    let (_, mut tally) = run("fuzz", make.current_dir(env!("CARGO_MANIFEST_DIR")));
    tally.inject("random bytes for each decoder, seconds", seconds);
    tally
}

/// The cargo that runs us.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs it to its end; one that fails is unexplained. Says what it said.
fn run(name: &str, command: &mut Command) -> (Vec<String>, Tally) {
    println!("\n{name}");
    let (mut said, mut tally) = (Vec::new(), Tally::default());
    let ended = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().and_then(|mut child| {
        let out = child.stdout.take().into_iter();
        for line in out.flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
            println!("  {line}");
            said.push(line);
        }
        child.wait()
    });
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => tally.unexplained.push(format!("{name}: {status}")),
        Err(error) => tally.unexplained.push(format!("{name}: {error}")),
    }
    (said, tally)
}
