//! What a metered link is given: bytes a second, bytes a month, and hours in which it is given nothing. Pure, with time as an argument.
//!
//! Invariant: what has left counts, answered or not; and before it leaves, the file of the month says at least as much, so a power cut
//! gives nothing back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::stride::base64_len;
use crate::{
    config::{KinesisConfig, QuietHours},
    reading::Timestamp,
    units::format_utc,
};

/// Bytes of a request beside its records: the head with its signature and session token, and TLS.
const HEAD: u64 = 2 << 10;
/// A request has what the rate carries in so long, as on a slow link.
const STRIDE: Duration = Duration::from_secs(2);
/// Bytes of records in a request, at least.
const LEAST: usize = 1 << 10;
/// A month that has no more than this left is used up.
const SCRAP: u64 = HEAD + 2 * LEAST as u64;
/// The file says so much more than has left: a hundredth of the month,
const AHEAD: u64 = 100;
/// or this. It is written when that has left, and all that a power cut can cost is what it says too much.
const LEAST_AHEAD: u64 = 64 << 10;
/// Months that are kept: a clock that is wrong for a while finds another one, and then the right one again.
const MONTHS: usize = 3;

/// Bytes that left, by month, such as `2026-11` (UTC).
pub(super) type Months = BTreeMap<String, u64>;

/// One destination's.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance {
    /// Bytes a second.
    rate: Option<u64>,
    quiet: Vec<QuietHours>,
    /// Bytes a month.
    month: Option<u64>,
    /// When what was sent has been paid for.
    free_at: Option<Instant>,
    /// What has left.
    spent: Months,
    /// What is on its way.
    leaving: u64,
    /// What the file says.
    noted: Months,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Records of at most so many bytes.
    Open(usize),
    /// Nothing before this.
    Later(Instant),
    /// Nothing before the file says more: [`Allowance::note`].
    Unnoted,
    /// Nothing for a while.
    Closed(Closed),
}

/// Why nothing may be sent, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is in `quiet_hours`.
    Quiet(Timestamp),
    /// `max_bytes_per_month` is used up.
    Spent(Timestamp),
}

impl Allowance {
    /// Of a destination that has `spent` so much before.
    pub(super) fn new(config: &KinesisConfig, spent: Months) -> Self {
        Self {
            rate: config.max_rate.map(|rate| rate.0),
            quiet: config.quiet_hours.clone(),
            month: config.max_bytes_per_month.map(|bytes| bytes.0),
            noted: spent.clone(),
            spent,
            ..Self::default()
        }
    }

    /// Whether the requests of several streams stand in line for it.
    pub(super) fn is_rated(&self) -> bool {
        self.rate.is_some()
    }

    /// What may be sent at `now`, when the wall clock says `time`.
    pub(super) fn permit(&self, now: Instant, time: Timestamp) -> Permit {
        let [left, noted] = self.left(time);
        if left < SCRAP {
            return Permit::Closed(Closed::Spent(end_of_month(time)));
        }
        if let Some(left) = self.quiet.iter().filter_map(|hours| hours.left(time)).max() {
            return Permit::Closed(Closed::Quiet(time.after(left)));
        }
        if let Some(at) = self.free_at.filter(|at| *at > now) {
            return Permit::Later(at);
        }
        if noted < SCRAP {
            return Permit::Unnoted;
        }
        let paid = self.rate.map_or(u64::MAX, |rate| rate.saturating_mul(STRIDE.as_secs()));
        Permit::Open(records_in(paid.min(noted)).max(LEAST))
    }

    /// What the month has left, and how much of that the file knows to be spent.
    fn left(&self, time: Timestamp) -> [u64; 2] {
        let Some(most) = self.month else { return [u64::MAX; 2] };
        let month = month_of(time);
        let gone = of(&self.spent, &month).saturating_add(self.leaving); // what a file says may be anything
        [most, most.min(of(&self.noted, &month))].map(|bound| bound.saturating_sub(gone))
    }

    /// Records of about `bytes` set out; [`Self::ended`] says how many they were.
    pub(super) fn sends(&mut self, now: Instant, bytes: usize) {
        self.leaving += wire(bytes);
        if let Some(rate) = self.rate {
            let paid_until = self.free_at.map_or(now, |at| at.max(now));
            self.free_at = Some(paid_until + time_for(wire(bytes), rate));
        }
    }

    /// Of the records that set out as about `expected` bytes, `left` bytes left; none when the request never did.
    pub(super) fn ended(&mut self, time: Timestamp, expected: usize, left: Option<usize>) {
        let (expected, left) = (wire(expected), left.map_or(0, wire));
        self.leaving = self.leaving.saturating_sub(expected);
        if self.month.is_some() {
            let spent = self.spent.entry(month_of(time)).or_default();
            *spent = spent.saturating_add(left);
        }
        if let (Some(rate), Some(at)) = (self.rate, self.free_at) {
            let paid_until = if left > expected { Some(at + time_for(left - expected, rate)) } else { None };
            self.free_at = paid_until.or_else(|| at.checked_sub(time_for(expected.saturating_sub(left), rate)));
        }
    }

    /// What has left in this month, and what may; none where a month has no limit.
    pub(super) fn of_the_month(&self, time: Timestamp) -> Option<(u64, u64)> {
        self.month.map(|most| (of(&self.spent, &month_of(time)), most))
    }

    /// What the file is to say before more leaves.
    pub(super) fn note(&self, time: Timestamp) -> Months {
        let most = self.month.unwrap_or(u64::MAX);
        let month = month_of(time);
        let ahead = of(&self.spent, &month).saturating_add(self.leaving + (most / AHEAD).max(LEAST_AHEAD));
        let others = self.spent.iter().rev().filter(|(other, _)| **other != month).take(MONTHS - 1);
        let mut note: Months = others.map(|(other, bytes)| (other.clone(), *bytes)).collect();
        note.insert(month, ahead.min(most));
        note
    }

    /// What has left, exactly, where the file says something else.
    pub(super) fn last_note(&self) -> Option<&Months> {
        (self.month.is_some() && self.noted != self.spent).then_some(&self.spent)
    }

    /// The file says so.
    pub(super) fn noted(&mut self, note: Months) {
        self.spent.retain(|month, _| note.contains_key(month));
        self.noted = note;
    }
}

fn of(months: &Months, month: &str) -> u64 {
    months.get(month).copied().unwrap_or_default()
}

/// Bytes on the wire for a request with records of `bytes`.
fn wire(bytes: usize) -> u64 {
    base64_len(bytes) as u64 + HEAD
}

/// Bytes of records in a request that has `wire` bytes.
fn records_in(wire: u64) -> usize {
    usize::try_from(wire.saturating_sub(HEAD) / 4 * 3).unwrap_or(usize::MAX)
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)
}

fn month_of(time: Timestamp) -> String {
    let mut text = format_utc(time);
    text.truncate("2026-11".len());
    text
}

/// The first moment of the month after `time`.
fn end_of_month(time: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400_000;
    let (month, today) = (month_of(time), time.0.div_euclid(DAY));
    // No month has more days.
    let first = (today + 1..today + 31).find(|day| month_of(Timestamp(day * DAY)) != month);
    Timestamp(first.unwrap_or(today + 31) * DAY)
}

#[cfg(test)]
mod tests;
