//! A Kinesis that we did not write.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use headwater::kinesis::{Answer, HashKey, PutError, Record, Start};
use tokio::time::timeout;

use super::{Gateway, PATIENCE, record};

pub struct Kinesalite {
    pub url: String,
    process: Child,
}

impl Drop for Kinesalite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Kinesalite {
    pub async fn with_stream(name: &str, shards: i32) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator");
        assert!(
            folder.join("node_modules/kinesalite").is_dir(),
            "kinesalite is not installed; run: npm ci --prefix tests/emulator"
        );
        let mut process = Command::new("node")
            .arg(folder.join("kinesalite.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is not installed; it runs kinesalite");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let this = Self { url: format!("http://127.0.0.1:{}", line.trim()), process };
        this.admin().create_stream().stream_name(name).shard_count(shards).send().await.unwrap();
        this.settled(name).await;
        this
    }

    fn admin(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(&self.url)
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
            .build();
        aws_sdk_kinesis::Client::from_conf(config)
    }

    async fn settled(&self, stream: &str) {
        let admin = self.admin();
        let active = async {
            loop {
                let summary = admin.describe_stream_summary().stream_name(stream).send().await.unwrap();
                let status = summary.stream_description_summary.unwrap().stream_status;
                if status.as_str() == "ACTIVE" {
                    return;
                }
            }
        };
        timeout(PATIENCE, active).await.expect("the stream does not become active");
    }

    pub async fn split(&self, stream: &str, shard: &str, at: HashKey) {
        let request = self.admin().split_shard().stream_name(stream).shard_to_split(shard);
        request.new_starting_hash_key(at.to_string()).send().await.unwrap();
        self.settled(stream).await;
    }

    pub async fn merge(&self, stream: &str, one: &str, other: &str) {
        let request = self.admin().merge_shards().stream_name(stream).shard_to_merge(one);
        request.adjacent_shard_to_merge(other).send().await.unwrap();
        self.settled(stream).await;
    }
}

#[tokio::test]
async fn what_was_put_is_in_the_shard_that_the_answer_names() {
    let service = Kinesalite::with_stream("plant", 2).await;
    let gateway = Gateway::facing(&service.url);
    let client = gateway.client().await;
    let last = Record { explicit_hash_key: Some(HashKey::MAX), ..record("gw/plant/1", b"last") };
    let first = Record { explicit_hash_key: Some(0), ..record("gw/plant/0", b"first") };

    let answers = client.put("plant", vec![last, first.clone()], PATIENCE).await.unwrap();

    let shards = client.shards("plant").await.unwrap();
    assert_eq!((*shards[0].hashes.start(), *shards[1].hashes.end()), (0, HashKey::MAX));
    let [Answer::Accepted { shard, .. }, Answer::Accepted { shard: shard_of_first, sequence }] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((shard, shard_of_first), (&shards[1].id, &shards[0].id));
    let position = client.position("plant", shard_of_first, &Start::Oldest).await.unwrap();
    let page = client.read("plant", &position).await.unwrap();
    assert_eq!((&page.records[0].sequence, &page.records[0].data), (sequence, &first.data));
}

#[tokio::test]
async fn the_services_own_limits_are_recognised() {
    let service = Kinesalite::with_stream("plant", 1).await;
    let gateway = Gateway::facing(&service.url);
    let client = gateway.client().await;

    let error = client.put("nowhere", vec![record("k", b"x")], PATIENCE).await.unwrap_err();
    assert!(matches!(error, PutError::NoStream { .. }), "{error:?}");
    let error = client.put("plant", vec![record("k", b"x"); 501], PATIENCE).await.unwrap_err();
    assert!(matches!(error, PutError::Invalid { .. }), "{error:?}");
    let error = client.put("plant", vec![record("k", &vec![0; (1 << 20) + 1])], PATIENCE).await.unwrap_err();
    assert!(matches!(error, PutError::Invalid { .. }), "{error:?}");
    assert_eq!(client.put("plant", Vec::new(), PATIENCE).await.unwrap(), []);
}
