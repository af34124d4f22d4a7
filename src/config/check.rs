//! What types cannot say: which values make sense, and which make sense together.
//!
//! Pure: no file and no network is touched, so a fleet can be checked on a laptop. What is missing is a mistake only where it is
//! needed: a source that is switched off may wait for the device file that completes it; a wrong value is wrong everywhere.

mod credentials;
mod files;
mod folder;
mod kinesis;
mod sources;
mod streams;
mod values;

pub(super) use files::check_files;
pub use values::{is_name, is_topic_filter, without_userinfo};

use std::time::Duration;

use super::{BufferConfig, Config, HttpConfig, SourceConfig, layers::Path};
use crate::units::{ByteCount, format_duration};

/// Smallest buffer: below it SQLite's own pages and journal would take most of the room.
pub const LEAST_MAX_SIZE: ByteCount = ByteCount::mib(8);
/// Smallest memory bound, and smallest bound of one stream: a reading may have 1,000 KiB.
pub const LEAST_MEMORY: ByteCount = ByteCount::mib(1);
/// Smallest age at which readings are dropped: a link that works needs as long.
pub const LEAST_MAX_AGE: Duration = Duration::from_secs(1);
/// Largest reading, encoded.
pub const MAX_READING: ByteCount = ByteCount::kib(1000);
/// Longest path of a Unix socket, in bytes. Source: unix(7), `sun_path`.
const MAX_SOCKET_PATH: usize = 107;

/// Something that is wrong with a configuration as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as keys from the root.
    pub at: Path,
    /// Which element of it, when it is a list.
    pub element: Option<usize>,
    /// Other settings without which this would be no problem.
    pub rests_on: Vec<Path>,
    /// The setting is missing.
    pub missing: bool,
    /// The agent can run with it.
    pub warning: bool,
    /// What is wrong; what to write instead.
    pub text: String,
}

impl Problem {
    fn element(&mut self, n: usize) -> &mut Self {
        self.element = Some(n);
        self
    }

    fn rests_on(&mut self, other: &[&str]) -> &mut Self {
        self.rests_on.push(path(other));
        self
    }

    /// Whether it may be only the consequence of what was wrong with `removed` and is reported already.
    pub(super) fn follows_from(&self, removed: &[Path]) -> bool {
        let within = |path: &Path| removed.iter().any(|removed| path.starts_with(removed));
        let around = |path: &Path| removed.iter().any(|removed| removed.starts_with(path));
        (self.element.is_none() && within(&self.at)) || self.rests_on.iter().any(|path| within(path) || around(path))
    }
}

/// Every problem of `config`.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    device(config, &mut problems);
    if !config.sources.values().any(SourceConfig::enabled) {
        let text = "has none that is enabled, so nothing is collected; write for example [sources.broker]";
        problems.warn(&["sources"], text).rests_on(&["sources"]);
    }
    sources::check(config, &mut problems);
    streams::check(config, &mut problems);
    buffer(&config.buffer, &mut problems);
    http(&config.http, &mut problems);
    problems.0
}

/// The whole numbers that the setting called `key` may have.
pub(super) fn allowed_range(key: &str) -> Option<(u32, u32)> {
    let range = match key {
        "qos" => (0, 2),
        "window" => (1, u16::MAX.into()),
        "baud" => (50, 4_000_000), // the ends of what termios has names for
        "data_bits" => (5, 8),
        "stop_bits" => (1, 2),
        "byte" => (0, 255),
        "lanes" => (1, 256),
        "priority" => (0, 100),
        _ => return None,
    };
    Some(range)
}

fn path(keys: &[&str]) -> Path {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

struct Problems(Vec<Problem>);

impl Problems {
    /// `what` follows the setting's name in the text.
    fn wrong(&mut self, at: &[&str], what: impl AsRef<str>) -> &mut Problem {
        let text = format!("{} {}", at.join("."), what.as_ref());
        self.0.push(Problem { at: path(at), text, ..Problem::default() });
        // Not empty, by the line above.
        self.0.last_mut().expect("it was put in just now")
    }

    fn missing(&mut self, at: &[&str], what: impl AsRef<str>) {
        self.wrong(at, what).missing = true;
    }

    fn warn(&mut self, at: &[&str], what: impl AsRef<str>) -> &mut Problem {
        let problem = self.wrong(at, what);
        problem.warning = true;
        problem
    }

    fn name(&mut self, at: &[&str]) {
        if !at.last().is_some_and(|name| is_name(name)) {
            self.wrong(at, "is not a name that lanes can carry; write 1 to 64 of A-Z, a-z, 0-9, '_', '-' and '.'");
        }
    }

    fn range(&mut self, at: &[&str], number: impl Into<u32>) {
        let number = number.into();
        if let Some((least, most)) = at.last().and_then(|key| allowed_range(key))
            && !(least..=most).contains(&number)
        {
            self.wrong(at, format!("is the number {number}; write a whole number from {least} to {most}"));
        }
    }
}

fn device(config: &Config, problems: &mut Problems) {
    let device = &config.device;
    let id = &["device", "id"];
    if matches!(device.id.to_ascii_lowercase().as_str(), "raspberrypi" | "localhost") {
        problems.wrong(
            id,
            format!(
                "is {:?}, as on every new board; write [device] id = \"gw-0042\", a name that only this gateway has",
                device.id
            ),
        );
    } else if !is_name(&device.id) {
        problems.wrong(id, format!("is {:?}; write 1 to 64 of A-Z, a-z, 0-9, '_', '-' and '.'", device.id));
    }
    if device.state_dir.as_os_str().is_empty() {
        problems.wrong(&["device", "state_dir"], "is empty; write for example \"/var/lib/headwater\"");
    }
    let length = device.socket.as_os_str().len();
    if length == 0 || length > MAX_SOCKET_PATH {
        problems.wrong(
            &["device", "socket"],
            format!("has {length} bytes; write a path of 1 to {MAX_SOCKET_PATH} bytes such as \"/run/headwater/headwater.sock\""),
        );
    }
    for tag in device.tags.keys().filter(|tag| !values::is_label(tag)) {
        problems
            .wrong(&["device", "tags", tag], "is no label that metrics can carry; write a letter, then letters, digits and '_'");
    }
}

fn buffer(buffer: &BufferConfig, problems: &mut Problems) {
    let (memory, max_size) = (&["buffer", "memory"], &["buffer", "max_size"]);
    if buffer.max_size < LEAST_MAX_SIZE {
        problems.wrong(max_size, format!("is {:?}; write at least {:?}", buffer.max_size.to_string(), LEAST_MAX_SIZE.to_string()));
    }
    if buffer.memory < LEAST_MEMORY {
        problems.wrong(memory, format!("is {:?}; write at least {:?}", buffer.memory.to_string(), LEAST_MEMORY.to_string()));
    } else if buffer.memory >= buffer.max_size {
        let text =
            format!("is {:?}; write less than buffer.max_size, {:?}", buffer.memory.to_string(), buffer.max_size.to_string());
        problems.wrong(memory, text).rests_on(max_size);
    }
    max_age(&["buffer", "max_age"], buffer.max_age, buffer.hold, problems);
}

/// Younger readings may still be in memory, where nothing is dropped for its age.
fn max_age(at: &[&str], max_age: Option<Duration>, hold: Duration, problems: &mut Problems) {
    let least = hold.max(LEAST_MAX_AGE);
    if let Some(age) = max_age.filter(|age| *age < least) {
        let text = format!("is {:?}; write at least {:?}", format_duration(age), format_duration(least));
        problems.wrong(at, text).rests_on(&["buffer", "hold"]);
    }
}

fn http(http: &HttpConfig, problems: &mut Problems) {
    if let Some(address) = http.listen.filter(|address| !address.ip().is_loopback()) {
        let text = format!("is {address}, where anybody could read it; write \"127.0.0.1:{}\" or \"off\"", address.port());
        problems.wrong(&["http", "listen"], text);
    }
}
