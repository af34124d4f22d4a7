//! Which numbers have been seen: few bytes for a million that came one after the other. Pure.

use std::{collections::BTreeMap, ops::RangeInclusive};

/// A set of numbers, as the first and the last of each run without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Adds `n`; `false` when it was there.
    pub fn insert(&mut self, n: u64) -> bool {
        let (mut first, mut last) = (n, n);
        if let Some((start, end)) = self.0.range(..=n).next_back() {
            match n.checked_sub(*end) {
                None | Some(0) => return false,
                Some(1) => first = *start,
                Some(_) => {}
            }
        }
        if let Some(end) = n.checked_add(1).and_then(|next| self.0.remove(&next)) {
            last = end;
        }
        self.0.insert(first, last);
        true
    }

    /// How many of those in `range` are there.
    pub fn count(&self, range: RangeInclusive<u64>) -> u64 {
        let (from, to) = range.into_inner();
        let within = self.0.range(..=to).filter(|(_, last)| **last >= from);
        within.map(|(first, last)| (*last).min(to) - (*first).max(from) + 1).sum()
    }

    /// The first one from `from` on that is not there.
    pub fn gap(&self, from: u64) -> u64 {
        let run = self.0.range(..=from).next_back().filter(|(_, last)| **last >= from);
        run.map_or(from, |(_, last)| last.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn numbers_in_whatever_order_are_those_of_a_set_and_end_as_one_run() {
        let mut left: Vec<u64> = (0..200).chain(50..60).collect();
        let mut random = Random::new(7);
        let (mut numbers, mut set) = (Numbers::default(), std::collections::BTreeSet::new());
        while !left.is_empty() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list of 210")]
            let n = left.swap_remove((random.fraction() * left.len() as f64) as usize);
            assert_eq!(numbers.insert(n), set.insert(n), "{n}");
            assert_eq!(numbers.count(40..=99), set.range(40..=99).count() as u64);
            assert_eq!(numbers.gap(40), (40..=200).find(|n| !set.contains(n)).unwrap());
        }
        assert_eq!(numbers, Numbers([(0, 199)].into()));
    }

    #[test]
    fn the_largest_number_is_one_like_any_other() {
        let mut numbers = Numbers::default();
        assert!(numbers.insert(u64::MAX) && numbers.insert(u64::MAX - 1) && !numbers.insert(u64::MAX));
        assert_eq!((numbers.count(5..=u64::MAX), numbers.gap(5)), (2, 5));
    }
}
