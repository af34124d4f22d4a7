//! The agent is killed at random moments, while endpoint and broker misbehave at random.

use crate::support::campaign;

/// Throws the same faults in every run; `make soak` throws others.
const SEED: u64 = 7;
const KILLS: u64 = 12;

#[tokio::test]
async fn a_full_disk_holds_the_sources_and_loses_nothing() {
    let tally = campaign::disk::runs_full().await;

    assert!(tally.is_clean(), "{tally}");
}

#[tokio::test]
async fn power_cuts_at_random_moments_lose_nothing_whatever_endpoint_and_broker_do() {
    let tally = campaign::run(SEED, KILLS).await;

    println!("seed {SEED}\n{tally}");
    assert!(tally.is_clean(), "seed {SEED}\n{tally}");
}
