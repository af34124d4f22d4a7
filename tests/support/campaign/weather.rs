//! What the endpoint is like for a while.

use std::time::Duration;

use headwater::demo::kinesis::Failure;

use super::{chance::Chance, tally::Tally};
use crate::support::cloud::Cloud;

/// Failures that pass by themselves; those that someone has to mend wait a minute before the next attempt, and have their own tests.
const FAILURES: [(&str, Failure); 15] = [
    ("500", Failure::InternalFailure),
    ("whole request throttled", Failure::Code("ThrottlingException")),
    ("proxy's 502 page", Failure::BadGateway),
    ("503", Failure::Unavailable),
    ("answer that is no JSON", Failure::Garbage),
    ("answer with a record too few", Failure::TooFewRecords),
    ("half an answer, after storing", Failure::HalfAnAnswer),
    ("answer with a record too many", Failure::TooManyRecords),
    ("200 with an error inside", Failure::ErrorInside),
    ("200 with a page", Failure::Page(200)),
    ("answer in gzip", Failure::Gzip),
    ("no answer ever", Failure::Never),
    ("every second record refused", Failure::RefuseEvery(2)),
    ("connection dropped after storing", Failure::StoreThenClose),
    ("connection dropped before storing", Failure::CloseBeforeStore),
];

/// What a campaign throws; fair weather comes between.
#[derive(Clone, Copy, Debug)]
pub enum Weather {
    Fair,
    Away,
    BlackHole,
    Slow {
        round_trip: Duration,
        bytes_per_second: u64,
    },
    /// Thousandths of what a shard of the service takes.
    Throttled(u64),
    /// Percent of all records.
    Refusing(u64),
    Failing(usize, u64),
}

impl Weather {
    pub fn of(chance: &mut Chance) -> Self {
        match chance.between(0, 12) {
            0 | 1 => Self::Fair,
            2 => Self::Away,
            3 => Self::BlackHole,
            4 => Self::Slow {
                round_trip: Duration::from_millis(chance.between(20, 200)),
                bytes_per_second: chance.between(20_000, 200_000),
            },
            5 => Self::Throttled(chance.between(1, 20)),
            6 => Self::Refusing(chance.between(10, 70)),
            _ => Self::Failing(chance.between(0, FAILURES.len() as u64).try_into().expect("it is small"), chance.between(1, 5)),
        }
    }

    /// It is like this until [`Self::goes`].
    pub fn comes(self, cloud: &Cloud, seed: u64) {
        match self {
            Self::Fair => {}
            Self::Away => cloud.away(),
            Self::BlackHole => cloud.black_hole(),
            Self::Slow { round_trip, bytes_per_second } => cloud.slow(round_trip, Some(bytes_per_second)),
            Self::Throttled(thousandths) => cloud.throttle(f64::from(u32::try_from(thousandths).expect("small")) / 1000.0),
            Self::Refusing(percent) => cloud.refuse_at_random(f64::from(u32::try_from(percent).expect("small")), seed),
            Self::Failing(kind, times) => cloud.fail_next(usize::try_from(times).expect("small"), FAILURES[kind].1),
        }
    }

    /// The weather is fair again; counts what there was.
    pub fn goes(self, cloud: &Cloud, seed: u64, tally: &mut Tally) {
        let spared = cloud.call_off_failures() as u64;
        cloud.back();
        cloud.unlimited();
        cloud.slow(Duration::ZERO, None);
        cloud.refuse_at_random(0.0, seed);
        match self {
            Self::Fair => {}
            Self::Failing(_, times) => tally.inject(self.name(), times - spared),
            _ => tally.inject(self.name(), 1),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fair => "endpoint: fair",
            Self::Away => "endpoint: away",
            Self::BlackHole => "endpoint: black hole",
            Self::Slow { .. } => "endpoint: slow",
            Self::Throttled(_) => "endpoint: shards throttled",
            Self::Refusing(_) => "endpoint: records refused at random",
            Self::Failing(kind, _) => FAILURES[kind].0,
        }
    }
}
