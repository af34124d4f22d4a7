//! Whose turn it is where several streams share a link that is what they lack: pure.
//!
//! A stream of a higher priority goes first. While it does, those below it get an eighth of the link: of all that is sent above them, a
//! seventh is theirs. Streams of one priority share alike, and a link that carries everything at once has no turns.

use std::{collections::BTreeMap, time::Duration};

/// Of what is sent above it, one part in so many is for a priority to send.
const PARTS: i64 = 7;
/// A link on which a full request takes this long is what its streams lack; on a faster one, it is their shards.
const NARROW: Duration = Duration::from_millis(500);

/// The streams of one destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// By priority, bytes that may be sent although a higher one is sending; less than none when it was ahead of its share.
    credit: BTreeMap<u16, i64>,
    /// The link is what they lack.
    narrow: bool,
}

impl Turns {
    /// Streams of `priority` are among them.
    pub(super) fn add(&mut self, priority: u16) {
        self.credit.entry(priority).or_default();
    }

    /// A request of `bytes` was answered after `took`; a full one has `full`.
    pub(super) fn answered(&mut self, bytes: usize, full: usize, took: Duration) {
        if bytes * 2 >= full {
            self.narrow = took >= NARROW;
        }
    }

    /// Whether a stream of `priority` may send, when it is `above_busy` that one of a higher priority is sending.
    pub(super) fn may_send(&self, priority: u16, above_busy: bool) -> bool {
        !self.narrow || !above_busy || self.credit.get(&priority).is_none_or(|credit| *credit > 0)
    }

    /// Whether a stream of `priority` has a share of what was sent above it.
    pub(super) fn is_owed(&self, priority: u16) -> bool {
        self.credit.get(&priority).is_some_and(|credit| *credit > 0)
    }

    /// A stream of `priority` sends `bytes`; no request has more than `most`.
    pub(super) fn sends(&mut self, priority: u16, above_busy: bool, bytes: usize, most: usize) {
        let [bytes, most] = [bytes, most].map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        for credit in self.credit.range_mut(..priority).map(|(_, credit)| credit) {
            // Who had nothing to send may make up for one request.
            *credit = credit.saturating_add(bytes / PARTS).min(most);
        }
        if let Some(credit) = self.credit.get_mut(&priority).filter(|_| above_busy) {
            *credit = credit.saturating_sub(bytes).max(-most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 16 << 10;

    fn turns(priorities: &[u16], took: Duration) -> Turns {
        let mut turns = Turns::default();
        priorities.iter().for_each(|priority| turns.add(*priority));
        turns.answered(FULL, FULL, took);
        turns
    }

    /// What streams of `priorities`, the highest first, have sent when each that may has sent a request again and again, `times` times. All
    /// requests of a round are on their way together.
    fn sent(turns: &mut Turns, priorities: &[u16], times: usize) -> BTreeMap<u16, usize> {
        let mut sent = BTreeMap::new();
        for _ in 0..times {
            let mut busy: Vec<u16> = Vec::new();
            for priority in priorities {
                let above_busy = busy.iter().any(|other| other > priority);
                if turns.may_send(*priority, above_busy) {
                    turns.sends(*priority, above_busy, FULL, FULL);
                    *sent.entry(*priority).or_default() += FULL;
                    busy.push(*priority);
                }
            }
        }
        sent
    }

    fn share(sent: &BTreeMap<u16, usize>, priority: u16) -> f64 {
        *sent.get(&priority).unwrap_or(&0) as f64 / sent.values().sum::<usize>() as f64
    }

    #[test]
    fn on_a_slow_link_the_higher_priority_has_seven_parts_of_eight_and_the_lower_one_is_never_starved() {
        let mut turns = turns(&[9, 0], Duration::from_secs(2));
        let sent = sent(&mut turns, &[9, 0], 8000);
        assert!((0.124..0.126).contains(&share(&sent, 0)), "{sent:?}");
    }

    #[test]
    fn every_priority_has_about_an_eighth_while_all_above_it_send() {
        let mut turns = turns(&[9, 5, 0], Duration::from_secs(2));
        let sent = sent(&mut turns, &[9, 5, 0], 8000);
        assert!((0.10..0.13).contains(&share(&sent, 5)), "{sent:?}");
        assert!((0.10..0.13).contains(&share(&sent, 0)), "{sent:?}");
    }

    #[test]
    fn who_is_alone_or_among_equals_sends_whenever_it_can() {
        let mut turns = turns(&[9, 0], Duration::from_secs(2));
        assert_eq!(sent(&mut turns, &[0], 100)[&0], 100 * FULL);
        assert_eq!(sent(&mut turns, &[0, 0], 100)[&0], 200 * FULL);
        // Whatever was sent before is no debt, and no more than one request's worth of credit.
        let together = sent(&mut turns, &[9, 0], 700);
        assert!((0.12..0.14).contains(&share(&together, 0)), "{together:?}");
        sent(&mut turns, &[9], 100_000);
        let together = sent(&mut turns, &[9, 0], 10);
        assert!(together[&0] <= 3 * FULL, "{together:?}");
    }

    #[test]
    fn where_requests_stand_in_line_for_a_rate_one_in_eight_is_for_the_lower_priority() {
        let mut turns = Turns::default();
        [9, 0].iter().for_each(|priority| turns.add(*priority));
        let mut sent = BTreeMap::new();
        for _ in 0..8000 {
            let next = if turns.is_owed(0) { 0 } else { 9 };
            turns.sends(next, true, FULL, FULL);
            *sent.entry(next).or_default() += FULL;
        }
        assert!((0.124..0.126).contains(&share(&sent, 0)), "{sent:?}");
    }

    #[test]
    fn a_fast_link_has_no_turns() {
        let mut turns = turns(&[9, 0], Duration::from_millis(20));
        let sent = sent(&mut turns, &[9, 0], 100);
        assert_eq!(sent[&9], sent[&0]);
        turns.answered(100, FULL, Duration::from_secs(3));
        assert!(turns.may_send(0, true), "a small request says nothing of the link");
    }
}
