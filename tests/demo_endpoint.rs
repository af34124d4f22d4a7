//! The local Kinesis endpoint, as Amazon's own client sees it.
//!
//! Other tests trust it to be as strict as the service and as unkind as an uplink; these say that it is, over TLS as everywhere.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/certificates.rs"]
#[allow(dead_code, reason = "one authority is enough here")]
mod certificates;

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::put_records::{PutRecordsError, PutRecordsOutput},
    primitives::Blob,
    types::{PutRecordsRequestEntry, RecordDistributionStrategy, Shard, ShardFilter, ShardFilterType, ShardIteratorType},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use certificates::OFFICE;
use headwater::demo::kinesis::{Endpoint, Failure, Keep, Limits, Options, ShardId};

const STREAM: &str = "plant-readings";

/// A gateway that puts texts, one record each, and the endpoint it puts them to.
struct Gateway {
    cloud: Endpoint,
    client: Client,
}

impl Gateway {
    async fn new() -> Self {
        Self::with(Options::default(), "eu-west-1").await
    }

    async fn with(options: Options, region: &'static str) -> Self {
        Self::facing(Endpoint::start(Options { tls: Some(OFFICE.tls.clone()), ..options }).await.unwrap(), region)
    }

    fn facing(cloud: Endpoint, region: &'static str) -> Self {
        cloud.create_stream(STREAM, 2);
        let roots = TrustStore::empty().with_pem_certificate(OFFICE.authority.pem());
        let trust = TlsContext::builder().with_trust_store(roots).build().unwrap();
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(trust).build_https();
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .endpoint_url(cloud.url())
            .credentials_provider(Credentials::new("AKID", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .http_client(http)
            .build();
        Self { cloud, client: Client::from_conf(config) }
    }

    async fn puts(&self, texts: &[&str]) -> Result<PutRecordsOutput, SdkError<PutRecordsError>> {
        self.puts_at(texts, "0").await
    }

    async fn puts_at(&self, texts: &[&str], hash_key: &str) -> Result<PutRecordsOutput, SdkError<PutRecordsError>> {
        let entry = |text: &&str| {
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(*text)).partition_key("gw").explicit_hash_key(hash_key);
            entry.build().unwrap()
        };
        self.client.put_records().stream_name(STREAM).set_records(Some(texts.iter().map(entry).collect())).send().await
    }

    async fn code_of(&self, texts: &[&str]) -> String {
        let error = self.puts(texts).await.unwrap_err();
        error.code().map_or_else(|| format!("{}", DisplayErrorContext(&error)), str::to_owned)
    }

    async fn reads(&self, shard: ShardId, from: ShardIteratorType) -> Vec<String> {
        let iterator = self.client.get_shard_iterator().stream_name(STREAM).shard_id(shard.to_string()).shard_iterator_type(from);
        let mut next = iterator.send().await.unwrap().shard_iterator;
        let mut texts = Vec::new();
        while let Some(iterator) = next {
            let page = self.client.get_records().shard_iterator(iterator).limit(2).send().await.unwrap();
            texts.extend(page.records().iter().map(|record| String::from_utf8(record.data().as_ref().to_vec()).unwrap()));
            next = page.next_shard_iterator.filter(|_| page.millis_behind_latest != Some(0) || !page.records.is_empty());
        }
        texts
    }

    fn stored(&self) -> Vec<String> {
        self.cloud.received(STREAM).iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect()
    }
}

#[tokio::test]
async fn what_was_put_is_read_back_in_order_from_the_shard_of_its_hash_key() {
    let gateway = Gateway::new().await;

    let answer = gateway.puts(&["a", "b", "c", "d", "e"]).await.unwrap();
    gateway.puts_at(&["z"], &u128::MAX.to_string()).await.unwrap();

    assert_eq!((answer.failed_record_count, answer.records().len()), (Some(0), 5));
    assert_eq!(gateway.reads(ShardId(0), ShardIteratorType::TrimHorizon).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(gateway.reads(ShardId(1), ShardIteratorType::TrimHorizon).await, ["z"]);
    assert!(gateway.reads(ShardId(0), ShardIteratorType::Latest).await.is_empty());
    let counts = gateway.cloud.counts();
    assert_eq!((counts.puts, counts.records, counts.record_bytes), (2, 6, 18));
}

#[tokio::test]
async fn after_a_split_and_a_merge_puts_go_on_and_readers_find_the_children() {
    let gateway = Gateway::new().await;
    gateway.puts(&["before"]).await.unwrap();

    let [low, high] = gateway.cloud.split(STREAM, ShardId(0)).unwrap();
    gateway.puts(&["between"]).await.unwrap();
    let merge = gateway.client.merge_shards().stream_name(STREAM).shard_to_merge(low.to_string());
    merge.adjacent_shard_to_merge(high.to_string()).send().await.unwrap();
    let answer = gateway.puts(&["after"]).await.unwrap();

    assert_eq!(answer.records()[0].shard_id(), Some("shardId-000000000004"));
    assert_eq!(gateway.reads(ShardId(0), ShardIteratorType::TrimHorizon).await, ["before"]);
    assert_eq!(gateway.reads(low, ShardIteratorType::TrimHorizon).await, ["between"]);
    assert_eq!(gateway.reads(ShardId(4), ShardIteratorType::TrimHorizon).await, ["after"]);
    let latest = ShardFilter::builder().r#type(ShardFilterType::AtLatest).build().unwrap();
    let open = gateway.client.list_shards().stream_name(STREAM).shard_filter(latest).send().await.unwrap();
    assert_eq!(open.shards().iter().map(Shard::shard_id).collect::<Vec<_>>(), ["shardId-000000000001", "shardId-000000000004"]);
    let first = gateway.client.list_shards().stream_name(STREAM).max_results(3).send().await.unwrap();
    let second = gateway.client.list_shards().next_token(first.next_token().unwrap()).send().await.unwrap();
    assert_eq!((first.shards().len(), second.shards().len(), second.next_token()), (3, 2, None));
}

#[tokio::test]
async fn a_full_shard_refuses_record_by_record_and_the_others_are_stored() {
    let gateway = Gateway::with(Options { limits: Some(Limits::SERVICE), ..Options::default() }, "eu-west-1").await;
    let full = "x".repeat((1 << 20) - 2);
    let nine = [full.as_str(); 9];

    gateway.puts(&nine).await.unwrap();
    let answer = gateway.puts(&nine).await.unwrap();

    let refused = answer.records().iter().filter(|entry| entry.error_code() == Some("ProvisionedThroughputExceededException"));
    let refused = i32::try_from(refused.count()).unwrap();
    assert!(refused > 0 && answer.failed_record_count() == Some(refused), "{refused} refused");
    assert_eq!(u64::try_from(refused).unwrap(), gateway.cloud.counts().refused_records);
    assert!(answer.records()[8].error_message().unwrap().contains("shardId-000000000000 in stream plant-readings"));
}

#[tokio::test]
async fn a_request_that_breaks_a_rule_is_refused_as_a_whole() {
    let gateway = Gateway::new().await;
    let too_large = "x".repeat(1 << 20);

    assert_eq!(gateway.code_of(&["fine", &too_large]).await, "ValidationException");
    assert_eq!(gateway.code_of(&["x"; 501]).await, "ValidationException");
    let nowhere = gateway.client.describe_stream_summary().stream_name("nowhere").send().await.unwrap_err();
    assert_eq!(nowhere.code(), Some("ResourceNotFoundException"));
    assert!(gateway.stored().is_empty());
}

#[tokio::test]
async fn a_stream_on_demand_can_be_told_to_ignore_keys_and_a_provisioned_one_cannot() {
    let gateway = Gateway::new().await;
    let update = async |name: &str| {
        let arn = format!("arn:aws:kinesis:eu-west-1:000000000000:stream/{name}");
        let update = gateway.client.update_stream_record_distribution_strategy().stream_arn(arn);
        update.record_distribution_strategy(RecordDistributionStrategy::Auto).send().await
    };
    gateway.client.create_stream().stream_name("spread").send().await.unwrap();

    assert_eq!(update(STREAM).await.unwrap_err().code(), Some("InvalidArgumentException"));
    update("spread").await.unwrap();

    let described = gateway.client.describe_stream_summary().stream_name("spread").send().await.unwrap();
    let summary = described.stream_description_summary().unwrap();
    assert_eq!(summary.record_distribution_strategy(), Some(&RecordDistributionStrategy::Auto));
    let entries = (0..50).map(|_| PutRecordsRequestEntry::builder().data(Blob::new("x")).partition_key("gw").build().unwrap());
    let put = gateway.client.put_records().stream_name("spread").set_records(Some(entries.collect())).send().await.unwrap();
    let shards: BTreeSet<_> = put.records().iter().filter_map(|entry| entry.shard_id()).collect();
    assert_eq!(shards.len(), 4);
}

#[tokio::test]
async fn a_request_signed_for_another_region_is_refused() {
    let gateway = Gateway::with(Options::default(), "vpce").await;

    assert_eq!(gateway.code_of(&["x"]).await, "InvalidSignatureException");
}

#[tokio::test]
async fn each_fault_on_command_happens_once_and_then_all_is_well() {
    let gateway = Gateway::new().await;
    let faults = [
        (Failure::InternalFailure, "InternalFailure"),
        (Failure::AccessDenied, "AccessDeniedException"),
        (Failure::ResourceNotFound, "ResourceNotFoundException"),
        (Failure::ExpiredToken, "ExpiredTokenException"),
        (Failure::Validation, "ValidationException"),
        (Failure::Code("ThrottlingException"), "ThrottlingException"),
    ];
    for (fault, code) in faults {
        gateway.cloud.fail_next(1, fault);
        assert_eq!(gateway.code_of(&["x"]).await, code);
    }
    for fault in [Failure::BadGateway, Failure::Unavailable, Failure::Garbage] {
        gateway.cloud.fail_next(1, fault);
        let error = gateway.puts(&["x"]).await.unwrap_err();
        assert!(matches!(error, SdkError::ResponseError(_)), "{fault:?}: {error:?}");
    }
    assert!(gateway.stored().is_empty());

    gateway.cloud.describe_fails(Some("AccessDeniedException"));
    let denied = gateway.client.describe_stream_summary().stream_name(STREAM).send().await.unwrap_err();
    assert_eq!(denied.code(), Some("AccessDeniedException"));
    gateway.cloud.calls_invalid_one_by_one(Some("bad"));
    let answer = gateway.puts(&["bad", "good"]).await.unwrap();
    assert_eq!(answer.records()[0].error_code(), Some("InvalidArgumentException"));
    assert_eq!(gateway.stored(), ["good"]);

    gateway.cloud.fail_next(1, Failure::TooFewRecords);
    assert_eq!(gateway.puts(&["a", "b"]).await.unwrap().records().len(), 1);
    gateway.cloud.fail_next(1, Failure::RefuseEvery(2));
    assert_eq!(gateway.puts(&["a", "b", "c"]).await.unwrap().failed_record_count(), Some(2));
    assert_eq!(gateway.puts(&["d"]).await.unwrap().failed_record_count(), Some(0));

    assert_eq!(gateway.stored(), ["good", "b", "d"]);
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_tells_nothing_about_the_records() {
    let gateway = Gateway::new().await;

    gateway.cloud.fail_next(1, Failure::StoreThenClose);
    let stored = gateway.puts(&["stored"]).await.unwrap_err();
    gateway.cloud.fail_next(1, Failure::CloseBeforeStore);
    let lost = gateway.puts(&["lost"]).await.unwrap_err();

    assert!(matches!(stored, SdkError::DispatchFailure(_)), "{stored:?}");
    assert!(matches!(lost, SdkError::DispatchFailure(_)), "{lost:?}");
    assert_eq!(gateway.stored(), ["stored"]);
}

#[tokio::test]
async fn while_the_uplink_is_away_connections_close_and_when_it_is_back_puts_go_on() {
    let gateway = Gateway::new().await;
    gateway.puts(&["before"]).await.unwrap();

    gateway.cloud.away();
    let away = gateway.puts(&["meanwhile"]).await.unwrap_err();
    gateway.cloud.back();
    gateway.puts(&["after"]).await.unwrap();

    assert!(matches!(away, SdkError::DispatchFailure(_)), "{away:?}");
    assert_eq!(gateway.stored(), ["before", "after"]);
}

#[tokio::test]
async fn a_put_into_a_black_hole_ends_only_when_the_line_is_cut() {
    let gateway = Gateway::new().await;
    gateway.puts(&["before"]).await.unwrap();

    gateway.cloud.black_hole();
    let mut put = std::pin::pin!(gateway.puts(&["swallowed"]));
    let mut other = std::pin::pin!(tokio::net::TcpStream::connect(gateway.cloud.address()));
    // A new connection is accepted while the put gets no answer.
    tokio::select! {
        biased;
        ended = &mut put => panic!("an answer out of a black hole: {ended:?}"),
        connected = &mut other => drop(connected.unwrap()),
    }
    gateway.cloud.back();

    assert!(matches!(put.await.unwrap_err(), SdkError::DispatchFailure(_)));
    gateway.puts(&["after"]).await.unwrap();
    assert_eq!(gateway.stored(), ["before", "after"]);
}

#[tokio::test]
async fn records_refused_at_random_are_answered_one_by_one_as_internal_failures() {
    let gateway = Gateway::new().await;
    gateway.cloud.refuse_at_random(50.0, 7);

    let answer = gateway.puts(&["x"; 100]).await.unwrap();

    let refused = answer.records().iter().filter(|entry| entry.error_code() == Some("InternalFailure")).count();
    assert!((25..75).contains(&refused), "{refused} of 100");
    assert_eq!(gateway.stored().len(), 100 - refused);
}

#[tokio::test]
async fn whoever_waits_for_records_sees_them_when_they_are_there() {
    let gateway = Gateway::new().await;
    gateway.cloud.slow(Duration::from_millis(2), Some(1 << 20));

    let wait = gateway.cloud.wait_for(|store| (store.accepted(STREAM) == 3).then(|| store.counts().puts));
    let put = async {
        gateway.puts(&["a"]).await.unwrap();
        gateway.puts(&["b", "c"]).await.unwrap();
    };

    assert_eq!(tokio::join!(wait, put).0, 2);
}

#[tokio::test]
async fn a_long_run_keeps_the_last_records_and_counts_all_of_them() {
    let gateway = Gateway::with(Options { keep: Keep::LastBytes(3), ..Options::default() }, "eu-west-1").await;

    gateway.puts(&["1", "2", "3", "4", "5"]).await.unwrap();

    assert_eq!(gateway.stored(), ["3", "4", "5"]);
    assert_eq!(gateway.cloud.counts().records, 5);
}

#[tokio::test]
async fn without_a_certificate_it_speaks_plain_http_as_the_demo_has_it_and_can_go_away_too() {
    let gateway = Gateway::facing(Endpoint::start(Options::default()).await.unwrap(), "eu-west-1");
    assert!(gateway.cloud.url().starts_with("http://"));

    gateway.puts(&["before"]).await.unwrap();
    gateway.cloud.away();
    gateway.puts(&["meanwhile"]).await.unwrap_err();
    gateway.cloud.back();
    gateway.puts(&["after"]).await.unwrap();

    assert_eq!(gateway.stored(), ["before", "after"]);
}
