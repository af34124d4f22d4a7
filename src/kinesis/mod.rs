//! Stage 5 of 5: what Amazon expects, and nothing about us.
//!
//! The drain and `headwater tail` see a Kinesis stream as the few types below; `client.rs`, `firehose.rs`, `link.rs` and `way.rs`
//! alone know the SDKs' own.
//!
//! Invariant: a request goes out once. What to send again, and when, is decided by those who know what it would cost.

mod answer;
mod body;
mod client;
mod clock;
mod credentials;
mod endpoint;
mod error;
mod failover;
mod firehose;
pub mod guard;
mod http;
pub mod limits;
mod link;
mod tls;
mod trial;
mod trouble;
mod trust;
pub(crate) mod tunnel;
mod verdict;
mod way;

use std::ops::RangeInclusive;

pub use self::{
    client::{Client, parse_time},
    clock::ServiceClock,
    credentials::{CredentialsError, CredentialsNews, Fault, HeldCredentials},
    error::{Cause, Class, ClientError, DescribeError, PutError, ReadError, Service, Target},
    firehose::Firehose,
    trial::{Addresses, Broken, Rehearsal, Trial},
    verdict::Refusal,
};
use crate::{reading::Timestamp, units::ByteCount};

/// Where a record belongs in the stream: the shard whose range holds this number takes it.
pub type HashKey = u128;

/// One Kinesis record, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1 to 256 characters; its MD5 is the hash key when no explicit one is given.
    pub partition_key: String,
    /// Overrides the partition key's hash.
    pub explicit_hash_key: Option<HashKey>,
    /// The bytes, before base64.
    pub data: Vec<u8>,
}

impl Record {
    /// Bytes as the service counts them against its limits: data and partition key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// What became of one record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the stream.
    Accepted {
        /// The shard that took it; empty for Firehose, which has none.
        shard: String,
        /// Its place in that shard, or the name that Firehose gave it.
        sequence: String,
    },
    /// Its shard, or the Firehose stream, takes no more at the moment.
    Throttled {
        /// Names the account, the stream and the shard.
        message: String,
    },
    /// The service failed on it, for no fault of the record. Send it again.
    Failed {
        /// The service's word for it, such as `InternalFailure`.
        code: String,
        /// Its explanation.
        message: String,
    },
    /// The service calls the record invalid: it never takes it as it is.
    Invalid {
        /// The service's word for it, such as `InvalidArgumentException`.
        code: String,
        /// Its explanation.
        message: String,
    },
}

impl Answer {
    /// Whether it is in the stream.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

/// What a producer has to know of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// Who decides which shard takes a record.
    pub distribution: Distribution,
    /// Shards that take records.
    pub open_shards: u32,
    /// Most bytes in one record, data and partition key.
    pub max_record: ByteCount,
}

/// Who decides which shard takes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// The producer: the shard whose range holds a record's hash key.
    ByKey,
    /// The service, whatever the keys (`AUTO`). A consumer on KCL drops aggregates that it finds in another shard than that of their
    /// keys, without an error. Source: Kinesis Developer Guide, service-managed record distribution.
    ByService,
}

/// One shard of a stream, open or closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its name in the stream.
    pub id: String,
    /// None, or the one it was split from, or the two it was merged from.
    pub parents: Vec<String>,
    /// The hash keys that it takes, both ends included.
    pub hashes: RangeInclusive<HashKey>,
    /// Whether it still takes records.
    pub open: bool,
}

/// Where to begin to read a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what arrives from now on.
    Latest,
    /// With the oldest that the stream still has.
    Oldest,
    /// With what arrived at this time or later, by the service's clock.
    At(Timestamp),
    /// With the record that follows this sequence number.
    After(String),
}

/// A position in a shard. It expires when it is not used for five minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(String);

/// What one read brought.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order in which the shard took them.
    pub records: Vec<Arrived>,
    /// Where to go on; none when the shard is closed and was read to its end.
    pub next: Option<Position>,
    /// Whether there is more to be had at once.
    pub more: bool,
}

/// One Kinesis record as it lies in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// As it was sent.
    pub partition_key: String,
    /// Its place in the shard.
    pub sequence: String,
    /// When the service took it, as far as it says.
    pub arrived: Option<Timestamp>,
    /// The bytes, after base64.
    pub data: Vec<u8>,
}
