//! The MQTT source between a broker and ingest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod gateway;
mod mosquitto;
mod script;
mod scripted;
mod tls;

use gateway::{Gateway, fingerprints, payloads};
use mosquitto::Mosquitto;

const FIVE: [&str; 5] = ["1", "2", "3", "4", "5"];

#[tokio::test]
async fn readings_arrive_in_order_with_topic_payload_and_time() {
    let (_broker, gateway, readings) = five_readings(1).await;

    assert!(readings.iter().all(|reading| &*reading.topic == "plant/7/temp" && !reading.dup && reading.arrived.0 > 0));
    gateway.kill().await;
}

#[tokio::test]
async fn what_was_not_safe_when_the_agent_was_killed_is_sent_again_and_marked() {
    let (broker, gateway, _) = five_readings(1).await;
    gateway.kill().await;

    let mut gateway = Gateway::start(broker.config(1));

    let readings = gateway.takes(5).await;
    assert_eq!(payloads(&readings), FIVE);
    assert!(readings.iter().all(|reading| reading.dup));
    gateway.kill().await;
}

#[tokio::test]
async fn what_was_committed_when_the_agent_was_killed_is_acknowledged_and_not_stored_again() {
    let (mut broker, gateway, readings) = five_readings(1).await;
    gateway.kill().await;

    let mut gateway = Gateway::start_again(broker.config(1), fingerprints(&readings[..3]));

    let readings = gateway.takes(2).await;
    assert_eq!(payloads(&readings), ["4", "5"]);
    broker.logs("Received PUBACK from headwater-gw-1-broker (Mid: 3").await;
    assert_eq!(gateway.source_state().repeated, 3);
    gateway.kill().await;
}

#[tokio::test]
async fn a_source_that_is_told_to_stop_sends_the_acknowledgements_it_owes() {
    let (mut broker, mut gateway, _) = five_readings(1).await;

    gateway.is_told_to_stop();
    gateway.has_made_safe(5);
    gateway.stops().await;

    broker.logs("Received DISCONNECT from headwater-gw-1-broker").await;
    let mut gateway = Gateway::start(broker.config(1));
    broker.receives("plant/7/temp", &["6"]).await;
    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.kill().await;
}

#[tokio::test]
async fn a_broker_that_restarts_in_mid_stream_loses_and_repeats_nothing() {
    let (mut broker, mut gateway, _) = five_readings(1).await;
    gateway.has_made_safe(2);
    broker.logs("Received PUBACK from headwater-gw-1-broker (Mid: 2").await;

    broker.restarts().await;
    broker.receives("plant/7/temp", &["6", "7"]).await;

    assert_eq!(payloads(&gateway.takes(2).await), ["6", "7"]);
    gateway.shows(|source| source.repeated == 3).await;
    gateway.has_made_safe(7);
    broker.logs("Received PUBACK from headwater-gw-1-broker (Mid: 7").await;
    gateway.stops().await;
}

#[tokio::test]
async fn a_broker_that_is_killed_sends_again_what_it_had_saved_and_that_is_recognised() {
    let (mut broker, mut gateway, _) = five_readings(1).await;
    broker.saves().await;

    broker.is_killed_and_restarts().await;
    broker.receives("plant/7/temp", &["6"]).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.kill().await;
}

#[tokio::test]
async fn qos_2_readings_reach_ingest_exactly_once_through_restarts_of_the_broker() {
    let (mut broker, mut gateway, _) = five_readings(2).await;
    broker.restarts().await;
    gateway.has_made_safe(4);
    broker.logs("Received PUBREC from headwater-gw-1-broker (Mid: 4").await;
    broker.restarts().await;

    broker.receives("plant/7/temp", &["6"]).await;
    let readings = gateway.takes(1).await;

    assert_eq!(payloads(&readings), ["6"]);
    gateway.has_made_safe(6);
    broker.logs("Received PUBCOMP from headwater-gw-1-broker (Mid: 6").await;
    gateway.stops().await;
}

#[tokio::test]
async fn a_broker_that_forgot_the_session_is_asked_for_the_topics_again() {
    let (mut broker, mut gateway, _) = five_readings(1).await;

    broker.forgets_everything().await;
    broker.logs("Sending SUBACK to headwater-gw-1-broker").await;
    broker.receives("plant/7/temp", &["6"]).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.kill().await;
}

#[tokio::test]
async fn a_publish_that_nobody_could_carry_is_counted_and_stalls_nothing() {
    let (mut broker, mut gateway, _) = five_readings(1).await;

    broker.receives_file("plant/7/camera", &vec![7; 5 << 20]).await;
    broker.receives("plant/7/temp", &["6"]).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.has_made_safe(6);
    broker.logs("Received PUBACK from headwater-gw-1-broker (Mid: 7").await;
    assert_eq!(gateway.ledger().received, 1, "it is counted once");
    gateway.stops().await;
}

#[tokio::test]
async fn an_absent_broker_is_told_and_connected_to_when_it_is_there() {
    let mut broker = Mosquitto::start().await;
    let config = broker.config(1);
    broker.stops().await;

    let mut gateway = Gateway::start(config);
    let what = gateway.complains("source broker").await;
    assert!(what.starts_with("no connection to broker mqtt://127.0.0.1:"), "{what}");
    assert!(gateway.source_state().error.is_some());

    broker.starts().await;
    gateway.shows(|source| source.state == "connected" && source.error.is_none()).await;
    gateway.stops().await;
}

/// A broker and a gateway, which has taken five readings and made none of them safe. Their packet identifiers are 1 to 5.
async fn five_readings(qos: u8) -> (Mosquitto, Gateway, Vec<headwater::reading::Reading>) {
    let mut broker = Mosquitto::start().await;
    let mut gateway = Gateway::start(broker.config(qos));
    broker.logs("Sending SUBACK to headwater-gw-1-broker").await;
    broker.receives("plant/7/temp", &FIVE).await;
    let readings = gateway.takes(5).await;
    assert_eq!(payloads(&readings), FIVE);
    (broker, gateway, readings)
}
