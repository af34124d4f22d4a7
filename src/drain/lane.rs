//! One lane on its way out, and what its parts have in common. Pure.

use std::time::{Duration, Instant};

use super::{bisect::Search, distribution::Trail, pace::Pace, plain::OutOfTurn};
use crate::{
    backoff::Backoff,
    buffer::{Lane, Layout, Waiting},
};

/// A lane whose readings can't be read from the disk is tried again after this.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait before what may pass by itself is tried again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// One lane, or one part of a lane.
pub(super) struct LaneDrain {
    pub(super) lane: Lane,
    /// It takes nothing new, and drains before those that do, or beside them: of an older layout, or an earlier part.
    pub(super) older: bool,
    /// The so manieth of its stream that began: in that order they drain.
    pub(super) age: usize,
    /// Place of what it shares with its other parts.
    pub(super) flow: usize,
    /// Bytes that are on their way.
    pub(super) in_flight: usize,
    /// When it began, if that was since the start, and the link was not away since.
    pub(super) began: Option<Instant>,
    pub(super) hold_until: Option<Instant>,
    /// While a record that the service calls invalid is being looked for: it goes only with lanes of the same company.
    pub(super) company: Option<u32>,
    /// And once its own records are called invalid: the search for the reading.
    pub(super) search: Option<Search>,
    /// Where its aggregates went. Not the flow's: answers to two parts may come in another order than their records.
    pub(super) trail: Trail,
    /// Of readings that travel one by one.
    pub(super) out_of_turn: OutOfTurn,
    /// Its readings could not be read when that was tried last.
    pub(super) unread: bool,
}

/// What all parts of a lane have in common: one way to one shard.
pub(super) struct Flow {
    pub(super) layout: Layout,
    pub(super) pace: Pace,
    /// Bytes a second of the last record that was accepted.
    throughput: f64,
    hold_until: Option<Instant>,
    backoff: Backoff,
    /// Records that were sent again.
    pub(super) retries: u64,
    /// Records that were refused because the shard was full.
    pub(super) throttled: u64,
}

/// What became of one lane's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    Throttled,
    Failed,
}

impl LaneDrain {
    pub(super) fn new(lane: Lane, older: bool, age: usize, flow: usize) -> Self {
        let (in_flight, began, hold_until, company, search) = (0, None, None, None, None);
        let (trail, out_of_turn) = (Trail::default(), OutOfTurn::default());
        Self { lane, older, age, flow, in_flight, began, hold_until, company, search, trail, out_of_turn, unread: false }
    }

    /// What it has in common with the other lanes of its layout, and with no other layout of its stream.
    pub(super) fn generation(&self) -> (u16, Option<&str>) {
        (self.lane.layout.of, self.lane.layout.template.as_deref())
    }

    /// When it may send what waits in it, if its flow lets it: `share` bytes at most, which `many` readings fill whatever their size.
    pub(super) fn ready_at(&self, waiting: Waiting, share: usize, many: u64, linger: Duration) -> Option<Instant> {
        let company = waiting.since.filter(|_| waiting.bytes < share as u64 && waiting.readings < many).map(|since| since + linger);
        self.hold_until.max(company)
    }

    /// There was nothing to be had from it: not again at once.
    pub(super) fn pause(&mut self, now: Instant) {
        self.hold_until = Some(now + PAUSE);
    }
}

impl Flow {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            pace: Pace::default(),
            throughput: 0.0,
            hold_until: None,
            backoff: Backoff::up_to(LONGEST_WAIT),
            retries: 0,
            throttled: 0,
        }
    }

    /// When it may send again; none when now.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.pace.ready_at().max(self.hold_until)
    }

    /// Bytes a second that it may send: what its shard leaves it, or what the link carried last.
    pub(super) fn rate(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a throughput is positive")]
        self.pace.rate().unwrap_or(self.throughput as u64)
    }

    /// A record of `bytes`, sent at `sent`, was answered.
    pub(super) fn settle(&mut self, sent: Instant, now: Instant, bytes: usize, fate: Fate, random: f64) {
        match fate {
            Fate::Accepted => {
                self.pace.accepted(sent, now, bytes, random);
                self.throughput = bytes as f64 / now.saturating_duration_since(sent).as_secs_f64().max(0.001);
                self.backoff.reset();
                self.hold_until = None;
            }
            Fate::Throttled => {
                self.pace.refused(sent, now, bytes, random);
                self.throttled += 1;
                self.retries += 1;
            }
            Fate::Failed => {
                self.hold_until = Some(now + self.backoff.pause(random));
                self.retries += 1;
            }
        }
    }
}
