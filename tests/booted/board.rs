//! A board: a Debian in a container that boots, with a field south of it and a cloud north of it.
//!
//! Invariant: what was written before its power was cut is there after it; nothing of it is left when its handle is dropped.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::support::{
    consumer::Repeats,
    eventually_within,
    gateway::{Gateway, Plan},
    library,
    part::Part,
};

/// Far beyond what a boot, an installation or a stop takes on a busy machine: who reaches it hangs.
const PATIENCE: Duration = Duration::from_mins(3);
/// Where the agent's socket is on the board.
const SOCKET: &str = "run/headwater/headwater.sock";

/// What `make test-systemd` has made.
#[derive(Clone, Copy, Debug)]
pub enum Package {
    /// Of this source.
    Now,
    /// Of an earlier commit, with a lower version.
    Earlier,
}

/// What the board is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// This machine's.
    Shared,
    /// None but its own loopback.
    Nothing,
}

/// A board, switched on or off.
pub struct Board {
    /// Its field and its cloud; the agent of it is the one on the board.
    pub gateway: Gateway,
    /// What was written on the board.
    card: TempDir,
    running: Option<Machine>,
}

struct Machine {
    container: Part,
    /// Its first process, as this machine counts.
    first: u32,
}

/// Settings for an agent on a board.
pub fn settings() -> Plan {
    let plan = Gateway::new().set("device.state_dir", "/var/lib/headwater").set("device.socket", format!("/{SOCKET}"));
    plan.set("device.clock_synchronized", "/run/systemd/timesync/synchronized")
        .set("destinations.cloud.ca", "/etc/headwater/office.pem")
}

impl Board {
    /// A board that has booted, with this package on it and nothing configured.
    pub async fn with(package: Package, plan: Plan) -> Self {
        Self::on(Network::Shared, package, plan).await
    }

    /// The same, connected to something else.
    pub async fn on(network: Network, package: Package, plan: Plan) -> Self {
        let mut board = Self { gateway: plan.installs().await, card: TempDir::new().unwrap(), running: None };
        board.boots(network).await;
        board.installs(package).await;
        board
    }

    /// The same, configured, and with the agent running and listening to the broker.
    pub async fn running(package: Package, plan: Plan) -> Self {
        let board = Self::with(package, plan).await;
        board.is_configured();
        board.does("systemctl start headwater").await;
        board.gateway.field.is_listened_to().await;
        board
    }

    /// Switches it on, and waits until systemd has started everything.
    pub async fn boots(&mut self, network: Network) {
        let mut command = Command::new("sh");
        command.arg(repository("tests/booted/boot.sh")).arg(repository("target/booted/debian")).arg(self.card.path());
        command.arg(if network == Network::Shared { "shared" } else { "none" });
        let container = Part::start("the board", &mut command);
        let first = eventually_within(PATIENCE, "the board has a first process", async || {
            first_process_of(container.id()).ok_or_else(|| format!("{}\n{}", container.out.all(), container.err.all()))
        })
        .await;
        self.running = Some(Machine { container, first });
        eventually_within(PATIENCE, "systemd has started everything", async || {
            let (_, says) = self.tries("systemctl is-system-running").await;
            if says.trim() == "running" { Ok(()) } else { Err(format!("{says}; {}", self.tries("systemctl --failed").await.1)) }
        })
        .await;
        // What asks an agent for its status finds the one on this board.
        let socket = self.gateway.agent.dir().join("headwater.sock");
        let _not_there = fs::remove_file(&socket);
        symlink(self.path(SOCKET), socket).unwrap();
    }

    /// Switches it off in order, as `systemctl poweroff` does.
    pub async fn shuts_down(&mut self) {
        let mut machine = self.running.take().expect("the board is on");
        machine.container.signal(Signal::TERM);
        let ends = timeout(PATIENCE, async {
            while machine.container.ended().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        ends.await.unwrap_or_else(|_| panic!("the board does not shut down: {}", machine.container.out.all()));
    }

    /// Cuts its power: everything that runs on it is gone at once.
    pub async fn loses_power(&mut self) {
        let mut machine = self.running.take().expect("the board is on");
        kill(machine.first, Signal::KILL);
        machine.container.ends().await;
    }

    /// Installs a package as its user does, with apt; an older one in place of a newer, too.
    pub async fn installs(&self, package: Package) {
        let name = match package {
            Package::Now => "now.deb",
            Package::Earlier => "older.deb",
        };
        fs::copy(repository("target/booted").join(name), self.path("root").join(name)).unwrap();
        self.does(&format!("apt-get install --yes --quiet --allow-downgrades /root/{name}")).await;
    }

    /// Puts the configuration, and the authority that it names, where the package says.
    pub fn has_settings(&self) {
        fs::copy(self.gateway.agent.config(), self.path("etc/headwater/gateway.toml")).unwrap();
        fs::copy(self.gateway.agent.dir().join("office.pem"), self.path("etc/headwater/office.pem")).unwrap();
    }

    /// The same, and credentials.
    pub fn is_configured(&self) {
        self.has_settings();
        self.writes("etc/headwater/environment", "AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\n");
    }

    /// Gives the unit a drop-in, for its next start.
    pub async fn has_drop_in(&self, text: &str) {
        fs::create_dir_all(self.path("etc/systemd/system/headwater.service.d")).unwrap();
        self.writes("etc/systemd/system/headwater.service.d/test.conf", text);
        self.does("systemctl daemon-reload").await;
    }

    /// Puts a library there, whose source is in this repository.
    pub fn has_library(&self, path: &str, source: &str) {
        library(source, &self.path(path));
    }

    /// Writes a file on it.
    pub fn writes(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    /// What a file on it says.
    pub fn reads(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A path on it, as this machine sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.machine().first.to_string()).join("root").join(path)
    }

    /// Runs a command line as root on it, which has to succeed; what it printed.
    pub async fn does(&self, line: &str) -> String {
        let (success, said) = self.tries(line).await;
        assert!(success, "{line}: {said}");
        said
    }

    /// Runs a command line as root on it; whether it succeeded, and what it printed.
    pub async fn tries(&self, line: &str) -> (bool, String) {
        let mut command = Command::new("nsenter");
        command.args(enter(self.machine().first)).args(["sh", "-c", line]).stdin(Stdio::null()).kill_on_drop(true);
        let ran = timeout(PATIENCE, command.output()).await;
        let Output { status, stdout, stderr } = ran.unwrap_or_else(|_| panic!("{line} does not end")).unwrap();
        (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }

    /// What systemd says of a property of the agent's unit.
    pub async fn unit(&self, property: &str) -> String {
        self.unit_of("headwater", property).await
    }

    /// What systemd says of a property of a unit.
    pub async fn unit_of(&self, unit: &str, property: &str) -> String {
        self.does(&format!("systemctl show --value --property {property} {unit}")).await.trim().to_owned()
    }

    /// Waits until a property of the agent's unit is what it should be.
    pub async fn shows(&self, property: &str, wanted: impl Fn(&str) -> bool) {
        eventually_within(PATIENCE, format_args!("{property} is as it should be"), async || {
            let value = self.unit(property).await;
            if wanted(&value) { Ok(()) } else { Err(value) }
        })
        .await;
    }

    /// What systemd and the agent have written to the journal about the agent, on this board's present boot.
    pub async fn journal(&self) -> String {
        self.does("journalctl --sync && journalctl --boot --no-pager --output cat --unit 'headwater*'").await
    }

    /// What of that, or of another unit, has the priority of an error.
    pub async fn errors(&self, unit: &str) -> String {
        let line =
            format!("journalctl --sync && journalctl --boot --no-pager --output cat --priority err _SYSTEMD_UNIT={unit}.service");
        self.does(&line).await
    }

    /// Waits until the journal has something that the agent says.
    pub async fn says(&self, wanted: &str) {
        eventually_within(PATIENCE, format_args!("it says {wanted:?}"), async || {
            let journal = self.journal().await;
            if journal.contains(wanted) { Ok(()) } else { Err(journal) }
        })
        .await;
    }

    /// Waits until the cloud has everything that was sent, checks that nothing is missing or out of order, and says what came twice.
    pub async fn everything_arrives(&mut self) -> Repeats {
        self.gateway.everything_arrives().await
    }

    fn machine(&self) -> &Machine {
        self.running.as_ref().expect("the board is on")
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let Some(machine) = &self.running else { return };
        if std::thread::panicking() {
            let mut journal = std::process::Command::new("nsenter");
            let said = journal.args(enter(machine.first)).args(["journalctl", "--boot", "--no-pager", "--lines", "200"]).output();
            let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("the board's journal: {}", said.unwrap_or_else(|error| error.to_string()));
        }
        kill(machine.first, Signal::KILL);
    }
}

/// What `nsenter` is told to run a program on the board, with nothing of this machine's environment.
fn enter(first: u32) -> [String; 7] {
    let target = format!("--target={first}");
    [&target, "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        .map(str::to_owned)
}

/// The process that is the first one in its container: the child that has number 1 there.
fn first_process_of(container: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{container}/task/{container}/children")).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find(|child: &u32| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1 && numbers.split_whitespace().last() == Some("1"))
    })
}

fn kill(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("it is a process");
    // It may have ended by itself, which is as good.
    let _gone = kill_process(process, signal);
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is missing; run `make test-systemd`", path.display());
    path
}
