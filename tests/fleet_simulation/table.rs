//! The whole table, and the picture: `make fleet-sim`.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use headwater::{config::DrainOrder, demo::kinesis::hash_of, drain::rehearsal::Law};

use crate::{
    LIVE_FIRST, OLDEST_FIRST,
    aims::{AIMS, Aims, LIVE, NONE, crowded, short},
    figures::{HEAD, Outcome, jain},
    fleet::{Scenario, run_all},
    gateway::Kind,
    plot,
};

const SIZES: [usize; 4] = [1, 10, 100, 1000];
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Outages, and what 1, 10, 100 and 1,000 gateways that come back from one have to reach.
const AFTER: [(Duration, [Aims; 4]); 4] = [
    (Duration::from_mins(10), [short(0.82, 0.02), short(0.55, 0.02), short(0.77, 0.02), short(0.72, 0.02)]),
    (HOUR, [short(0.95, 0.02), short(0.78, 0.025), short(0.68, 0.028), short(0.80, 0.028)]),
    (DAY, [AIMS; 4]),
    (Duration::from_hours(21 * 24), [AIMS; 4]),
];

/// The same of `live-first`, for new readings of that part of the shard's rate.
const BESIDE: [(f64, [Aims; 4]); 4] = [
    (0.1, [LIVE; 4]),
    (0.2, [LIVE; 4]),
    (0.3, [LIVE, LIVE, crowded(1.0), crowded(2.5)]),
    (0.5, [LIVE, crowded(1.0), crowded(2.8), crowded(9.5)]),
];

/// How long the last of so many gateways takes at most to fill its shard, when all the others go for good.
const ALONE: [(usize, Duration); 3] =
    [(10, Duration::from_secs(270)), (100, Duration::from_secs(310)), (1000, Duration::from_secs(330))];

/// Prints runs, and keeps what they miss.
#[derive(Default)]
struct Table {
    misses: Vec<String>,
}

impl Table {
    fn show(&mut self, title: &str, scenarios: &[Scenario], aims: &[Aims]) -> Vec<Outcome> {
        println!("\n{title}\n\n{HEAD}");
        let outcomes = run_all(scenarios);
        for (outcome, aims) in outcomes.iter().zip(aims) {
            println!("{outcome}");
            let missed = aims.missed_by(outcome);
            self.misses.extend(
                missed.into_iter().map(|what| format!("{title}: {} gateways after {:?}: {what}", outcome.gateways, outcome.outage)),
            );
        }
        outcomes
    }

    fn alone(&mut self) {
        println!("\nheadwater, oldest-first, when all but one go: how long the last takes to fill its shard\n");
        println!("| gateways | least | most |\n|---:|---:|---:|");
        for (gateways, longest) in ALONE {
            let (horizon, leave) = (Duration::from_mins(40), Some(Duration::from_mins(20)));
            let scenario = |seed| Scenario { horizon, leave, seed, ..Scenario::new(OLDEST_FIRST, gateways) };
            let outcomes = run_all(&(1..=if gateways < 1000 { 6 } else { 2 }).map(scenario).collect::<Vec<_>>());
            let took = outcomes.iter().map(|outcome| outcome.filled_alone.unwrap_or(Duration::MAX));
            let (least, most) = (took.clone().min().unwrap_or_default(), took.max().unwrap_or_default());
            println!("| {gateways} | {} s | {} s |", least.as_secs(), most.as_secs());
            if most > longest {
                self.misses.push(format!("the last of {gateways} fills its shard in {most:?}, and {longest:?} is the longest"));
            }
        }
    }
}

#[test]
#[ignore = "takes minutes: `make fleet-sim`"]
fn the_whole_table() {
    println!("seed {}; every figure is of simulated time", Scenario::new(OLDEST_FIRST, 1).seed);
    let (mut table, mut panels) = (Table::default(), Vec::new());

    for (outage, aims) in AFTER {
        let outcomes = table.show("headwater, oldest-first", &SIZES.map(|gateways| until_caught_up(gateways, outage)), &aims);
        if outage == DAY {
            let shown = SIZES.iter().zip(outcomes).skip(1);
            panels.extend(shown.map(|(gateways, outcome)| (format!("headwater, {gateways} gateways"), outcome)));
        }
    }
    for (load, aims) in BESIDE {
        let title = format!("headwater, live-first, new readings of {:.0} % of the shard's rate", 100.0 * load);
        table.show(&title, &SIZES.map(|gateways| Scenario { load, ..Scenario::new(LIVE_FIRST, gateways) }), &aims);
    }

    table.alone();

    for (kind, name) in [
        (Kind::FullSpeed, "full speed, exponential backoff with full jitter"),
        (Kind::Bucket, "a fixed token bucket for each shard"),
    ] {
        let horizon = |gateways| Duration::from_mins(if gateways == 1000 { 10 } else { 60 });
        let scenarios = SIZES.map(|gateways| Scenario { horizon: horizon(gateways), ..Scenario::new(kind, gateways) });
        let mut outcomes = table.show(name, &scenarios, &[NONE; 4]);
        panels.extend(outcomes.pop().map(|outcome| (format!("{name}, 1,000 gateways"), outcome)));
    }

    for (rhythm, fall) in [(0.5, 1.0), (2.0, 1.0), (1.0, 0.5), (1.0, 1.5)] {
        let law = Law { rhythm: Law::KINESIS.rhythm.mul_f64(rhythm), fall: Law::KINESIS.fall * fall, ..Law::KINESIS };
        let kind = Kind::Headwater(law, DrainOrder::OldestFirst);
        let title = format!("1,000 gateways, the rhythm times {rhythm}, the fall times {fall}: after an hour, and after a day");
        table.show(&title, &[HOUR, DAY].map(|outage| Scenario { kind, ..until_caught_up(1000, outage) }), &[NONE; 2]);
    }

    let panels: Vec<(&str, &Outcome)> = panels.iter().map(|(name, outcome)| (name.as_str(), outcome)).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("fleet-sim.svg");
    fs::write(&path, plot::svg(&panels)).expect("a picture can be written");
    println!("\nthe rates, as a picture: {}", path.display());
    assert!(table.misses.is_empty(), "what has to be reached and is not:\n{}", table.misses.join("\n"));
}

/// Short outages are looked at until nobody is behind any more, others for an hour.
fn until_caught_up(gateways: usize, outage: Duration) -> Scenario {
    let horizon = if outage < DAY { 4 * HOUR } else { HOUR };
    Scenario { outage, horizon, ..Scenario::new(OLDEST_FIRST, gateways) }
}

/// Their partition keys say which has which shard.
#[test]
#[ignore = "takes minutes: `make fleet-sim`"]
fn a_hundred_thousand_gateways_on_a_hundred_shards() {
    const SHARDS: u128 = 100;
    let mut sizes = BTreeMap::<u128, usize>::new();
    for gateway in 0..100_000 {
        let hash = hash_of(&format!("gateway-{gateway:06}/readings/0"));
        *sizes.entry(hash / (u128::MAX / SHARDS + 1)).or_default() += 1;
    }
    let scenario = |(shard, gateways)| Scenario { seed: 1000 + shard as u64, ..Scenario::new(OLDEST_FIRST, gateways) };
    let mut outcomes = run_all(&sizes.into_iter().map(scenario).collect::<Vec<_>>());
    let fairness = jain(outcomes.iter().flat_map(|outcome| &outcome.paces).copied());
    outcomes.sort_by_key(|outcome| outcome.gateways);
    println!("\n100,000 gateways on 100 shards: the shards with the fewest and the most gateways, and all\n\n{HEAD}");
    outcomes.first().into_iter().chain(outcomes.last()).for_each(|outcome| println!("{outcome}"));
    let used = outcomes.iter().map(|outcome| outcome.used).fold(1.0, f64::min);
    let refused = outcomes.iter().map(|outcome| outcome.refused).fold(0.0, f64::max);
    println!(
        "\nof all 100 shards: used at least {:.1} %, refused at most {:.2} %, fairness of all gateways {fairness:.3}",
        100.0 * used,
        100.0 * refused,
    );
    assert!(used >= 0.98 && refused <= 0.02 && fairness >= 0.97);
}
