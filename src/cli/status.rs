//! `headwater status`: asks the running agent over its Unix socket what it is doing.
//!
//! The agent writes the text itself, so an old program and a new agent understand each other.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    time::{MissedTickBehavior, interval, timeout},
};

use super::ConfigArgs;

/// How long an agent may take; one that lives answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows what the running agent is doing, and what is wrong
///
/// Asks the agent over its Unix socket. Exit code 1 when none answers.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:\n  headwater status\n  headwater status --watch\n  headwater status --json | jq .backlog")]
pub struct StatusArgs {
    /// Print JSON, as GET /api/status does; with --watch one line a second
    #[arg(long)]
    pub json: bool,
    /// Show it again every second
    #[arg(long)]
    pub watch: bool,
    /// Where the configuration is, which names the socket.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The agent's socket, instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody listens.
    #[error(
        "no agent answers on {}; start it (`systemctl start headwater`, or `headwater run`), or name its socket with --socket",
        socket.display()
    )]
    NoAgent {
        /// Where we asked.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody may listen, but not to us.
    #[error("we may not ask the agent on {}; use sudo, or join the socket's group", socket.display())]
    Forbidden {
        /// Where we asked.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Connected, and then nothing.
    #[error("the agent on {} does not answer; its log may say why (`journalctl -u headwater`)", socket.display())]
    Silent {
        /// Where we asked.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("the agent on {} broke off its answer; it may be stopping, ask again", socket.display())]
    BrokenOff {
        /// Where we asked.
        socket: PathBuf,
        /// What the connection said.
        #[source]
        source: hyper::Error,
    },
    /// Not an agent, or one of another kind.
    #[error("what listens on {} answers {status}; it is not a headwater agent, name its socket with --socket", socket.display())]
    NotAnAgent {
        /// Where we asked.
        socket: PathBuf,
        /// What it said.
        status: StatusCode,
    },
    /// Standard output.
    #[error("the status can't be written; check where the output goes")]
    Output {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Prints the status of the agent on `socket` to `out`; with `--watch` until the output is closed.
///
/// Errors: as [`StatusError`]. Once `--watch` has seen the agent, its absence is shown and waited out.
pub async fn run(args: &StatusArgs, socket: &Path, mut out: impl Write) -> Result<(), StatusError> {
    let wanted = HeaderValue::from_static(if args.json { "application/json" } else { "text/plain" });
    let mut tick = interval(WATCH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = false;
    loop {
        tick.tick().await;
        let text = match ask(socket, wanted.clone()).await {
            Ok(text) => text,
            Err(error) if seen && !args.json => format!("{error}\n"),
            Err(_) if seen => continue,
            Err(error) => return Err(error),
        };
        seen = args.watch;
        let clear = if args.watch && !args.json { CLEAR } else { "" };
        match writeln!(out, "{clear}{}", text.trim_end()).and_then(|()| out.flush()) {
            Ok(()) if args.watch => {}
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()), // `| head` has seen enough
            Err(source) => return Err(StatusError::Output { source }),
        }
    }
}

async fn ask(socket: &Path, wanted: HeaderValue) -> Result<String, StatusError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => StatusError::Forbidden { socket: socket.to_owned(), source },
        _ => StatusError::NoAgent { socket: socket.to_owned(), source },
    })?;
    let answered = timeout(PATIENCE, get_status(stream, wanted)).await;
    let (status, body) = answered
        .map_err(|_| StatusError::Silent { socket: socket.to_owned() })?
        .map_err(|source| StatusError::BrokenOff { socket: socket.to_owned(), source })?;
    if status != StatusCode::OK {
        return Err(StatusError::NotAnAgent { socket: socket.to_owned(), status });
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn get_status(stream: UnixStream, wanted: HeaderValue) -> Result<(StatusCode, Bytes), hyper::Error> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static("/api/status");
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("headwater"));
    request.headers_mut().insert(header::ACCEPT, wanted);

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection moves only while it is waited for. Where it fails, the answer does too, and says so.
    let (answer, _) = future::join(answer, connection).await;
    answer
}
