//! A broker that lies about lengths, and one that goes in mid-packet, before the whole agent.

use rumqttc::{Packet, PubAck, QoS};

use crate::{
    script::{Connection, ScriptedBroker, again, publish},
    support::gateway::Gateway,
};

const MIB: usize = 1 << 20;

async fn gateway_before(broker: &ScriptedBroker) -> (Gateway, Connection) {
    let url = broker.config(1).url;
    let mut gateway = Gateway::new().set("sources.broker.url", url).set("buffer.hold", "0s").installs().await;
    gateway.agent.start();
    let connection = broker.accepts_first(false).await;
    (gateway, connection)
}

#[tokio::test]
async fn a_publish_of_256_mib_takes_no_memory_whether_it_ends_or_not() {
    let broker = ScriptedBroker::start().await;
    let (gateway, mut connection) = gateway_before(&broker).await;
    connection.sends([publish(QoS::AtLeastOnce, 1, "1")]).await;
    assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(1)));
    let before = gateway.agent.resident();

    // The largest that a packet can say: 2^28 - 1 bytes follow. First the broker goes in the middle of it, then it sends all.
    let head = b"\x32\xFF\xFF\xFF\x7F\x00\x05plant\x00\x02";
    let payload = vec![7; 16 * MIB];
    connection.sends_bytes(head).await;
    connection.sends_bytes(&payload).await;
    drop(connection);
    let mut connection = broker.accepts(true).await;
    let mut left = 256 * MIB - 1 - (head.len() - 5);
    connection.sends_bytes(head).await;
    while left > 0 {
        let piece = left.min(payload.len());
        connection.sends_bytes(&payload[..piece]).await;
        left -= piece;
    }
    connection.sends([publish(QoS::AtLeastOnce, 3, "3")]).await;

    assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(2)), "it is counted, so nobody has to send it again");
    assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(3)));
    let grown = gateway.agent.resident().saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "{grown} bytes more");
    let status = gateway.agent.shows("the others are delivered", |status| status.count("/ledger/delivered") == 2).await;
    status.balances();
    assert_eq!(status.count("/ledger/rejected/too_large"), 1);
}

#[tokio::test]
async fn a_broker_that_goes_in_mid_packet_or_sends_nonsense_costs_no_reading() {
    let broker = ScriptedBroker::start().await;
    let (gateway, mut connection) = gateway_before(&broker).await;
    let mut whole = bytes::BytesMut::new();
    publish(QoS::AtLeastOnce, 2, "2").write(&mut whole, usize::MAX).unwrap();
    connection.sends([publish(QoS::AtLeastOnce, 1, "1")]).await;
    assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(1)));

    connection.sends_bytes(&whole[..whole.len() / 2]).await;
    drop(connection);
    let mut connection = broker.accepts(true).await;
    connection.sends([again(publish(QoS::AtLeastOnce, 2, "2"))]).await;
    assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(2)));
    connection.sends_bytes(b"\xF0\x02of nonsense").await;
    let mut connection = broker.accepts(true).await;
    connection.sends([publish(QoS::AtLeastOnce, 3, "3")]).await;
    assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(3)));

    let status = gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == 3).await;
    status.balances();
    assert_eq!(status.count("/sources/broker/invalid"), 1);
    let readings = gateway.cloud.readings("plant-readings");
    assert_eq!(readings.iter().map(crate::support::consumer::Reading::number).collect::<Vec<_>>(), [1, 2, 3]);
    let log = gateway.agent.log();
    assert_eq!(log.matches("sent what MQTT 3.1.1 does not allow").count(), 1, "{log}");
}
