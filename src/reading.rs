//! What a source hands over, before anything is known about streams.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;

/// Milliseconds since 1970-01-01 UTC by this gateway's clock, right or wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// So much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Microseconds since the kernel started, those in suspend included: this clock never jumps. Each boot has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub i64);

/// A configured source, by its place in the order of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

/// How many readings of one source, counted from the start of the agent. Readings of a source are numbered 1, 2, 3, … in the
/// order of their arrival, so a count is also the name of the last reading that it includes.
pub type Ordinal = u64;

/// One measurement as it arrived: nothing parsed, nothing copied.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The MQTT topic, or what the configuration calls a serial source's readings.
    pub topic: Topic,
    /// The bytes as the field sent them.
    pub payload: Bytes,
    /// When they arrived here. What time that was is known, or believed, only when the reading is encoded.
    pub arrived: Uptime,
    /// What identifies a second delivery of the same publish; none where the protocol repeats nothing.
    pub fingerprint: Option<Fingerprint>,
    /// The sender says that it sent this before, and we cannot tell whether we had it.
    pub dup: bool,
}

/// A topic, owned by the packet it came in or shared by all readings of a serial line.
#[derive(Clone)]
pub enum Topic {
    /// As the MQTT codec made it.
    Owned(String),
    /// As the configuration gave it.
    Shared(Arc<str>),
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Owned(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Tells a repeated MQTT publish from a new one that has the same packet id: kept, with the commit, for as many publishes as the
/// broker may still repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The MQTT packet identifier; never 0.
    pub packet: u16,
    /// CRC32C of topic and payload.
    pub hash: u32,
}
