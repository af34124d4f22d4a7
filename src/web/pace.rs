//! Where the backlog is going: when the disk will be full, or when everything will be sent.
//!
//! Two counts of what waits, some seconds apart, say it; no rate has to be kept anywhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::status::State;

/// Time between two samples: long enough that what comes and goes in a second is no trend, short enough that the page follows.
pub const SPACING: Duration = Duration::from_secs(10);
/// Beyond this nobody plans, and a rate that small is noise.
const HORIZON: u64 = 365 * 86_400;

/// How many bytes waited at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    by_stream: BTreeMap<String, u64>,
}

impl Sample {
    /// What waits in `state`.
    pub fn new(at: Instant, state: &State) -> Self {
        let by_stream = state.streams.iter().map(|(name, stream)| (name.clone(), stream.backlog_bytes)).collect();
        Self { at, by_stream }
    }

    /// When that was.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Of one stream; nothing for one that was not there.
    pub fn stream(&self, name: &str) -> u64 {
        self.by_stream.get(name).copied().unwrap_or_default()
    }

    /// Over all streams.
    pub fn total(&self) -> u64 {
        self.by_stream.values().sum()
    }
}

/// The last two samples, so that there is always one that is at least [`SPACING`] old.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Sample>,
    before: Option<Sample>,
}

impl Pace {
    /// Takes a sample in.
    pub fn note(&mut self, sample: Sample) {
        self.before = self.last.replace(sample);
    }

    /// What to compare the present with.
    pub fn before(&self) -> Option<&Sample> {
        self.before.as_ref()
    }
}

/// Where a backlog is going; nothing where that is not known, or not so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// Seconds until there is no room left.
    pub full_in_s: Option<u64>,
    /// Seconds until nothing waits any more.
    pub drain_in_s: Option<u64>,
}

/// Where a backlog is going that was `before` bytes, is `now` bytes after `span`, and has `room` to grow.
pub fn outlook(before: u64, now: u64, span: Duration, room: Option<u64>) -> Outlook {
    let seconds_for = |bytes: u64, change: u64| {
        let millis = u128::from(bytes) * span.as_millis() / u128::from(change);
        u64::try_from(millis / 1000).ok().filter(|seconds| *seconds <= HORIZON)
    };
    let (grown, shrunk) = (now.saturating_sub(before), before.saturating_sub(now));
    Outlook {
        full_in_s: room.filter(|_| grown > 0).and_then(|room| seconds_for(room, grown)),
        drain_in_s: (shrunk > 0).then(|| seconds_for(now, shrunk)).flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn a_backlog_that_grows_says_when_there_is_no_room_left() {
        assert_eq!(outlook(1_000, 2_000, TEN, Some(50_000)), Outlook { full_in_s: Some(500), drain_in_s: None });
        assert_eq!(outlook(1_000, 2_000, TEN, None), Outlook::default());
    }

    #[test]
    fn a_backlog_that_shrinks_says_when_it_will_be_gone() {
        assert_eq!(outlook(3_000, 2_000, TEN, Some(50_000)), Outlook { full_in_s: None, drain_in_s: Some(20) });
    }

    #[test]
    fn a_backlog_that_stays_or_hardly_moves_says_nothing() {
        assert_eq!(outlook(2_000, 2_000, TEN, Some(50_000)), Outlook::default());
        assert_eq!(outlook(2_000, 2_001, TEN, Some(1 << 31)), Outlook::default());
    }

    #[test]
    fn the_present_is_compared_with_the_sample_before_the_last() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.note(Sample::new(start, &State::default()));
        assert!(pace.before().is_none());
        pace.note(Sample::new(start + SPACING, &State::default()));
        assert_eq!(pace.before().map(Sample::at), Some(start));
    }
}
