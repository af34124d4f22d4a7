//! A real broker, with its state in a folder of its own.

use std::{fmt::Write, net::TcpListener, path::Path, process::Stdio};

use headwater::config::MqttConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::gateway::DEADLINE;

pub struct Mosquitto {
    port: u16,
    folder: TempDir,
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    client_options: Vec<String>,
}

impl Mosquitto {
    pub async fn start() -> Self {
        Self::start_with("allow_anonymous true", tempfile::tempdir().unwrap(), &[]).await
    }

    /// `settings` are lines of its configuration, `client_options` what `mosquitto_pub` needs because of them.
    pub async fn start_with(settings: &str, folder: TempDir, client_options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!("listener {port} 127.0.0.1\n{settings}\npersistence true\nlog_type all\nlog_dest stderr\n");
        // As root it would become the user mosquitto, who can't write here.
        write!(config, "persistence_location {}/\nuser root\n", folder.path().display()).unwrap();
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        let (process, log) = run(folder.path()).await;
        let client_options = client_options.iter().map(ToString::to_string).collect();
        Self { port, folder, process, log, client_options }
    }

    pub fn config(&self, qos: u8) -> MqttConfig {
        MqttConfig { url: format!("mqtt://127.0.0.1:{}", self.port), qos, topics: vec!["plant/#".into()], ..MqttConfig::default() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends with everything saved.
    pub async fn stops(&mut self) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").arg(&pid).status().await.unwrap().success());
        self.process.wait().await.unwrap();
    }

    pub async fn starts(&mut self) {
        (self.process, self.log) = run(self.folder.path()).await;
    }

    pub async fn restarts(&mut self) {
        self.stops().await;
        self.starts().await;
    }

    /// Ends without saving, and starts again.
    pub async fn is_killed_and_restarts(&mut self) {
        self.process.kill().await.unwrap();
        self.starts().await;
    }

    /// Writes its state to disk, so that a kill does not take it.
    pub async fn saves(&mut self) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-USR1", &pid]).status().await.unwrap().success());
        self.logs("Saving in-memory database").await;
        // It saves between two packets, so the answer to this one comes after.
        self.receives("elsewhere", &["saved"]).await;
    }

    /// Loses its state: sessions, subscriptions, messages.
    pub async fn forgets_everything(&mut self) {
        self.process.kill().await.unwrap();
        // There is none when it was killed before it saved anything.
        let _ = std::fs::remove_file(self.folder.path().join("mosquitto.db"));
        self.starts().await;
    }

    /// A sensor publishes these with QoS 2; the broker has them when this returns.
    pub async fn receives(&self, topic: &str, payloads: &[&str]) {
        let mut publisher = self.publisher(topic, "2").arg("-l").stdin(Stdio::piped()).spawn().unwrap();
        let mut lines = payloads.join("\n");
        lines.push('\n');
        publisher.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
        assert!(timeout(DEADLINE, publisher.wait()).await.expect("the broker takes nothing").unwrap().success());
    }

    /// A camera publishes a whole file.
    pub async fn receives_file(&self, topic: &str, bytes: &[u8]) {
        let file = self.folder.path().join("payload");
        std::fs::write(&file, bytes).unwrap();
        assert!(self.publisher(topic, "1").arg("-f").arg(file).status().await.unwrap().success());
    }

    fn publisher(&self, topic: &str, qos: &str) -> Command {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-p", &self.port.to_string(), "-q", qos, "-t", topic]).args(&self.client_options).kill_on_drop(true);
        command
    }

    /// Waits until the broker's log has a line with `what`, and returns it.
    pub async fn logs(&mut self, what: &str) -> String {
        let mut seen = Vec::new();
        let found = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(what) {
                    return line;
                }
                seen.push(line);
            }
            panic!("the broker has ended")
        };
        let found = timeout(DEADLINE, found).await;
        found.unwrap_or_else(|_| panic!("the broker's log has no {what:?}:\n{}", seen.join("\n")))
    }
}

async fn run(folder: &Path) -> (Child, Lines<BufReader<ChildStderr>>) {
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let config = folder.join("mosquitto.conf");
    let mut process =
        Command::new(program).arg("-c").arg(config).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("mosquitto starts");
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    while let Some(line) = log.next_line().await.unwrap() {
        if line.contains(" running") {
            return (process, log);
        }
        assert!(!line.contains("Error"), "mosquitto says: {line}");
    }
    panic!("mosquitto does not start");
}
