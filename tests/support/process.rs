//! The `headwater` binary, as an operator or a power cut meets it.
//!
//! Invariant: configuration and state stay in one temp dir through every stop and start, and the developer's own environment has no
//! say in what the agent does.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use headwater::cli::status::{self, StatusArgs};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::UnixDatagram, process::Command};

use super::{DEADLINE, clock::WallClock, eventually_within, library, part::Part, within};

/// A variable with the words of a command that is tested in place of this build's binary: `make emulated` sets it.
pub const UNDER_TEST: &str = "HEADWATER_UNDER_TEST";

/// An installed agent, running or not.
pub struct Headwater {
    dir: TempDir,
    /// What it lives by, where that is not the machine's own.
    clock: Option<WallClock>,
    /// Where it tells what it tells systemd.
    systemd: Option<UnixDatagram>,
    running: Option<Part>,
    last_log: String,
    /// What it is started with, in front of it.
    prefix: Vec<String>,
    /// Variables of its environment; none: left out.
    variables: Vec<(String, Option<String>)>,
}

/// What the agent says of itself, as `GET /api/status` gives it.
#[derive(Clone, Debug)]
pub struct Picture(Value);

impl Picture {
    /// The number that this JSON pointer leads to; 0 where there is none.
    pub fn count(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The sum of what all lanes of a stream count, such as `retries`.
    pub fn of_lanes(&self, stream: &str, what: &str) -> u64 {
        let lanes = self.0.pointer(&format!("/streams/{stream}/lanes")).and_then(Value::as_array);
        lanes.into_iter().flatten().filter_map(|lane| lane[what].as_u64()).sum()
    }

    /// The text that this JSON pointer leads to; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether this JSON pointer leads to a number.
    pub fn holds_a(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).is_some_and(Value::is_number)
    }

    /// Whether what this JSON pointer leads to is true.
    pub fn holds(&self, pointer: &str) -> bool {
        self.0.pointer(pointer) == Some(&Value::Bool(true))
    }

    /// What is wrong and what to do, one line a problem.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.0["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
        problems.iter().map(|problem| format!("{}; {}", problem["what"], problem["do"])).collect()
    }

    /// Checks that every reading is in exactly one column, in each stream and in all.
    pub fn balances(&self) {
        let total = |column: &Value| match column {
            Value::Object(reasons) => reasons.values().filter_map(Value::as_u64).sum(),
            count => count.as_u64().unwrap_or_default(),
        };
        let streams = self.0["streams"].as_object().into_iter().flat_map(|streams| streams.values());
        for ledger in streams.map(|stream| &stream["ledger"]).chain([&self.0["ledger"]]) {
            let columns: u64 = ["delivered", "buffered", "dropped", "rejected"].iter().map(|name| total(&ledger[name])).sum();
            assert_eq!(total(&ledger["received"]), columns, "{ledger}");
        }
    }
}

impl Headwater {
    /// Puts `config` into a new temp dir, for which it may write `{dir}`.
    pub fn configured(config: &str) -> Self {
        let dir = TempDir::new().expect("a temp dir can be made");
        let headwater = Self {
            dir,
            clock: None,
            systemd: None,
            running: None,
            last_log: String::new(),
            prefix: Vec::new(),
            variables: Vec::new(),
        };
        headwater.configure(config);
        headwater
    }

    /// From the next start on it lives by a clock that the test sets.
    pub fn gets_a_clock(&mut self) {
        self.clock = Some(WallClock::new(self.dir.path()));
    }

    /// From the next start on it is started as systemd does, and this test is told what systemd would be.
    pub fn is_started_by_systemd(&mut self) {
        self.systemd = Some(UnixDatagram::bind(self.dir.path().join("notify")).expect("the temp dir can be written"));
    }

    /// Waits until systemd has been told `text`; all that it was told at that moment.
    pub async fn tells_systemd(&self, text: &str) -> String {
        let socket = self.systemd.as_ref().expect("it is started by systemd");
        let last = Cell::new(String::new());
        let saw = || format!("{:?}; {}", last.take(), self.log());
        let told = async {
            let mut told = vec![0; 4096];
            loop {
                let len = socket.recv(&mut told).await.expect("it is bound");
                let news = String::from_utf8_lossy(&told[..len]).into_owned();
                if news.contains(text) {
                    return news;
                }
                last.set(news);
            }
        };
        within(format_args!("systemd is told {text:?}"), saw, told).await
    }

    /// From the next start on it is started by another program.
    pub fn is_started_by(&mut self, prefix: Vec<String>) {
        self.prefix = prefix;
    }

    /// From the next start on it can be kept from writing to files; see [`Self::cannot_write`].
    pub fn lives_on_a_frail_disk(&mut self) {
        // Who writes beyond its limit is killed, unless whoever started it would not hear of that.
        self.is_started_by(["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned).to_vec());
    }

    /// From now on each of its writes to a file fails, and nothing else does: as on a disk with I/O errors, or one that is read-only.
    pub fn cannot_write(&self) {
        self.may_write(Some(0));
    }

    /// The disk is well again.
    pub fn can_write(&self) {
        self.may_write(None);
    }

    fn may_write(&self, bytes: Option<u64>) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(id, Resource::Fsize, limit).expect("it is ours, and the limit below the hard one");
    }

    /// From the next start on it has this variable in its environment, or has it no longer.
    pub fn finds(&mut self, name: &str, value: Option<&str>) {
        self.variables.push((name.to_owned(), value.map(str::to_owned)));
    }

    /// From the next start on this library, whose source is in this repository, stands between it and the C library.
    pub fn lives_behind(&mut self, source: &str) {
        let between = self.dir().join("between.so");
        library(source, &between);
        self.finds("LD_PRELOAD", Some(&between.to_string_lossy()));
    }

    /// See [`Self::gets_a_clock`].
    pub fn clock(&self) -> &WallClock {
        self.clock.as_ref().expect("it lives by a clock of the test")
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
        let mut command = command_behind(&self.prefix);
        if let Some(clock) = &self.clock {
            clock.put_into(&mut command);
        }
        if self.systemd.is_some() {
            command.env("NOTIFY_SOCKET", self.dir.path().join("notify")).env("WATCHDOG_USEC", "200000");
        }
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.running = Some(Part::start("headwater", command.arg("run").arg("--config").arg(self.config())));
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

    /// Starts `headwater tail` with the same configuration, from the oldest reading of `stream` on.
    pub fn tails(&self, stream: &str) -> Part {
        Part::start("tail", command().args(["tail", stream, "--from", "oldest", "--config"]).arg(self.config()))
    }

    /// SIGSTOP: time goes by without it.
    pub fn freezes(&self) {
        self.part().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaws(&self) {
        self.part().signal(Signal::CONT);
    }

    /// SIGTERM; see also [`Self::stops`].
    pub fn terminates(&self) {
        self.part().signal(Signal::TERM);
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.part().signal(Signal::HUP);
    }

    /// What it says of itself, if it answers.
    pub async fn try_status(&self) -> Result<Picture, String> {
        let args = StatusArgs { json: true, ..StatusArgs::default() };
        let mut out = Vec::new();
        let asked = status::run(&args, &self.dir().join("headwater.sock"), &mut out).await;
        asked.map_err(|e| e.to_string())?;
        serde_json::from_slice(&out).map(Picture).map_err(|e| e.to_string())
    }

    /// What it says of itself, as soon as it answers.
    pub async fn status(&self) -> Picture {
        self.shows("it answers", |_| true).await
    }

    /// Waits until it shows what is wanted.
    pub async fn shows(&self, claim: &str, wanted: impl Fn(&Picture) -> bool) -> Picture {
        self.shows_within(DEADLINE, claim, wanted).await
    }

    /// The same for what takes longer by design.
    pub async fn shows_within(&self, deadline: Duration, claim: &str, wanted: impl Fn(&Picture) -> bool) -> Picture {
        eventually_within(deadline, format_args!("the agent shows that {claim}"), async || {
            let status = self.try_status().await?;
            if wanted(&status) { Ok(status) } else { Err(status.0.to_string()) }
        })
        .await
    }

    /// SIGTERM. Checks that it ends with success, which it does only within its own deadline.
    pub async fn stops(&mut self) {
        self.part().signal(Signal::TERM);
        let (status, log) = self.ends().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }

    /// SIGKILL: the power of the process is cut. What the kernel had in its caches survives this, as it does not survive a real cut.
    pub async fn power_off(&mut self) {
        let mut part = self.running.take().expect("headwater runs");
        part.kill().await;
        self.last_log = part.err.all();
    }

    /// Waits until it ends by itself; how, and what it had logged.
    pub async fn ends(&mut self) -> (ExitStatus, String) {
        let mut part = self.running.take().expect("headwater runs");
        let status = part.ends().await;
        self.last_log = part.err.to_the_end().await;
        (status, self.last_log.clone())
    }

    /// What systemd does: starts it again when it has ended.
    pub fn is_kept_running(&mut self) {
        if let Some(part) = self.running.take_if(|part| part.ended().is_some()) {
            self.last_log = part.err.all();
            self.start();
        }
    }

    /// The log of this run so far, or of the last one.
    pub fn last_log(&self) -> String {
        self.running.as_ref().map_or_else(|| self.last_log.clone(), |part| part.err.all())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.part().id()
    }

    /// Starts `headwater` with these arguments, its configuration behind them.
    pub fn does<'a>(&self, args: impl IntoIterator<Item = &'a std::ffi::OsStr>) -> Part {
        Part::start("headwater", command().args(args).arg("--config").arg(self.config()))
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.part().id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kib << 10
    }

    /// Time that processors have given it, to the hundredth of a second.
    pub fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.part().id())).expect("it runs");
        // What the program is called may hold anything, in brackets. Source: proc_pid_stat(5).
        let fields = stat.rsplit_once(") ").expect("it has a name").1.split(' ');
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("it is a number")).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
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

/// `headwater`, and nothing of the developer's own environment.
pub fn command() -> Command {
    command_behind(&[])
}

/// What is tested: the binary of this build, or that of a board behind its emulator.
fn under_test() -> Vec<String> {
    let other = std::env::var(UNDER_TEST).ok();
    let ours = || vec![env!("CARGO_BIN_EXE_headwater").to_owned()];
    other.map_or_else(ours, |words| words.split_whitespace().map(str::to_owned).collect())
}

fn command_behind(prefix: &[String]) -> Command {
    let words = [prefix, &under_test()].concat();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
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
