//! What brokers may send again, and which rows of the file hold it.
//!
//! A broker has a window of publishes in flight, so it repeats none but the last so many; or more, where it does not keep to its own
//! window: mosquitto 2.0.11 hands a client that comes back all that has queued up. The source knows how many it has not seen settled,
//! and what is kept is never less than that. Each commit adds a row with the fingerprints that came since the commit before, and takes
//! away the rows that a whole window has followed; writing the window anew each time would be a fifth of what a small commit writes.

use std::collections::VecDeque;

use super::{Fingerprint, Pool, SourceId};

/// What is kept of one source's publishes.
#[derive(Debug)]
pub(super) struct Repeats {
    /// Most publishes that the broker should have in flight to us.
    window: usize,
    /// How many it may repeat by what the source knows, at least a window.
    keep: usize,
    /// The rows that hold fingerprints, oldest first, and how many.
    rows: VecDeque<(u64, usize)>,
    /// Of readings that were confirmed without being written.
    unsaved: VecDeque<Fingerprint>,
}

/// A row to be written for one source.
#[derive(Clone, Debug)]
pub(in crate::buffer) struct Receipt {
    pub(in crate::buffer) source: SourceId,
    pub(in crate::buffer) row: u64,
    pub(in crate::buffer) fingerprints: Vec<Fingerprint>,
    /// Rows of the source before this one are not needed any more.
    pub(in crate::buffer) keep_from: u64,
    /// How many of the fingerprints were waiting unsaved.
    unsaved: usize,
}

impl Repeats {
    pub(super) fn new(window: usize, rows: Vec<(u64, usize)>) -> Self {
        Self { window, keep: window, rows: rows.into(), unsaved: VecDeque::new() }
    }

    /// The broker may repeat so many publishes.
    fn expect(&mut self, repeatable: usize) {
        self.keep = repeatable.max(self.window);
    }

    /// Publishes whose readings were confirmed without being written, and how many the broker may repeat with them.
    pub(super) fn confirmed(&mut self, fingerprints: Vec<Fingerprint>, repeatable: usize) {
        self.expect(repeatable);
        self.unsaved.extend(fingerprints);
        let surplus = self.unsaved.len().saturating_sub(self.keep);
        self.unsaved.drain(..surplus);
    }

    /// The row `row` with what came since the last one, `fresh` at the end.
    fn receipt<'a>(&'a self, source: SourceId, row: u64, fresh: impl Iterator<Item = &'a Fingerprint> + Clone) -> Receipt {
        let all = self.unsaved.iter().chain(fresh);
        let surplus = all.clone().count().saturating_sub(self.keep);
        let fingerprints: Vec<Fingerprint> = all.skip(surplus).copied().collect();
        let mut newer = fingerprints.len();
        let mut needed = self.rows.iter().rev().take_while(|(_, count)| {
            let needed = newer < self.keep;
            newer += count;
            needed
        });
        let keep_from = needed.by_ref().last().map_or(row, |(first, _)| *first);
        Receipt { source, row, fingerprints, keep_from, unsaved: self.unsaved.len() }
    }

    fn saved(&mut self, receipt: &Receipt) {
        self.unsaved.drain(..receipt.unsaved.min(self.unsaved.len()));
        self.rows.push_back((receipt.row, receipt.fingerprints.len()));
        while self.rows.pop_front_if(|(row, _)| *row < receipt.keep_from).is_some() {}
    }
}

impl Pool {
    /// The rows to write with all groups below `below`, for the sources that have something new.
    pub(super) fn receipts(&mut self, below: u64) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        for (source, repeats) in &mut self.repeats {
            let fresh = self.groups.marks(below).filter(|mark| mark.source == *source);
            fresh.clone().for_each(|mark| repeats.expect(mark.repeatable));
            let mut fingerprints = fresh.flat_map(|mark| &mark.fingerprints).peekable();
            if fingerprints.peek().is_some() || !repeats.unsaved.is_empty() {
                receipts.push(repeats.receipt(*source, self.next_receipt, fingerprints));
                self.next_receipt += 1;
            }
        }
        receipts
    }

    /// `receipts` are on the disk, with all groups below `below`.
    pub(super) fn saved(&mut self, receipts: &[Receipt], below: u64) {
        self.groups.saved(below);
        for receipt in receipts {
            if let Some(repeats) = self.repeats.get_mut(&receipt.source) {
                repeats.saved(receipt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishes(packets: impl IntoIterator<Item = u16>) -> Vec<Fingerprint> {
        packets.into_iter().map(|packet| Fingerprint { packet, hash: 0 }).collect()
    }

    #[test]
    fn the_rows_that_are_kept_hold_a_window_and_no_row_more() {
        let mut repeats = Repeats::new(4, vec![(1, 4)]);
        let mut kept = Vec::new();
        for row in 2..8 {
            let receipt = repeats.receipt(SourceId(0), row, publishes([1, 2]).iter());
            repeats.saved(&receipt);
            kept.push(repeats.rows.iter().map(|(row, _)| *row).collect::<Vec<_>>());
        }
        assert_eq!(kept, [vec![1, 2], vec![2, 3], vec![3, 4], vec![4, 5], vec![5, 6], vec![6, 7]]);
    }

    #[test]
    fn what_a_broker_has_in_flight_beyond_its_window_is_kept_until_it_is_settled() {
        let mut repeats = Repeats::new(2, vec![(0, 5)]);
        let mut kept = Vec::new();
        for (row, repeatable) in [(1, 7), (2, 9), (3, 9), (4, 0)] {
            repeats.expect(repeatable);
            let receipt = repeats.receipt(SourceId(0), row, publishes([1, 2]).iter());
            repeats.saved(&receipt);
            kept.push(repeats.rows.iter().map(|(row, _)| *row).collect::<Vec<_>>());
        }
        assert_eq!(kept, [vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3], vec![4]]);
    }

    #[test]
    fn what_was_confirmed_without_being_written_goes_with_the_next_row_once() {
        let mut repeats = Repeats::new(3, Vec::new());
        repeats.confirmed(publishes([1, 2, 3, 4]), 0);
        let first = repeats.receipt(SourceId(0), 0, publishes([5]).iter());
        assert_eq!(first.fingerprints, publishes([3, 4, 5]));
        repeats.confirmed(publishes([6]), 0);
        repeats.saved(&Receipt { unsaved: 2, ..first });
        assert_eq!(repeats.receipt(SourceId(0), 1, [].iter()).fingerprints, publishes([6]));
    }
}
