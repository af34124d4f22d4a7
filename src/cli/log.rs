//! Where the log goes, and in which form.

mod journal;
mod panics;
mod stderr;

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use self::journal::Journal;
pub use self::stderr::Stderr;

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

/// Sends `tracing` to the journal, when stderr leads there, and else to stderr; panics too.
pub fn start_log(format: LogFormat, env: &[(String, String)]) {
    let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let wanted = value("HEADWATER_LOG").unwrap_or(DEFAULT_LOG);
    let stderr = Stderr::of(env);
    let filter = EnvFilter::builder().parse(wanted).unwrap_or_else(|error| {
        let text = format!("headwater: HEADWATER_LOG is {wanted:?}, {error}; write for example HEADWATER_LOG=debug,rumqttc=warn");
        stderr.says(Level::WARN, &text);
        EnvFilter::builder().parse_lossy(wanted)
    });
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = tracing_subscriber::registry().with(filter);
    match (format, Journal::behind(stderr)) {
        (LogFormat::Json, _) => log.with(lines.json()).init(),
        (LogFormat::Text, Some(journal)) => log.with(journal).init(),
        (LogFormat::Text, None) => log.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
    }
    panics::are_told(stderr);
}
