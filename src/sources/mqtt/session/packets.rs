//! What each packet of the broker means for what has arrived, and for what is owed.

use rumqttc::{Packet, PubComp, Publish, QoS};

use super::{Session, UNSUBSCRIBE};
use crate::{
    reading::{Fingerprint, Ordinal, Reading, Topic, Uptime},
    sources::{
        error::SourceError,
        mqtt::{
            acks::Ack,
            arrivals::Arrivals,
            redelivery::Delivery,
            wire::{Oversized, hash, name_of},
        },
    },
    status::Reason,
};

/// A broker can have no more publishes in flight than there are packet identifiers.
const MOST_UNACKNOWLEDGED: usize = u16::MAX as usize;

impl Session<'_> {
    pub(super) fn take(&mut self, publish: Publish, arrived: Uptime, arrivals: &mut Arrivals) -> Result<(), SourceError> {
        let Publish { topic, payload, qos, pkid, dup, .. } = publish;
        if qos == QoS::AtMostOnce {
            if arrivals.has_room() {
                arrivals.push(Reading { topic: Topic::Owned(topic), payload, arrived, fingerprint: None, dup: false });
            } else {
                self.source.intake.give_up(&topic, Reason::NoRoom);
            }
            return Ok(());
        }
        let exactly_once = qos == QoS::ExactlyOnce;
        let fingerprint = Fingerprint { packet: pkid, hash: hash(&topic, &payload) };
        self.owe(fingerprint, exactly_once, dup, arrivals, |arrivals, dup| {
            arrivals.push(Reading { topic: Topic::Owned(topic), payload, arrived, fingerprint: Some(fingerprint), dup })
        })
    }

    pub(super) fn take_oversized(&mut self, publish: &Oversized, arrivals: &mut Arrivals) -> Result<(), SourceError> {
        let Oversized { topic, packet, exactly_once, dup, hash } = publish;
        let intake = &self.source.intake;
        if *packet == 0 {
            intake.give_up(topic, Reason::TooLarge);
            return Ok(());
        }
        let fingerprint = Fingerprint { packet: *packet, hash: *hash };
        self.owe(fingerprint, *exactly_once, *dup, arrivals, |arrivals, _| {
            intake.give_up(topic, Reason::TooLarge);
            // It takes its turn behind what arrived before it.
            arrivals.numbered()
        })
    }

    /// Owes an acknowledgement, after `store` has made a reading of the publish if it is not a repeated one.
    fn owe(
        &mut self,
        fingerprint: Fingerprint,
        exactly_once: bool,
        dup: bool,
        arrivals: &mut Arrivals,
        store: impl FnOnce(&mut Arrivals, bool) -> Ordinal,
    ) -> Result<(), SourceError> {
        if self.acks.owed() >= MOST_UNACKNOWLEDGED {
            // One that repeats the same publishes again and again would fill the memory while they wait to be safe.
            return Err(self.breach("more unacknowledged publishes than there are packet identifiers"));
        }
        let ordinal = match arrivals.memory.recognise(fingerprint, exactly_once, dup) {
            Delivery::Repeated(ordinal) => {
                arrivals.repeated += 1;
                ordinal
            }
            Delivery::New { dup } => {
                let ordinal = store(arrivals, dup);
                arrivals.memory.remember(fingerprint, exactly_once, ordinal);
                ordinal
            }
        };
        self.acks.owe(Ack { ordinal, packet: fingerprint.packet, exactly_once });
        Ok(())
    }

    pub(super) fn answer(&mut self, packet: &Packet, arrivals: &mut Arrivals) -> Result<(), SourceError> {
        match packet {
            Packet::PubRel(release) => {
                arrivals.memory.released(release.pkid);
                // Also for an identifier that we do not know: the broker waits for it (MQTT 3.1.1, 4.3.3).
                self.write(&Packet::PubComp(PubComp::new(release.pkid)))
            }
            Packet::PingResp => {
                if let Some(fence) = self.pings.answered() {
                    arrivals.memory.settled(fence);
                }
                Ok(())
            }
            Packet::SubAck(answer) if answer.return_codes.len() == self.source.config.topics.len() => {
                self.asked_for = None;
                self.subscribed = self.source.granted(&answer.return_codes);
                Ok(())
            }
            Packet::UnsubAck(answer) if self.unsubscribing && answer.pkid == UNSUBSCRIBE => {
                self.unsubscribing = false;
                Ok(())
            }
            Packet::SubAck(answer) => {
                let (answers, topics) = (answer.return_codes.len(), self.source.config.topics.len());
                Err(self.breach(&format!("a SUBACK with {answers} answers for {topics} topics")))
            }
            other => Err(self.breach(&format!("a client has no use for {}", name_of(other)))),
        }
    }
}
