//! The agent: the `headwater` binary as a process, or its configuration for a run in this one.

use std::{
    fs::{self, File, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Outcome, cloud::STREAM, machine};

/// What differs from figure to figure.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The broker's port on 127.0.0.1.
    pub broker: u16,
    /// The endpoint's URL.
    pub url: &'a str,
    /// `raw`, `cbor` or `json`.
    pub encoding: &'a str,
    /// The longest that a reading stays in memory only.
    pub hold: &'a str,
    /// Lanes of the stream.
    pub lanes: u16,
    /// What the broker allows in flight.
    pub window: usize,
}

/// Where the endpoint's root certificate lies in `folder`.
pub fn ca(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// A secret key that nobody checks, in `folder`.
pub fn secret(folder: &Path) -> Outcome<PathBuf> {
    let secret = folder.join("secret");
    fs::write(&secret, "secret")?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    Ok(secret)
}

/// The configuration for a run that keeps its state in `folder`.
pub fn configuration(folder: &Path, setup: &Setup) -> Outcome<String> {
    let secret = secret(folder)?;
    let Setup { broker, url, encoding, hold, lanes, window } = setup;
    let (ca, folder, secret) = (ca(folder), folder.display(), secret.display());
    let ca = if ca.exists() { format!("ca = \"{}\"", ca.display()) } else { String::new() };
    Ok(format!(
        r#"
[device]
id = "bench-gateway"
state_dir = "{folder}/state"
socket = "{folder}/socket"

[sources.broker]
kind = "mqtt"
url = "mqtt://127.0.0.1:{broker}"
topics = ["plant/#"]
window = {window}

[streams.readings]
destination = "cloud"
stream = "{STREAM}"
from = ["broker"]
encoding = "{encoding}"
lanes = {lanes}

[destinations.cloud]
kind = "kinesis"
region = "eu-west-1"
endpoint = "{url}"
{ca}
credentials = {{ kind = "static", access_key_id = "bench", secret_access_key_file = "{secret}" }}

[buffer]
hold = "{hold}"

[http]
listen = "off"
"#
    ))
}

/// The process; it is killed when this is dropped.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Starts `headwater run`; its log goes to `folder`.
    pub fn start(folder: &Path, setup: &Setup) -> Outcome<Self> {
        Self::of(&measured(), folder, setup)
    }

    /// The same with another program.
    pub fn of(program: &Path, folder: &Path, setup: &Setup) -> Outcome<Self> {
        Ok(Self { child: command(program, folder, setup)?.spawn()? })
    }

    /// The same with these variables in its environment, as systemd does it: returns when it is ready, and says how long that took.
    pub fn ready(folder: &Path, setup: &Setup, variables: &[(&str, &str)]) -> Outcome<(Self, Duration)> {
        let socket = folder.join("notify");
        let _none_yet = fs::remove_file(&socket);
        let systemd = UnixDatagram::bind(&socket)?;
        systemd.set_read_timeout(Some(Duration::from_mins(2)))?;
        let mut command = command(&measured(), folder, setup)?;
        command.env("NOTIFY_SOCKET", &socket).envs(variables.iter().copied());
        let started = Instant::now();
        let agent = Self { child: command.spawn()? };
        let mut told = [0; 4096];
        loop {
            let len = systemd.recv(&mut told).map_err(|error| format!("the agent does not get ready: {error}"))?;
            if String::from_utf8_lossy(&told[..len]).lines().any(|line| line == "READY=1") {
                return Ok((agent, started.elapsed()));
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Outcome<Duration> {
        machine::cpu_of(self.pid())
    }

    /// SIGKILL.
    pub fn power_off(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the agent ended with {status}").into()) }
    }
}

/// The program that is measured.
fn measured() -> PathBuf {
    std::env::var_os("FIGURES_AGENT").map_or_else(|| env!("CARGO_BIN_EXE_headwater").into(), PathBuf::from)
}

fn command(program: &Path, folder: &Path, setup: &Setup) -> Outcome<Command> {
    let config = folder.join("gateway.toml");
    fs::write(&config, configuration(folder, setup)?)?;
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stderr(log);
    Ok(command)
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended before, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
