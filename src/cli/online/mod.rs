//! `headwater check --online`: everything that the agent will need, tried out from this gateway, a line each.
//!
//! Invariant: nothing is left behind and nobody is disturbed: no reading, no session, no lock, no file; so it does beside a running
//! agent too.

mod cloud;
mod gateway;
mod sources;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use super::{
    Failed,
    check::{CheckArgs, WRONG_CONFIGURATION},
};
use crate::{
    clock::{Boot, Clock},
    config::{self, CREDENTIALS_FOLDER, Config, DestinationConfig, Files},
    file::Folder,
    status::what_and_remedy,
};

/// Where a file is one that systemd gives to the service, and to nobody else.
const AS_THE_SERVICE: &str = "systemd gives this file to the service alone; to have it here, run systemd-run --pipe --wait \
                              -p User=headwater -p LoadCredential=NAME:FILE headwater check --online, with every LoadCredential= \
                              of the unit";

/// How it is with one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Right,
    /// Worth knowing, and no reason to do anything.
    Note,
    /// The agent will not get by.
    Wrong,
}

/// Writes the lines, as they come, and keeps the worst of them.
struct Report<'a> {
    out: &'a mut dyn Write,
    wrong: usize,
}

impl Report<'_> {
    fn line(&mut self, verdict: Verdict, part: &str, text: &str) -> io::Result<()> {
        let word = match verdict {
            Verdict::Right => "ok",
            Verdict::Note => "note",
            Verdict::Wrong => "WRONG",
        };
        self.wrong += usize::from(verdict == Verdict::Wrong);
        writeln!(self.out, "{word:<6}{part:<14} {text}")?;
        self.out.flush()
    }

    fn right(&mut self, part: &str, text: impl AsRef<str>) -> io::Result<()> {
        self.line(Verdict::Right, part, text.as_ref())
    }

    fn note(&mut self, part: &str, text: impl AsRef<str>) -> io::Result<()> {
        self.line(Verdict::Note, part, text.as_ref())
    }

    /// `what` is wrong; and what to do.
    fn wrong(&mut self, part: &str, what: impl AsRef<str>, remedy: &str) -> io::Result<()> {
        let what = what.as_ref();
        let remedy = if what.contains(CREDENTIALS_FOLDER) { AS_THE_SERVICE } else { remedy };
        self.line(Verdict::Wrong, part, &format!("{what}; {remedy}"))
    }

    /// An error whose text says what to do.
    fn error(&mut self, part: &str, error: &(dyn std::error::Error + 'static)) -> io::Result<()> {
        let (what, remedy) = what_and_remedy(error);
        self.wrong(part, what, &remedy)
    }
}

/// Tries everything out.
pub(super) async fn run(args: &CheckArgs, env: &[(String, String)], out: &mut dyn Write) -> Result<ExitCode, Failed> {
    let path = match &args.paths[..] {
        [] => None,
        [path] => Some(path.as_path()),
        _ => return Err(Failed::with_code(Several, WRONG_CONFIGURATION)),
    };
    let loaded = config::load(path, args.device.as_deref(), Files::Checked, env.iter().cloned());
    let loaded = loaded.map_err(|mistakes| Failed::with_code(mistakes, WRONG_CONFIGURATION))?;
    for warning in &loaded.warnings {
        writeln!(out, "{}: warning: {}", warning.place, warning.text)?;
    }
    let mut report = Report { out, wrong: 0 };
    try_out(&loaded.config, args.patience, &mut report).await?;
    Ok(if report.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, thiserror::Error)]
#[error("--online looks at one gateway's configuration; name one file, or a fleet's folder and --device")]
struct Several;

async fn try_out(config: &Config, patience: Duration, report: &mut Report<'_>) -> io::Result<()> {
    gateway::disk(config, report)?;
    let clock = Clock::new(config.device.clock_synchronized.clone(), Boot::default());
    gateway::clock(clock.belief().trust, config, report)?;
    for (name, source) in config.sources.iter().filter(|(_, source)| source.enabled()) {
        sources::try_out(name, source, report).await?;
    }
    for (name, destination) in &config.destinations {
        let streams = config.streams.values().filter(|stream| stream.enabled && stream.destination == *name);
        let streams: Vec<&str> = streams.map(|stream| stream.stream.as_str()).collect();
        let cloud = cloud::Cloud { name, device: &config.device.id, streams: &streams, patience };
        match destination {
            DestinationConfig::Kinesis(kinesis) => cloud.kinesis(kinesis, report).await?,
            DestinationConfig::Firehose(firehose) => cloud.firehose(firehose, report).await?,
            DestinationConfig::File(file) if !streams.is_empty() => {
                gateway::folder(name, &Folder::new(file, &config.device.id), report)?;
            }
            DestinationConfig::File(_) => {}
        }
    }
    Ok(())
}
