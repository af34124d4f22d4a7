//! Gateways that come back at once share a shard, in simulated time: the drain's own decisions against the service's limits.
//!
//! Everything is on virtual links and clocks, so an hour takes a second, and the same seed gives the same figures on every machine.

#![cfg(feature = "demo")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures of a simulation are positive and small")]
#![allow(clippy::unchecked_time_subtraction, reason = "simulated time goes forward")]

mod aims;
mod figures;
mod fleet;
mod gateway;
mod packing;
mod plot;
mod rivals;
mod table;

use std::time::Duration;

use headwater::{config::DrainOrder, drain::rehearsal::Law};

use self::{
    figures::Outcome,
    fleet::{Scenario, run},
    gateway::Kind,
};

const OLDEST_FIRST: Kind = Kind::Headwater(Law::KINESIS, DrainOrder::OldestFirst);
const LIVE_FIRST: Kind = Kind::Headwater(Law::KINESIS, DrainOrder::LiveFirst);

fn uses_its_shard_and_wastes_little(outcome: &Outcome) {
    assert!(outcome.used >= 0.98, "the shard had more to give: {outcome}");
    assert!(outcome.refused <= 0.02, "too much was refused: {outcome}");
}

#[test]
fn gateways_that_come_back_at_once_fill_their_shard_and_share_it_fairly() {
    for gateways in [10, 100] {
        let outcome = run(&Scenario::new(OLDEST_FIRST, gateways));

        uses_its_shard_and_wastes_little(&outcome);
        assert!(outcome.fairness >= 0.97, "between like links: {outcome}");
        assert!(outcome.fairness_of_all >= 0.97, "between all that carry more than their share: {outcome}");
    }
}

#[test]
fn a_live_reading_passes_a_day_of_backlog_within_five_seconds() {
    for gateways in [10, 100] {
        let outcome = run(&Scenario::new(LIVE_FIRST, gateways));

        uses_its_shard_and_wastes_little(&outcome);
        assert!(outcome.fairness >= 0.97, "{outcome}");
        assert!(outcome.live[1] <= 5.0, "99 in 100: {outcome}");
    }
}

#[test]
fn a_gateway_alone_fills_its_shard_within_ten_seconds() {
    for seed in 1..=5 {
        let outcome = run(&Scenario { seed, ..Scenario::new(OLDEST_FIRST, 1) });

        assert!(outcome.filled.is_some_and(|filled| filled <= Duration::from_secs(10)), "{:?}", outcome.filled);
        assert!(outcome.first_answer <= Duration::from_mins(1), "it probes at least once a minute: {:?}", outcome.first_answer);
        uses_its_shard_and_wastes_little(&outcome);
    }
}

#[test]
fn the_stampede_of_a_thousand_is_over_in_minutes_and_costs_each_of_them_little() {
    let outcome = run(&Scenario { horizon: Duration::from_mins(5), ..Scenario::new(OLDEST_FIRST, 1000) });

    assert!(outcome.used >= 0.98, "{outcome}");
    assert!(outcome.refused_each <= 32 << 10, "{} bytes", outcome.refused_each);
    let last_minute = &outcome.seconds[240..300];
    let [taken, refused] =
        [|s: &figures::Second| s.accepted, |s: &figures::Second| s.refused].map(|of| last_minute.iter().map(of).sum::<u64>());
    assert!(refused * 33 <= taken, "{refused} of {taken}");
}

#[test]
fn what_others_do_wastes_most_of_the_upload() {
    for kind in [Kind::FullSpeed, Kind::Bucket] {
        let outcome = run(&Scenario { horizon: Duration::from_mins(5), ..Scenario::new(kind, 100) });

        assert!(outcome.refused > 0.5, "then what is said of them is wrong: {outcome}");
    }
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let scenario = Scenario { horizon: Duration::from_mins(2), ..Scenario::new(LIVE_FIRST, 20) };

    assert_eq!(run(&scenario).to_string(), run(&scenario).to_string());
    assert_ne!(run(&scenario).to_string(), run(&Scenario { seed: 2, ..scenario }).to_string());
}
