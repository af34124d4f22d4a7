//! Everything that a campaign leaves to chance, from one seed.

use std::time::Duration;

use headwater::demo::random::Random;

/// The dice.
pub struct Chance(Random);

impl Chance {
    /// The throws that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A number from `least` up to, but not including, `beyond`.
    pub fn between(&mut self, least: u64, beyond: u64) -> u64 {
        least + self.0.bits() % (beyond - least)
    }

    /// One of `items`.
    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        let count = u64::try_from(items.len()).expect("a list fits in memory");
        items[usize::try_from(self.between(0, count)).expect("it is below the length")]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.between(0, times) == 0
    }

    /// A moment that no event announces: often soon, so that a start is hit too, now and then late.
    pub fn moment(&mut self) -> Duration {
        let longest = self.one_of(&[20, 100, 300, 300, 1000]);
        Duration::from_micros(self.between(0, longest * 1000))
    }
}
