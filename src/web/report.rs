//! The status as other programs read it: names and shapes are an interface, and stay.
//!
//! Byte counts are integers, times are milliseconds since 1970, spans are seconds.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use serde::Serialize;

use super::{
    View,
    pace::{Outlook, Sample, outlook},
};
use crate::{
    clock::Trust,
    reading::Timestamp,
    status::{
        AggregationState, CredentialsState, LaneState, Ledger, LinkState, MonthState, Pause, Problem, SourceState, State,
        StreamState, UNROUTED,
    },
};

/// The answer of `GET /api/status`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of the program.
    pub version: &'static str,
    /// The gateway's name.
    pub device: String,
    /// The name of this run of the agent.
    pub run: String,
    /// Since the agent started.
    pub uptime_s: u64,
    /// What it is doing, in one word.
    pub state: Activity,
    /// The way to the cloud. With several destinations: one that is down or paused, if there is one.
    pub link: LinkReport,
    /// What the gateway believes about the time.
    pub clock: ClockReport,
    /// Where all readings are, those that no stream takes included.
    pub ledger: Ledger,
    /// What waits, in all streams.
    pub backlog: BacklogReport,
    /// The buffer's files.
    pub disk: DiskReport,
    /// Bytes of readings in memory.
    pub memory_bytes: u64,
    /// By name.
    pub sources: BTreeMap<String, SourceState>,
    /// By name.
    pub streams: BTreeMap<String, StreamReport>,
    /// What a person should know of.
    pub problems: Vec<Problem>,
}

/// What the agent is doing, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Readings go out as they come.
    Sending,
    /// A destination is away, refuses a stream or may not be used now, or the clock is wrong, and readings wait for it.
    Buffering,
    /// There is no room: a source waits.
    Holding,
    /// Told to stop, and making the last readings safe.
    Stopping,
}

impl Activity {
    /// Of an agent in `state`.
    pub fn of(state: &State) -> Self {
        let waits = || state.streams.values().any(|stream| stream.ledger.buffered > 0);
        let away = |link: &LinkState| (link.tried() && !link.up) || link.paused.is_some();
        let refused = || state.problems.keys().any(|part| part.starts_with("stream "));
        if state.stopping {
            Self::Stopping
        } else if state.holding || state.buffer.blocked || state.sources.values().any(|source| source.state == "waiting") {
            Self::Holding
        } else if (state.links.values().any(away) || refused() || state.clock.trust == Trust::Wrong) && waits() {
            Self::Buffering
        } else {
            Self::Sending
        }
    }

    /// As it stands in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Buffering => "buffering",
            Self::Holding => "holding",
            Self::Stopping => "stopping",
        }
    }
}

/// The way to one destination.
#[derive(Clone, Debug, Serialize)]
pub struct LinkReport {
    /// Whether the last request was answered.
    pub up: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// The URL that requests go to; empty before the first.
    pub endpoint: String,
    /// The address that it was last reached at.
    pub address: Option<SocketAddr>,
    /// Why it is not up; `not tried yet` before the first request.
    pub error: Option<String>,
    /// When it is tried again, while it is down.
    pub retry_at: Option<Timestamp>,
    /// What requests are signed with.
    pub credentials: CredentialsState,
    /// Why nothing is sent for a while, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Bytes that left in this month, and may; left out where that has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month: Option<MonthState>,
}

/// In the place of an error: nothing is known of the link, because nothing has had to be sent.
pub const NOT_TRIED: &str = "not tried yet";

/// What the gateway believes about the time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClockReport {
    /// What its clock says.
    pub now: Timestamp,
    /// Whether that is the time.
    pub state: Trust,
    /// Since when that is so.
    pub since: Timestamp,
    /// By how much it was moved last while the agent ran.
    pub moved_ms: Option<i64>,
}

/// What waits.
#[derive(Clone, Debug, Serialize)]
pub struct BacklogReport {
    /// How many.
    pub readings: u64,
    /// How much.
    pub bytes: u64,
    /// When the oldest of them arrived.
    pub oldest_ts: Option<Timestamp>,
    /// Where it is going. All streams share the disk, so `full_in_s` is the same for all that grow.
    #[serde(flatten)]
    pub outlook: Outlook,
}

/// The buffer's files, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DiskReport {
    /// All files together.
    pub used: u64,
    /// The bound of that.
    pub max: u64,
    /// Free space in the file system.
    pub free: u64,
    /// Written since the agent started.
    pub written: u64,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// Where its readings are.
    pub ledger: Ledger,
    /// What waits of it.
    pub backlog: BacklogReport,
    /// By number.
    pub lanes: Vec<LaneState>,
    /// How its readings travel; left out where they can't but together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<AggregationState>,
    /// It has left the configuration: what is buffered of it stays, and is dropped first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub orphaned: bool,
}

impl Report {
    /// Of an agent in `state`, which had `before` waiting some time ago.
    pub fn new(view: &View, state: &State, before: Option<&Sample>, now: Timestamp, at: Instant) -> Self {
        let uptime = at.saturating_duration_since(view.started);
        let started = Timestamp(now.0.saturating_sub(i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX)));
        let forecast = Forecast { state, before, now, at };
        let ledger = state.ledger_total();
        let named = state.streams.iter().filter(|(name, _)| *name != UNROUTED);
        Self {
            version: view.version,
            device: view.device.clone(),
            run: view.run.clone(),
            uptime_s: uptime.as_secs(),
            state: Activity::of(state),
            link: LinkReport::of(state, started),
            clock: ClockReport {
                now,
                state: state.clock.trust,
                since: state.clock.since.unwrap_or(started),
                moved_ms: state.clock.moved,
            },
            backlog: forecast.total(ledger.buffered),
            ledger,
            disk: DiskReport {
                used: state.buffer.disk_used,
                max: state.buffer.disk_max,
                free: state.buffer.disk_free,
                written: state.buffer.disk_written,
            },
            memory_bytes: state.buffer.memory,
            sources: state.sources.clone(),
            streams: named.map(|(name, stream)| (name.clone(), forecast.stream(name, stream))).collect(),
            problems: state.problems.values().cloned().collect(),
        }
    }
}

impl LinkReport {
    fn of(state: &State, started: Timestamp) -> Self {
        let waits = |link: &&LinkState| (link.tried() && !link.up) || link.paused.is_some();
        // Of those that are well, one that is a network's.
        let well = || state.links.values().find(|link| link.address.is_some()).or_else(|| state.links.values().next());
        let link = state.links.values().find(waits).or_else(well).cloned();
        let link = link.unwrap_or_else(|| LinkState { since: started, ..LinkState::default() });
        let tried = link.tried();
        let LinkState { up, since, endpoint, address, error, retry_at, credentials, paused, month, .. } = link;
        let error = if tried { error } else { Some(NOT_TRIED.into()) };
        Self { up, since, endpoint, address, error, retry_at, credentials, paused, month }
    }
}

struct Forecast<'a> {
    state: &'a State,
    before: Option<&'a Sample>,
    now: Timestamp,
    at: Instant,
}

impl Forecast<'_> {
    fn total(&self, readings: u64) -> BacklogReport {
        let streams = self.state.streams.values();
        let oldest_ts = streams.clone().filter_map(|stream| stream.oldest).min();
        let bytes = streams.map(|stream| stream.backlog_bytes).sum();
        let outlook = self.outlook(oldest_ts, bytes, Sample::total);
        BacklogReport { readings, bytes, oldest_ts, outlook }
    }

    fn stream(&self, name: &str, stream: &StreamState) -> StreamReport {
        debug_assert!(stream.ledger.balances(), "the ledger of stream {name} lost or invented readings: {:?}", stream.ledger);
        let outlook = self.outlook(stream.oldest, stream.backlog_bytes, |before| before.stream(name));
        let of_all = self.total(0).outlook;
        let backlog = BacklogReport {
            readings: stream.ledger.buffered,
            bytes: stream.backlog_bytes,
            oldest_ts: stream.oldest,
            outlook: Outlook { full_in_s: outlook.full_in_s.and(of_all.full_in_s), ..outlook },
        };
        StreamReport {
            ledger: stream.ledger.clone(),
            backlog,
            lanes: stream.lanes.clone(),
            aggregation: stream.aggregation.clone(),
            orphaned: stream.orphaned,
        }
    }

    fn outlook(&self, oldest: Option<Timestamp>, bytes: u64, before: impl Fn(&Sample) -> u64) -> Outlook {
        let (Some(sample), Some(oldest)) = (self.before, oldest) else { return Outlook::default() };
        let span = self.at.saturating_duration_since(sample.at());
        let waited = u128::try_from(self.now.0.saturating_sub(oldest.0)).unwrap_or_default();
        if span.is_zero() || waited < span.as_millis() {
            return Outlook::default(); // what waits came after the sample: it is on its way, not piling up
        }
        let disk = &self.state.buffer;
        let room = (disk.disk_max > 0).then(|| disk.disk_max.saturating_sub(disk.disk_used));
        outlook(before(sample), bytes, span, room)
    }
}

#[cfg(test)]
mod tests;
