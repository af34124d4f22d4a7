//! Shards are split and merged while a backlog drains: no aggregate comes into a shard that is not the one of its keys, and lanes keep
//! their order.

use std::{collections::BTreeMap, time::Duration};

use headwater::{
    demo::kinesis::{HashRange, Sequence, ShardId, StoredRecord, oracle},
    reading::Timestamp,
};

use crate::support::{
    cloud::STREAM,
    consumer::{Consumer, ONCE},
    gateway::Gateway,
    kinesalite::Kinesalite,
};

#[tokio::test]
async fn splits_and_merges_in_mid_drain_lose_nothing_and_keep_the_order_of_each_lane() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).window(200).starts().await;
    gateway.cloud.away();
    gateway.field.pads(500);
    gateway.field.publishes(4000).await;
    gateway.holds(4000).await;
    gateway.cloud.slow(Duration::from_millis(20), Some(512 << 10));
    gateway.cloud.back();

    let mut drained = 0;
    for round in 0..6 {
        drained = gateway.cloud.look(|store| store.accepted(STREAM)).max(drained) + 4;
        gateway.cloud.takes_records(STREAM, drained).await;
        let open: Vec<(u128, ShardId)> = gateway.cloud.look(|store| {
            let open = store.shards(STREAM).unwrap().open();
            open.map(|shard| (shard.range.start, shard.id)).collect::<BTreeMap<_, _>>().into_iter().collect()
        });
        if round % 3 == 2 {
            gateway.cloud.merge(STREAM, open[0].1, open[1].1).unwrap();
        } else {
            for (_, shard) in open {
                gateway.cloud.split(STREAM, shard).unwrap();
            }
        }
    }
    let status = gateway.agent.status().await;
    assert!(status.count("/ledger/buffered") > 0, "all of that was in mid-drain: {status:?}");

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let shards: std::collections::BTreeSet<_> = gateway.cloud.received(STREAM).iter().map(|record| record.shard).collect();
    assert!(shards.len() > 8, "{shards:?}");
    let status = gateway.agent.status().await;
    assert!(status.holds("/streams/readings/aggregation/on"), "shards that change for good are no reason to stop aggregates");
}

#[tokio::test]
async fn the_same_holds_for_an_endpoint_that_we_did_not_write() {
    let cloud = Kinesalite::start().await;
    cloud.create_stream(STREAM, 2).await;
    let plan = Gateway::new().set("destinations.cloud.endpoint", cloud.url()).set("streams.readings.lanes", 4).window(200);
    let mut gateway = plan.starts().await;
    let split = async |shard: u32, at: u128| {
        let split = cloud.split_shard().stream_name(STREAM).shard_to_split(ShardId(shard).to_string());
        split.new_starting_hash_key(at.to_string()).send().await.unwrap();
        cloud.active(STREAM).await;
    };
    let merge = async |shard: u32, adjacent: u32| {
        let merge = cloud.merge_shards().stream_name(STREAM).shard_to_merge(ShardId(shard).to_string());
        merge.adjacent_shard_to_merge(ShardId(adjacent).to_string()).send().await.unwrap();
        cloud.active(STREAM).await;
    };

    let Gateway { field, agent, .. } = &mut gateway;
    tokio::join!(field.publishes(8000), async {
        for (round, reshard) in (1_u64..).zip(["split", "split", "merge", "split"]) {
            agent.shows("it drains", |status| status.count("/ledger/delivered") > 300 * round).await;
            match (round, reshard) {
                (1, _) => split(0, 1 << 126).await,                // 2 and 3
                (2, _) => split(1, (1 << 127) + (1 << 126)).await, // 4 and 5
                (3, _) => merge(3, 4).await,                       // 6
                _ => split(6, 1 << 127).await,                     // 7 and 8
            }
        }
    });
    gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == 8000).await.balances();

    let listed = cloud.list_shards().stream_name(STREAM).send().await.unwrap();
    let ranges: BTreeMap<&str, HashRange> = listed.shards().iter().map(|shard| (shard.shard_id(), range_of(shard))).collect();
    let (mut consumer, mut used) = (Consumer::default(), std::collections::BTreeSet::new());
    for record in cloud.records(STREAM).await {
        used.insert(record.shard.clone());
        let stored = StoredRecord {
            shard: record.shard.parse().unwrap(),
            range: ranges[&*record.shard],
            sequence: Sequence(0),
            partition_key: record.partition_key,
            explicit_hash_key: None,
            data: record.data.into(),
            arrived: Timestamp(0),
        };
        let users = oracle::user_records(&stored).unwrap_or_else(|dropped| panic!("in {}: {dropped}", stored.shard));
        users.iter().for_each(|user| consumer.takes(&user.data));
    }
    assert!(consumer.has_all_of(gateway.field.sent()), "{:?}", consumer.sensors());
    consumer.lacks_nothing();
    assert_eq!(consumer.repeats, ONCE);
    assert!(used.len() > 4, "{used:?}");
    cloud.stop().await;
}

fn range_of(shard: &aws_sdk_kinesis::types::Shard) -> HashRange {
    let range = shard.hash_key_range().unwrap();
    HashRange { start: range.starting_hash_key().parse().unwrap(), end: range.ending_hash_key().parse().unwrap() }
}
