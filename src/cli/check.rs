//! `headwater check`: every mistake in a configuration at once, before a gateway finds it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use crate::{
    config::{self, Files, Report},
    units::parse_duration,
};

/// Exit code of every command when the configuration is wrong.
pub const WRONG_CONFIGURATION: u8 = 2;

/// Finds every mistake in a configuration, and says what to write instead
///
/// Reads one file, or a fleet's folder with every device in it, and prints a line for each mistake: FILE:LINE, what is wrong, what
/// to write. Nothing is started and nothing is sent, so it does on a laptop as well as on the gateway.
///
/// With --online it goes on, on the gateway, and tries what the agent will need, beside a running agent too: disk, clock, each broker
/// and serial port; of each destination the name, its addresses and whether they are private, TLS, credentials, and each stream with a
/// small record that is not stored (PutRecords with DryRun). The first stream that takes one gets one of full size as well, at each
/// endpoint, which also finds a VPN that swallows large packets. A line for each, with what to do where it fails.
///
/// Exit code: 0 when all is right, warnings included; 2 when there are mistakes; 1 when something that was tried fails.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater check config/gateway.toml\n  headwater check config/fleet/\n  headwater check           # what this gateway would run\n  headwater check --online  # and whether that will work"
)]
pub struct CheckArgs {
    /// Files or fleet folders; without any, what `run` would load: HEADWATER_CONFIG, then /etc/headwater
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Also that every certificate, key and password file is there; always so for one gateway's own configuration, without PATH
    #[arg(long)]
    pub files: bool,

    /// Also try what the agent will need, without side effects; for one gateway's configuration
    #[arg(long)]
    pub online: bool,

    /// With --online: the device of a fleet; without it the one that is called like this host
    #[arg(long, value_name = "ID", requires = "online")]
    pub device: Option<String>,

    /// With --online: how long the record of full size may take; 1.4 MB on the wire, or three minutes at 64 kbit/s
    #[arg(long, value_name = "TIME", default_value = "4min", value_parser = parse_duration, requires = "online")]
    pub patience: Duration,
}

/// Writes what is wrong to `out`, or one line for each path that is right.
pub fn check(args: &CheckArgs, env: &[(String, String)], out: &mut dyn Write) -> io::Result<ExitCode> {
    let mut right = true;
    if args.paths.is_empty() {
        let report = config::examine(None, Files::Checked, env.iter().cloned());
        right = write_report("the configuration", &report, out)?;
    }
    let files = if args.files { Files::Checked } else { Files::Skipped };
    for path in &args.paths {
        right &= write_report(&shown(path), &config::examine(Some(path), files, env.iter().cloned()), out)?;
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::from(WRONG_CONFIGURATION) })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn write_report(what: &str, report: &Report, out: &mut dyn Write) -> io::Result<bool> {
    for mistake in &report.mistakes {
        writeln!(out, "{mistake}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "{}: warning: {}", warning.place, warning.text)?;
    }
    if report.mistakes.is_empty() {
        writeln!(out, "{what}: right, {}", report.extent)?;
    }
    Ok(report.mistakes.is_empty())
}
