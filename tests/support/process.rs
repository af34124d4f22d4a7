//! The `headwater` binary, as an operator or a power cut meets it.
//!
//! Invariant: configuration and state stay in one temp dir through every stop and start, and the developer's own environment has no
//! say in what the agent does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use super::{part::Part, within};

/// An installed agent, running or not.
pub struct Headwater {
    dir: TempDir,
    running: Option<Part>,
}

impl Headwater {
    /// Puts `config` into a new temp dir, for which it may write `{dir}`.
    pub fn configured(config: &str) -> Self {
        let headwater = Self { dir: TempDir::new().expect("a temp dir can be made"), running: None };
        headwater.configure(config);
        headwater
    }

    /// Replaces the configuration; the agent reads it at its next start.
    pub fn configure(&self, config: &str) {
        let config = config.replace("{dir}", &self.dir.path().display().to_string());
        fs::write(self.config(), config).expect("the temp dir can be written");
    }

    /// Where configuration and state are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    /// Starts `headwater run`. What it is ready for is said by its interfaces, so wait for those.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "headwater runs already");
        self.running = Some(Part::start("headwater", command().arg("run").arg("--config").arg(self.config())));
    }

    /// Starts it, and waits until it says a line with `text` in its log.
    pub async fn start_until(&mut self, text: &str) {
        self.start();
        self.part().err.line_with(text).await;
    }

    /// Waits for a line with `text` in the log of this run.
    pub async fn logs(&self, text: &str) -> String {
        self.part().err.line_with(text).await
    }

    /// The log of this run so far.
    pub fn log(&self) -> String {
        self.part().err.all()
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.part().signal(Signal::HUP);
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.running.take().expect("headwater runs").terminate().await
    }

    /// SIGKILL: the power of the process is cut. What the kernel had in its caches survives this, as it does not survive a real cut.
    pub async fn power_off(&mut self) {
        self.running.take().expect("headwater runs").kill().await;
    }

    /// Waits until it ends by itself; how, and what it had logged.
    pub async fn ends(&mut self) -> (ExitStatus, String) {
        let mut part = self.running.take().expect("headwater runs");
        let status = part.ends().await;
        (status, part.err.to_the_end().await)
    }

    fn part(&self) -> &Part {
        self.running.as_ref().expect("headwater runs")
    }
}

/// Runs a command that ends by itself, such as `check`, to its end.
pub async fn headwater(args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Output {
    let mut command = command();
    let run = command.args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    within("headwater ends", || String::from("it still runs"), run).await.expect("headwater starts")
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HEADWATER") || text.starts_with("AWS_") {
            command.env_remove(&name);
        }
    }
    // Two paths that do not exist keep the files of the developer's own home out as well.
    command
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/nonexistent/config")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials");
    command
}
