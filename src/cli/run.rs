//! `headwater run`: the daemon.

use std::process::ExitCode;

use tracing::{info, warn};

use super::{
    ConfigArgs, FAILED, Failed, IN_USE, load,
    log::{LogFormat, start_log},
    notify, stop_on_signals,
};
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

/// Runs the agent until it is told to stop.
pub async fn run(args: &RunArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let loaded = match load(&args.config, env, Files::Checked) {
        // Files are put in the place of others while we look: what is missing now may be there at the next start.
        Err(Failed(mistakes, _)) if load(&args.config, env, Files::Skipped).is_ok() => return Err(Failed(mistakes, FAILED)),
        loaded => loaded?,
    };
    start_log(args.log_format, env);
    for warning in &loaded.warnings {
        warn!("{}: {}", warning.place, warning.text);
    }
    let stop = stop_on_signals(|| info!("SIGHUP: the configuration is read at the start only; restart to apply a new one"))?;
    let status = Status::default();
    let agent = agent::run(loaded.config, status.clone(), stop.clone());
    let ended = tokio::select! {
        ended = agent => ended,
        never = notify::tell(&status, &stop, env) => match never {},
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ AgentError::Buffer(BufferError::InUse { .. })) => Err(Failed::with_code(error, IN_USE)),
        Err(error) => Err(error.into()),
    }
}
