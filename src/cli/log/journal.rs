//! The log in journald: a line for people, its priority, and its values as fields of their own.
//!
//! `journalctl -u headwater` shows the line, values included; `journalctl -p warning` and `journalctl HEADWATER_SOURCE=broker` choose
//! among them. journald has the time, so the line has none.
//!
//! Invariant: what the journal does not take goes to stderr.
//!
//! Source: systemd, "Native Journal Protocol".

use std::{
    fmt::{Debug, Write as _},
    os::unix::net::UnixDatagram,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::stderr::Stderr;

const SOCKET: &str = "/run/systemd/journal/socket";
/// What names of fields of ours begin with.
const PREFIX: &str = "HEADWATER_";

/// The way to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// None where stderr leads elsewhere, or where journald's socket is out of reach.
    pub(super) fn behind(stderr: Stderr) -> Option<Self> {
        if stderr == Stderr::Journal { Self::at(SOCKET) } else { None }
    }

    fn at(path: &str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(path).ok()?;
        Some(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let line = entry.line();
        entry.put("MESSAGE", &line);
        let level = *event.metadata().level();
        entry.put("PRIORITY", priority(level));
        entry.put("SYSLOG_IDENTIFIER", "headwater");
        entry.put("TARGET", event.metadata().target());
        if self.socket.send(&entry.datagram).is_err() {
            Stderr::Journal.says(level, &line);
        }
    }
}

/// As syslog(3) counts them.
pub(super) fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// One entry as it grows.
#[derive(Default)]
struct Entry {
    message: String,
    values: String,
    datagram: Vec<u8>,
}

impl Entry {
    fn line(&self) -> String {
        format!("{}{}", self.message, self.values)
    }

    /// `NAME=value` and a line end; a value of several lines is given its length first.
    fn put(&mut self, name: &str, value: &str) {
        self.datagram.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.datagram.push(b'\n');
            self.datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.datagram.push(b'=');
        }
        self.datagram.extend_from_slice(value.as_bytes());
        self.datagram.push(b'\n');
    }

    fn value(&mut self, field: &Field, value: &str, quoted: &dyn Debug) {
        let name: String = field.name().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        self.put(&format!("{PREFIX}{}", name.to_ascii_uppercase()), value);
        // Writing into a string cannot fail.
        let _ = write!(self.values, " {}={quoted:?}", field.name());
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.value(field, value, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.value(field, &format!("{value:?}"), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What journald is sent for what `says` logs.
    fn entries(says: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_nonblocking(true).unwrap();
        let journal = Journal::at(path.to_str().unwrap()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), says);
        let mut datagram = [0; 4096];
        let next = || journald.recv(&mut datagram).ok().map(|len| String::from_utf8_lossy(&datagram[..len]).into_owned());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn an_entry_has_a_line_for_people_a_priority_and_its_values() {
        let entries = entries(|| tracing::warn!(source = "broker", refused = 12, "the broker is away"));

        let lines: Vec<&str> = entries[0].lines().collect();
        assert!(lines.contains(&"MESSAGE=the broker is away source=\"broker\" refused=12"), "{lines:?}");
        assert!(lines.contains(&"PRIORITY=4"), "{lines:?}");
        assert!(lines.contains(&"HEADWATER_SOURCE=broker"), "{lines:?}");
        assert!(lines.contains(&"HEADWATER_REFUSED=12"), "{lines:?}");
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn a_value_of_several_lines_cannot_pretend_to_be_a_field() {
        let entries = entries(|| tracing::info!("one\nPRIORITY=0"));

        assert!(entries[0].starts_with("MESSAGE\n\u{e}\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=6\n"), "{:?}", entries[0]);
    }
}
