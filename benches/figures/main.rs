//! The figures of the README, each beside its goal and, where there is one, beside the raw limit measured in the same run.
//!
//! `make bench` prints all of them; `cargo bench --bench figures -- wear drain` prints some. Broker and endpoint are processes of their
//! own, so that the agent's CPU and memory are its own. CPU time and byte counts are steady on a busy machine; anything per second
//! is worth what the machine is idle.
//!
//! Everything happens in a new temporary folder (`TMPDIR`) and on loopback ports that the kernel found free. `FIGURES_IDLE_SECONDS` is how
//! long a good link is watched for writes, five minutes by default; `FIGURES_AGENT` the agent that is measured: with `make bench` as it is
//! installed, without the demo.

#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]

mod agents;
mod card;
mod deep;
mod drain;
mod memory;
mod path;
mod peers;
mod scenario;
mod support;
mod wear;

use std::{env, process::ExitCode};

use support::{Outcome, cloud, load, machine};

type Figure = (&'static str, fn() -> Outcome<()>);

const FIGURES: [Figure; 9] = [
    ("path", path::measure),
    ("wear", wear::measure),
    ("card", card::measure),
    ("drain", drain::measure),
    ("deep", deep::measure),
    ("scenario", scenario::measure),
    ("memory", memory::measure),
    ("peers", peers::measure),
    ("agents", agents::measure),
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Outcome<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["as", "broker"] => load::serve(),
        ["as", "cloud", rest @ ..] => cloud::serve(rest),
        ["as", "writer", rest @ ..] => wear::write_groups(rest),
        ["as", "victim", rest @ ..] => deep::write_until_killed(rest),
        wanted => {
            if let Some(unknown) = wanted.iter().find(|name| FIGURES.iter().all(|(known, _)| known != *name)) {
                return Err(format!(
                    "there is no figure {unknown}; there are path, wear, card, drain, deep, scenario, memory, peers and agents"
                )
                .into());
            }
            println!("{}", machine::description());
            let mut chosen = FIGURES.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
            chosen.try_for_each(|(_, measure)| measure())
        }
    }
}
