//! Bytes from a broker.

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use super::{first, pieces};
use crate::sources::mqtt::wire::{Incoming, LARGEST, Wire};

/// The first byte says how many of the next ones say where the rest is cut.
pub fn target(data: &[u8]) {
    let (cuts, data) = first(data);
    let (cuts, data) = data.split_at(usize::from(cuts % 8).min(data.len()));
    let whole = read([data].into_iter());
    assert_eq!(read(pieces(data, cuts)), whole, "cut by {cuts:?}");
}

/// What comes out until the bytes end or are wrong, and what is wrong with them.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<String>) {
    let (mut wire, mut bytes, mut out) = (Wire::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        bytes.extend_from_slice(piece);
        loop {
            match wire.decode(&mut bytes) {
                Ok(Some(incoming)) => out.push(incoming),
                Ok(None) => break,
                Err(error) => return (out, Some(error.to_string())),
            }
        }
        assert!(bytes.len() <= LARGEST + 5, "{} bytes wait", bytes.len());
    }
    (out, None)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rumqttc::{ConnAck, ConnectReturnCode, Packet, PubComp, PubRel, Publish, QoS, SubAck, SubscribeReasonCode};

    use super::*;
    use crate::fuzz::tests::cases;

    fn packet() -> impl Strategy<Value = Packet> {
        let publish = (".{0,20}", any::<Vec<u8>>(), 0..3_u8, 1..u16::MAX, any::<(bool, bool)>());
        let publish = publish.prop_map(|(topic, payload, qos, packet, (dup, retain))| {
            let qos = rumqttc::qos(qos).unwrap();
            let pkid = if qos == QoS::AtMostOnce { 0 } else { packet };
            Packet::Publish(Publish { dup, retain, pkid, ..Publish::from_bytes(topic, qos, Bytes::from(payload)) })
        });
        let codes = prop::collection::vec(0..4_u8, 1..5).prop_map(|codes| {
            let code = |code| rumqttc::qos(code).map_or(SubscribeReasonCode::Failure, SubscribeReasonCode::Success);
            Packet::SubAck(SubAck::new(1, codes.into_iter().map(code).collect()))
        });
        prop_oneof![
            4 => publish,
            1 => codes,
            1 => any::<bool>().prop_map(|present| Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, present))),
            1 => any::<u16>().prop_map(|packet| Packet::PubRel(PubRel::new(packet))),
            1 => any::<u16>().prop_map(|packet| Packet::PubComp(PubComp::new(packet))),
            1 => Just(Packet::PingResp),
        ]
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn packets_arrive_as_they_were_sent_however_the_bytes_are_cut(
            packets in prop::collection::vec(packet(), 0..12),
            cuts in prop::collection::vec(any::<u8>(), 1..8),
        ) {
            let mut bytes = BytesMut::new();
            for packet in &packets {
                packet.write(&mut bytes, usize::MAX).unwrap();
            }
            let sent = packets.into_iter().map(Incoming::Packet).collect();
            prop_assert_eq!(read(pieces(&bytes, &cuts)), (sent, None));
        }
    }
}
