//! What the endpoint holds: streams, their shards and the records in them.
//!
//! Invariant: sequence numbers are given out once, over all streams, in the order of arrival; so they rise within every shard, and a
//! child's are above its parents'.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    str::FromStr,
    time::Duration,
};

use bytes::Bytes;

use super::{
    firehose::Delivery,
    shards::{HashRange, ReshardError, ShardId, Shards},
    tank::Limits,
};
use crate::{random::Random, reading::Timestamp};

/// A sequence number, shown as 56 digits like the service's, which do not fit into 64 bits either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

const SEQUENCE_PREFIX: &str = "496";

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{SEQUENCE_PREFIX}{:053}", self.0)
    }
}

impl FromStr for Sequence {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(SEQUENCE_PREFIX).unwrap_or(text).parse().map(Self)
    }
}

/// One record that the endpoint accepted.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// The shard that took it.
    pub shard: ShardId,
    /// The hash keys of that shard, which a consumer checks user records against.
    pub range: HashRange,
    /// Its place in the order of arrival.
    pub sequence: Sequence,
    /// As it was sent.
    pub partition_key: String,
    /// As it was sent.
    pub explicit_hash_key: Option<u128>,
    /// As it was sent, before base64.
    pub data: Bytes,
    /// When it was accepted.
    pub arrived: Timestamp,
}

/// A record that passed every check but those of its shard.
#[derive(Debug)]
pub struct Incoming {
    /// The partition key.
    pub partition_key: String,
    /// The explicit hash key.
    pub explicit_hash_key: Option<u128>,
    /// The explicit hash key, or the MD5 of the partition key.
    pub hash: u128,
    /// The bytes, before base64.
    pub data: Bytes,
}

impl Incoming {
    /// What counts towards the limits: data and partition key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// Why one record of an accepted request was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its shard has taken what it takes.
    Throughput,
    /// The service failed.
    Internal,
    /// It is called invalid, on command.
    Invalid,
}

/// Who decides which shard takes a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// The producer, by a record's keys.
    #[default]
    ByKey,
    /// The service, whatever the keys.
    Auto,
}

/// Where a record was stored, or which shard did not take it and why.
pub type Answer = Result<(ShardId, Sequence), (ShardId, Refused)>;

/// How many of the accepted records are kept; all are counted. A benchmark that keeps everything measures the swap space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Every one.
    #[default]
    All,
    /// The last ones of each stream, up to so many bytes of data.
    LastBytes(usize),
    /// None.
    Nothing,
}

/// What has happened so far. A request counts when its head and body have arrived, whatever the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, of every kind.
    pub requests: u64,
    /// PutRecords, `PutRecord` and `PutRecordBatch` requests among them.
    pub puts: u64,
    /// DescribeStreamSummary requests among them.
    pub describes: u64,
    /// Bytes of request bodies.
    pub body_bytes: u64,
    /// Records accepted.
    pub records: u64,
    /// Data and partition keys of accepted records.
    pub record_bytes: u64,
    /// Records refused one by one, in an answer that accepted the request.
    pub refused_records: u64,
    /// Data and partition keys of those.
    pub refused_bytes: u64,
    /// Puts that broke a rule of the service, sizes and keys among them, and so were refused as a whole. What is refused on command
    /// is not among them.
    pub broken_rules: u64,
}

/// Shards of a stream whose creator names none. Source: Kinesis developer guide, on-demand mode starts with 4 MB/s.
const SHARDS_ON_DEMAND: u32 = 4;

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Its shards.
    pub shards: Shards,
    /// When it was created.
    pub created: Timestamp,
    /// Whether the service chose how many shards it has.
    pub on_demand: bool,
    /// Who decides which shard takes a record.
    pub distribution: Distribution,
    /// Records accepted, kept or not.
    pub accepted: u64,
    pub(super) records: VecDeque<StoredRecord>,
    kept_bytes: usize,
}

/// Everything that the endpoint holds.
#[derive(Debug)]
pub struct Store {
    pub(super) streams: BTreeMap<String, Stream>,
    pub(super) deliveries: BTreeMap<String, Delivery>,
    pub(super) counts: Counts,
    pub(super) limits: Option<Limits>,
    /// The id of the access key that signed the last request; empty before the first one.
    pub(super) last_key: String,
    keep: Keep,
    next: u64,
    /// For streams that distribute records themselves.
    random: Random,
}

impl Store {
    /// Nothing yet; the shards of its streams will take what `limits` say, or everything.
    pub fn new(keep: Keep, limits: Option<Limits>) -> Self {
        let random = Random::new(1);
        Self {
            streams: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            counts: Counts::default(),
            limits,
            last_key: String::new(),
            keep,
            next: 1,
            random,
        }
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The id of the access key that signed the last request; empty before the first one.
    pub fn last_key(&self) -> &str {
        &self.last_key
    }

    /// The kept records of `stream`, in the order of their arrival.
    pub fn records(&self, stream: &str) -> impl Iterator<Item = &StoredRecord> {
        self.streams.get(stream).into_iter().flat_map(|stream| &stream.records)
    }

    /// How many records `stream` accepted, kept or not.
    pub fn accepted(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.accepted)
    }

    /// The shards of `stream`.
    pub fn shards(&self, stream: &str) -> Option<&Shards> {
        self.streams.get(stream).map(|stream| &stream.shards)
    }

    /// Creates `stream`, on demand unless it is said how many shards it has; `false` when it exists.
    pub fn create(&mut self, stream: &str, shards: Option<u32>, now: Duration, created: Timestamp) -> bool {
        if self.streams.contains_key(stream) {
            return false;
        }
        let stream_is = Stream {
            shards: Shards::even(shards.unwrap_or(SHARDS_ON_DEMAND), self.next_sequence().0, now),
            created,
            on_demand: shards.is_none(),
            distribution: Distribution::ByKey,
            accepted: 0,
            records: VecDeque::new(),
            kept_bytes: 0,
        };
        self.streams.insert(stream.to_owned(), stream_is);
        true
    }

    /// From now on records of `stream` are distributed like this. None when there is no such stream.
    pub fn distribute(&mut self, stream: &str, distribution: Distribution) -> Option<()> {
        self.streams.get_mut(stream)?.distribution = distribution;
        Some(())
    }

    /// Splits a shard at `at`, or in its middle. None when there is no such stream.
    pub fn split(
        &mut self,
        stream: &str,
        shard: ShardId,
        at: Option<u128>,
        now: Duration,
    ) -> Option<Result<[ShardId; 2], ReshardError>> {
        let sequence = self.next_sequence().0;
        let shards = &mut self.streams.get_mut(stream)?.shards;
        let at = at.map_or_else(|| shards.middle(shard), Ok);
        Some(at.and_then(|at| shards.split(shard, at, sequence, now)))
    }

    /// Merges two shards. None when there is no such stream.
    pub fn merge(
        &mut self,
        stream: &str,
        shard: ShardId,
        adjacent: ShardId,
        now: Duration,
    ) -> Option<Result<ShardId, ReshardError>> {
        let sequence = self.next_sequence().0;
        Some(self.streams.get_mut(stream)?.shards.merge(shard, adjacent, sequence, now))
    }

    /// Stores each of `records` in the shard of its hash key, or in any when the stream distributes them itself, but those that `refuse` (given the record's place) or their shard
    /// refuses. The answers are in the order of the records. None when there is no such stream.
    pub fn put(
        &mut self,
        stream: &str,
        records: Vec<Incoming>,
        mut refuse: impl FnMut(usize) -> Option<Refused>,
        now: Duration,
        arrived: Timestamp,
    ) -> Option<Vec<Answer>> {
        let target = self.streams.get_mut(stream)?;
        let mut answers = Vec::with_capacity(records.len());
        for (place, record) in records.into_iter().enumerate() {
            let size = record.size();
            let shard = match target.distribution {
                Distribution::ByKey => target.shards.route(record.hash),
                Distribution::Auto => target.shards.any(self.random.fraction()),
            };
            let (id, range) = (shard.id, shard.range);
            let mut full = || self.limits.as_ref().is_some_and(|limits| !shard.tank.take(now, limits, size));
            if let Some(why) = refuse(place).or_else(|| full().then_some(Refused::Throughput)) {
                self.counts.refused_records += 1;
                self.counts.refused_bytes += size as u64;
                answers.push(Err((id, why)));
                continue;
            }
            let sequence = Sequence(self.next);
            self.next += 1;
            target.accepted += 1;
            self.counts.records += 1;
            self.counts.record_bytes += size as u64;
            let Incoming { partition_key, explicit_hash_key, data, .. } = record;
            target.keep(StoredRecord { shard: id, range, sequence, partition_key, explicit_hash_key, data, arrived }, self.keep);
            answers.push(Ok((id, sequence)));
        }
        Some(answers)
    }

    /// The number that the next record will have.
    pub(super) fn end(&self) -> Sequence {
        Sequence(self.next)
    }

    fn next_sequence(&mut self) -> Sequence {
        self.next += 1;
        Sequence(self.next - 1)
    }
}

impl Stream {
    /// The place of the first record with `sequence` or a higher one.
    pub(super) fn position(&self, sequence: Sequence) -> usize {
        self.records.partition_point(|record| record.sequence < sequence)
    }

    fn keep(&mut self, record: StoredRecord, keep: Keep) {
        let most = match keep {
            Keep::Nothing => return,
            Keep::All => usize::MAX,
            Keep::LastBytes(most) => most,
        };
        self.kept_bytes += record.data.len();
        self.records.push_back(record);
        while self.kept_bytes > most
            && let Some(oldest) = self.records.pop_front()
        {
            self.kept_bytes -= oldest.data.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hash: u128, bytes: usize) -> Incoming {
        Incoming { partition_key: "k".into(), explicit_hash_key: Some(hash), hash, data: vec![7; bytes].into() }
    }

    fn put(store: &mut Store, hash: u128, bytes: usize) -> Answer {
        store.put("s", vec![record(hash, bytes)], |_| None, Duration::ZERO, Timestamp(0)).unwrap().remove(0)
    }

    #[test]
    fn sequence_numbers_rise_across_shards_and_resharding_and_read_back() {
        let mut store = Store::new(Keep::All, None);
        store.create("s", Some(2), Duration::ZERO, Timestamp(0));

        let first = put(&mut store, 0, 1).unwrap().1;
        store.split("s", ShardId(0), None, Duration::ZERO).unwrap().unwrap();
        let (shard, second) = put(&mut store, 0, 1).unwrap();

        assert!(first < second);
        assert!(first.to_string() < second.to_string());
        assert_eq!(second.to_string().parse(), Ok(second));
        assert_eq!(shard, ShardId(2));
        assert!(store.shards("s").unwrap().get(shard).unwrap().opened > first.0);
    }

    #[test]
    fn what_is_not_kept_is_still_counted() {
        let mut store = Store::new(Keep::LastBytes(100), None);
        store.create("s", Some(1), Duration::ZERO, Timestamp(0));

        for _ in 0..10 {
            put(&mut store, 0, 40).unwrap();
        }

        assert_eq!(store.records("s").count(), 2);
        assert_eq!((store.accepted("s"), store.counts().records), (10, 10));
    }

    #[test]
    fn a_stream_that_distributes_records_itself_gives_every_shard_its_part_whatever_the_keys() {
        let mut store = Store::new(Keep::All, None);
        store.create("s", None, Duration::ZERO, Timestamp(0));
        store.split("s", ShardId(0), None, Duration::ZERO).unwrap().unwrap();
        store.distribute("s", Distribution::Auto).unwrap();

        for _ in 0..1000 {
            put(&mut store, 0, 1).unwrap();
        }

        let taken = |shard| store.records("s").filter(|record| record.shard == ShardId(shard)).count();
        assert_eq!(taken(0), 0, "it is closed");
        assert!((1..6).all(|shard| (140..260).contains(&taken(shard))), "{:?}", [1, 2, 3, 4, 5].map(taken));
    }

    #[test]
    fn a_shard_that_is_full_refuses_alone() {
        let limits = Limits { bytes_per_second: 1.0, burst_bytes: 100.0, records_per_second: 10.0 };
        let mut store = Store::new(Keep::All, Some(limits));
        store.create("s", Some(2), Duration::ZERO, Timestamp(0));

        assert!(put(&mut store, 0, 99).is_ok());
        assert_eq!(put(&mut store, 0, 99), Err((ShardId(0), Refused::Throughput)));
        assert!(put(&mut store, u128::MAX, 99).is_ok());
        assert_eq!((store.counts().records, store.counts().refused_records, store.counts().refused_bytes), (2, 1, 100));
    }
}
