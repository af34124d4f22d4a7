//! A stream that leads to Amazon Data Firehose instead: the same promises, another form.

use std::collections::BTreeSet;

use headwater::demo::kinesis::{Failure, Limits};

use crate::support::{
    cloud::{DELIVERY, taken_apart},
    consumer::{ONCE, Reading},
    gateway::Gateway,
    moto::Moto,
};

/// Where the service takes records apart, it takes so many out of one.
const MOST_LINES: usize = 500;

#[tokio::test]
async fn readings_arrive_in_firehose_over_tls_as_lines_of_json_exactly_once_and_in_order() {
    let mut gateway = Gateway::new().into_firehose().set("streams.readings.encoding", "json").window(200).starts().await;

    gateway.field.publishes(100).await;
    gateway.agent.shows("they are delivered", |status| status.count("/ledger/delivered") == 100).await.balances();
    gateway.cloud.away();
    gateway.field.publishes(2000).await;
    gateway.holds(2000).await;
    gateway.cloud.back();

    assert_eq!(gateway.everything_is_in(DELIVERY).await, ONCE);
    let lines = gateway.cloud.look(|store| store.delivered(DELIVERY).iter().map(|record| taken_apart(record).len()).max());
    assert_eq!(lines, Some(MOST_LINES), "the backlog went in large records, and none was too large to be taken apart");
}

#[tokio::test]
async fn lanes_keep_their_order_while_a_quarter_of_all_records_is_refused_by_firehose() {
    let mut gateway = Gateway::new().into_firehose().set("streams.readings.lanes", 4).window(200).starts().await;
    gateway.cloud.refuse_at_random(25.0, 13);

    for _ in 0..5 {
        gateway.field.publishes(300).await;
    }

    assert_eq!(gateway.everything_is_in(DELIVERY).await, ONCE);
    let (refused, status) = (gateway.cloud.counts().refused_records, gateway.agent.status().await);
    assert!(refused > 0);
    assert_eq!((status.of_lanes("readings", "retries"), status.of_lanes("readings", "throttled")), (refused, 0));
}

#[tokio::test]
async fn a_firehose_stream_that_is_full_slows_the_lanes_down_and_is_no_fault_of_the_link() {
    let limits = Some(Limits::SERVICE.times(0.1));
    let mut gateway = Gateway::new().into_firehose().cloud(|cloud| cloud.limits = limits).window(200).starts().await;
    gateway.field.pads(3000);

    gateway.field.publishes(1000).await;

    assert_eq!(gateway.everything_is_in(DELIVERY).await, ONCE);
    let status = gateway.agent.status().await;
    let (refused, throttled) = (gateway.cloud.counts().refused_records, status.of_lanes("readings", "throttled"));
    assert!(refused > 0);
    assert_eq!((throttled, status.of_lanes("readings", "retries")), (refused, refused));
    assert_eq!(status.problems(), Vec::<String>::new());
    assert!(status.holds("/link/up") && !gateway.agent.log().contains("WARN"), "{}", gateway.agent.log());
}

#[tokio::test]
async fn whatever_firehose_answers_nothing_is_lost_or_in_disorder() {
    let mut gateway = Gateway::new().into_firehose().set("streams.readings.lanes", 3).window(200).starts().await;
    for failure in [
        Failure::InternalFailure,
        Failure::BadGateway,
        Failure::Garbage,
        Failure::TooFewRecords,
        Failure::RefuseEvery(2),
        Failure::Code("ServiceUnavailableException"),
        Failure::ExpiredToken,
        Failure::CloseBeforeStore,
        Failure::Validation,
        Failure::StoreThenClose,
    ] {
        gateway.cloud.fail_next(1, failure);
        gateway.field.publishes(50).await;
    }

    let repeats = gateway.everything_is_in(DELIVERY).await;
    assert_eq!((repeats.marked, repeats.unmarked), (0, 0));
    assert_eq!(gateway.cloud.call_off_failures(), 0, "there was time for each");
    // What was stored before the answer was lost came again, and was said to.
    let may_be = gateway.agent.status().await.count("/ledger/duplicated");
    assert!(0 < repeats.same_name && repeats.same_name <= may_be, "{} twice, {may_be} said to be", repeats.same_name);
}

#[tokio::test]
async fn while_firehose_denies_access_the_status_names_the_permission() {
    let mut gateway = Gateway::new().into_firehose().set("buffer.hold", "50ms").starts().await;
    gateway.cloud.fail_next(1, Failure::AccessDenied);

    gateway.field.publishes(10).await;

    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    let problems = status.problems();
    assert!(problems[0].contains("firehose:PutRecordBatch") && problems[0].contains(DELIVERY), "{problems:?}");
    assert_eq!(status.count("/ledger/buffered"), 10);
}

#[tokio::test]
async fn what_was_put_into_motos_firehose_lies_in_its_bucket_line_by_line() {
    let cloud = Moto::start().await;
    cloud.create_firehose(DELIVERY, "lake").await;
    let plan = Gateway::new().into_firehose().set("destinations.cloud.endpoint", cloud.url());
    let mut gateway = plan.set("streams.readings.encoding", "json").starts().await;

    gateway.field.publishes(200).await;
    gateway.agent.shows("all are delivered", |status| status.count("/ledger/delivered") == 200).await.balances();

    let objects = cloud.objects("lake").await;
    cloud.stop().await;
    let readings: Vec<Reading> = objects.iter().flat_map(|object| taken_apart(object)).map(|line| Reading::decode(&line)).collect();
    let names: BTreeSet<u64> = readings.iter().map(|reading| reading.seq).collect();
    assert_eq!((readings.len(), names), (200, (0..200).collect()));
}

#[tokio::test]
async fn tail_says_that_firehose_cannot_be_read_and_where_to_look() {
    let gateway = Gateway::new().into_firehose().starts().await;

    let mut tail = gateway.agent.tails("readings");

    assert_eq!(tail.ends().await.code(), Some(1));
    let says = tail.err.to_the_end().await;
    assert!(says.contains("[streams.readings] leads to Firehose") && says.contains("bucket"), "{says}");
}
