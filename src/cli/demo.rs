//! `headwater demo`: everything embedded, nothing to install or configure.

use std::process::ExitCode;

use super::{
    Failed,
    log::{LogFormat, start_log},
};
use crate::{
    agent,
    demo::{self, Options, Verdict},
};

/// What is logged unless `HEADWATER_LOG` says otherwise: the demo's own lines tell the rest, and its broker calls a client that says
/// goodbye an error.
const LOG: &str = "warn,rumqttd=off";

/// Shows a whole gateway at work, with nothing to install or configure
///
/// Simulated sensors, a broker, a scale on a serial line, and a local Kinesis endpoint that goes away and comes back. One line a
/// second says what the agent does meanwhile.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Port of the page on 127.0.0.1; by default 8470, or any free one when that is taken
    #[arg(long)]
    pub port: Option<u16>,

    /// Stop after so many seconds; without it the demo runs until Ctrl-C. Then it checks that every reading arrived exactly once and
    /// in order, and exits 0 or 1; who presses Ctrl-C again does not wait for that
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub seconds: Option<u64>,
}

/// Runs the demo; the exit code is its verdict.
pub async fn demo(args: &DemoArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let mut env = env.to_vec();
    env.push(("HEADWATER_LOG".into(), LOG.into())); // the first of a name counts
    start_log(LogFormat::Text, &env);
    match demo::run(Options { port: args.port, seconds: args.seconds }, agent::run).await? {
        Verdict::Passed | Verdict::Stopped => Ok(ExitCode::SUCCESS),
        Verdict::Failed => Ok(ExitCode::FAILURE),
    }
}
