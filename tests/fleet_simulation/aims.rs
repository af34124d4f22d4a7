//! What the fleets of the table have to reach, run by run.

use crate::figures::Outcome;

/// The least or the most that each figure may be.
#[derive(Clone, Copy, Debug)]
pub struct Aims {
    used: f64,
    refused: f64,
    fairness: f64,
    /// Seconds until half of the new readings, and 99 in 100, are in the stream.
    live: [f64; 2],
}

/// What is aimed at with every fleet whose gateways are behind.
pub const AIMS: Aims = Aims { used: 0.98, refused: 0.02, fairness: 0.97, live: [f64::INFINITY; 2] };
/// And where new readings go first.
pub const LIVE: Aims = Aims { live: [2.0, 5.0], ..AIMS };
/// Nothing is asked of others.
pub const NONE: Aims = Aims { used: 0.0, refused: 1.0, fairness: 0.0, live: [f64::INFINITY; 2] };

/// After a short outage the aims are out of reach, for the reasons in README.md: what is reached instead, with a small tolerance. How
/// fast a gateway was tells little of who was soon done, so nothing is asked of fairness.
pub const fn short(used: f64, refused: f64) -> Aims {
    Aims { used, refused, fairness: 0.0, live: [f64::INFINITY; 2] }
}

/// Where new readings are more than the share of the slowest, 99 in 100 can't be in time: what is reached of half of them.
pub const fn crowded(half: f64) -> Aims {
    Aims { live: [half, f64::INFINITY], ..AIMS }
}

impl Aims {
    /// What `outcome` misses, in words; empty when it misses nothing.
    pub fn missed_by(&self, outcome: &Outcome) -> Vec<String> {
        let Self { used, refused, fairness, live: [half, most] } = *self;
        let misses = [
            (outcome.used < used, format!("{:.4} used, and {used} is the least", outcome.used)),
            (outcome.refused > refused, format!("{:.4} refused, and {refused} is the most", outcome.refused)),
            (outcome.fairness < fairness, format!("a fairness of {:.3}, and {fairness} is the least", outcome.fairness)),
            (outcome.live[0] > half, format!("half of the new readings in {:.1} s, and {half} s is the most", outcome.live[0])),
            (outcome.live[1] > most, format!("99 in 100 new readings in {:.1} s, and {most} s is the most", outcome.live[1])),
        ];
        misses.into_iter().filter_map(|(missed, what)| missed.then_some(what)).collect()
    }
}
