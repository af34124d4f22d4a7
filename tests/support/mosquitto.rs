//! The broker in the field: mosquitto, alone on a port of its own.
//!
//! Its settings are mosquitto's own defaults where a test does not ask for others, because those are what gateways meet.
//! Invariant: port and persisted state stay the same through [`Mosquitto::kill`], [`Mosquitto::stop`] and [`Mosquitto::restart`].

use std::{fmt::Write, fs, net::Ipv4Addr, path::Path};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use super::{certificates::Authority, eventually, free_port, in_repository, part::Part};

/// What the broker is asked for.
#[derive(Default)]
pub struct Options {
    settings: String,
    anonymous: Anonymous,
    password: Option<(String, String)>,
    tls: Option<Tls>,
}

#[derive(Default, PartialEq)]
enum Anonymous {
    #[default]
    Allowed,
    Refused,
}

struct Tls {
    ca: String,
    cert: String,
    key: String,
    clients: Clients,
}

/// Whether the broker asks its clients for a certificate.
#[derive(Clone, Copy, PartialEq)]
pub enum Clients {
    /// Any client may come.
    Anyone,
    /// Only one with a certificate of the same authority.
    WithCertificate,
}

impl Options {
    /// One line of `mosquitto.conf`.
    pub fn setting(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let _infallible = writeln!(self.settings, "{name} {value}");
        self
    }

    /// The settings that we ship, but for its port.
    pub fn shipped(self) -> Self {
        let conf = in_repository("config/mosquitto/headwater.conf");
        let conf = fs::read_to_string(conf).expect("it can be read");
        let lines = conf.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let settings =
            lines.filter_map(|line| line.split_once(' ')).filter(|(name, _)| !["listener", "allow_anonymous"].contains(name));
        settings.fold(self, |options, (name, value)| options.setting(name, value)).setting("persistence_location", "{dir}/")
    }

    /// Messages in flight to one client; 0 is no limit.
    pub fn max_inflight(self, messages: u32) -> Self {
        self.setting("max_inflight_messages", messages)
    }

    /// Messages that wait for one client; 0 is no limit.
    pub fn max_queued(self, messages: u32) -> Self {
        self.setting("max_queued_messages", messages)
    }

    /// Saves sessions and messages when it is stopped, as in the field; [`Mosquitto::kill`] loses what came since the start.
    pub fn persistence(self) -> Self {
        self.setting("persistence", true).setting("persistence_location", "{dir}/")
    }

    /// Saves them at every turn of its loop too. Each save writes everything, so this is for few messages.
    pub fn saves_every_change(self) -> Self {
        self.persistence().setting("autosave_on_changes", true).setting("autosave_interval", 1)
    }

    /// Takes nobody but this user.
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.anonymous = Anonymous::Refused;
        self.password = Some((user.into(), password.into()));
        self
    }

    /// Speaks TLS with a certificate for `localhost` and 127.0.0.1 that `authority` signs.
    pub fn tls(mut self, authority: &Authority, clients: Clients) -> Self {
        let (cert, key) = authority.server();
        self.tls = Some(Tls { ca: authority.pem(), cert, key, clients });
        self
    }

    /// Starts it; it accepts connections when this returns.
    pub async fn start(self) -> Mosquitto {
        let dir = TempDir::new().expect("a temp dir can be made");
        let mut broker = Mosquitto { dir, port: free_port(), options: self, running: None };
        if let Err(log) = broker.launch().await {
            // Between the look for a free port and its use another process can take it; that once is not the broker's fault.
            assert!(log.contains("Address already in use"), "mosquitto does not start: {log}");
            broker.port = free_port();
            broker.restart().await;
        }
        broker
    }

    fn write(&self, dir: &Path, port: u16) {
        let place = dir.display();
        let mut config = format!(
            "listener {port} {address}\nallow_anonymous {anonymous}\nuser root\nlog_dest stderr\n",
            address = Ipv4Addr::LOCALHOST,
            anonymous = self.anonymous == Anonymous::Allowed,
        );
        if let Some(tls) = &self.tls {
            for (name, pem) in [("cafile", &tls.ca), ("certfile", &tls.cert), ("keyfile", &tls.key)] {
                fs::write(dir.join(name), pem).expect("the temp dir can be written");
                let _infallible = writeln!(config, "{name} {place}/{name}");
            }
            let required = tls.clients == Clients::WithCertificate;
            let _infallible = writeln!(config, "require_certificate {required}");
        }
        if self.password.is_some() {
            let _infallible = writeln!(config, "password_file {place}/passwords");
        }
        config.push_str(&self.settings.replace("{dir}", &place.to_string()));
        fs::write(dir.join("mosquitto.conf"), config).expect("the temp dir can be written");
    }
}

/// A broker of this test's own.
pub struct Mosquitto {
    dir: TempDir,
    port: u16,
    options: Options,
    running: Option<Part>,
}

impl Mosquitto {
    /// A broker to be; [`Options::start`] starts it.
    #[expect(clippy::new_ret_no_self, reason = "reads as a sentence: Mosquitto::new().max_inflight(20).start()")]
    pub fn new() -> Options {
        Options::default()
    }

    /// The same through its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For a source's `url`.
    pub fn url(&self) -> String {
        if self.options.tls.is_some() {
            format!("mqtts://localhost:{}", self.port)
        } else {
            format!("mqtt://{}:{}", Ipv4Addr::LOCALHOST, self.port)
        }
    }

    /// Has it save everything (SIGUSR1). It has saved when it next answers a client.
    pub async fn save(&self) {
        let saves = || self.log().matches("Saving in-memory database").count();
        let before = saves();
        self.running.as_ref().expect("the broker runs").signal(Signal::USR1);
        eventually("mosquitto saves", async || if saves() > before { Ok(()) } else { Err(self.log()) }).await;
    }

    /// Ends it where it is (SIGKILL): what it had not saved is gone.
    pub async fn kill(&mut self) {
        self.running.take().expect("the broker runs").kill().await;
    }

    /// Stops it in order (SIGTERM): with [`Options::persistence`] it saves everything.
    pub async fn stop(&mut self) {
        self.running.take().expect("the broker runs").terminate().await;
    }

    /// SIGSTOP: time goes by without it.
    pub fn freezes(&self) {
        self.running.as_ref().expect("the broker runs").signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaws(&self) {
        self.running.as_ref().expect("the broker runs").signal(Signal::CONT);
    }

    /// Starts it again on its port with what it saved; it accepts connections when this returns.
    pub async fn restart(&mut self) {
        self.launch().await.unwrap_or_else(|log| panic!("mosquitto does not start: {log}"));
    }

    /// What it logged since its start.
    pub fn log(&self) -> String {
        self.running.as_ref().map(|part| part.err.all()).unwrap_or_default()
    }

    async fn launch(&mut self) -> Result<(), String> {
        self.options.write(self.dir.path(), self.port);
        if let Some((user, password)) = &self.options.password {
            let file = self.dir.path().join("passwords");
            let made = Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(file).args([user, password]).status().await;
            assert!(made.is_ok_and(|status| status.success()), "mosquitto_passwd makes a password file");
        }
        let config = self.dir.path().join("mosquitto.conf");
        let mut broker = Part::start("mosquitto", Command::new("/usr/sbin/mosquitto").arg("-c").arg(config));
        let port = self.port;
        let running = eventually("mosquitto accepts connections or ends", async || {
            if broker.ended().is_some() {
                return Ok(false);
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map(|_| true).map_err(|e| e.to_string())
        })
        .await;
        if !running {
            return Err(broker.err.to_the_end().await);
        }
        self.running = Some(broker);
        Ok(())
    }
}
