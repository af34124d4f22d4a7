//! A child process that a test depends on.
//!
//! Invariant: it is killed when its handle is dropped, and everything that it printed is still known when something went wrong.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::within;

/// A running program.
pub struct Part {
    name: String,
    child: Child,
    /// What it prints.
    pub out: Lines,
    /// What it logs.
    pub err: Lines,
}

impl Part {
    /// Starts `command`, without an input.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let started = command.spawn();
        let mut child = started.unwrap_or_else(|e| panic!("{name} does not start: {e}; run `make tools` once"));
        let out = Lines::of(child.stdout.take().expect("it is piped"));
        let err = Lines::of(child.stderr.take().expect("it is piped"));
        Self { name, child, out, err }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end.
    pub async fn ends(&mut self) -> ExitStatus {
        let (name, err) = (&self.name, &self.err);
        within(format_args!("{name} ends"), || err.all(), self.child.wait()).await.expect("it is our child")
    }

    /// Sends it a signal; nothing when it is gone already.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            kill_process(id, signal).unwrap_or_else(|e| panic!("{} can't be sent {signal:?}: {e}", self.name));
        }
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ends().await
    }

    /// Stops it where it is (SIGKILL), and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ends().await;
    }
}

/// The lines that came out of a pipe so far.
#[derive(Clone)]
pub struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    fn of(pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (publish, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut incoming = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = incoming.next_line().await {
                publish.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Self(lines)
    }

    /// Waits for a line that contains `text`, a past one included.
    pub async fn line_with(&self, text: &str) -> String {
        let mut lines = self.0.clone();
        let holds = |line: &&String| line.contains(text);
        let seen = lines.wait_for(|lines| lines.iter().any(|line| holds(&line)));
        let seen = within(format_args!("a line with {text:?}"), || self.all(), seen).await;
        let seen = seen.unwrap_or_else(|_| panic!("it ended without a line with {text:?}; it said: {}", self.all()));
        seen.iter().find(holds).expect("it is what was waited for").clone()
    }

    /// Waits until so many lines came out.
    pub async fn reaches(&self, least: usize) {
        let mut lines = self.0.clone();
        let saw = || format!("{} lines", self.0.borrow().len());
        let _closed = within(format_args!("{least} lines"), saw, lines.wait_for(|lines| lines.len() >= least)).await;
    }

    /// Waits until the pipe is closed, then gives everything that came out of it.
    pub async fn to_the_end(&self) -> String {
        let mut lines = self.0.clone();
        let _closed = within("the pipe closes", || self.all(), lines.wait_for(|_| false)).await;
        self.all()
    }

    /// Everything so far.
    pub fn all(&self) -> String {
        self.0.borrow().join("\n")
    }
}
