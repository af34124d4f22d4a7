//! What is known of each part: streams and lanes, sources, links, the clock, the buffer.

use std::net::SocketAddr;

use serde::Serialize;

use super::Ledger;
use crate::{clock::Trust, reading::Timestamp};

/// The state of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamState {
    /// Where its readings are.
    pub ledger: Ledger,
    /// Bytes of its readings that wait, and the arrival of the first of them.
    pub backlog_bytes: u64,
    /// When the oldest of them arrived.
    pub oldest: Option<Timestamp>,
    /// The stream has left the configuration: what is buffered of it stays, and is dropped first.
    pub orphaned: bool,
    /// By lane number.
    pub lanes: Vec<LaneState>,
    /// How its readings travel; none where they can't but together.
    pub aggregation: Option<AggregationState>,
}

/// How the readings of a stream travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AggregationState {
    /// Together, many in a record; otherwise one by one.
    pub on: bool,
    /// Why.
    pub why: &'static str,
}

/// The state of one lane.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LaneState {
    /// Bytes a second that it may send now.
    pub rate: u64,
    /// Bytes that are on their way.
    pub in_flight: u64,
    /// Records that were sent again.
    pub retries: u64,
    /// Records that the service refused because of its throughput.
    pub throttled: u64,
}

/// The state of one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceState {
    /// `connecting`, `connected`, `waiting` (for room), `stopped`.
    pub state: &'static str,
    /// Readings that it delivered, repeated ones left out.
    pub received: u64,
    /// Publishes that the broker repeated and that we recognised.
    pub repeated: u64,
    /// Frames or packets that were no reading.
    pub invalid: u64,
    /// Readings whose payload was not what the source's `payload` says; they travel as bytes, with the reason.
    pub unreadable: u64,
    /// When the last reading arrived.
    pub last_ts: Option<Timestamp>,
    /// Why it is not connected.
    pub error: Option<String>,
    /// Until when the certificate that stands for us is valid; left out where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Timestamp>,
}

/// The state of the way to one destination.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkState {
    /// Whether the last request was answered.
    pub up: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// The URL that requests go to.
    pub endpoint: String,
    /// The address that it was last reached at.
    pub address: Option<SocketAddr>,
    /// Why it is not up; none before the first request has come to an end.
    pub error: Option<String>,
    /// When it is tried again, while it is not up.
    pub retry_at: Option<Timestamp>,
    /// Body bytes sent, refused ones included.
    pub uploaded: u64,
    /// Record bytes that the service refused.
    pub refused: u64,
    /// Time that requests took, from sending to answer.
    pub put: Durations,
    /// What it is signed with.
    pub credentials: CredentialsState,
    /// Why nothing is sent although it may be up; none while something may be.
    pub paused: Option<Pause>,
    /// Bytes that left in this month, where that has a limit.
    pub month: Option<MonthState>,
}

/// A time in which nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// The setting that says so: `quiet_hours` or `max_bytes_per_month`.
    pub why: &'static str,
    /// When it is over.
    pub until: Timestamp,
}

/// What a month has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MonthState {
    /// Bytes that left in it.
    pub used: u64,
    /// And may.
    pub max: u64,
}

/// What requests to one destination are signed with.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CredentialsState {
    /// Where they come from, as `kind` has it.
    pub kind: &'static str,
    /// When those that are in use expire; none when they don't, or before the first are there.
    pub expires: Option<Timestamp>,
    /// Until when the certificate that stands for us is valid; none where none does.
    pub certificate_expires: Option<Timestamp>,
}

impl LinkState {
    /// Whether anything is known of it: before, it is neither up nor down.
    pub fn tried(&self) -> bool {
        self.up || self.error.is_some()
    }
}

/// What is believed of the gateway's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockState {
    /// Whether it is right.
    pub trust: Trust,
    /// Since when that is so; none before the first look.
    pub since: Option<Timestamp>,
    /// By how many milliseconds it was moved last; none while the agent has not seen that.
    pub moved: Option<i64>,
}

/// What the buffer holds, and where.
#[derive(Clone, Debug, Default)]
pub struct BufferState {
    /// Bytes on disk, all files together.
    pub disk_used: u64,
    /// The bound of that.
    pub disk_max: u64,
    /// Bytes of free space in the file system.
    pub disk_free: u64,
    /// Bytes written to the buffer's files since the start.
    pub disk_written: u64,
    /// It is full and may not drop: what arrives stays with its source.
    pub blocked: bool,
    /// Bytes of readings in memory.
    pub memory: u64,
    /// Readings that are set aside in the file, those of earlier runs included.
    pub set_aside: u64,
    /// Bytes of them.
    pub set_aside_bytes: u64,
    /// Of those that were set aside, how many have made room for others since the start.
    pub set_aside_gone: u64,
    /// Time that commits took.
    pub commit: Durations,
}

/// How long something took, as a histogram with fixed bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
    /// How many took at most [`DURATION_BOUNDS`] seconds, bound by bound, not cumulated; the last entry is for the rest.
    pub buckets: [u64; DURATION_BOUNDS.len() + 1],
}

/// Upper bounds of the buckets of [`Durations`], in seconds: from a fast disk's commit to a slow link's put.
pub const DURATION_BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

impl Durations {
    /// Counts one that took `seconds`.
    pub fn observe(&mut self, seconds: f64) {
        let bucket = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BOUNDS.len());
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += seconds;
    }
}
