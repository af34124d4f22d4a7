//! The MQTT source between a broker and ingest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod field;
mod gateway;
mod malformed;
mod script;
mod scripted;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use field::Field;
use gateway::{Gateway, fingerprints, payloads};
use headwater::{reading::Reading, status::Reason};
use support::mosquitto::Mosquitto;

const FIVE: [&str; 5] = ["1", "2", "3", "4", "5"];

#[tokio::test]
async fn readings_arrive_in_order_with_topic_payload_and_time() {
    let (_field, gateway, readings) = five_readings(1).await;

    assert!(readings.iter().all(|reading| &*reading.topic == "plant/7/temp" && !reading.dup && reading.arrived.0 > 0));
    gateway.kill().await;
}

#[tokio::test]
async fn what_was_not_safe_when_the_agent_was_killed_is_sent_again_and_marked() {
    let (field, gateway, _) = five_readings(1).await;
    gateway.kill().await;

    let mut gateway = Gateway::start(field.config(1));

    let readings = gateway.takes(5).await;
    assert_eq!(payloads(&readings), FIVE);
    assert!(readings.iter().all(|reading| reading.dup));
    gateway.kill().await;
}

#[tokio::test]
async fn what_was_committed_when_the_agent_was_killed_is_acknowledged_and_not_stored_again() {
    let (field, gateway, readings) = five_readings(1).await;
    gateway.kill().await;

    let mut gateway = Gateway::start_again(field.config(1), fingerprints(&readings[..3]));

    let readings = gateway.takes(2).await;
    assert_eq!(payloads(&readings), ["4", "5"]);
    field.broker_sees("PUBACK", Some(3)).await;
    assert_eq!(gateway.source_state().repeated, 3);
    gateway.kill().await;
}

#[tokio::test]
async fn a_source_that_is_told_to_stop_sends_the_acknowledgements_it_owes() {
    let (mut field, mut gateway, _) = five_readings(1).await;

    gateway.is_told_to_stop();
    gateway.has_made_safe(5);
    gateway.stops().await;

    field.broker_sees("DISCONNECT", None).await;
    let mut gateway = Gateway::start(field.config(1));
    field.publishes(&["6"]).await;
    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.kill().await;
}

#[tokio::test]
async fn a_broker_that_restarts_in_mid_stream_loses_and_repeats_nothing() {
    let (mut field, mut gateway, _) = five_readings(1).await;
    gateway.has_made_safe(2);
    field.broker_sees("PUBACK", Some(2)).await;

    field.broker_stops().await;
    field.broker_starts().await;
    field.publishes(&["6", "7"]).await;

    assert_eq!(payloads(&gateway.takes(2).await), ["6", "7"]);
    gateway.shows(|source| source.repeated == 3).await;
    gateway.has_made_safe(7);
    field.broker_sees("PUBACK", Some(7)).await;
    gateway.stops().await;
}

#[tokio::test]
async fn a_broker_that_is_killed_sends_again_what_it_had_saved_and_that_is_recognised() {
    let (mut field, mut gateway, _) = five_readings(1).await;

    field.broker_saves().await;
    field.broker_is_killed().await;
    field.broker_starts().await;
    gateway.shows(|source| source.repeated == 5).await;
    field.publishes(&["6"]).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.kill().await;
}

#[tokio::test]
async fn qos_2_readings_reach_ingest_exactly_once_through_restarts_of_the_broker() {
    let (mut field, mut gateway, _) = five_readings(2).await;
    field.broker_stops().await;
    field.broker_starts().await;
    gateway.has_made_safe(4);
    field.broker_sees("PUBREC", Some(4)).await;
    field.broker_stops().await;
    field.broker_starts().await;

    field.publishes(&["6"]).await;
    let readings = gateway.takes(1).await;

    assert_eq!(payloads(&readings), ["6"]);
    gateway.has_made_safe(6);
    field.broker_sees("PUBCOMP", Some(6)).await;
    gateway.stops().await;
}

#[tokio::test]
async fn a_broker_that_forgot_the_session_is_asked_for_the_topics_again() {
    let (mut field, mut gateway, _) = five_readings_from(Field::start_with(Mosquitto::new()).await, 1).await;

    field.broker_is_killed().await;
    field.broker_starts().await;
    field.broker_sees("SUBACK", None).await;
    field.publishes(&["6"]).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.kill().await;
}

#[tokio::test]
async fn a_publish_that_nobody_could_carry_is_counted_and_stalls_nothing() {
    let (mut field, mut gateway, _) = five_readings(1).await;

    field.publishes_bytes("plant/7/camera", vec![7; 5 << 20]).await;
    field.publishes(&["6"]).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["6"]);
    gateway.has_made_safe(6);
    field.broker_sees("PUBACK", Some(7)).await;
    assert_eq!(gateway.ledger().rejected.get(Reason::TooLarge), 1);
    gateway.stops().await;
}

#[tokio::test]
async fn an_absent_broker_is_told_and_connected_to_when_it_is_there() {
    let mut field = Field::start().await;
    let config = field.config(1);
    field.broker_stops().await;

    let mut gateway = Gateway::start(config);
    let what = gateway.complains("source broker").await;
    assert!(what.starts_with("no connection to broker mqtt://127.0.0.1:"), "{what}");
    assert!(gateway.source_state().error.is_some());

    field.broker_starts().await;
    gateway.shows(|source| source.state == "connected" && source.error.is_none()).await;
    gateway.stops().await;
}

/// A broker and a gateway, which has taken five readings and made none of them safe. Their packet identifiers are 1 to 5.
async fn five_readings(qos: u8) -> (Field, Gateway, Vec<Reading>) {
    five_readings_from(Field::start().await, qos).await
}

async fn five_readings_from(mut field: Field, qos: u8) -> (Field, Gateway, Vec<Reading>) {
    let mut gateway = Gateway::start(field.config(qos));
    field.broker_sees("SUBACK", None).await;
    field.publishes(&FIVE).await;
    let readings = gateway.takes(5).await;
    assert_eq!(payloads(&readings), FIVE);
    (field, gateway, readings)
}
