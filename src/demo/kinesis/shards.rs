//! Which shard takes which record.
//!
//! Invariant: the ranges of the open shards cover every hash key exactly once, whatever was split and merged. Pure: times and
//! sequence numbers are arguments.

use std::{fmt, str::FromStr, time::Duration};

use super::tank::Tank;

/// A range of hash keys; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    /// The first hash key.
    pub start: u128,
    /// The last hash key.
    pub end: u128,
}

impl HashRange {
    /// Every hash key.
    pub const ALL: Self = Self { start: 0, end: u128::MAX };

    /// Whether `hash` belongs to the range.
    pub fn contains(&self, hash: u128) -> bool {
        self.start <= hash && hash <= self.end
    }
}

/// A shard's number within its stream, shown as the service does: `shardId-000000000002`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}

impl FromStr for ShardId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("shardId-").unwrap_or(text).parse().map(Self)
    }
}

/// One shard, open or closed.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its name.
    pub id: ShardId,
    /// The hash keys that it takes, or took.
    pub range: HashRange,
    /// What it was split from, or the first of the two that it was merged from.
    pub parent: Option<ShardId>,
    /// The second of the two that it was merged from.
    pub adjacent_parent: Option<ShardId>,
    /// No record in it has a lower sequence number.
    pub opened: u64,
    /// No record in it has this sequence number or a higher one; none while it is open.
    pub closed: Option<u64>,
    pub(super) tank: Tank,
}

/// Why shards can't be split or merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReshardError {
    /// It does not exist, or was split or merged before.
    #[error("{0} is not an open shard")]
    NotOpen(ShardId),
    /// Each half needs at least one hash key.
    #[error("{1} does not lie inside the hash keys of {0}")]
    Outside(ShardId, u128),
    /// Only neighbours can be merged.
    #[error("{0} and {1} are not neighbours")]
    NotAdjacent(ShardId, ShardId),
}

/// All shards of one stream, closed ones included.
#[derive(Clone, Debug)]
pub struct Shards(Vec<Shard>);

impl Shards {
    /// `count` shards of the same size, as `CreateStream` makes them; at least one.
    pub fn even(count: u32, sequence: u64, now: Duration) -> Self {
        let count = count.max(1);
        let parts = u128::from(count);
        // 2^128 / count, which does not fit into 128 bits by itself when there is one shard.
        let size = u128::MAX / parts + u128::from(u128::MAX % parts == parts - 1 && count > 1);
        let range = |number: u32| {
            let start = size.wrapping_mul(u128::from(number));
            let end = if number + 1 == count { u128::MAX } else { start + (size - 1) };
            HashRange { start, end }
        };
        let shard = |number| Shard {
            id: ShardId(number),
            range: range(number),
            parent: None,
            adjacent_parent: None,
            opened: sequence,
            closed: None,
            tank: Tank::full(now),
        };
        Self((0..count).map(shard).collect())
    }

    /// The open shard that takes `hash`.
    pub fn route(&mut self, hash: u128) -> &mut Shard {
        let shard = self.0.iter_mut().find(|shard| shard.closed.is_none() && shard.range.contains(hash));
        // They are made so, and a split or a merge opens what it closes.
        shard.expect("the open shards cover every hash key")
    }

    /// An open shard, each as likely as the others; `random` is uniform in 0..1.
    pub fn any(&mut self, random: f64) -> &mut Shard {
        let mut open: Vec<&mut Shard> = self.0.iter_mut().filter(|shard| shard.closed.is_none()).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and below the number of shards")]
        let place = (random * open.len() as f64) as usize;
        open.swap_remove(place.min(open.len() - 1)) // the open shards cover every hash key, so there is one
    }

    /// The shard called `id`, open or closed.
    pub fn get(&self, id: ShardId) -> Option<&Shard> {
        self.0.get(id.0 as usize)
    }

    /// All of them, in the order of their creation.
    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.0.iter()
    }

    /// Those that take records.
    pub fn open(&self) -> impl Iterator<Item = &Shard> {
        self.0.iter().filter(|shard| shard.closed.is_none())
    }

    /// The middle of a shard's hash keys, where [`Self::split`] makes two halves.
    pub fn middle(&self, id: ShardId) -> Result<u128, ReshardError> {
        let HashRange { start, end } = self.get(id).ok_or(ReshardError::NotOpen(id))?.range;
        Ok((start + (end - start) / 2).saturating_add(1))
    }

    /// Closes `id` and opens two shards, the second of which begins at `at`. Later records have sequence numbers from `sequence` on.
    pub fn split(&mut self, id: ShardId, at: u128, sequence: u64, now: Duration) -> Result<[ShardId; 2], ReshardError> {
        let range = self.open_range(id)?;
        if at <= range.start || at > range.end {
            return Err(ReshardError::Outside(id, at));
        }
        self.close(id, sequence);
        let low = self.add(HashRange { end: at - 1, ..range }, id, None, sequence, now);
        let high = self.add(HashRange { start: at, ..range }, id, None, sequence, now);
        Ok([low, high])
    }

    /// Closes two neighbours and opens one shard with the hash keys of both.
    pub fn merge(&mut self, id: ShardId, adjacent: ShardId, sequence: u64, now: Duration) -> Result<ShardId, ReshardError> {
        let (one, other) = (self.open_range(id)?, self.open_range(adjacent)?);
        let (low, high) = if one.start < other.start { (one, other) } else { (other, one) };
        if low.end.checked_add(1) != Some(high.start) {
            return Err(ReshardError::NotAdjacent(id, adjacent));
        }
        self.close(id, sequence);
        self.close(adjacent, sequence);
        Ok(self.add(HashRange { start: low.start, end: high.end }, id, Some(adjacent), sequence, now))
    }

    fn open_range(&self, id: ShardId) -> Result<HashRange, ReshardError> {
        let shard = self.get(id).filter(|shard| shard.closed.is_none());
        shard.map(|shard| shard.range).ok_or(ReshardError::NotOpen(id))
    }

    fn close(&mut self, id: ShardId, sequence: u64) {
        if let Some(shard) = self.0.get_mut(id.0 as usize) {
            shard.closed = Some(sequence);
        }
    }

    fn add(&mut self, range: HashRange, parent: ShardId, adjacent_parent: Option<ShardId>, opened: u64, now: Duration) -> ShardId {
        let id = ShardId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(Shard { id, range, parent: Some(parent), adjacent_parent, opened, closed: None, tank: Tank::full(now) });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    fn covers_everything_once(shards: &Shards) -> bool {
        let mut ranges: Vec<_> = shards.open().map(|shard| shard.range).collect();
        ranges.sort_by_key(|range| range.start);
        let seamless = ranges.windows(2).all(|pair| pair[0].end + 1 == pair[1].start);
        seamless && ranges[0].start == 0 && ranges[ranges.len() - 1].end == u128::MAX
    }

    #[test]
    fn new_shards_have_the_ranges_that_the_service_gives_them() {
        for count in [1, 2, 3, 4, 7, 16, 100] {
            assert!(covers_everything_once(&Shards::even(count, 0, START)), "{count} shards");
        }
        let starts: Vec<_> = Shards::even(3, 0, START).iter().map(|shard| shard.range.start.to_string()).collect();
        assert_eq!(starts, ["0", "113427455640312821154458202477256070485", "226854911280625642308916404954512140970"]);
    }

    #[test]
    fn both_ends_of_a_range_belong_to_its_shard() {
        let mut shards = Shards::even(2, 0, START);
        let half = 1 << 127;

        let taken_by: Vec<_> = [0, half - 1, half, u128::MAX].map(|hash| shards.route(hash).id.0).into();

        assert_eq!(taken_by, [0, 0, 1, 1]);
    }

    #[test]
    fn after_a_split_and_a_merge_every_hash_key_still_has_one_shard() {
        let mut shards = Shards::even(2, 0, START);
        let middle = shards.middle(ShardId(0)).unwrap();

        let [low, high] = shards.split(ShardId(0), middle, 10, START).unwrap();
        let merged = shards.merge(ShardId(1), high, 20, START).unwrap();

        assert!(covers_everything_once(&shards));
        assert_eq!(shards.open().map(|shard| shard.id).collect::<Vec<_>>(), [low, merged]);
        assert_eq!(shards.route(u128::MAX).id, merged);
        assert_eq!(shards.get(ShardId(0)).unwrap().closed, Some(10));
    }

    #[test]
    fn shards_that_are_closed_or_no_neighbours_are_left_alone() {
        let mut shards = Shards::even(3, 0, START);
        shards.split(ShardId(1), shards.middle(ShardId(1)).unwrap(), 5, START).unwrap();

        assert_eq!(shards.split(ShardId(1), 1, 6, START), Err(ReshardError::NotOpen(ShardId(1))));
        assert_eq!(shards.merge(ShardId(0), ShardId(2), 6, START), Err(ReshardError::NotAdjacent(ShardId(0), ShardId(2))));
        assert_eq!(shards.split(ShardId(0), 0, 6, START), Err(ReshardError::Outside(ShardId(0), 0)));
        assert!(covers_everything_once(&shards));
    }
}
