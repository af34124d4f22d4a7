//! The acknowledgements that one connection owes.
//!
//! Invariant: a publish is acknowledged on the connection that delivered it, in the order of arrival (MQTT 3.1.1, 4.6), and not
//! before its reading is safe. A packet identifier means nothing on another connection, so the queue ends with its connection.

use std::collections::VecDeque;

use crate::reading::Ordinal;

/// What will be answered to one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The reading that must be safe before.
    pub ordinal: Ordinal,
    /// The publish's packet identifier.
    pub packet: u16,
    /// QoS 2: PUBREC instead of PUBACK.
    pub exactly_once: bool,
}

/// In the order of arrival. As long as the broker's window, at most all packet identifiers.
#[derive(Debug, Default)]
pub struct AckQueue(VecDeque<Ack>);

impl AckQueue {
    /// One more publish has arrived.
    pub fn owe(&mut self, ack: Ack) {
        self.0.push_back(ack);
    }

    /// The next to send, when all readings up to `safe` are safe.
    pub fn next_due(&mut self, safe: Ordinal) -> Option<Ack> {
        self.0.pop_front_if(|ack| ack.ordinal <= safe)
    }

    /// The reading that the next acknowledgement waits for.
    pub fn waits_for(&self) -> Option<Ordinal> {
        self.0.front().map(|ack| ack.ordinal)
    }

    /// How many are owed.
    pub fn owed(&self) -> usize {
        self.0.len()
    }

    /// Readings after `last` will never be safe: the publishes stay with the broker.
    pub fn forget_beyond(&mut self, last: Ordinal) {
        self.0.retain(|ack| ack.ordinal <= last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(ordinals: &[Ordinal]) -> AckQueue {
        let ack = |(packet, ordinal): (u16, &Ordinal)| Ack { ordinal: *ordinal, packet, exactly_once: false };
        AckQueue((1..).zip(ordinals).map(ack).collect())
    }

    fn due(queue: &mut AckQueue, safe: Ordinal) -> Vec<u16> {
        std::iter::from_fn(|| queue.next_due(safe)).map(|ack| ack.packet).collect()
    }

    #[test]
    fn what_is_safe_is_due_and_nothing_after_it() {
        let mut queue = queue(&[1, 2, 3, 4]);
        assert!(due(&mut queue, 0).is_empty());
        assert_eq!(due(&mut queue, 3), [1, 2, 3]);
        assert_eq!(queue.waits_for(), Some(4));
    }

    #[test]
    fn a_repeated_publish_that_is_safe_already_does_not_overtake_one_that_is_not() {
        let mut queue = queue(&[7, 0, 8]);
        assert!(due(&mut queue, 6).is_empty());
        assert_eq!(due(&mut queue, 7), [1, 2]);
    }

    #[test]
    fn readings_that_were_not_handed_over_are_never_acknowledged() {
        let mut queue = queue(&[1, 2, 3]);
        queue.forget_beyond(2);
        assert_eq!(due(&mut queue, Ordinal::MAX), [1, 2]);
        assert_eq!(queue.owed(), 0);
    }
}
