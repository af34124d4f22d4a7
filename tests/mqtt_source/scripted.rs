//! What the source does packet by packet, before a broker that follows a script.

use std::time::Duration;

use headwater::status::Reason;
use rumqttc::{Packet, PubAck, PubComp, PubRec, PubRel, Publish, QoS, SubscribeReasonCode};
use tokio::time::timeout;

use crate::{
    gateway::{Gateway, payloads},
    script::{ScriptedBroker, again, publish},
    support::DEADLINE,
};

fn puback(packet: u16) -> Packet {
    Packet::PubAck(PubAck::new(packet))
}

/// Publishes with these packet identifiers, which are also the payloads.
fn publishes(qos: QoS, packets: impl IntoIterator<Item = u16>) -> Vec<Packet> {
    packets.into_iter().map(|packet| publish(qos, packet, &packet.to_string())).collect()
}

#[tokio::test]
async fn a_publish_is_acknowledged_when_its_reading_is_safe_and_not_before() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;

    connection.sends(publishes(QoS::AtLeastOnce, 1..=5)).await;
    gateway.takes(5).await;
    assert_eq!(connection.sends_before_the_next_answer().await, []);

    gateway.has_made_safe(3);
    for packet in 1..=3 {
        assert_eq!(connection.receives().await, puback(packet));
    }
    assert_eq!(connection.sends_before_the_next_answer().await, []);
    gateway.kill().await;
}

#[tokio::test]
async fn acknowledgements_go_out_in_the_order_of_arrival_whatever_the_qos() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(2));
    let mut connection = broker.accepts_first(false).await;

    connection
        .sends([publish(QoS::ExactlyOnce, 9, "a"), publish(QoS::AtMostOnce, 0, "b"), publish(QoS::AtLeastOnce, 4, "c")])
        .await;
    gateway.takes(3).await;
    gateway.has_made_safe(3);

    assert_eq!(connection.receives().await, Packet::PubRec(PubRec::new(9)));
    assert_eq!(connection.receives().await, puback(4));
    gateway.kill().await;
}

#[tokio::test]
async fn an_acknowledgement_does_not_cross_to_another_connection() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    connection.sends(publishes(QoS::AtLeastOnce, 1..=3)).await;
    gateway.takes(3).await;
    drop(connection);

    let mut connection = broker.accepts(true).await;
    gateway.has_made_safe(3);
    assert_eq!(connection.sends_before_the_next_answer().await, []);

    connection.sends(publishes(QoS::AtLeastOnce, 1..=3).into_iter().map(again)).await;
    for packet in 1..=3 {
        assert_eq!(connection.receives().await, puback(packet));
    }
    connection.sends(publishes(QoS::AtLeastOnce, [4])).await;
    assert_eq!(payloads(&gateway.takes(1).await), ["4"], "nothing was stored twice");
    gateway.kill().await;
}

#[tokio::test]
async fn a_repeated_publish_whose_reading_is_not_safe_yet_waits_for_it() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    connection.sends(publishes(QoS::AtLeastOnce, [1])).await;
    gateway.takes(1).await;
    drop(connection);

    let mut connection = broker.accepts(true).await;
    connection.sends(publishes(QoS::AtLeastOnce, [1]).into_iter().map(again)).await;
    assert_eq!(connection.sends_before_the_next_answer().await, []);

    gateway.has_made_safe(1);
    assert_eq!(connection.receives().await, puback(1));
    gateway.kill().await;
}

#[tokio::test]
async fn a_new_session_takes_its_packet_identifiers_from_the_start() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    connection.sends(publishes(QoS::AtLeastOnce, [1])).await;
    gateway.takes(1).await;
    drop(connection);

    let mut connection = broker.accepts_first(false).await;
    connection.sends(publishes(QoS::AtLeastOnce, [1]).into_iter().map(again)).await;

    assert_eq!(payloads(&gateway.takes(1).await), ["1"]);
    gateway.kill().await;
}

#[tokio::test]
async fn a_qos_2_identifier_is_kept_until_the_broker_releases_it() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(2));
    let mut connection = broker.accepts_first(false).await;
    connection.sends(publishes(QoS::ExactlyOnce, [7])).await;
    gateway.takes(1).await;
    gateway.has_made_safe(1);
    assert_eq!(connection.receives().await, Packet::PubRec(PubRec::new(7)));

    connection.sends(publishes(QoS::ExactlyOnce, [7])).await;
    assert_eq!(connection.receives().await, Packet::PubRec(PubRec::new(7)));
    connection.sends([Packet::PubRel(PubRel::new(7))]).await;
    assert_eq!(connection.receives().await, Packet::PubComp(PubComp::new(7)));
    assert_eq!(gateway.source_state().received, 1);

    connection.sends(publishes(QoS::ExactlyOnce, [7])).await;
    assert_eq!(payloads(&gateway.takes(1).await), ["7"], "after the release it is a new publish");
    gateway.kill().await;
}

#[tokio::test]
async fn without_room_nothing_more_is_read_while_the_connection_is_kept_alive() {
    let broker = ScriptedBroker::start().await;
    let mut config = broker.config(1);
    config.keep_alive = Duration::from_secs(1);
    let mut gateway = Gateway::start(config);
    let mut connection = broker.accepts_first(false).await;

    // One batch waits for ingest, one for the first to be taken, and one packet stays in the socket.
    connection.sends(publishes(QoS::AtLeastOnce, 1..=1_025)).await;
    gateway.shows(|source| source.state == "waiting").await;
    for _ in 0..4 {
        assert_eq!(connection.next().await, Some(Packet::PingReq), "and no answer to it is expected meanwhile");
    }

    let readings = gateway.takes(1_025).await;
    assert_eq!(readings.last().unwrap().payload, "1025");
    gateway.shows(|source| source.state == "connected").await;
    gateway.kill().await;
}

#[tokio::test]
async fn what_was_queued_at_a_higher_qos_is_held_and_not_kept_in_memory() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(0));
    let mut connection = broker.accepts_first(true).await;

    connection.sends(publishes(QoS::AtLeastOnce, 1..=1_025)).await;
    gateway.shows(|source| source.state == "waiting").await;
    // It would be dropped if it were read, since nobody waits for its acknowledgement.
    connection.sends([publish(QoS::AtMostOnce, 0, "1026")]).await;

    let readings = gateway.takes(1_026).await;
    assert_eq!(readings.last().unwrap().payload, "1026");
    assert_eq!(gateway.ledger().dropped.get(Reason::NoRoom), 0);
    gateway.kill().await;
}

#[tokio::test]
async fn a_publish_that_was_lost_with_its_connection_is_not_taken_for_an_equal_one_before_it() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    let equal = || publish(QoS::AtLeastOnce, 1, "21.5");
    // The broker has had the first acknowledgement when it answers the PINGREQ behind it, so the first is forgotten.
    connection.sends([equal()]).await;
    gateway.takes(1).await;
    gateway.has_made_safe(1);
    assert_eq!(connection.receives().await, puback(1));
    assert_eq!(connection.sends_before_the_next_answer().await, []);
    connection.sends([equal()]).await;
    gateway.takes(1).await;
    gateway.has_made_safe(2);
    assert_eq!(connection.receives().await, puback(1));
    // A third one is on its way when the connection ends.
    drop(connection);

    let mut connection = broker.accepts(true).await;
    connection.sends([again(equal())]).await;

    let third = &gateway.takes(1).await[0];
    assert_eq!((&third.payload[..], third.dup), (&b"21.5"[..], true));
    gateway.kill().await;
}

#[tokio::test]
async fn qos_0_readings_that_find_no_room_are_counted() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(0));
    let mut connection = broker.accepts_first(false).await;

    connection.sends((0..5_000).map(|n: u16| publish(QoS::AtMostOnce, 0, &n.to_string()))).await;
    connection.sends_before_the_next_answer().await;

    let dropped = gateway.ledger().dropped.get(Reason::NoRoom);
    assert!((1..5_000).contains(&dropped));
    gateway.takes(5_000 - usize::try_from(dropped).unwrap()).await;
    assert_eq!(gateway.ledger().dropped.get(Reason::NoRoom), dropped);
    gateway.kill().await;
}

#[tokio::test]
async fn qos_0_readings_that_find_no_room_when_the_agent_stops_are_counted() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    connection.sends(publishes(QoS::AtLeastOnce, [1])).await;
    // Nobody takes it, so there is no room for what follows.
    gateway.shows(|source| source.received == 1).await;
    connection.sends([publish(QoS::AtMostOnce, 0, "a"), publish(QoS::AtLeastOnce, 2, "b")]).await;
    connection.sends_before_the_next_answer().await;

    gateway.has_made_safe(1);
    gateway.stops().await;

    assert_eq!(gateway.ledger().dropped.get(Reason::NoRoom), 1, "the other one stays with the broker");
    assert_eq!(connection.receives().await, puback(1));
    assert_eq!(connection.receives().await, Packet::Disconnect);
}

#[tokio::test]
async fn a_broker_that_says_nothing_any_more_is_left() {
    let broker = ScriptedBroker::start().await;
    let mut config = broker.config(1);
    config.keep_alive = Duration::from_secs(1);
    let gateway = Gateway::start(config);
    let mut connection = broker.accepts_first(false).await;

    while connection.next().await.is_some() {}

    assert!(gateway.complains("source broker").await.contains("did not answer within"));
    let _connection = broker.accepts(true).await;
    gateway.shows(|source| source.state == "connected").await;
    gateway.kill().await;
}

#[tokio::test]
async fn a_broker_that_answers_everything_but_the_subscription_is_left_and_asked_again() {
    let broker = ScriptedBroker::start().await;
    let mut config = broker.config(1);
    config.keep_alive = Duration::from_secs(1);
    let gateway = Gateway::start(config);
    let mut connection = broker.accepts(false).await;

    let left = async {
        while let Some(packet) = connection.next().await {
            if packet == Packet::PingReq {
                connection.sends([Packet::PingResp]).await;
            }
        }
    };
    timeout(DEADLINE, left).await.expect("it stays");

    assert!(gateway.complains("source broker").await.contains("does not answer our subscription"));
    let _connection = broker.accepts_first(true).await;
    gateway.shows(|source| source.state == "connected" && source.error.is_none()).await;
    gateway.kill().await;
}

#[tokio::test]
async fn a_topic_that_the_broker_refuses_is_named_in_the_status() {
    let broker = ScriptedBroker::start().await;
    let gateway = Gateway::start(broker.config(1));

    let mut connection = broker.accepts(false).await;
    connection.grants(SubscribeReasonCode::Failure).await;
    assert!(gateway.complains("source broker, topics").await.contains("refuses our subscription to [\"plant/#\"]"));
    drop(connection);

    let mut connection = broker.accepts(true).await;
    connection.grants(SubscribeReasonCode::Success(QoS::AtMostOnce)).await;
    connection.sends_before_the_next_answer().await;
    assert!(gateway.complains("source broker, topics").await.contains("grants less than QoS 1 for [\"plant/#\"]"));
    gateway.kill().await;
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_end_the_connection_and_nothing_else() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;

    connection
        .sends([publish(QoS::AtLeastOnce, 1, "1"), Packet::Publish(Publish::new("", QoS::AtMostOnce, "")), Packet::PingReq])
        .await;
    while connection.next().await.is_some() {}

    assert!(gateway.complains("source broker").await.contains("sent what MQTT 3.1.1 does not allow"));
    assert_eq!(gateway.source_state().invalid, 1);
    assert_eq!(gateway.takes(2).await.len(), 2);
    let _connection = broker.accepts(true).await;
    gateway.kill().await;
}
