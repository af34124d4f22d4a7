//! Kinesis Data Streams: puts, and reading back. The only file that knows this SDK's operations.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aws_sdk_kinesis::{
    primitives::{Blob, DateTime, DateTimeFormat},
    types::{self, PutRecordsRequestEntry, PutRecordsResultEntry, ShardIteratorType},
};
use aws_smithy_runtime_api::client::dns::ResolveDns;
use tracing::debug;

use super::{
    Answer, Arrived, Cause, ClientError, DescribeError, Distribution, Page, Position, PutError, ReadError, Record, Rehearsal,
    Service, Shard, Start, StreamSummary, Trial,
    answer::harmless,
    body::{Body, Written},
    clock::ServiceClock,
    credentials::{Fault, HeldCredentials},
    guard::SystemNames,
    limits::MAX_RECORD,
    link::{LOOK_TIMEOUT, Link, PUT_ANSWER, Passage},
    trouble::Trouble,
    verdict::{Verdict, verdict},
    way::{Answering, Failure, ServiceError, Way},
};
use crate::{config::KinesisConfig, reading::Timestamp, units::ByteCount};

/// One answer of a read has up to 10 MiB.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// A few hundred bytes each way, on a slow link that wakes up.
const SUMMARY_TIMEOUT: Duration = Duration::from_secs(20);
/// Most bytes in the answer that describes a stream.
const SUMMARY_ANSWER: usize = 64 << 10;
/// The service's word for a put that would have gone well.
const DRY_RUN: &str = "DryRunOperationException";
/// Most bytes in the answer to a read: 10 MiB in base64, and as much again for keys and names.
const READ_ANSWER: usize = 28 << 20;

/// A client of one region and account, by any of its endpoints; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Link<aws_sdk_kinesis::Client>);

impl Client {
    /// Gets everything ready. Reads the files that `config` names; contacts nobody.
    pub async fn open(config: &KinesisConfig) -> Result<Self, ClientError> {
        Self::open_asking(config, SystemNames).await
    }

    /// The same, but that names are looked up in `names`.
    #[expect(clippy::unused_async, reason = "a source of credentials may have to be waited for one day")]
    pub async fn open_asking(config: &KinesisConfig, names: impl ResolveDns + 'static) -> Result<Self, ClientError> {
        Link::open(Service::Kinesis, config, names, aws_sdk_kinesis::Client::new).map(Self)
    }

    /// The URL that the next request goes to.
    pub fn endpoint(&self) -> &str {
        self.0.endpoint()
    }

    /// The address of the last connection there, or else the one that was tried last.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address()
    }

    /// What its requests are signed with, and at what time.
    pub fn signing(&self) -> (HeldCredentials, ServiceClock) {
        self.0.signing()
    }

    /// One `PutRecords`, over within `timeout`. The answers are in the order of `records`, and as many.
    pub async fn put(&self, stream: &str, records: Vec<Record>, timeout: Duration) -> Result<Vec<Answer>, PutError> {
        let sent = records.len();
        if sent == 0 {
            return Ok(Vec::new());
        }
        let passage = self.0.passage();
        let target = passage.target(stream);
        let request = passage.sdk().put_records().stream_name(stream).set_records(Some(Vec::new())).customize();
        let request = request.interceptor(Written::new(Body::of_records(stream, records)));
        let way = passage.way(PUT_ANSWER);
        match passage.send(timeout, &way, |way| request.interceptor(way).send()).await {
            Ok(output) => answers(output.records, sent).map_err(|why| PutError::Unknown { target, source: way.no_answer(&*why) }),
            Err(failure) => Err(passage.put_error(target, failure)),
        }
    }

    /// What `stream` is like, as far as a producer has to know.
    pub async fn describe(&self, stream: &str) -> Result<StreamSummary, DescribeError> {
        let passage = self.0.passage();
        let target = passage.target(stream);
        let request = passage.sdk().describe_stream_summary().stream_name(stream).customize();
        let way = passage.way(SUMMARY_ANSWER);
        match passage.send(SUMMARY_TIMEOUT, &way, |way| request.interceptor(way).send()).await {
            Ok(output) => output
                .stream_description_summary
                .as_ref()
                .map(summary)
                .ok_or_else(|| DescribeError::Unknown { target, source: "the answer has no summary".into() }),
            Err(Failure::Refused(refusal)) => match refusal.verdict() {
                Verdict::Denied => Err(DescribeError::Denied { target, source: refusal.into() }),
                Verdict::NoStream | Verdict::Credentials => {
                    Err(DescribeError::Failed(passage.put_error(target, Failure::Refused(refusal))))
                }
                _ => Err(DescribeError::Unknown { target, source: refusal.into() }),
            },
            // A question without an answer has stored nothing.
            Err(Failure::NoAnswer(source)) => Err(DescribeError::Failed(PutError::Unreachable { target, source })),
            Err(failure) => Err(DescribeError::Failed(passage.put_error(target, failure))),
        }
    }

    /// All shards that the stream still has something of, closed ones included.
    pub async fn shards(&self, stream: &str) -> Result<Vec<Shard>, ReadError> {
        let mut shards = Vec::new();
        let passage = self.0.passage();
        let mut page = passage.sdk().list_shards().stream_name(stream);
        loop {
            let request = page.customize();
            let output = ask(&passage, stream, |way| request.interceptor(way).send()).await?;
            shards.extend(output.shards.unwrap_or_default().into_iter().filter_map(shard));
            match output.next_token {
                Some(token) => page = passage.sdk().list_shards().next_token(token),
                None => return Ok(shards),
            }
        }
    }

    /// Where to begin to read `shard`.
    pub async fn position(&self, stream: &str, shard: &str, start: &Start) -> Result<Position, ReadError> {
        let passage = self.0.passage();
        let request = passage.sdk().get_shard_iterator().stream_name(stream).shard_id(shard);
        let request = match start {
            Start::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
            Start::Oldest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Start::At(Timestamp(ms)) => {
                request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(*ms))
            }
            Start::After(sequence) => {
                request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(sequence)
            }
        };
        let request = request.customize();
        let output = ask(&passage, stream, |way| request.interceptor(way).send()).await?;
        match output.shard_iterator {
            Some(iterator) => Ok(Position(iterator)),
            None => Err(ReadError::Passing { target: passage.target(stream), source: "the answer has no position".into() }),
        }
    }

    /// Reads what lies at `position`: up to 10 MiB or 10,000 records.
    pub async fn read(&self, stream: &str, position: &Position) -> Result<Page, ReadError> {
        let passage = self.0.passage();
        let request = passage.sdk().get_records().shard_iterator(&position.0).customize();
        let output = ask(&passage, stream, |way| request.interceptor(way).send()).await?;
        let more = output.millis_behind_latest.is_some_and(|behind| behind > 0) || !output.records.is_empty();
        let records = output.records.into_iter().map(arrived).collect();
        Ok(Page { records, next: output.next_shard_iterator.map(Position), more })
    }

    /// When an endpoint that was left should be asked whether it is back: the question. It needs no answer: from then on the endpoint
    /// is used again, or left for longer.
    pub fn look(&self, stream: &str, now: Instant) -> Option<impl Future<Output = ()> + Send + 'static> {
        let place = self.0.look(now)?;
        let (client, stream) = (self.clone(), stream.to_owned());
        Some(async move {
            let passage = client.0.passage_to(place);
            // Without a record it stores nothing anywhere, and the service says that it is invalid, which is an answer too.
            let request = passage.sdk().put_records().stream_name(&stream).set_records(Some(Vec::new())).customize();
            let asked = passage.send(LOOK_TIMEOUT, &passage.way(PUT_ANSWER), |way| request.interceptor(way).send()).await;
            debug!(endpoint = &*passage.target(&stream).endpoint, back = asked.is_ok(), "asked an endpoint whether it is back");
        })
    }

    /// Endpoints before that one in the list, and why they are not used.
    pub fn left(&self) -> Vec<(&str, String)> {
        self.0.left()
    }

    /// The layers of the way, to be tried out.
    pub fn trial(&self) -> Trial {
        self.0.trial()
    }

    /// Asks the endpoint at `place` of [`Self::trial`] whether `stream` would take this record, and to store nothing.
    pub async fn rehearse(&self, place: usize, stream: &str, record: Record, timeout: Duration) -> Result<Rehearsal, PutError> {
        let passage = self.0.passage_to(place);
        let target = passage.target(stream);
        let entry = match entry(record) {
            Ok(entry) => entry,
            Err(source) => return Err(PutError::Invalid { target, source }),
        };
        let request = passage.sdk().put_records().stream_name(stream).records(entry).dry_run(true).customize();
        let way = passage.way(PUT_ANSWER);
        match passage.send(timeout, &way, |way| request.interceptor(way).send()).await {
            Ok(_) => Ok(Rehearsal { stored: true, at: way.date() }),
            Err(Failure::Refused(refusal)) if refusal.code == DRY_RUN => Ok(Rehearsal { stored: false, at: way.date() }),
            Err(failure) => Err(passage.put_error(target, failure)),
        }
    }
}

async fn ask<T, E: ServiceError, F: Answering<T, E>>(
    passage: &Passage<'_, aws_sdk_kinesis::Client>,
    stream: &str,
    start: impl FnOnce(Way) -> F,
) -> Result<T, ReadError> {
    let target = passage.target(stream);
    match passage.send(READ_TIMEOUT, &passage.way(READ_ANSWER), start).await {
        Ok(output) => Ok(output),
        Err(Failure::NoCredentials(why)) if why.fault() == Fault::TheWay => Err(ReadError::Passing { target, source: why.into() }),
        Err(Failure::NoCredentials(why)) => Err(ReadError::Refused { target, source: why.into() }),
        Err(Failure::Barred(source)) => Err(ReadError::Public { target, source }),
        Err(Failure::NotSent(source)) => Err(ReadError::Passing { target, source: Trouble::before(&*source).into() }),
        Err(Failure::NoAnswer(trouble)) => Err(ReadError::Passing { target, source: trouble.into() }),
        Err(Failure::Refused(refusal)) => Err(ReadError::refused(target, refusal)),
    }
}

/// Reads a time such as `2026-11-21T05:30:00Z`. Source: RFC 3339.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let time = DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).ok()?;
    time.to_millis().ok().map(Timestamp)
}

fn entry(record: Record) -> Result<PutRecordsRequestEntry, Cause> {
    let built = PutRecordsRequestEntry::builder()
        .data(Blob::new(record.data))
        .partition_key(record.partition_key)
        .set_explicit_hash_key(record.explicit_hash_key.map(|key| key.to_string()))
        .build();
    built.map_err(Into::into)
}

fn answers(results: Vec<PutRecordsResultEntry>, sent: usize) -> Result<Vec<Answer>, Cause> {
    if results.len() != sent {
        return Err(format!("it answers for {} of {sent} records", results.len()).into());
    }
    results.into_iter().map(answer).collect()
}

fn answer(result: PutRecordsResultEntry) -> Result<Answer, Cause> {
    let message = harmless(&result.error_message.unwrap_or_default());
    match (result.error_code, result.shard_id, result.sequence_number) {
        (Some(code), ..) => Ok(match verdict(200, &code) {
            Verdict::Throttled => Answer::Throttled { message },
            Verdict::Invalid => Answer::Invalid { code, message },
            _ => Answer::Failed { code, message },
        }),
        (None, Some(shard), Some(sequence)) => Ok(Answer::Accepted { shard, sequence }),
        (None, ..) => Err("it neither took nor refused a record".into()),
    }
}

fn summary(summary: &types::StreamDescriptionSummary) -> StreamSummary {
    StreamSummary {
        distribution: match &summary.record_distribution_strategy {
            None | Some(types::RecordDistributionStrategy::UserPartitionKey) => Distribution::ByKey,
            // A strategy that is yet to be invented need not respect keys either.
            Some(_) => Distribution::ByService,
        },
        open_shards: summary.open_shard_count.try_into().unwrap_or_default(),
        max_record: summary.max_record_size_in_kib.and_then(|kib| u64::try_from(kib).ok()).map_or(MAX_RECORD, ByteCount::kib),
    }
}

fn shard(shard: types::Shard) -> Option<Shard> {
    let range = shard.hash_key_range?;
    let hashes = range.starting_hash_key.parse().ok()?..=range.ending_hash_key.parse().ok()?;
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id].into_iter().flatten().collect();
    let open = shard.sequence_number_range.is_none_or(|range| range.ending_sequence_number.is_none());
    Some(Shard { id: shard.shard_id, parents, hashes, open })
}

fn arrived(record: types::Record) -> Arrived {
    Arrived {
        partition_key: record.partition_key.unwrap_or_default(),
        sequence: record.sequence_number,
        arrived: record.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok()).map(Timestamp),
        data: record.data.into_inner(),
    }
}
