//! The command line, one file a command.

pub mod buffer;
pub mod check;
#[cfg(feature = "demo")]
pub mod demo;
mod log;
mod notify;
mod online;
pub mod run;
pub mod show;
pub mod status;
pub mod tail;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;

pub use self::log::Stderr;
use self::{buffer::BufferArgs, check::CheckArgs, run::RunArgs, show::ShowArgs, status::StatusArgs, tail::TailArgs};
use crate::{
    config::{self, Files, Loaded},
    status::with_causes,
};

/// Exit code when the buffer is in use by another process.
pub const IN_USE: u8 = 3;

/// Carries readings from MQTT and serial devices to Amazon Kinesis, across outages of days
///
/// Readings wait in memory while the link is good, and on the disk while it is not; nothing that was acknowledged to a broker is lost.
/// Begin with `headwater check`.
// A paragraph of its own, which the manual of the package leaves out.
#[cfg_attr(feature = "demo", doc = "\n\n To see it at work, begin with `headwater demo`, which needs nothing but itself.")]
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done; 1 failed; 2 the configuration or the arguments are wrong; 3 the buffer is in use.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "each command's own file says what it does, and `--help` shows that")]
pub enum Command {
    Run(RunArgs),
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    Check(CheckArgs),
    Show(ShowArgs),
    Status(StatusArgs),
    Tail(TailArgs),
    Buffer(BufferArgs),
}

/// Does what the command line says. `env` is the process's environment.
pub async fn main(cli: Cli, env: &[(String, String)]) -> ExitCode {
    let (out, wrong) = (&mut io::stdout(), &mut io::stderr());
    let done = match cli.command {
        Command::Run(args) => run::run(&args, env).await,
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(&args, env).await,
        Command::Check(args) if args.online => online::run(&args, env, out).await,
        Command::Check(args) => check::check(&args, env, out).map_err(Into::into),
        Command::Show(args) => show::show(&args, env, out, wrong).map_err(Into::into),
        Command::Status(args) => ask_status(&args, env).await,
        Command::Tail(args) => read_back(&args, env).await,
        Command::Buffer(args) => buffer::run(&args, env, out).await,
    };
    let code = done.unwrap_or_else(|failed| {
        // A mistake in the configuration is a line that begins with its place, as compilers write it.
        let prefix = if failed.1 == check::WRONG_CONFIGURATION { "" } else { "headwater: " };
        Stderr::of(env).says(Level::ERROR, &format!("{prefix}{}", with_causes(&*failed.0)));
        ExitCode::from(failed.1)
    });
    let _ = out.flush();
    code
}

/// Says what is wrong with the command line; or what it asked for instead of a command: help, or the version.
pub fn misunderstood(error: &clap::Error, env: &[(String, String)]) -> ExitCode {
    match Stderr::of(env) {
        Stderr::Journal if error.use_stderr() => Stderr::Journal.says(Level::ERROR, &error.render().to_string()),
        // In colour, where there is a terminal. Who closed it before the end wanted no more of it.
        _ => drop(error.print()),
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A command failed: why, and its exit code.
#[derive(Debug)]
pub struct Failed(Box<dyn Error>, u8);

/// The exit code for all that may go better the next time.
const FAILED: u8 = 1;

impl<E: Error + 'static> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(Box::new(error), FAILED)
    }
}

impl Failed {
    fn with_code(error: impl Error + 'static, code: u8) -> Self {
        Self(Box::new(error), code)
    }
}

async fn ask_status(args: &StatusArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let socket = match &args.socket {
        Some(socket) => socket.clone(),
        None => load(&args.config, env, Files::Skipped)?.config.device.socket,
    };
    status::run(args, &socket, io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}

async fn read_back(args: &TailArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let config = load(&args.config, env, Files::Skipped)?.config;
    tail::tail(&config, args, stop_on_signals(|| {})?, &mut io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration of this gateway, or every mistake in it.
fn load(args: &ConfigArgs, env: &[(String, String)], files: Files) -> Result<Loaded, Failed> {
    config::load(args.config.as_deref(), args.device.as_deref(), files, env.iter().cloned())
        .map_err(|mistakes| Failed::with_code(mistakes, check::WRONG_CONFIGURATION))
}

/// Where the configuration is.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArgs {
    /// A file, or a fleet's folder; without it HEADWATER_CONFIG, then /etc/headwater
    #[arg(long, value_name = "PATH")]
    pub config: Option<std::path::PathBuf>,

    /// The device of a fleet; without it the one that is called like this host
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,
}

/// Cancelled by SIGTERM and by Ctrl-C. SIGHUP, which would end a process that ignores it, calls `on_hangup`.
fn stop_on_signals(on_hangup: impl Fn() + Send + 'static) -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup: Signal = signal(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => on_hangup(),
            }
        }
        told.cancel();
    });
    Ok(stop)
}
