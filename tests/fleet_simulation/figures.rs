//! What a simulation is judged by.

use std::{
    fmt,
    time::{Duration, Instant},
};

use headwater::demo::kinesis::Limits;

use crate::{fleet::Scenario, gateway::Gateway};

/// Bytes that a shard took and refused in one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    pub accepted: u64,
    pub refused: u64,
}

/// From the arrival of a reading on its gateway to that in the stream; of readings that arrived while it was in reach.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// How many took so many hundredths of a second.
    counts: Vec<f64>,
}

/// The longest that is told apart, in hundredths of a second.
const LONGEST: usize = 100 * 120;

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0.0; LONGEST + 1] }
    }
}

impl Latencies {
    /// Counts `readings` that arrived evenly between `first` and `last` and are in the stream `now`.
    pub fn count(&mut self, now: Instant, first: Instant, last: Instant, readings: u64) {
        const SAMPLES: u32 = 4;
        for sample in 0..SAMPLES {
            let at = first + (last - first).mul_f64((f64::from(sample) + 0.5) / f64::from(SAMPLES));
            let hundredths = ((now - at).as_secs_f64() * 100.0) as usize;
            self.counts[hundredths.min(LONGEST)] += readings as f64 / f64::from(SAMPLES);
        }
    }

    /// Seconds that the given part of the readings took at most.
    fn quantile(&self, part: f64) -> f64 {
        let total: f64 = self.counts.iter().sum();
        let mut sum = 0.0;
        let index = self.counts.iter().position(|count| {
            sum += count;
            sum >= part * total
        });
        index.unwrap_or(LONGEST) as f64 / 100.0
    }
}

/// What is counted while it runs.
#[derive(Clone, Debug)]
pub struct Counts {
    /// From the end of the outage on.
    pub seconds: Vec<Second>,
    pub latencies: Latencies,
    pub first_answer: Option<Instant>,
    /// How long the last gateway took to fill its shard, from when it was alone.
    pub filled_alone: Option<Duration>,
    /// Records that the shard saw.
    pub records: u64,
}

/// The figures of one simulation.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub gateways: usize,
    pub outage: Duration,
    /// How long it was looked at, from the end of the outage until nobody was behind.
    pub lasted: Duration,
    /// Until the first gateway had an answer.
    pub first_answer: Duration,
    /// Until the first gateway's rate was a shard's, from its first answer on.
    pub filled: Option<Duration>,
    /// The same of the last gateway, from when it was alone.
    pub filled_alone: Option<Duration>,
    /// Bytes taken, as a part of all that could be, from the first answer on until nobody is behind: the shard's full tank, and in each
    /// second its rate, or what the links of those who are behind carry, where that is less.
    pub used: f64,
    /// Bytes refused, as a part of all that were uploaded.
    pub refused: f64,
    /// And in the first minute.
    pub refused_at_first: f64,
    /// Jain's index between gateways with like links, of the worst such group.
    pub fairness: f64,
    /// And between all whose links carry more than their share.
    pub fairness_of_all: f64,
    /// Bytes a second of each of them.
    pub paces: Vec<f64>,
    /// Bytes of one gateway that were refused, on average.
    pub refused_each: u64,
    /// Seconds from a gateway to the stream, of half of the new readings and of 99 in 100.
    pub live: [f64; 2],
    /// Records that the shard saw in a second, on average.
    pub records: f64,
    pub seconds: Vec<Second>,
}

impl Outcome {
    /// Of a simulation whose outage ended at `end`, and which itself ended at `now`.
    pub fn of(scenario: &Scenario, gateways: &[Gateway], counts: Counts, end: Instant, now: Instant) -> Self {
        let Counts { mut seconds, latencies, first_answer, filled_alone, records } = counts;
        let lasted = now - end;
        seconds.truncate(lasted.as_secs() as usize + 1);
        let refused = |seconds: &[Second]| {
            let [accepted, refused] =
                [seconds.iter().map(|second| second.accepted).sum(), seconds.iter().map(|s| s.refused).sum::<u64>()];
            refused as f64 / (accepted + refused).max(1) as f64
        };
        // Bytes a second, while it was behind.
        let pace = |gateway: &Gateway| gateway.accepted as f64 / (gateway.caught_up.unwrap_or(now) - end).as_secs_f64();
        let share = fair_share(gateways);
        let unbound: Vec<&Gateway> = gateways.iter().filter(|gateway| gateway.link.carries() > share).collect();
        let mut links: Vec<u64> = gateways.iter().map(|gateway| gateway.link.bandwidth as u64).collect();
        links.sort_unstable();
        links.dedup();
        let alike =
            links.into_iter().map(|link| jain(gateways.iter().filter(|gateway| gateway.link.bandwidth as u64 == link).map(pace)));
        let first_answer = first_answer.map_or(lasted, |at| at - end);
        let caught_up = gateways.iter().map(|gateway| gateway.caught_up.unwrap_or(now)).max().unwrap_or(now);
        let until = (caught_up - end).as_secs();
        let taken: u64 = seconds.iter().take(until as usize).map(|second| second.accepted).sum();
        let given: f64 =
            (first_answer.as_secs()..until).map(|second| could_be_taken(gateways, end + Duration::from_secs(second))).sum();
        Self {
            gateways: scenario.gateways,
            outage: scenario.outage,
            lasted,
            first_answer,
            filled: gateways.iter().filter_map(|gateway| gateway.filled).min().map(|at| at - end - first_answer),
            filled_alone,
            used: taken as f64 / (Limits::SERVICE.burst_bytes + given),
            refused: refused(&seconds),
            refused_at_first: refused(&seconds[..seconds.len().min(60)]),
            fairness: alike.fold(1.0, f64::min),
            fairness_of_all: jain(unbound.iter().copied().map(pace)),
            paces: unbound.into_iter().map(pace).collect(),
            refused_each: gateways.iter().map(|gateway| gateway.refused).sum::<u64>() / gateways.len() as u64,
            live: [latencies.quantile(0.5), latencies.quantile(0.99)],
            records: records as f64 / lasted.as_secs_f64(),
            seconds,
        }
    }
}

/// Bytes in the second that begins at `at`: what the shard gives, or what those who are behind can send and the others have, if less.
fn could_be_taken(gateways: &[Gateway], at: Instant) -> f64 {
    let can_send = |gateway: &Gateway| {
        if gateway.caught_up.is_none_or(|caught_up| caught_up > at) { gateway.link.carries() } else { gateway.arrives() }
    };
    gateways.iter().map(can_send).sum::<f64>().min(Limits::SERVICE.bytes_per_second)
}

/// Bytes a second for each whose link carries more than that, when the others have what theirs carry.
fn fair_share(gateways: &[Gateway]) -> f64 {
    let mut links: Vec<f64> = gateways.iter().map(|gateway| gateway.link.carries()).collect();
    links.sort_by(f64::total_cmp);
    let mut left = Limits::SERVICE.bytes_per_second;
    for (index, link) in links.iter().enumerate() {
        let share = left / (links.len() - index) as f64;
        if *link > share {
            return share;
        }
        left -= link;
    }
    0.0
}

/// Jain's fairness index: 1 when all are equal, 1/n when one has it all. Source: Jain, Chiu, Hawe, DEC-TR-301 (1984).
pub fn jain(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (sum, squares) = (values.clone().sum::<f64>(), values.clone().map(|value| value * value).sum::<f64>());
    if squares == 0.0 { 1.0 } else { sum * sum / (values.count() as f64 * squares) }
}

/// The head of the table.
pub const HEAD: &str = "\
| gateways | outage | looked at | used | refused | first minute | fairness | of all | live p50 | live p99 | records/s |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most] = self.live.map(|seconds| match seconds {
            ..100.0 => format!("{seconds:.1} s"),
            _ => "-".into(),
        });
        write!(
            to,
            "| {} | {} | {} | {:.1} % | {:.2} % | {:.1} % | {:.3} | {:.3} | {half} | {most} | {:.0} |",
            self.gateways,
            span(self.outage),
            span(self.lasted),
            100.0 * self.used,
            100.0 * self.refused,
            100.0 * self.refused_at_first,
            self.fairness,
            self.fairness_of_all,
            self.records,
        )
    }
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
