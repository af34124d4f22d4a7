//! A Kinesis that we did not write.

use headwater::kinesis::{Answer, HashKey, PutError, Record, Start};

use super::{Gateway, PATIENCE, record, support};

/// With one stream, and resharded on command.
pub struct Kinesalite(support::kinesalite::Kinesalite);

impl Kinesalite {
    pub async fn with_stream(name: &str, shards: i32) -> Self {
        let service = support::kinesalite::Kinesalite::start().await;
        service.create_stream(name, shards).await;
        Self(service)
    }

    pub fn url(&self) -> &str {
        self.0.url()
    }

    pub async fn split(&self, stream: &str, shard: &str, at: HashKey) {
        let request = self.0.split_shard().stream_name(stream).shard_to_split(shard);
        request.new_starting_hash_key(at.to_string()).send().await.unwrap();
        self.0.active(stream).await;
    }

    pub async fn merge(&self, stream: &str, one: &str, other: &str) {
        let request = self.0.merge_shards().stream_name(stream).shard_to_merge(one);
        request.adjacent_shard_to_merge(other).send().await.unwrap();
        self.0.active(stream).await;
    }
}

#[tokio::test]
async fn what_was_put_is_in_the_shard_that_the_answer_names() {
    let service = Kinesalite::with_stream("plant", 2).await;
    let gateway = Gateway::facing(service.url());
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
    let gateway = Gateway::facing(service.url());
    let client = gateway.client().await;

    let error = client.put("nowhere", vec![record("k", b"x")], PATIENCE).await.unwrap_err();
    assert!(matches!(error, PutError::NoStream { .. }), "{error:?}");
    let error = client.put("plant", vec![record("k", b"x"); 501], PATIENCE).await.unwrap_err();
    assert!(matches!(error, PutError::Invalid { .. }), "{error:?}");
    let error = client.put("plant", vec![record("k", &vec![0; (1 << 20) + 1])], PATIENCE).await.unwrap_err();
    assert!(matches!(error, PutError::Invalid { .. }), "{error:?}");
    assert_eq!(client.put("plant", Vec::new(), PATIENCE).await.unwrap(), []);
}
