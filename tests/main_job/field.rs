//! What brokers, lines and sensors do to a gateway.

use serde_cbor::Value;

use crate::support::{
    consumer::{ONCE, Reading},
    gateway::Gateway,
    mosquitto::Options,
};

#[tokio::test]
async fn a_broker_that_restarts_in_mid_stream_loses_nothing_of_what_it_saved() {
    let mut gateway = Gateway::new().broker(Options::persistence).starts().await;
    gateway.cloud.away();
    gateway.field.publishes(500).await;

    gateway.field.broker.stop().await;
    gateway.agent.shows("the broker is missed", |status| !status.problems().is_empty()).await;
    gateway.field.broker.restart().await;
    gateway.field.publishes(500).await;
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.shows("all is well again", |status| status.problems().is_empty()).await;
}

#[tokio::test]
async fn a_broker_with_the_settings_that_we_ship_keeps_what_comes_while_the_agent_is_stopped_at_qos_0_too() {
    let mut gateway = Gateway::new().broker(Options::shipped).starts().await;
    gateway.agent.stops().await;

    gateway.field.promises_nothing();
    gateway.field.publishes(1500).await; // more than mosquitto keeps by default
    gateway.field.publishes_message("nobody/listens", "").await; // when the broker has had this, it has had those
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn broker_away_session_lost_topics_changed_the_session_has_what_is_configured_and_nothing_is_missed() {
    let mut gateway = Gateway::new().broker(|broker| broker.setting("log_type", "all")).starts().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;
    gateway.agent.stops().await;

    gateway.field.publishes(100).await; // the session keeps them
    gateway.agent.start();
    gateway.everything_arrives().await;
    assert_eq!(gateway.field.hears("Received SUBSCRIBE from headwater-gw-1-broker"), 1, "nothing has changed");

    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.set("sources.broker.topics", vec!["plant/+/temp", "other/#"]));
    gateway.field.publishes(100).await;
    gateway.agent.start();
    gateway.field.says("Received UNSUBSCRIBE from headwater-gw-1-broker").await;
    gateway.field.publishes(100).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);

    gateway.field.broker.kill().await; // the session is lost
    gateway.field.broker.restart().await;
    gateway.field.says("Received SUBSCRIBE from headwater-gw-1-broker").await;
    assert_eq!(gateway.field.hears("Received UNSUBSCRIBE"), 0);
    gateway.field.is_listened_to().await;
    gateway.field.publishes(100).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_broker_that_was_killed_is_subscribed_to_again() {
    let mut gateway = Gateway::new().starts().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;

    gateway.field.broker.kill().await;
    gateway.field.broker.restart().await;
    gateway.field.is_listened_to().await;
    gateway.field.publishes(100).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_reading_goes_to_every_stream_that_takes_it_and_safe_means_safe_in_all() {
    let plan = Gateway::new().stream("copies", "plant-copies").set("streams.copies.linger", "500ms");
    let mut gateway = plan.set("streams.copies.lanes", 3).set("buffer.hold", "50ms").starts().await;
    gateway.cloud.create_stream("plant-copies", 3);

    gateway.field.publishes(200).await;
    gateway.agent.power_off().await;
    gateway.agent.start();
    gateway.field.publishes(200).await;

    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
    assert_eq!(gateway.everything_is_in("plant-copies").await.unmarked, 0);
}

#[tokio::test]
async fn a_reading_that_nobody_takes_or_that_is_too_large_is_counted_and_acknowledged() {
    let plan = Gateway::new().set("streams.readings.from", vec!["broker:plant/+/temp"]);
    let mut gateway = plan.broker(|broker| broker.setting("log_type", "all")).starts().await;

    gateway.field.publishes_message("plant/7/noise", "1").await;
    gateway.field.publishes_message("plant/7/temp", format!("\"{}\"", "x".repeat(1001 << 10))).await;
    gateway.field.publishes_message("plant/7/temp", vec![b'x'; 5 << 20]).await;
    gateway.field.publishes(10).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.field.is_acknowledged(13).await;
    let status = gateway.agent.status().await;
    let rejected = |reason: &str| status.count(&format!("/ledger/rejected/{reason}"));
    assert_eq!((rejected("unrouted"), rejected("too_large")), (1, 2));
}

#[tokio::test]
async fn the_largest_reading_arrives() {
    let mut gateway = Gateway::new().set("sources.broker.payload", "bytes").starts().await;

    gateway.field.publishes_message("plant/7/temp", vec![7; 999 << 10]).await;
    gateway.cloud.takes_records("plant-readings", 1).await;

    let readings = gateway.cloud.readings("plant-readings");
    assert_eq!(readings[0].val, Some(Value::Bytes(vec![7; 999 << 10])));
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_arrives_as_it_is_with_the_reason() {
    let gateway = Gateway::new().stream("lines", "plant-lines").set("streams.lines.encoding", "json");
    let mut gateway = gateway.starts().await;
    gateway.cloud.create_stream("plant-lines", 1);

    gateway.field.publishes_message("plant/7/temp", "{21.5").await;
    gateway.cloud.takes_records("plant-readings", 1).await;
    gateway.cloud.takes_records("plant-lines", 1).await;

    let cbor = gateway.cloud.readings("plant-readings");
    let json = gateway.cloud.readings("plant-lines");
    assert_eq!((&cbor[0].val, &cbor[0].raw), (&None, &Some(Value::Bytes(b"{21.5".to_vec()))));
    assert_eq!((&json[0].val, &json[0].raw), (&None, &Some(Value::Text("ezIxLjU=".into()))));
    assert!(cbor[0].err.as_ref().is_some_and(|why| !why.is_empty()));
}

#[tokio::test]
async fn a_reading_has_its_own_time_where_it_brings_one_and_else_its_arrival() {
    let mut gateway = Gateway::new().set("sources.broker.timestamp", "/ts").starts().await;

    let before = headwater::clock::now().0;
    gateway.field.publishes_message("plant/7/temp", r#"{"ts":1700000000000,"c":21.5}"#).await;
    gateway.field.publishes_message("plant/7/temp", r#"{"c":21.5}"#).await;
    let [own, arrival] = two_readings(&gateway).await;
    let after = headwater::clock::now().0;

    assert_eq!(own.ts, 1_700_000_000_000);
    assert!((before..=after).contains(&own.rx.unwrap()));
    assert!((before..=after).contains(&arrival.ts));
    assert_eq!(arrival.rx, None);
}

#[tokio::test]
async fn the_first_reading_after_a_restart_says_where_its_lane_stood() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.away();
    gateway.field.publishes(10).await;
    gateway.holds(10).await;

    gateway.agent.stops().await;
    gateway.agent.start();
    gateway.cloud.back();
    gateway.field.publishes(2).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let readings = gateway.cloud.readings("plant-readings");
    let prev = readings[10].prev.as_ref().unwrap();
    assert_eq!((&prev.run, prev.seq), (&readings[9].run, 9));
    assert_eq!((readings[10].seq, readings[11].seq), (0, 1));
    assert_eq!((&readings[0].prev, &readings[11].prev), (&None, &None));
}

#[tokio::test]
async fn readings_of_every_format_are_read_as_configured() {
    let plan = Gateway::new().set("sources.broker.payload", "cbor").with_scale().set("sources.scale.payload", "text");
    let mut gateway = plan.starts().await;

    let cbor = serde_cbor::to_vec(&Value::Map([(Value::Text("c".into()), Value::Float(21.5))].into())).unwrap();
    gateway.field.publishes_message("plant/7/temp", cbor).await;
    gateway.cloud.takes_records("plant-readings", 1).await;
    gateway.field.weighs(1).await;
    let [map, text] = two_readings(&gateway).await;

    assert_eq!(map.val, Some(Value::Map([(Value::Text("c".into()), Value::Float(21.5))].into())));
    assert_eq!((text.val, text.src.as_str(), text.topic.as_str()), (Some(Value::Text("1".into())), "scale", "plant/scale"));
}

async fn two_readings(gateway: &Gateway) -> [Reading; 2] {
    gateway.agent.shows("both are delivered", |status| status.count("/ledger/delivered") == 2).await;
    gateway.cloud.readings("plant-readings").try_into().unwrap()
}
