//! Streams of different priority on a link that is too slow for all of them.

use std::time::Duration;

use crate::support::{consumer::ONCE, eventually, gateway::Gateway};

const READINGS: u64 = 400;
const PADDING: usize = 2000;
const BYTES_PER_SECOND: u64 = 200_000;

#[tokio::test]
async fn on_a_slow_link_the_higher_priority_drains_first_and_the_lower_one_beside_it() {
    let plan = Gateway::new().stream("alarms", "plant-alarms").set("streams.alarms.priority", 10);
    let mut gateway = plan.window(200).starts().await;
    gateway.cloud.create_stream("plant-alarms", 1);
    gateway.cloud.away();
    gateway.field.pads(PADDING);
    gateway.field.publishes(READINGS).await;
    gateway.holds(2 * READINGS).await;
    gateway.cloud.slow(Duration::from_millis(20), Some(BYTES_PER_SECOND));
    gateway.cloud.back();

    let count = |gateway: &Gateway, stream: &str| gateway.cloud.readings(stream).len() as u64;
    let low = eventually("the alarms are there", async || match count(&gateway, "plant-alarms") {
        READINGS => Ok(count(&gateway, crate::support::cloud::STREAM)),
        alarms => Err(format!("{alarms} of {READINGS}")),
    })
    .await;
    assert!(low > 0, "it had nothing of the link");
    assert!(low < READINGS / 2, "{low} of {READINGS} came before the last alarm");

    gateway.cloud.slow(Duration::ZERO, None);
    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.everything_is_in("plant-alarms").await, ONCE);
}
