//! A device on a serial line: what it sends arrives like a sensor's readings, but for nobody who would send it again.
//!
//! Of what boards' programs are held to, all that opens a port; see `cross/test.sh`.

use crate::support::{consumer::ONCE, gateway::Gateway, process::Picture};

#[tokio::test]
async fn readings_of_a_broker_and_of_a_serial_line_arrive_exactly_once_and_in_order() {
    let mut gateway = Gateway::new().with_scale().starts().await;

    gateway.field.publishes(1000).await;
    gateway.field.weighs(100).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.agent.status().await.count("/ledger/received"), 1100);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn while_the_endpoint_is_away_the_line_is_read_and_then_everything_drains() {
    let mut gateway = Gateway::new().with_scale().set("streams.readings.lanes", 4).starts().await;
    gateway.cloud.away();
    gateway.field.publishes(200).await;
    gateway.field.weighs(200).await;
    gateway.holds(400).await;
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn when_the_agent_is_told_to_stop_what_the_line_gave_is_on_the_disk() {
    let mut gateway = Gateway::new().with_scale().set("buffer.hold", "1h").starts().await;
    gateway.cloud.black_hole();
    gateway.field.weighs(5).await;
    gateway.holds(5).await;

    gateway.agent.stops().await;
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn serial_adapter_unplugged_it_is_reopened_under_its_name_and_the_open_frame_is_discarded_and_counted() {
    let plan = Gateway::new().with_scale().set("sources.scale.framing.kind", "lines");
    let mut gateway = plan.set("sources.scale.framing.max_length", "8 B").starts().await;
    gateway.field.weighs(50).await;
    gateway.everything_arrives().await;
    let invalid = |least: u64| move |status: &Picture| status.count("/sources/scale/invalid") >= least;
    // The overlong line is counted with its ninth byte, so what follows it in the same write was read too.
    gateway.field.line.sends("this line is too long\n22").await;
    gateway.agent.shows("it counts what is too long", invalid(1)).await;

    gateway.field.line.unplug();
    let missed = |status: &Picture| status.text("/sources/scale/state") == "connecting" && !status.problems().is_empty();
    gateway.agent.shows("the port is missed", missed).await;
    gateway.agent.shows("it counts the open frame", invalid(2)).await;
    gateway.field.publishes(50).await;
    gateway.field.line.plug_in();
    gateway.field.weighs(50).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert!(gateway.agent.status().await.problems().is_empty());
}
