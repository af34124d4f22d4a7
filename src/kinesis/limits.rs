//! The service's limits, each with its source: nothing else in headwater knows a number of Amazon's.
//!
//! Source, where none is named: Kinesis API Reference, `PutRecords`, and Developer Guide, "Quotas and limits".

use std::time::Duration;

use crate::units::ByteCount;

/// Most records in one `PutRecords` request.
pub const MAX_RECORDS_PER_REQUEST: usize = 500;

/// Most bytes in one `PutRecords` request: data before base64, and partition keys. It was 5 MiB until October 2025.
pub const MAX_REQUEST: ByteCount = ByteCount::mib(10);

/// Most bytes in one record, data and partition key, unless the stream was set up for more (`MaxRecordSizeInKiB`). One larger record
/// makes the service refuse the whole request, not the record.
pub const MAX_RECORD: ByteCount = ByteCount::mib(1);

/// Most bytes in one record of ours. Below [`MAX_RECORD`] so that the partition key, and what a consumer adds, always fits.
pub const OUR_MAX_RECORD: ByteCount = ByteCount::kib(1000);

/// Most characters, not bytes, in a partition key; it has at least one.
pub const MAX_PARTITION_KEY_CHARS: usize = 256;

/// Bytes a second that one shard takes, in the long run. An aggregate counts with all its bytes.
pub const SHARD_BYTES_PER_SECOND: ByteCount = ByteCount::mib(1);

/// Bytes that a rested shard takes at once before [`SHARD_BYTES_PER_SECOND`] counts. Source: AWS Big Data Blog, October 2025, on large
/// records; it is not promised, so it is a reason to expect refusals later, not to send faster.
pub const SHARD_BURST: ByteCount = ByteCount::mib(10);

/// Records a second that one shard takes. An aggregate counts as one.
pub const SHARD_RECORDS_PER_SECOND: u32 = 1000;

/// Most records in one `PutRecordBatch` request. Source, here and below: Firehose API Reference, `PutRecordBatch`.
pub const FIREHOSE_MAX_RECORDS: usize = 500;

/// Most bytes in one `PutRecordBatch` request, before base64.
pub const FIREHOSE_MAX_REQUEST: ByteCount = ByteCount::mib(4);

/// Most bytes in one record of Firehose, before base64.
pub const FIREHOSE_MAX_RECORD: ByteCount = ByteCount::kib(1000);

/// Most lines in one record of Firehose. Where its stream takes records apart to partition them, one with more is delivered whole, and
/// wrong, without an error.
pub const FIREHOSE_MAX_LINES: usize = 500;

/// Between two reads of a shard that has nothing new. The service allows five a second to all its consumers together, so four are
/// left to the others. Source: API Reference, `GetRecords`.
pub const READ_INTERVAL: Duration = Duration::from_secs(1);

/// Between two reads of a shard that has more: still within what the service allows.
pub const READ_INTERVAL_BEHIND: Duration = Duration::from_millis(250);
