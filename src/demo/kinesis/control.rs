//! Streams and their shards: `CreateStream`, DescribeStreamSummary, `UpdateStreamRecordDistributionStrategy`, `ListShards`, `SplitShard`,
//! `MergeShards`.
//!
//! Changes take effect at once; a stream is never CREATING or UPDATING.

use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    answer::{self, ACCOUNT, Refusal},
    check::{Text, parse, stream_name},
    server::Moment,
    shards::{ReshardError, Shard, ShardId},
    store::{Distribution, Sequence, Store},
    tank::MAX_RECORD_BYTES,
};

/// Most shards in one page of `ListShards`. Source: Kinesis API reference, `ListShards`.
const MAX_PAGE: usize = 1000;

/// Answers `CreateStream`.
pub fn create_stream(body: &[u8], store: &mut Store, moment: Moment) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct CreateStream<'a> {
        stream_name: &'a str,
        shard_count: Option<u32>,
    }
    let CreateStream { stream_name: name, shard_count } = parse(body)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(1..=128).contains(&name.len()) || !name.bytes().all(allowed) {
        let rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
        return Err(Refusal::validation(&[format!("Value '{name}' at 'streamName' failed to satisfy constraint: {rule}")]));
    }
    if store.create(name, shard_count, moment.since_start, moment.wall) {
        Ok(answer::empty())
    } else {
        let what = format!("Stream {name} under account {ACCOUNT} already exists.");
        Err(Refusal::bad("ResourceInUseException", what))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfStream<'a> {
    #[serde(borrow)]
    stream_name: Option<Text<'a>>,
    #[serde(borrow, rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
}

/// Answers DescribeStreamSummary, for a stream in `region`.
pub fn describe_stream_summary(body: &[u8], store: &Store, region: &str) -> Result<Response, Refusal> {
    let request: OfStream<'_> = parse(body)?;
    let name = stream_name(request.stream_name, request.stream_arn)?;
    let stream = store.streams.get(&name).ok_or_else(|| Refusal::no_stream(&name))?;
    Ok(answer::json(&json!({ "StreamDescriptionSummary": {
        "StreamName": name,
        "StreamARN": format!("arn:aws:kinesis:{region}:{ACCOUNT}:stream/{name}"),
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": { "StreamMode": if stream.on_demand { "ON_DEMAND" } else { "PROVISIONED" } },
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": stream.created.0 / 1000,
        "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
        "EncryptionType": "NONE",
        "OpenShardCount": stream.shards.open().count(),
        "ConsumerCount": 0,
        "MaxRecordSizeInKiB": MAX_RECORD_BYTES >> 10,
        "RecordDistributionStrategy": match stream.distribution {
            Distribution::ByKey => "USER_PARTITION_KEY",
            Distribution::Auto => "AUTO",
        },
    }})))
}

/// Answers `UpdateStreamRecordDistributionStrategy`.
pub fn distribute(body: &[u8], store: &mut Store) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Update<'a> {
        #[serde(borrow, rename = "StreamARN")]
        stream_arn: Option<Text<'a>>,
        record_distribution_strategy: &'a str,
    }
    let request: Update<'_> = parse(body)?;
    let name = stream_name(None, request.stream_arn)?;
    let stream = store.streams.get(&name).ok_or_else(|| Refusal::no_stream(&name))?;
    let distribution = match request.record_distribution_strategy {
        "USER_PARTITION_KEY" => Distribution::ByKey,
        "AUTO" if stream.on_demand => Distribution::Auto,
        "AUTO" => return Err(Refusal::argument("AUTO is only for streams in on-demand mode.")),
        other => return Err(Refusal::argument(format!("RecordDistributionStrategy {other} is unknown."))),
    };
    store.distribute(&name, distribution).ok_or_else(|| Refusal::no_stream(&name))?;
    Ok(answer::empty())
}

/// A shard's hash keys as the API writes them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Range {
    starting_hash_key: String,
    ending_hash_key: String,
}

/// The hash keys of `shard`.
pub fn range_of(shard: &Shard) -> Range {
    Range { starting_hash_key: shard.range.start.to_string(), ending_hash_key: shard.range.end.to_string() }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: Range,
    sequence_number_range: Sequences,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sequences {
    starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

impl Listed {
    fn new(shard: &Shard) -> Self {
        let name = |id: ShardId| id.to_string();
        Self {
            shard_id: name(shard.id),
            parent_shard_id: shard.parent.map(name),
            adjacent_parent_shard_id: shard.adjacent_parent.map(name),
            hash_key_range: range_of(shard),
            sequence_number_range: Sequences {
                starting_sequence_number: Sequence(shard.opened).to_string(),
                ending_sequence_number: shard.closed.map(|closed| Sequence(closed - 1).to_string()),
            },
        }
    }
}

/// Answers `ListShards`. Of the filters it knows `AT_LATEST`, which leaves closed shards out; the others list them all.
pub fn list_shards(body: &[u8], store: &Store) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct ListShards<'a> {
        #[serde(borrow)]
        stream_name: Option<Text<'a>>,
        #[serde(borrow, rename = "StreamARN")]
        stream_arn: Option<Text<'a>>,
        next_token: Option<&'a str>,
        exclusive_start_shard_id: Option<&'a str>,
        max_results: Option<usize>,
        #[serde(borrow)]
        shard_filter: Option<Filter<'a>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Filter<'a> {
        r#type: &'a str,
    }
    let request: ListShards<'_> = parse(body)?;
    let no_shard = |_| Refusal::argument("ExclusiveStartShardId is not the name of a shard.");
    let (name, open_only, after) = if let Some(token) = request.next_token {
        read_token(token).ok_or_else(|| Refusal::bad("ExpiredNextTokenException", "NextToken is not ours."))?
    } else {
        let open_only = request.shard_filter.is_some_and(|filter| filter.r#type == "AT_LATEST");
        let after = request.exclusive_start_shard_id.map(str::parse).transpose().map_err(no_shard)?;
        (stream_name(request.stream_name, request.stream_arn)?, open_only, after)
    };
    let shards = store.shards(&name).ok_or_else(|| Refusal::no_stream(&name))?;
    let wanted = |shard: &&Shard| after.is_none_or(|after| shard.id > after) && (shard.closed.is_none() || !open_only);
    let most = request.max_results.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let mut rest = shards.iter().filter(wanted).peekable();
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let next = rest.peek().and(page.last()).map(|last| format!("{}:{}:{name}", last.id.0, u8::from(open_only)));
    let listed: Vec<_> = page.into_iter().map(Listed::new).collect();
    Ok(answer::json(&match next {
        Some(token) => json!({ "Shards": listed, "NextToken": token }),
        None => json!({ "Shards": listed }),
    }))
}

fn read_token(token: &str) -> Option<(String, bool, Option<ShardId>)> {
    let mut parts = token.splitn(3, ':');
    let (after, open_only, name) = (parts.next()?.parse().ok()?, parts.next()? == "1", parts.next()?);
    Some((name.to_owned(), open_only, Some(after)))
}

/// Answers `SplitShard`.
pub fn split_shard(body: &[u8], store: &mut Store, moment: Moment) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct SplitShard<'a> {
        #[serde(borrow)]
        stream_name: Option<Text<'a>>,
        #[serde(borrow, rename = "StreamARN")]
        stream_arn: Option<Text<'a>>,
        shard_to_split: &'a str,
        new_starting_hash_key: &'a str,
    }
    let request: SplitShard<'_> = parse(body)?;
    let name = stream_name(request.stream_name, request.stream_arn)?;
    let at = request.new_starting_hash_key.parse().map_err(|_| Refusal::argument("NewStartingHashKey is not a hash key."))?;
    let split = store.split(&name, shard_id(request.shard_to_split)?, Some(at), moment.since_start);
    split.ok_or_else(|| Refusal::no_stream(&name))?.map_err(not_resharded)?;
    Ok(answer::empty())
}

/// Answers `MergeShards`.
pub fn merge_shards(body: &[u8], store: &mut Store, moment: Moment) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct MergeShards<'a> {
        #[serde(borrow)]
        stream_name: Option<Text<'a>>,
        #[serde(borrow, rename = "StreamARN")]
        stream_arn: Option<Text<'a>>,
        shard_to_merge: &'a str,
        adjacent_shard_to_merge: &'a str,
    }
    let request: MergeShards<'_> = parse(body)?;
    let name = stream_name(request.stream_name, request.stream_arn)?;
    let (shard, adjacent) = (shard_id(request.shard_to_merge)?, shard_id(request.adjacent_shard_to_merge)?);
    let merged = store.merge(&name, shard, adjacent, moment.since_start);
    merged.ok_or_else(|| Refusal::no_stream(&name))?.map_err(not_resharded)?;
    Ok(answer::empty())
}

fn shard_id(text: &str) -> Result<ShardId, Refusal> {
    text.parse().map_err(|_| Refusal::argument(format!("{text} is not the name of a shard.")))
}

fn not_resharded(error: ReshardError) -> Refusal {
    match error {
        ReshardError::NotOpen(_) => Refusal::bad("ResourceNotFoundException", error.to_string()),
        ReshardError::Outside(..) | ReshardError::NotAdjacent(..) => Refusal::argument(error.to_string()),
    }
}
