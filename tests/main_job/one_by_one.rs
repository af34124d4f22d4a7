//! Streams that can't have aggregates, because they distribute records themselves or because somebody says so: each reading is a record
//! of its own, and their order is not promised.

use std::collections::BTreeSet;

use headwater::demo::kinesis::{Distribution, Failure, Limits, Options, oracle};

use crate::support::{
    cloud::STREAM,
    eventually,
    gateway::{Gateway, Plan},
    process::Picture,
};

const ON: &str = "/streams/readings/aggregation/on";
const WHY: &str = "/streams/readings/aggregation/why";

#[tokio::test]
async fn a_stream_that_distributes_records_itself_gets_every_reading_once_and_consumers_on_kcl_drop_none() {
    let mut gateway = spread(Gateway::new().set("streams.readings.lanes", 2).window(200)).await;

    gateway.field.publishes(1000).await;

    all_arrive_once(&gateway, 1000).await;
    assert_eq!(aggregates(&gateway), (0, 0));
    assert!(gateway.cloud.counts().puts < 900, "in requests of many: {:?}", gateway.cloud.counts());
    let status = gateway.agent.status().await;
    assert!(!status.holds(ON) && status.text(WHY).contains("distributes records itself"), "{status:?}");
    assert!(status.problems().is_empty());
    assert!(gateway.agent.log().contains("readings travel one by one"), "{}", gateway.agent.log());
}

#[tokio::test]
async fn with_aggregation_on_such_a_stream_would_lose_readings_and_the_oracle_sees_it() {
    let mut gateway = spread(Gateway::new().set("streams.readings.aggregation", "on")).await;

    for round in 1..=20 {
        gateway.field.publishes(8).await;
        gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == 8 * round).await;
    }

    let (lost, read) = aggregates(&gateway);
    assert!(lost > 0 && read > 0, "{lost} dropped, {read} read");
    assert_eq!(gateway.cloud.counts().describes, 0);
}

#[tokio::test]
async fn with_aggregation_off_any_stream_gets_readings_one_by_one_in_the_shard_of_their_lane() {
    let mut gateway =
        off().set("streams.readings.lanes", 2).set("streams.readings.partition_key", "{topic}").shards(4).starts().await;

    gateway.field.publishes(200).await;

    all_arrive_once(&gateway, 200).await;
    let records = gateway.cloud.received(STREAM);
    assert!(records.iter().all(|record| record.partition_key.starts_with("plant/") && record.explicit_hash_key.is_some()));
    let shards: BTreeSet<_> = records.iter().map(|record| record.shard).collect();
    assert_eq!(shards.len(), 2);
    assert_eq!(gateway.cloud.counts().describes, 0);
    assert_eq!(gateway.agent.status().await.text(WHY), "the configuration says so");
}

#[tokio::test]
async fn a_stream_that_begins_to_distribute_records_itself_is_noticed_by_its_answers_and_from_then_on_nothing_is_lost() {
    for denied in [false, true] {
        let mut gateway = Gateway::new().shards(4).starts().await;
        if denied {
            gateway.cloud.describe_fails(Some("AccessDeniedException"));
        }
        gateway.field.publishes(80).await;
        gateway.everything_arrives().await;
        assert!(gateway.agent.status().await.holds(ON));

        gateway.cloud.distribute(STREAM, Distribution::Auto);
        let mut sent = 80;
        while gateway.agent.status().await.holds(ON) {
            sent += 8;
            gateway.field.publishes(8).await;
            gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == sent).await;
            assert!(sent < 80 + 8 * 50, "a few records are enough to notice it");
        }

        let (lost, _) = aggregates(&gateway);
        gateway.field.publishes(400).await;
        gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == sent + 400).await.balances();
        assert_eq!(aggregates(&gateway).0, lost, "denied: {denied}");
        assert!(user_records(&gateway).len() as u64 >= 480, "what came before and after the time in between");
    }
}

#[tokio::test]
async fn without_the_permission_to_ask_it_aggregates_and_says_which_permission_is_missing_and_what_can_be_lost() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.describe_fails(Some("AccessDeniedException"));

    gateway.field.publishes(100).await;

    gateway.everything_arrives().await;
    assert!(aggregates(&gateway).1 > 0);
    let status = gateway.agent.status().await;
    assert!(status.holds(ON), "{status:?}");
    let problems = status.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("kinesis:DescribeStreamSummary") && problems[0].contains("lose"),
        "{problems:?}"
    );
    assert_eq!(status.text("/state"), "sending");
}

#[tokio::test]
async fn where_the_service_does_not_say_how_it_distributes_records_they_wait_then_go_one_by_one_and_later_together() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.describe_fails(Some("LimitExceededException"));
    gateway.field.publishes(100).await;
    all_arrive_once(&gateway, 100).await;
    assert_eq!(aggregates(&gateway), (0, 0));
    assert!(gateway.agent.status().await.problems().is_empty());

    gateway.cloud.describe_fails(None);
    let mut sent = 100;
    while !gateway.agent.status().await.holds(ON) {
        sent += 1;
        gateway.field.publishes(1).await;
        gateway.agent.shows("it is delivered", |status| status.count("/ledger/delivered") == sent).await;
    }
    gateway.field.publishes(100).await;

    all_arrive_once(&gateway, sent + 100).await;
    assert!(aggregates(&gateway).1 > 0);
}

#[tokio::test]
async fn only_what_was_refused_is_sent_again_and_every_reading_arrives_once() {
    let mut gateway = off().set("streams.readings.lanes", 3).window(200).starts().await;
    gateway.cloud.refuse_at_random(40.0, 5);

    for _ in 0..10 {
        gateway.field.publishes(300).await;
    }

    all_arrive_once(&gateway, 3000).await;
    let status = gateway.agent.status().await;
    let refused = gateway.cloud.counts().refused_records;
    assert!(refused > 1000, "{refused}");
    assert_eq!((status.of_lanes("readings", "retries"), status.count("/ledger/duplicated")), (refused, 0));
}

#[tokio::test]
async fn while_shards_throttle_every_reading_arrives_once() {
    let plan = off().cloud(|cloud: &mut Options| cloud.limits = Some(Limits::SERVICE.times(0.2))).window(200);
    let mut gateway = plan.starts().await;

    for _ in 0..4 {
        gateway.field.publishes(300).await;
    }

    all_arrive_once(&gateway, 1200).await;
    let (refused, status) = (gateway.cloud.counts().refused_records, gateway.agent.status().await);
    assert!(refused > 0);
    assert_eq!((status.of_lanes("readings", "retries"), status.count("/ledger/duplicated")), (refused, 0));
}

#[tokio::test]
async fn whatever_the_endpoint_answers_each_reading_arrives_and_those_that_come_twice_have_the_same_name() {
    let mut gateway = off().set("streams.readings.lanes", 3).window(200).starts().await;
    for failure in [
        Failure::InternalFailure,
        Failure::TooFewRecords,
        Failure::RefuseEvery(2),
        Failure::Code("ThrottlingException"),
        Failure::CloseBeforeStore,
        Failure::Validation,
        Failure::StoreThenClose,
        Failure::RefuseEvery(1),
    ] {
        gateway.cloud.fail_next(1, failure);
    }

    for _ in 0..5 {
        gateway.field.publishes(200).await;
    }

    let status = gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == 1000).await;
    status.balances();
    let names = names(&gateway);
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), 1000);
    let (twice, may_be) = ((names.len() - distinct.len()) as u64, status.count("/ledger/duplicated"));
    assert!(0 < twice && twice <= may_be, "{twice} twice, {may_be} said to be");
}

#[tokio::test]
async fn an_invalid_reading_is_set_aside_and_the_others_arrive_once_whether_it_is_refused_alone_or_with_its_request() {
    for alone in [true, false] {
        let mut gateway = off().set("streams.readings.lanes", 2).starts().await;
        if alone {
            gateway.cloud.calls_invalid_one_by_one(Some("poison"));
        } else {
            gateway.cloud.calls_invalid(Some("poison"));
        }
        gateway.cloud.away();
        for _ in 0..3 {
            gateway.field.publishes(40).await;
            gateway.field.publishes_message("plant/broken/temp", "\"poison\"").await;
        }
        gateway.field.publishes(40).await;
        gateway.holds(163).await;

        gateway.cloud.back();

        // Where all others were accepted with the first refusal, nothing is at fault until something else arrives and is accepted.
        for nth in 1..=3 {
            let aside = |status: &Picture| status.count("/ledger/rejected/refused") >= nth;
            let refused = |status: &Picture| aside(status) || status.problems().iter().any(|what| what.contains("invalid"));
            gateway.agent.shows("it is refused", refused).await;
            gateway.field.publishes(4).await;
            gateway.agent.shows("it is set aside", aside).await.balances();
        }
        all_arrive_once(&gateway, 172).await;
    }
}

#[tokio::test]
async fn what_is_dropped_while_half_of_a_lane_is_accepted_is_said_and_nothing_else_is_missing() {
    let plan = off().set("buffer.max_size", "8 MiB").set("buffer.memory", "1 MiB").window(200);
    let mut gateway = plan.starts().await;
    gateway.field.pads(20_000);
    gateway.cloud.away();
    gateway.field.publishes(200).await;
    gateway.holds(200).await;
    // Much of each request is refused, and its holes stay for a while.
    gateway.cloud.refuse_at_random(70.0, 3);
    gateway.cloud.back();
    gateway.cloud.takes_records(STREAM, 5).await;
    gateway.cloud.fail_always(Some(Failure::InternalFailure));
    gateway.field.publishes(600).await;
    gateway.agent.shows("all were taken", |status| status.count("/ledger/received") == 800).await.balances();
    gateway.cloud.refuse_at_random(0.0, 0);
    gateway.cloud.fail_always(None);

    let status = gateway.agent.shows("nothing waits", |status| status.count("/backlog/bytes") == 0).await;
    status.balances();

    let dropped = status.count("/ledger/dropped/drop_oldest");
    assert!(dropped > 100, "{dropped}");
    let names = names(&gateway);
    let arrived: BTreeSet<u64> = names.iter().map(|(_, _, seq)| *seq).collect();
    assert_eq!((names.len(), arrived.len()), (arrived.len(), usize::try_from(800 - dropped).unwrap()), "each once");
    let notices = gateway.cloud.notices(STREAM);
    let said: BTreeSet<u64> = notices.iter().flat_map(|(_, notice)| notice.from..=notice.to).collect();
    assert!(arrived.union(&said).copied().eq(0..800) && arrived.is_disjoint(&said), "{notices:?}");
}

#[tokio::test]
async fn after_a_power_cut_only_readings_come_twice_that_had_the_same_name() {
    let mut gateway = off().set("streams.readings.lanes", 2).set("buffer.hold", "50ms").window(200).starts().await;
    gateway.cloud.refuse_at_random(50.0, 9);
    for _ in 0..3 {
        let Gateway { field, agent, .. } = &mut gateway;
        tokio::join!(field.publishes(300), async {
            agent.shows("it takes readings", |status| status.count("/sources/broker/received") > 100).await;
            agent.power_off().await;
            agent.start();
        });
    }

    let total = gateway.field.total();
    let readings = eventually("everything is there", async || {
        let readings = gateway.cloud.readings(STREAM);
        let numbers: BTreeSet<_> = readings.iter().map(|reading| (reading.topic.clone(), reading.number())).collect();
        if numbers.len() as u64 == total { Ok(readings) } else { Err(format!("{} of {total}", numbers.len())) }
    })
    .await;
    let unmarked: Vec<_> = readings.iter().filter(|reading| !reading.dup).map(|r| (&r.run, &r.lane, r.seq, r.number())).collect();
    let named: BTreeSet<_> = unmarked.iter().map(|(run, lane, seq, _)| (run, lane, seq)).collect();
    let valued: BTreeSet<_> = unmarked.iter().collect();
    assert_eq!(named.len(), valued.len(), "a name means one value");
}

#[tokio::test]
async fn every_encoding_travels_one_by_one_as_it_is() {
    let mut plan = Gateway::new();
    for encoding in ["json", "raw"] {
        let of = |key: &str| format!("streams.{encoding}.{key}");
        plan = plan.stream(encoding, encoding).set(&of("encoding"), encoding).set(&of("aggregation"), "off");
    }
    let mut gateway = plan.starts().await;
    ["json", "raw"].iter().for_each(|stream| assert!(gateway.cloud.create_stream(stream, 1)));

    gateway.field.publishes(100).await;
    gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == 300).await.balances();

    let mut numbers: Vec<u64> = gateway.cloud.texts("raw").iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).map(|n| n / 8 + 1).collect::<Vec<_>>());
    assert_eq!(gateway.cloud.readings("json").len(), 100);
    assert_eq!(gateway.cloud.received("json").len(), 100);
}

#[tokio::test]
async fn tail_reads_a_stream_that_distributes_records_itself_and_misses_nothing() {
    let mut gateway = spread(Gateway::new().window(200)).await;
    gateway.field.publishes(2000).await;
    all_arrive_once(&gateway, 2000).await;

    let mut tail = gateway.agent.tails("readings");
    tail.out.reaches(2000).await;
    tail.signal(rustix::process::Signal::INT);
    let summary = tail.err.line_with("duplicates left out").await;
    tail.ends().await;

    assert!(summary.contains("2000 readings, 0 duplicates left out, 0 missing"), "{summary}");
    let log = tail.err.to_the_end().await;
    assert_eq!(log.lines().count(), 1, "nothing is called missing that only came later: {log}");
}

/// An installation whose stream distributes records itself, over four shards.
async fn spread(plan: Plan) -> Gateway {
    let gateway = plan.shards(4).starts().await;
    assert!(gateway.cloud.distribute(STREAM, Distribution::Auto));
    gateway
}

fn off() -> Plan {
    Gateway::new().set("streams.readings.aggregation", "off")
}

/// Waits until `n` readings are delivered; checks that each of them is there once.
async fn all_arrive_once(gateway: &Gateway, n: u64) {
    gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == n).await.balances();
    let names = names(gateway);
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len() as u64, distinct.len() as u64), (n, n));
}

/// Run, lane and number of each reading in the stream.
fn names(gateway: &Gateway) -> Vec<(String, String, u64)> {
    gateway.cloud.readings(STREAM).into_iter().map(|reading| (reading.run, reading.lane, reading.seq)).collect()
}

fn user_records(gateway: &Gateway) -> Vec<oracle::UserRecord> {
    gateway.cloud.consumed(STREAM).into_iter().filter_map(Result::ok).flatten().collect()
}

/// How many aggregates a consumer on KCL drops, and how many it reads.
fn aggregates(gateway: &Gateway) -> (usize, usize) {
    let consumed = gateway.cloud.consumed(STREAM);
    let read = consumed.iter().flatten().filter(|users| users.iter().any(|user| user.aggregated));
    (consumed.iter().filter(|record| record.is_err()).count(), read.count())
}
