//! Packets that no broker may send: each ends its connection with an error that names it, and costs no reading.

use futures_util::future::join_all;
use rumqttc::{Packet, PubAck, QoS};

use crate::{
    gateway::{Gateway, payloads},
    script::{ScriptedBroker, again, publish},
};

/// What is wrong, its bytes, and what the error must say. Source: MQTT 3.1.1, sections 2 and 3.
const PACKETS: [(&str, &[u8], &str); 24] = [
    ("a reserved packet type", b"\x00\x02\x00\x01", "Invalid packet type: 0"),
    ("the other reserved packet type", b"\xF0\x00", "Invalid packet type: 15"),
    ("a length that does not end", b"\x30\xFF\xFF\xFF\xFF\x01", "Malformed remaining length"),
    ("QoS 3", b"\x36\x08\x00\x01a\x00\x01abc", "Invalid QoS level: 3"),
    ("QoS 3 in a publish of 256 MiB", b"\x36\xFF\xFF\xFF\x7F\x00\x01a\x00\x01", "Invalid QoS level: 3"),
    ("packet identifier 0", b"\x32\x06\x00\x01a\x00\x00x", "Packet id Zero"),
    ("packet identifier 0 in a publish of 256 MiB", b"\x32\xFF\xFF\xFF\x7F\x00\x01a\x00\x00", "Packet id Zero"),
    ("a topic that is not UTF-8", b"\x32\x07\x00\x02\xC3\x28\x00\x01x", "Topic is not UTF-8"),
    ("the same in a publish of 256 MiB", b"\x32\xFF\xFF\xFF\x7F\x00\x02\xC3\x28\x00\x01", "Topic is not UTF-8"),
    ("a topic longer than its packet", b"\x32\x05\xFF\xFFa\x00\x01", "boundary crossed"),
    ("a publish without a topic's length", b"\x30\x01\x00", "Malformed packet"),
    ("a publish without anything", b"\x30\x00", "Payload required"),
    ("a publish without its identifier", b"\x32\x03\x00\x01a", "Malformed packet"),
    ("a SUBACK with a code that is none", b"\x90\x03\x00\x01\x07", "Invalid subscribe reason code: 7"),
    ("a SUBACK with an answer too many", b"\x90\x04\x00\x01\x01\x01", "a SUBACK with 2 answers for 1 topics"),
    ("a SUBACK of 256 MiB", b"\x90\xFF\xFF\xFF\x7F\x00\x01", "payload size limit exceeded"),
    ("a PUBREL that is cut", b"\x62\x01\x00", ""),
    ("a second CONNACK", b"\x20\x02\x00\x00", "no use for a second CONNACK"),
    ("a CONNACK with a code that is none", b"\x20\x02\x00\x09", "Invalid Connect return code: 9"),
    ("an acknowledgement of what we never sent", b"\x40\x02\x00\x01", "no use for PUBACK"),
    ("a request of a client", b"\xC0\x00", "no use for PINGREQ"),
    ("a subscription by the broker", b"\x82\x06\x00\x01\x00\x01a\x01", "no use for SUBSCRIBE"),
    ("a good-bye", b"\xE0\x00", "no use for DISCONNECT"),
    ("another protocol", ANSWER_OF_A_WEB_SERVER, ""),
];

/// Read as MQTT it begins with a PUBACK of 84 bytes.
const ANSWER_OF_A_WEB_SERVER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\n\
    Content-Length: 28\r\nConnection: close\r\n\r\n<html>400 Bad Request</html>";

#[tokio::test]
async fn a_malformed_packet_ends_the_connection_with_its_name_and_costs_no_reading() {
    join_all(PACKETS.map(|(what, packet, says)| survives(what, packet.to_vec(), says))).await;
}

/// A broker that sends a reading, the packet, and a reading behind it; it repeats what was not acknowledged.
async fn survives(what: &str, packet: Vec<u8>, says: &str) {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    connection.sends([publish(QoS::AtLeastOnce, 1, "1")]).await;
    assert_eq!(payloads(&gateway.takes(1).await), ["1"], "{what}");

    connection.sends_bytes(&packet).await;
    assert!(connection.ends().await, "{what}");
    let error = gateway.complains("source broker").await;
    assert!(error.contains("sent what MQTT 3.1.1 does not allow: ") && error.contains(says), "{what}: {error}");
    assert!(error.len() < 300, "{what}: {} bytes", error.len());

    let mut connection = broker.accepts(true).await;
    gateway.shows(|source| source.state == "connected" && source.error.is_none()).await;
    connection.sends([again(publish(QoS::AtLeastOnce, 1, "1")), publish(QoS::AtLeastOnce, 2, "2")]).await;
    assert_eq!(payloads(&gateway.takes(1).await), ["2"], "{what}");
    gateway.has_made_safe(2);
    for packet in [1, 2] {
        assert_eq!(connection.receives().await, Packet::PubAck(PubAck::new(packet)), "{what}");
    }
    let state = gateway.source_state();
    assert_eq!((state.received, state.invalid), (2, 1), "{what}");
    gateway.kill().await;
}

#[tokio::test]
async fn a_packet_with_megabytes_that_does_not_belong_here_is_named_and_not_quoted() {
    let broker = ScriptedBroker::start().await;
    let gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;

    // A SUBSCRIBE with 2 MiB of filters.
    let filters = b"\x00\x01a\x01".repeat(1 << 19);
    connection.sends_bytes(b"\x82\x82\x80\x80\x01\x00\x01").await;
    connection.sends_bytes(&filters).await;

    let error = gateway.complains("source broker").await;
    assert!(error.ends_with("a client has no use for SUBSCRIBE"), "{} bytes", error.len());
    gateway.kill().await;
}

#[tokio::test]
async fn a_broker_that_repeats_itself_for_ever_is_left_before_it_fills_the_memory() {
    let broker = ScriptedBroker::start().await;
    let mut gateway = Gateway::start(broker.config(1));
    let mut connection = broker.accepts_first(false).await;
    let first = publish(QoS::AtLeastOnce, 1, "1");
    connection.sends([first.clone()]).await;
    gateway.takes(1).await;

    // It is known, so it fills no batch, and nobody makes it safe, so it waits.
    let mut repeated = bytes::BytesMut::new();
    again(first).write(&mut repeated, usize::MAX).unwrap();
    connection.sends_bytes(&repeated.repeat(65_536)).await;

    assert!(connection.ends().await);
    assert!(gateway.complains("source broker").await.contains("more unacknowledged publishes than"));
    gateway.kill().await;
}
