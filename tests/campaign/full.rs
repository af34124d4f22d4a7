//! A full buffer that may drop goes on taking readings, whatever is on its way out.

use crate::support::{campaign::overflow, gateway::Gateway};

/// Three times what fits.
const FLOOD: u64 = 15_000;
const KILOBYTE: usize = 1000;

#[tokio::test]
async fn a_lane_that_has_nothing_left_to_drop_does_not_keep_others_from_dropping() {
    let plan = Gateway::new().set("sources.broker.payload", "bytes").window(1000).without("streams.readings");
    let plan = plan.stream("quiet", "quiet").set("streams.quiet.from", vec!["broker:plant/quiet"]);
    let plan = plan.stream("loud", "loud").set("streams.loud.from", vec!["broker:plant/loud"]);
    let plan = plan.set("buffer.hold", "0s").set("buffer.memory", "1 MiB").set("buffer.max_size", "8 MiB");
    let mut gateway = plan.starts().await;
    gateway.cloud.black_hole();

    // The head of the quiet lane is on its way for as long as the black hole lasts, and all the rest of it is dropped in the flood.
    gateway.field.floods("plant/quiet", 50, KILOBYTE).await;
    received(&gateway, "quiet", 50).await;
    gateway.field.floods("plant/quiet", 350, KILOBYTE).await;
    received(&gateway, "quiet", 400).await;
    gateway.field.floods("plant/loud", FLOOD, KILOBYTE).await;

    received(&gateway, "loud", FLOOD).await;
}

#[tokio::test]
async fn what_each_rule_takes_through_power_cuts_is_what_its_notices_say() {
    let tally = overflow::overflows().await;

    println!("{tally}");
    assert!(tally.is_clean(), "{tally}");
}

/// Waits until the agent has taken so many readings into the stream.
async fn received(gateway: &Gateway, stream: &str, readings: u64) {
    let place = format!("/streams/{stream}/ledger/received");
    gateway.agent.shows(&format!("{stream} has {readings}"), |status| status.count(&place) == readings).await.balances();
}
