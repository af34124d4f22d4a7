//! MQTT packets from bytes: rumqttc's codec, and a way past publishes that nobody could carry.
//!
//! A client that refuses a publish for its size breaks the connection, and the broker sends it again on the next one, for ever. So
//! its payload is skipped as it streams in, and what is left of it can be acknowledged and counted.
//!
//! Invariant: one packet takes at most [`LARGEST`] bytes of memory, and no bytes from the broker make this panic.

use bytes::{Buf, BytesMut};
use rumqttc::{Codec, Packet};
use tokio_util::codec::{Decoder, Encoder};

/// Largest packet that is read into memory. Four times what a Kinesis record holds: JSON shrinks when it becomes CBOR, so a longer
/// payload than 1,000 KiB may still fit; whether it does is ingest's to say.
pub const LARGEST: usize = 4 << 20;

/// What arrives.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// A packet as rumqttc reads it.
    Packet(Packet),
    /// A publish over [`LARGEST`], without its payload.
    Oversized(Oversized),
}

/// What is left of a publish that was skipped.
#[derive(Debug, PartialEq)]
pub struct Oversized {
    /// The topic.
    pub topic: String,
    /// The packet identifier; 0 with QoS 0.
    pub packet: u16,
    /// Whether the QoS is 2.
    pub exactly_once: bool,
    /// The broker sends it again.
    pub dup: bool,
    /// CRC32C of topic and payload.
    pub hash: u32,
}

/// Reads and writes the packets of one connection.
pub struct Wire {
    codec: Codec,
    skipping: Option<(Oversized, usize)>,
    /// Bytes have arrived since this was last reset.
    pub heard: bool,
}

impl Default for Wire {
    fn default() -> Self {
        // What we send are a few filters and acknowledgements.
        let codec = Codec { max_incoming_size: LARGEST, max_outgoing_size: LARGEST };
        Self { codec, skipping: None, heard: false }
    }
}

impl Decoder for Wire {
    type Item = Incoming;
    type Error = rumqttc::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Incoming>, rumqttc::Error> {
        self.heard |= !bytes.is_empty();
        if self.skipping.is_none() {
            match self.codec.decode(bytes) {
                Err(rumqttc::Error::PayloadSizeLimitExceeded(length)) if is_publish(bytes) => {
                    self.skipping = begin_skipping(bytes, length)?;
                }
                decoded => return Ok(decoded?.map(Incoming::Packet)),
            }
        }
        Ok(self.skip(bytes).map(Incoming::Oversized))
    }
}

impl Encoder<Packet> for Wire {
    type Error = rumqttc::Error;

    fn encode(&mut self, packet: Packet, bytes: &mut BytesMut) -> Result<(), rumqttc::Error> {
        self.codec.encode(packet, bytes)
    }
}

impl Wire {
    fn skip(&mut self, bytes: &mut BytesMut) -> Option<Oversized> {
        let (publish, left) = self.skipping.as_mut()?;
        let here = bytes.len().min(*left);
        publish.hash = crc32c::crc32c_append(publish.hash, &bytes[..here]);
        bytes.advance(here);
        *left -= here;
        if *left > 0 {
            return None;
        }
        self.skipping.take().map(|(publish, _)| publish)
    }
}

/// CRC32C of topic and payload.
pub fn hash(topic: &str, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(topic.as_bytes()), payload)
}

/// The kind of a packet, as the specification calls it: what is in one that does not belong here may be megabytes.
pub fn name_of(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "a second CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect => "DISCONNECT",
    }
}

fn is_publish(bytes: &BytesMut) -> bool {
    bytes.first().is_some_and(|first| first >> 4 == 3)
}

/// Takes the headers of a publish with `length` bytes after its fixed header, and says how many of those are payload; `None` while
/// not all of the headers are here.
///
/// Source: MQTT 3.1.1, 2.2 and 3.3.
fn begin_skipping(bytes: &mut BytesMut, length: usize) -> Result<Option<(Oversized, usize)>, rumqttc::Error> {
    let flags = bytes[0];
    let exactly_once = match (flags >> 1) & 0b11 {
        3 => return Err(rumqttc::Error::InvalidQoS(3)),
        qos => qos == 2,
    };
    let fixed = 2 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    let Some(topic_length) = bytes.get(fixed..fixed + 2) else { return Ok(None) };
    let topic_length = usize::from(u16::from_be_bytes([topic_length[0], topic_length[1]]));
    let packet_length = if flags & 0b0110 == 0 { 0 } else { 2 };
    let variable = 2 + topic_length + packet_length;
    if bytes.len() < fixed + variable {
        return Ok(None);
    }

    bytes.advance(fixed + 2);
    let topic = String::from_utf8(bytes.split_to(topic_length).to_vec()).map_err(|_| rumqttc::Error::TopicNotUtf8)?;
    let packet = if packet_length == 0 { 0 } else { bytes.get_u16() };
    if packet_length != 0 && packet == 0 {
        return Err(rumqttc::Error::PacketIdZero);
    }
    let hash = hash(&topic, &[]);
    // `length` is over LARGEST, and the headers are at most 64 KiB + 3.
    Ok(Some((Oversized { topic, packet, exactly_once, dup: flags & 0b1000 != 0, hash }, length - variable)))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use rumqttc::{Publish, QoS};

    use super::*;

    fn publish(topic: &str, qos: QoS, packet: u16, payload: impl Into<Bytes>) -> Publish {
        Publish { pkid: packet, ..Publish::from_bytes(topic, qos, payload.into()) }
    }

    fn bytes_of(publishes: &[Publish]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for publish in publishes {
            publish.write(&mut bytes).unwrap();
        }
        bytes
    }

    /// What comes out when the bytes arrive `step` at a time, and the most bytes that waited.
    fn read(mut from: BytesMut, step: usize) -> (Vec<Incoming>, usize) {
        let (mut wire, mut buffer, mut out, mut waited) = (Wire::default(), BytesMut::new(), Vec::new(), 0);
        while !from.is_empty() {
            buffer.extend_from_slice(&from.split_to(step.min(from.len())));
            while let Some(incoming) = wire.decode(&mut buffer).unwrap() {
                out.push(incoming);
            }
            waited = waited.max(buffer.len());
        }
        (out, waited)
    }

    #[test]
    fn a_publish_that_is_too_large_is_skipped_and_the_next_one_is_read() {
        let payload = vec![7; LARGEST + 1];
        let large = publish("plant/camera", QoS::AtLeastOnce, 9, payload.clone());
        let next = publish("plant/1/temp", QoS::AtLeastOnce, 10, "21.5");

        let (incoming, waited) = read(bytes_of(&[large, next.clone()]), 10_000);

        let hash = hash("plant/camera", &payload);
        let oversized = Oversized { topic: "plant/camera".into(), packet: 9, exactly_once: false, dup: false, hash };
        assert_eq!(incoming, [Incoming::Oversized(oversized), Incoming::Packet(Packet::Publish(next))]);
        assert!(waited < 20_000, "{waited} bytes waited");
    }

    #[test]
    fn the_largest_publish_that_is_not_too_large_is_read() {
        let payload = vec![7; LARGEST - 2 - "a/b".len()];
        let largest = publish("a/b", QoS::AtMostOnce, 0, payload);
        assert_eq!(read(bytes_of(std::slice::from_ref(&largest)), 65_536).0, [Incoming::Packet(Packet::Publish(largest))]);
    }

    #[test]
    fn the_headers_of_a_publish_that_is_too_large_may_arrive_byte_by_byte() {
        let large = Publish { dup: true, ..publish("a/b", QoS::ExactlyOnce, 3, vec![0; LARGEST]) };
        let mut bytes = bytes_of(&[large]);
        let (mut wire, mut buffer) = (Wire::default(), BytesMut::new());
        for byte in bytes.split_to(40) {
            buffer.extend_from_slice(&[byte]);
            assert_eq!(wire.decode(&mut buffer).unwrap(), None);
        }
        buffer.unsplit(bytes);
        let Some(Incoming::Oversized(oversized)) = wire.decode(&mut buffer).unwrap() else { panic!("nothing was read") };
        assert_eq!((oversized.packet, oversized.exactly_once, oversized.dup), (3, true, true));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut bytes = BytesMut::new();
            for _ in 0..24 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.extend_from_slice(&state.to_be_bytes()[..1]);
            }
            let mut wire = Wire::default();
            while let Ok(Some(_)) = wire.decode(&mut bytes) {}
        }
    }
}
