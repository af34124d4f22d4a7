//! `GetShardIterator` and GetRecords: reading a shard back.
//!
//! An iterator is the shard's number, a place in the order of arrival, and the stream's name. Unlike the service's it does not
//! expire.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{
    answer::{self, Refusal},
    check::{Text, parse, stream_name},
    control::{Range, range_of},
    shards::{Shard, ShardId},
    store::{Sequence, Store, Stream},
};
use crate::reading::Timestamp;

/// Most records in one answer. Source: Kinesis API reference, GetRecords.
const MAX_RECORDS: usize = 10_000;
/// Most bytes of data in one answer, by the record that passes it. Source: as above.
const MAX_BYTES: usize = 10 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIterator<'a> {
    #[serde(borrow)]
    stream_name: Option<Text<'a>>,
    #[serde(borrow, rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    shard_id: &'a str,
    shard_iterator_type: &'a str,
    starting_sequence_number: Option<&'a str>,
    timestamp: Option<f64>,
}

/// Answers `GetShardIterator`.
pub fn shard_iterator(body: &[u8], store: &Store) -> Result<Response, Refusal> {
    let request: GetShardIterator<'_> = parse(body)?;
    let name = stream_name(request.stream_name, request.stream_arn)?;
    let stream = store.streams.get(&name).ok_or_else(|| Refusal::no_stream(&name))?;
    let shard = known_shard(stream, &name, request.shard_id)?;
    let sequence = || {
        let text = request.starting_sequence_number.ok_or_else(|| Refusal::argument("StartingSequenceNumber must be given."))?;
        text.parse::<Sequence>().map_err(|_| Refusal::argument(format!("StartingSequenceNumber {text} is not one of this shard.")))
    };
    let from = match request.shard_iterator_type {
        "TRIM_HORIZON" => Sequence(0),
        "LATEST" => store.end(),
        "AT_SEQUENCE_NUMBER" => sequence()?,
        "AFTER_SEQUENCE_NUMBER" => Sequence(sequence()?.0 + 1),
        "AT_TIMESTAMP" => {
            let seconds = request.timestamp.ok_or_else(|| Refusal::argument("Timestamp must be given."))?;
            #[expect(clippy::cast_possible_truncation, reason = "a float out of range becomes the nearest time")]
            let from = Timestamp((seconds * 1000.0).floor() as i64);
            let first = stream.records.iter().find(|record| record.arrived >= from);
            first.map_or_else(|| store.end(), |record| record.sequence)
        }
        other => return Err(Refusal::argument(format!("ShardIteratorType {other} is unknown."))),
    };
    Ok(answer::json(&serde_json::json!({ "ShardIterator": iterator(shard, from, &name) })))
}

fn known_shard<'a>(stream: &'a Stream, name: &str, id: &str) -> Result<&'a Shard, Refusal> {
    let shard = id.parse().ok().and_then(|id: ShardId| stream.shards.get(id));
    let missing = || format!("Shard {id} in stream {name} under account {} does not exist", answer::ACCOUNT);
    shard.ok_or_else(|| Refusal::bad("ResourceNotFoundException", missing()))
}

fn iterator(shard: &Shard, from: Sequence, stream: &str) -> String {
    format!("{}:{}:{stream}", shard.id.0, from.0)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Page<'a> {
    millis_behind_latest: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<String>,
    records: Vec<Record<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_shards: Vec<Child>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    sequence_number: String,
    approximate_arrival_timestamp: f64,
    data: String,
    partition_key: &'a str,
    encryption_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Child {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: Range,
}

/// Answers GetRecords at `now`.
pub fn records(body: &[u8], store: &Store, now: Timestamp) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct GetRecords<'a> {
        shard_iterator: &'a str,
        limit: Option<usize>,
    }
    let request: GetRecords<'_> = parse(body)?;
    let bad_iterator = || Refusal::argument("Invalid ShardIterator.");
    let mut parts = request.shard_iterator.splitn(3, ':');
    let (Some(shard), Some(from), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return Err(bad_iterator()) };
    let from = from.parse().map(Sequence).map_err(|_| bad_iterator())?;
    let stream = store.streams.get(name).ok_or_else(|| Refusal::no_stream(name))?;
    let shard = known_shard(stream, name, shard)?;

    let limit = request.limit.unwrap_or(MAX_RECORDS).clamp(1, MAX_RECORDS);
    let (mut records, mut bytes, mut next, mut last) = (Vec::new(), 0, store.end(), now);
    for record in stream.records.range(stream.position(from)..).filter(|record| record.shard == shard.id) {
        if records.len() == limit || bytes > MAX_BYTES {
            next = record.sequence;
            break;
        }
        bytes += record.data.len();
        last = record.arrived;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
        let arrived = record.arrived.0 as f64 / 1000.0;
        records.push(Record {
            sequence_number: record.sequence.to_string(),
            approximate_arrival_timestamp: arrived,
            data: base64_simd::STANDARD.encode_to_string(&record.data),
            partition_key: &record.partition_key,
            encryption_type: "NONE",
        });
    }
    let behind = if next == store.end() { 0 } else { (now.0 - last.0).max(0) };
    let ended = shard.closed.is_some_and(|closed| next.0 >= closed);
    Ok(answer::json(&Page {
        millis_behind_latest: behind,
        next_shard_iterator: (!ended).then(|| iterator(shard, next, name)),
        records,
        child_shards: if ended { children(stream, shard.id) } else { Vec::new() },
    }))
}

fn children(stream: &Stream, parent: ShardId) -> Vec<Child> {
    let is_child = |shard: &&Shard| shard.parent == Some(parent) || shard.adjacent_parent == Some(parent);
    let child = |shard: &Shard| Child {
        shard_id: shard.id.to_string(),
        parent_shards: shard.parent.into_iter().chain(shard.adjacent_parent).map(|id| id.to_string()).collect(),
        hash_key_range: range_of(shard),
    };
    stream.shards.iter().filter(is_child).map(child).collect()
}
