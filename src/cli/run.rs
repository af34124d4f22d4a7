//! `headwater run`: the daemon.

use std::{io::IsTerminal, process::ExitCode};

use tracing::{info, warn};
use tracing_subscriber::{EnvFilter, fmt};

use super::{ConfigArgs, Failed, IN_USE, check::WRONG_CONFIGURATION, load, stop_on_signals};
use crate::{
    agent::{self, AgentError},
    buffer::BufferError,
    config::Files,
    status::Status,
};

/// Runs the agent: from the sources to the buffer to the stream, until it is told to stop
///
/// SIGTERM or Ctrl-C stops it within 10 s: what was taken is written and acknowledged first. The log goes to stderr;
/// HEADWATER_LOG=debug,rumqttc=warn says how much of it.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater run --config config/gateway.toml\n  headwater run --config config/fleet --device gw-0042"
)]
pub struct RunArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// How to write the log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How to write the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line, for programs
    Json,
}

/// The SDK's HTTP client warns of every error that it cannot name; the drain says the same once, and what to do.
const DEFAULT_LOG: &str = "info,aws_smithy_http_client=error";

/// Runs the agent until it is told to stop.
pub async fn run(args: &RunArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let loaded = load(&args.config, env, Files::Checked)?;
    start_log(args.log_format, env);
    for warning in &loaded.warnings {
        warn!("{}: {}", warning.place, warning.text);
    }
    let stop = stop_on_signals(|| info!("SIGHUP: the configuration is read at the start only; restart to apply a new one"))?;
    match agent::run(loaded.config, Status::default(), stop).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ AgentError::Buffer(BufferError::InUse { .. })) => Err(Failed::with_code(error, IN_USE)),
        Err(error @ AgentError::Destination { .. }) => Err(Failed::with_code(error, WRONG_CONFIGURATION)),
        Err(error) => Err(error.into()),
    }
}

/// Sends `tracing` to stderr. journald adds the time by itself; it says that it reads along by `JOURNAL_STREAM`.
pub fn start_log(format: LogFormat, env: &[(String, String)]) {
    let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let wanted = value("HEADWATER_LOG").unwrap_or(DEFAULT_LOG);
    let filter = EnvFilter::builder().parse(wanted).unwrap_or_else(|error| {
        eprintln!("headwater: HEADWATER_LOG is {wanted:?}, {error}; write for example HEADWATER_LOG=debug,rumqttc=warn");
        EnvFilter::builder().parse_lossy(wanted)
    });
    let journald = value("JOURNAL_STREAM").is_some();
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match (format, journald) {
        (LogFormat::Json, _) => lines.json().init(),
        (LogFormat::Text, true) => lines.without_time().with_ansi(false).init(),
        (LogFormat::Text, false) => lines.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}
