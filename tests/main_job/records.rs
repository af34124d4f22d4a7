//! What lies in the stream: every aggregate can be read by those who did not write it, and no record or request breaks a limit.

use headwater::demo::kinesis::{ShardId, StoredRecord, oracle};

use crate::support::{
    cloud::STREAM,
    consumer::{Consumer, ONCE},
    decoders::{Library, UserRecord, deaggregate},
    gateway::Gateway,
};

/// Data and partition key of a record. Source: Kinesis API reference, PutRecords.
const MAX_RECORD: usize = 1 << 20;

const ENCODINGS: [&str; 3] = ["cbor", "json", "raw"];

#[tokio::test]
async fn both_independent_decoders_read_every_aggregate_byte_for_byte() {
    let mut plan = Gateway::new();
    for encoding in ENCODINGS {
        let of = |name: &str, key: &str| format!("streams.{encoding}-{name}.{key}");
        for name in ["one", "four", "keyed"] {
            let stream = format!("{encoding}-{name}");
            plan = plan.stream(&stream, &stream).set(&of(name, "encoding"), encoding);
        }
        plan = plan.set(&of("four", "lanes"), 4).set(&of("keyed", "partition_key"), "{topic}");
    }
    let mut gateway = plan.starts().await;
    let streams: Vec<_> =
        ENCODINGS.iter().flat_map(|encoding| ["one", "four", "keyed"].map(|name| format!("{encoding}-{name}"))).collect();
    streams.iter().for_each(|stream| assert!(gateway.cloud.create_stream(stream, 2)));

    for _ in 0..4 {
        gateway.field.publishes(100).await;
    }
    gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == 400 * 10).await.balances();

    for stream in &streams {
        let records = gateway.cloud.received(stream);
        let users = decoded(&records).await;
        one_hash_key_each(&records, stream);
        if stream.starts_with("raw") {
            let mut numbers: Vec<u64> = users.iter().map(|user| text(&user.data).parse().unwrap()).collect();
            if stream == "raw-four" {
                numbers.sort_unstable(); // four lanes, four orders
            }
            assert_eq!(numbers, (0..400).map(|n| n / 8 + 1).collect::<Vec<_>>(), "{stream}");
        } else {
            let mut consumer = Consumer::default();
            users.iter().for_each(|user| consumer.takes(&user.data));
            assert!(consumer.has_all_of(gateway.field.sent()), "{stream}: {consumer:?}");
            consumer.lacks_nothing();
        }
        if stream.ends_with("keyed") {
            assert!(users.iter().all(|user| user.partition_key.starts_with("plant/")), "{stream}");
        }
    }
}

#[tokio::test]
async fn a_backlog_goes_in_records_as_large_as_they_may_be_and_no_larger() {
    let mut gateway = Gateway::new().set("streams.readings.partition_key", "{topic}").window(200).starts().await;
    gateway.cloud.away();
    gateway.field.pads(3000);
    // A lane begins slowly behind a backlog: most of this goes before its rate fills a record.
    gateway.field.publishes(6000).await;
    gateway.holds(6000).await;

    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let records = gateway.cloud.received(STREAM);
    let largest = records.iter().map(|record| record.data.len()).max().unwrap();
    assert!((900 << 10..=1000 << 10).contains(&largest), "{largest}");
    assert_eq!(decoded(&records).await.len(), 6000);
}

#[tokio::test]
async fn no_consumer_loses_an_aggregate_while_shards_are_split_and_merged() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).shards(1).starts().await;

    gateway.field.publishes(300).await;
    let [low, high] = gateway.cloud.split(STREAM, ShardId(0)).unwrap();
    gateway.field.publishes(300).await;
    gateway.cloud.split(STREAM, high).unwrap();
    gateway.cloud.away();
    gateway.field.publishes(300).await;
    let [left, right] = gateway.cloud.split(STREAM, low).unwrap();
    gateway.cloud.back();
    gateway.field.publishes(300).await;
    gateway.cloud.merge(STREAM, left, right).unwrap();
    gateway.field.publishes(300).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let shards: std::collections::BTreeSet<_> = gateway.cloud.received(STREAM).iter().map(|record| record.shard).collect();
    assert!(shards.len() > 2, "{shards:?}");
}

/// What both libraries make of `records`, and the rules of Amazon's own consumer library too; all must agree.
pub(crate) async fn decoded(records: &[StoredRecord]) -> Vec<UserRecord> {
    let mut expected = Vec::new();
    for record in records {
        assert!(record.data.len() + record.partition_key.len() <= MAX_RECORD);
        let users = oracle::user_records(record).unwrap();
        assert!(users.iter().all(|user| user.aggregated));
        expected.push(Ok((0..)
            .zip(users)
            .map(|(sub, user)| UserRecord {
                partition_key: user.partition_key,
                explicit_hash_key: user.explicit_hash_key.map(|key| key.to_string()),
                sub,
                data: user.data.to_vec(),
            })
            .collect()));
    }
    for library in Library::ALL {
        let read = deaggregate(library, records.iter().map(|record| (record.partition_key.as_str(), &record.data[..]))).await;
        assert!(read == expected, "{library:?} reads something else");
    }
    expected.into_iter().flat_map(Result::<Vec<_>, String>::unwrap).collect()
}

/// All user records of an aggregate hash to one place, which is the record's own.
fn one_hash_key_each(records: &[StoredRecord], stream: &str) {
    for record in records {
        let users = oracle::user_records(record).unwrap();
        let place = |key: Option<u128>, partition_key: &str| key.ok_or_else(|| partition_key.to_owned());
        let own = place(record.explicit_hash_key, &record.partition_key);
        assert!(users.iter().all(|user| place(user.explicit_hash_key, &user.partition_key) == own), "{stream}: {own:?}");
    }
}

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap()
}
