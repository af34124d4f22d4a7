//! Which publishes we have had, for as long as the broker may send them again.
//!
//! A broker repeats, on the next connection, what it has no acknowledgement of. Packet identifiers are reused, and two publishes may
//! have the same bytes, so a publish that was settled long ago must be forgotten: a new one could be taken for it, and lost.
//!
//! Invariant: what is recognised as repeated was received before; when that is uncertain, the publish is new, and marked.

use std::collections::{HashMap, VecDeque};

use crate::reading::{Fingerprint, Ordinal};

/// A broker can have no more publishes in flight than there are packet identifiers.
const MOST_IN_FLIGHT: usize = u16::MAX as usize;

/// What a publish turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// We have it: it is the reading with this number, or one of an earlier run of the agent when that is 0.
    Repeated(Ordinal),
    /// We do not have it, or, with `dup`, cannot tell.
    New {
        /// The broker says that it sent this before, and an earlier run may have taken it.
        dup: bool,
    },
}

/// Whether a repeated publish is among those that we have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Same(Ordinal),
    Perhaps,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: Fingerprint,
    ordinal: Ordinal,
}

/// The memory of one source, across its connections.
#[derive(Debug)]
pub struct Redelivery {
    /// QoS 1, and what an earlier run committed, in the order of arrival; settled ones leave at the front. A window is no bound:
    /// mosquitto 2.0.11 has been seen with a thousand in flight where it allows 20.
    seen: VecDeque<Seen>,
    /// QoS 2, by packet identifier, until the broker releases it.
    unreleased: HashMap<u16, (u32, Ordinal)>,
    /// The latest reading that was acknowledged, on whatever connection.
    acknowledged: Ordinal,
    /// The broker may still be repeating what earlier connections left: it does so before it sends anything new (MQTT 3.1.1, 4.4
    /// and 4.6).
    replaying: bool,
    /// Whatever the broker may repeat, this process has received: an earlier one cannot have.
    complete: bool,
    /// The identifier of the latest publish that is none of those that are repeated.
    latest: Option<u16>,
    /// This broker takes an identifier again as soon as it is free (MQTT 3.1.1, 2.3.1, asks no more of it), and does not count upwards.
    reuses: bool,
}

impl Redelivery {
    /// Starts with the `known` publishes of the run before, the oldest first.
    pub fn new(known: Vec<Fingerprint>) -> Self {
        let reuses = known.windows(2).any(|pair| !follows(pair[0].packet, pair[1].packet));
        Self {
            latest: known.last().map(|last| last.packet),
            reuses,
            seen: known.into_iter().map(|fingerprint| Seen { fingerprint, ordinal: 0 }).collect(),
            unreleased: HashMap::new(),
            acknowledged: 0,
            replaying: true,
            complete: false,
        }
    }

    /// A connection stands. A new session knows nothing of earlier packet identifiers, so neither may we.
    pub fn connected(&mut self, session_present: bool) {
        self.replaying = session_present;
        if !session_present {
            self.seen.clear();
            self.unreleased.clear();
            self.complete = true;
            self.latest = None;
        }
    }

    /// Whether this publish was received before. `dup` is the broker's flag; only a QoS 2 publish can be a repeated one without it,
    /// because its identifier is taken until it is released.
    pub fn recognise(&mut self, publish: Fingerprint, exactly_once: bool, dup: bool) -> Delivery {
        let found = match self.unreleased.get(&publish.packet).filter(|_| exactly_once) {
            Some((hash, ordinal)) if *hash == publish.hash => Found::Same(*ordinal),
            None if dup => self.find(publish),
            Some(_) | None => Found::Nothing,
        };
        if let Found::Same(ordinal) = found {
            return Delivery::Repeated(ordinal);
        }
        self.replaying &= dup;
        if !dup {
            self.reuses |= self.latest.is_some_and(|latest| !follows(latest, publish.packet));
            self.latest = Some(publish.packet);
        }
        Delivery::New { dup: found == Found::Perhaps || (dup && !self.complete) }
    }

    /// The newest publish with this identifier, if it is the same one. Where this broker reuses identifiers, and if the newest was
    /// acknowledged, this may be another one with the same bytes, which was lost with its connection.
    fn find(&self, publish: Fingerprint) -> Found {
        let mut same_packet = self.seen.iter().rev().filter(|seen| seen.fingerprint.packet == publish.packet);
        let Some(newest) = same_packet.next().filter(|seen| seen.fingerprint == publish) else { return Found::Nothing };
        let reuses = self.reuses || same_packet.any(|seen| seen.fingerprint == publish);
        let certain = newest.ordinal > self.acknowledged || !reuses;
        if certain { Found::Same(newest.ordinal) } else { Found::Perhaps }
    }

    /// A new publish became the reading `ordinal`.
    pub fn remember(&mut self, fingerprint: Fingerprint, exactly_once: bool, ordinal: Ordinal) {
        if exactly_once {
            self.unreleased.insert(fingerprint.packet, (fingerprint.hash, ordinal));
            return;
        }
        self.seen.push_back(Seen { fingerprint, ordinal });
        if self.seen.len() > MOST_IN_FLIGHT {
            self.seen.pop_front();
        }
    }

    /// The reading was acknowledged. Whether the broker has had that is another question, see [`Self::settled`].
    pub fn acknowledged(&mut self, ordinal: Ordinal) {
        self.acknowledged = self.acknowledged.max(ordinal);
    }

    /// The broker released a QoS 2 identifier, and will not repeat its publish.
    pub fn released(&mut self, packet: u16) {
        if self.unreleased.remove(&packet).is_none() {
            self.seen.retain(|seen| seen.fingerprint.packet != packet);
        }
    }

    /// How many publishes the broker may repeat, as far as we know.
    pub fn unsettled(&self) -> usize {
        self.seen.len() + self.unreleased.len()
    }

    /// What a PINGREQ that is sent now will settle, once it is answered: the broker takes packets in order, so it will have had all
    /// acknowledgements before. Nothing while it may be repeating.
    pub fn fence(&self) -> Option<Ordinal> {
        (!self.replaying).then_some(self.acknowledged)
    }

    /// The PINGREQ that was sent at `fence` has been answered.
    pub fn settled(&mut self, fence: Ordinal) {
        while self.seen.pop_front_if(|seen| seen.ordinal <= fence).is_some() {}
        self.complete = true;
    }
}

/// Whether a broker that counts upwards, and begins again behind the last identifier, may use `next` after `packet`.
fn follows(packet: u16, next: u16) -> bool {
    (1..=u16::MAX / 2).contains(&next.wrapping_sub(packet))
}

#[cfg(test)]
mod tests;
