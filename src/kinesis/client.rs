//! The way to one Kinesis endpoint, and the only file that knows the SDK's operations.
//!
//! One client lives as long as the agent: it learns from every answer how wrong this gateway's clock is, and signs accordingly.
//!
//! Invariant: opening it sends nothing and waits for nobody, so an absent endpoint or name server delays no start.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use aws_config::provider_config::ProviderConfig;
use aws_sdk_kinesis::{
    config::{
        BehaviorVersion, ConfigBag, IdentityCache, Intercept, Region, RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef},
        retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    primitives::{Blob, DateTime, DateTimeFormat},
    types::{self, PutRecordsRequestEntry, PutRecordsResultEntry, ShardIteratorType},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connection::{CaptureSmithyConnection, ConnectionMetadata},
        interceptors::dyn_dispatch_hint,
        orchestrator::HttpResponse,
    },
};

use super::{
    Answer, Arrived, Cause, ClientError, Page, Position, PutError, ReadError, Record, Refusal, Shard, Start, Target,
    answer::{Seen, harmless},
    credentials::{self, HeldCredentials},
    endpoint::{Endpoint, Resolver},
    error::{Verdict, verdict},
    trust::Trust,
};
use crate::{config::KinesisConfig, reading::Timestamp, status::with_causes};

/// For name, TCP and TLS together: four round trips or more, each of up to two seconds on a mobile link that wakes up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// One answer of a read has up to 10 MiB.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Most bytes in the answer to a put: 500 records, each with a shard and a sequence number or a message, are a quarter of it.
const PUT_ANSWER: usize = 1 << 20;
/// Most bytes in the answer to a read: 10 MiB in base64, and as much again for keys and names.
const READ_ANSWER: usize = 28 << 20;

/// A client of one endpoint; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    sdk: aws_sdk_kinesis::Client,
    endpoint: Endpoint,
    resolver: Resolver,
    credentials: HeldCredentials,
    connected: Arc<Mutex<Option<SocketAddr>>>,
}

impl Client {
    /// Gets everything ready. Reads the files that `config` names; contacts nobody.
    #[expect(clippy::unused_async, reason = "a source of credentials may have to be waited for one day")]
    pub async fn open(config: &KinesisConfig) -> Result<Self, ClientError> {
        let endpoint = Endpoint::of(config)?;
        let resolver = Resolver::default();
        let trust = Trust::load(config.ca.as_deref(), endpoint.tls)?;
        let region = Region::new(config.region.clone());
        let ask = ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(trust.credentials_client());
        let credentials = HeldCredentials::from(credentials::source(&config.credentials, &ask)?);

        let settings = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .endpoint_url(&*endpoint.url)
            .http_client(trust.endpoint_client(resolver.clone()))
            .credentials_provider(credentials.clone())
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            // Nothing but the caller's limit for the rest: a large record takes long on a slow link, and that is no fault.
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let sdk = aws_sdk_kinesis::Client::from_conf(settings);
        Ok(Self { sdk, endpoint, resolver, credentials, connected: Arc::default() })
    }

    /// The endpoint's URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint.url
    }

    /// The address of the last connection, or else the one that was tried last.
    pub fn address(&self) -> Option<SocketAddr> {
        let connected = *self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.or_else(|| self.resolver.last().map(|ip| SocketAddr::new(ip, self.endpoint.port)))
    }

    /// One `PutRecords`, over within `timeout`. The answers are in the order of `records`, and as many.
    pub async fn put(&self, stream: &str, records: Vec<Record>, timeout: Duration) -> Result<Vec<Answer>, PutError> {
        let sent = records.len();
        if sent == 0 {
            return Ok(Vec::new());
        }
        let target = self.target(stream);
        let entries = match records.into_iter().map(entry).collect() {
            Ok(entries) => entries,
            Err(source) => return Err(PutError::Invalid { target, source }),
        };
        let request = self.sdk.put_records().stream_name(stream).set_records(Some(entries)).customize();
        let way = Way::reading(PUT_ANSWER);
        match self.send(timeout, &way, |way| request.interceptor(way).send()).await {
            Ok(output) => {
                answers(output.records, sent).map_err(|source| PutError::Unknown { target, source: way.with_answer(source) })
            }
            Err(Failure::NoCredentials(source)) => Err(PutError::Credentials { target, source }),
            Err(Failure::NotSent(source)) => Err(PutError::Unreachable { target, source }),
            Err(Failure::NoAnswer(source)) => Err(PutError::Unknown { target, source }),
            Err(Failure::Refused(refusal)) => {
                let error = PutError::refused(target, refusal);
                if matches!(error, PutError::Credentials { .. }) {
                    self.credentials.forget().await;
                }
                Err(error)
            }
        }
    }

    /// All shards that the stream still has something of, closed ones included.
    pub async fn shards(&self, stream: &str) -> Result<Vec<Shard>, ReadError> {
        let mut shards = Vec::new();
        let mut page = self.sdk.list_shards().stream_name(stream);
        loop {
            let request = page.customize();
            let output = self.ask(stream, |way| request.interceptor(way).send()).await?;
            shards.extend(output.shards.unwrap_or_default().into_iter().filter_map(shard));
            match output.next_token {
                Some(token) => page = self.sdk.list_shards().next_token(token),
                None => return Ok(shards),
            }
        }
    }

    /// Where to begin to read `shard`.
    pub async fn position(&self, stream: &str, shard: &str, start: &Start) -> Result<Position, ReadError> {
        let request = self.sdk.get_shard_iterator().stream_name(stream).shard_id(shard);
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
        let output = self.ask(stream, |way| request.interceptor(way).send()).await?;
        match output.shard_iterator {
            Some(iterator) => Ok(Position(iterator)),
            None => Err(ReadError::Passing { target: self.target(stream), source: "the answer has no position".into() }),
        }
    }

    /// Reads what lies at `position`: up to 10 MiB or 10,000 records.
    pub async fn read(&self, stream: &str, position: &Position) -> Result<Page, ReadError> {
        let request = self.sdk.get_records().shard_iterator(&position.0).customize();
        let output = self.ask(stream, |way| request.interceptor(way).send()).await?;
        let more = output.millis_behind_latest.is_some_and(|behind| behind > 0) || !output.records.is_empty();
        let records = output.records.into_iter().map(arrived).collect();
        Ok(Page { records, next: output.next_shard_iterator.map(Position), more })
    }

    async fn ask<T, E: ServiceError, F: Answering<T, E>>(
        &self,
        stream: &str,
        start: impl FnOnce(Way) -> F,
    ) -> Result<T, ReadError> {
        let target = self.target(stream);
        match self.send(READ_TIMEOUT, &Way::reading(READ_ANSWER), start).await {
            Ok(output) => Ok(output),
            Err(Failure::NoCredentials(source)) => Err(ReadError::Refused { target, source }),
            Err(Failure::NotSent(source) | Failure::NoAnswer(source)) => Err(ReadError::Passing { target, source }),
            Err(Failure::Refused(refusal)) => Err(ReadError::refused(target, refusal)),
        }
    }

    /// Sends one request and says how far it came.
    async fn send<T, E: ServiceError, F: Answering<T, E>>(
        &self,
        timeout: Duration,
        way: &Way,
        start: impl FnOnce(Way) -> F,
    ) -> Result<T, Failure> {
        let exchange = async {
            // Asked for before the SDK does, which would call it a failed request.
            self.credentials.get().await.map_err(|error| Failure::NoCredentials(error.into()))?;
            start(way.clone()).await.map_err(|error| failure(error, way))
        };
        let outcome = match tokio::time::timeout(timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(way.failure(format!("no answer within {timeout:?}").into())),
        };
        if let Some(address) = way.connection().and_then(|connection| connection.remote_addr()) {
            *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        }
        match &outcome {
            Err(Failure::NotSent(_)) => self.resolver.next_turn(),
            // What an HTTP/2 connection did not answer it may never answer again, and it would be used again for an hour.
            Err(Failure::NoAnswer(_)) => way.connection().iter().for_each(ConnectionMetadata::poison),
            _ => {}
        }
        outcome
    }

    fn target(&self, stream: &str) -> Target {
        Target { stream: stream.to_owned(), endpoint: Arc::clone(&self.endpoint.url) }
    }
}

/// Reads a time such as `2026-11-21T05:30:00Z`. Source: RFC 3339.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let time = DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).ok()?;
    time.to_millis().ok().map(Timestamp)
}

trait ServiceError: Error + ProvideErrorMetadata + Send + Sync + 'static {}
impl<E: Error + ProvideErrorMetadata + Send + Sync + 'static> ServiceError for E {}

trait Answering<T, E>: Future<Output = Result<T, SdkError<E, HttpResponse>>> {}
impl<T, E, F: Future<Output = Result<T, SdkError<E, HttpResponse>>>> Answering<T, E> for F {}

/// How far a request came that brought nothing.
enum Failure {
    NoCredentials(Cause),
    NotSent(Cause),
    NoAnswer(Cause),
    Refused(Refusal),
}

/// Watches one request: whether it was given a connection, after which its bytes may have left; and what came back.
#[derive(Clone, Debug)]
struct Way {
    connected: Arc<OnceLock<CaptureSmithyConnection>>,
    seen: Seen,
    /// Bytes of the answer, at most.
    answer: usize,
}

impl Way {
    fn reading(answer: usize) -> Self {
        Self { connected: Arc::default(), seen: Seen::default(), answer }
    }

    fn connection(&self) -> Option<ConnectionMetadata> {
        self.connected.get().and_then(CaptureSmithyConnection::get)
    }

    fn failure(&self, cause: Cause) -> Failure {
        if self.connection().is_some() { Failure::NoAnswer(self.with_answer(cause)) } else { Failure::NotSent(cause) }
    }

    /// `cause`, and what came back, if anything did.
    fn with_answer(&self, cause: Cause) -> Cause {
        match self.seen.shown() {
            Some(shown) => format!("{}: {shown}", with_causes(&*cause)).into(),
            None => cause,
        }
    }
}

#[dyn_dispatch_hint]
impl Intercept for Way {
    fn name(&self) -> &'static str {
        "Way"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(capture) = config.load::<CaptureSmithyConnection>() {
            self.connected.get_or_init(|| capture.clone());
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.seen.watch(context.response_mut(), self.answer);
        Ok(())
    }
}

fn failure<E: ServiceError>(error: SdkError<E, HttpResponse>, way: &Way) -> Failure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (status, error.code()) {
        (Some(status), Some(code)) => {
            let message = harmless(error.message().unwrap_or_default());
            Failure::Refused(Refusal { status, code: code.to_owned(), message })
        }
        (Some(status), None) if !(200..300).contains(&status) => {
            Failure::Refused(Refusal { status, code: String::new(), message: way.seen.body() })
        }
        _ => way.failure(error.into_source().unwrap_or_else(Into::into)),
    }
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
