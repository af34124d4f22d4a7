//! The agent is killed at random moments, while endpoint and broker misbehave at random.

use crate::support::campaign;

/// Throws the same faults in every run; `make soak` throws others, and `HEADWATER_CAMPAIGN_SEED` those of one that it found.
const SEED: u64 = 7;
const KILLS: u64 = 12;

#[tokio::test]
async fn a_full_disk_holds_the_sources_and_loses_nothing() {
    let tally = campaign::disk::runs_full().await;

    assert!(tally.is_clean(), "{tally}");
}

#[tokio::test]
async fn whatever_befalls_the_buffers_files_only_what_was_in_them_is_destroyed_and_the_rest_arrives() {
    let seed = std::env::var("HEADWATER_CAMPAIGN_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));

    let tally = campaign::damage::befalls(seed, 1).await;

    println!("seed {seed}\n{tally}");
    assert!(tally.is_clean(), "seed {seed}\n{tally}");
}

#[tokio::test]
async fn power_cuts_at_random_moments_lose_nothing_whatever_endpoint_and_broker_do() {
    let seed = std::env::var("HEADWATER_CAMPAIGN_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));

    let tally = campaign::run(seed, KILLS).await;

    println!("seed {seed}\n{tally}");
    assert!(tally.is_clean(), "seed {seed}\n{tally}");
    assert!(tally.sent > 0 && tally.delivered == tally.sent, "seed {seed}\n{tally}");
}
