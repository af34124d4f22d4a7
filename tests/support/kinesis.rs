//! What the owner of a stream does: creates it, and reads back what arrived.

use std::ops::Deref;

use aws_sdk_kinesis::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    types::{ShardIteratorType, StreamStatus},
};

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};

use super::{DEADLINE, certificates::OFFICE, eventually, within};

/// The region that everything here is in.
pub const REGION: &str = "eu-west-1";

/// A Kinesis endpoint on loopback. It is a [`Client`] too, for what has no helper: splits, merges, deletions.
pub struct Endpoint {
    url: String,
    client: Client,
}

/// A Kinesis record as it lies in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// Such as `shardId-000000000000`.
    pub shard: String,
    /// Rises within a shard.
    pub sequence_number: String,
    /// Of the outer record.
    pub partition_key: String,
    /// An aggregate, or a plain payload.
    pub data: Vec<u8>,
}

impl Deref for Endpoint {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Endpoint {
    /// The one that listens on this port of loopback, with the certificate of [`OFFICE`].
    pub fn on(port: u16) -> Self {
        let url = format!("https://127.0.0.1:{port}");
        let roots = TrustStore::empty().with_pem_certificate(OFFICE.authority.pem());
        let trust = TlsContext::builder().with_trust_store(roots).build().expect("it was made here");
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(trust);
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(&url)
            .http_client(http.build_https())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(DEADLINE).build())
            .build();
        Self { url, client: Client::from_conf(config) }
    }

    /// For a destination's `endpoint`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates a stream and waits until it can be used.
    pub async fn create_stream(&self, name: &str, shards: i32) {
        let created = self.client.create_stream().stream_name(name).shard_count(shards).send().await;
        created.expect("a stream can be created");
        self.active(name).await;
    }

    /// Waits until a stream that was created, split or merged can be used.
    pub async fn active(&self, name: &str) {
        eventually(format_args!("stream {name} is active"), async || {
            let answer = self.client.describe_stream_summary().stream_name(name).send().await;
            let status = answer.map_err(|e| format!("{e:?}"))?.stream_description_summary.map(|summary| summary.stream_status);
            if status == Some(StreamStatus::Active) { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    /// Everything in a stream, shard by shard, the closed ones included, each in its order.
    pub async fn records(&self, stream: &str) -> Vec<StreamRecord> {
        let shards = self.client.list_shards().stream_name(stream).send().await.expect("its shards can be listed");
        let mut records = Vec::new();
        for shard in shards.shards() {
            within(format_args!("{} ends", shard.shard_id()), || String::from("more records"), async {
                self.read_shard(stream, shard.shard_id(), &mut records).await;
            })
            .await;
        }
        records
    }

    async fn read_shard(&self, stream: &str, shard: &str, records: &mut Vec<StreamRecord>) {
        let oldest = self.client.get_shard_iterator().stream_name(stream).shard_id(shard);
        let oldest = oldest.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
        let mut next = oldest.expect("a shard can be read").shard_iterator;
        while let Some(position) = next {
            let page = self.client.get_records().shard_iterator(position).send().await.expect("a shard can be read");
            if page.records.is_empty() && page.millis_behind_latest.unwrap_or_default() == 0 {
                return;
            }
            records.extend(page.records.into_iter().map(|record| StreamRecord {
                shard: shard.into(),
                sequence_number: record.sequence_number,
                partition_key: record.partition_key.unwrap_or_default(),
                data: record.data.into_inner(),
            }));
            next = page.next_shard_iterator;
        }
    }
}
