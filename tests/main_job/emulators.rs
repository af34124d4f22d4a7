//! Two endpoints that we did not write: what was put is read back by others, and by `headwater tail`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{
    cloud::STREAM,
    decoders::{Library, deaggregate},
    gateway::Gateway,
    kinesalite::Kinesalite,
    kinesis::Endpoint,
    moto::Moto,
};

#[tokio::test]
async fn tail_prints_every_reading_once_through_a_split_and_a_merge_in_mid_stream() {
    let cloud = Kinesalite::start().await;
    cloud.create_stream(STREAM, 2).await;
    let plan = Gateway::new().set("destinations.cloud.endpoint", cloud.url());
    let mut gateway = plan.set("streams.readings.lanes", 4).starts().await;

    gateway.field.publishes(200).await;
    let split = cloud.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key((1_u128 << 126).to_string()).send().await.unwrap();
    gateway.field.publishes(200).await;
    cloud.active(STREAM).await;
    gateway.field.publishes(200).await;
    let merge = cloud.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000002");
    merge.adjacent_shard_to_merge("shardId-000000000003").send().await.unwrap();
    gateway.field.publishes(200).await;
    cloud.active(STREAM).await;
    gateway.field.publishes(200).await;
    gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == 1000).await.balances();

    let mut tail = gateway.agent.tails("readings");
    tail.out.reaches(1000).await;
    tail.signal(rustix::process::Signal::TERM);
    let ended = tail.ends().await;
    let summary = tail.err.to_the_end().await;

    assert!(ended.success());
    assert!(summary.contains("1000 readings, 0 duplicates left out, 0 missing"), "{summary}");
    let lines = tail.out.to_the_end().await;
    let names: BTreeSet<_> = lines.lines().map(name).collect();
    assert_eq!((names.len(), lines.lines().count()), (1000, 1000));
    cloud.stop().await;
}

#[tokio::test]
async fn what_was_put_into_moto_is_read_back_by_both_decoders() {
    let cloud = Moto::start().await;
    let numbers = put_and_read_back(&cloud).await;
    cloud.stop().await;
    assert_eq!(numbers, (0..200).map(|n| n / 8 + 1).collect::<Vec<_>>());
}

async fn put_and_read_back(cloud: &Endpoint) -> Vec<u64> {
    cloud.create_stream(STREAM, 1).await;
    let plan = Gateway::new().set("destinations.cloud.endpoint", cloud.url());
    let mut gateway = plan.set("streams.readings.encoding", "raw").starts().await;

    gateway.field.publishes(200).await;
    gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == 200).await.balances();

    let records = cloud.records(STREAM).await;
    let mut read = Vec::new();
    for library in Library::ALL {
        let users = deaggregate(library, records.iter().map(|record| (record.partition_key.as_str(), &record.data[..]))).await;
        let users = users.into_iter().flat_map(Result::unwrap);
        read.push(users.map(|user| String::from_utf8(user.data).unwrap().parse().unwrap()).collect::<Vec<u64>>());
    }
    assert_eq!(read[0], read[1]);
    read.remove(0)
}

fn name(line: &str) -> (String, u64) {
    let reading: Value = serde_json::from_str(line).unwrap();
    (reading["lane"].as_str().unwrap().to_owned(), reading["seq"].as_u64().unwrap())
}
