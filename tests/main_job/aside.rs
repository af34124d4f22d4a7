//! A request is refused as invalid: one reading of it may be at fault, or none.

use std::{collections::BTreeSet, time::Duration};

use headwater::demo::kinesis::Failure;
use rusqlite::Connection;

use crate::support::{
    consumer::{ONCE, Repeats},
    gateway::Gateway,
    process::Picture,
};

/// Longer than the longest wait between two attempts.
const A_ROUND: Duration = Duration::from_secs(75);

#[tokio::test]
async fn a_request_refused_as_invalid_is_bisected_and_the_one_bad_reading_is_set_aside_once_another_was_accepted() {
    let mut gateway = Gateway::new().set("buffer.hold", "50ms").starts().await;
    gateway.cloud.calls_invalid(Some("poison"));
    gateway.field.publishes(10).await;
    gateway.agent.shows("those are accepted", |status| status.count("/ledger/delivered") == 10).await;
    let rejected = |status: &Picture| status.count("/ledger/rejected/refused");

    // Alone it is refused, and refused again: but nothing is accepted meanwhile.
    gateway.field.publishes_message("plant/broken/temp", "\"poison\"").await;
    let judged = |status: &Picture| rejected(status) > 0 || !status.problems().is_empty();
    let status = gateway.agent.shows("it is judged", judged).await;
    assert_eq!((rejected(&status), status.count("/ledger/buffered")), (0, 1), "the fault need not be the reading's");
    assert!(status.problems()[0].contains("everything waits"), "{status:?}");

    gateway.cloud.away();
    gateway.field.publishes(50).await;
    gateway.field.publishes_message("plant/broken/temp", "\"poison\"").await;
    gateway.field.publishes(50).await;
    gateway.holds(102).await;
    gateway.cloud.back();

    gateway.agent.shows_within(A_ROUND, "both are set aside", |status| rejected(status) == 2).await.balances();
    gateway.agent.shows("the others arrive", |status| status.count("/ledger/delivered") == 110).await.balances();
    let consumer = gateway.cloud.consumer("plant-readings");
    assert_eq!((consumer.distinct(), consumer.missing(), consumer.skipped()), (110, 2, 0));
    // One may have been sent ahead, to learn whether others are accepted.
    let Repeats { same_name, marked, unmarked } = consumer.repeats;
    assert!(same_name <= 1 && marked + unmarked == 0, "{same_name}, {marked}, {unmarked}");
    let problems = gateway.agent.status().await.problems();
    assert!(problems.len() == 1 && problems[0].contains("headwater buffer export --rejected"), "{problems:?}");
    gateway.agent.stops().await;
    let rows = self::rejected(&gateway);
    let named: Vec<_> = rows.iter().map(|(seq, topic, _)| (*seq, topic.as_deref())).collect();
    assert_eq!(named, [(10, Some("plant/broken/temp")), (61, Some("plant/broken/temp"))]);
    assert!(rows.iter().all(|(.., reason)| reason.starts_with("HTTP 400 ValidationException: ")), "{rows:?}");
}

#[tokio::test]
async fn a_destination_that_calls_everything_invalid_takes_nothing_aside_and_everything_drains_when_it_is_mended() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 3).set("buffer.hold", "50ms").starts().await;
    gateway.cloud.fail_always(Some(Failure::Validation));

    gateway.field.publishes(100).await;
    gateway.cloud.is_put(25).await;
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    status.balances();
    assert_eq!((status.count("/ledger/buffered"), status.count("/ledger/rejected/refused")), (100, 0));
    let problems = status.problems();
    assert!(problems[0].contains("ValidationException") && problems[0].contains("everything waits"), "{problems:?}");
    gateway.cloud.fail_always(None);

    gateway.agent.shows_within(A_ROUND, "all arrive", |status| status.count("/ledger/delivered") == 100).await.balances();
    // By their names, because one that was sent ahead to learn whether others are accepted came before its turn.
    let names: BTreeSet<_> =
        gateway.cloud.readings("plant-readings").into_iter().map(|reading| (reading.lane, reading.seq)).collect();
    assert_eq!(names.len(), 100);
    assert!(gateway.agent.status().await.problems().is_empty());
}

#[tokio::test]
async fn a_stream_that_is_refused_takes_nothing_aside_while_another_of_its_destination_is_accepted() {
    let mut gateway = Gateway::new().stream("copies", "plant-copies").set("buffer.hold", "50ms").starts().await;
    gateway.cloud.create_stream("plant-copies", 1);
    gateway.cloud.calls_invalid(Some("copies/0")); // the name of each of its readings, and of none of the other's

    for round in 1..=5 {
        gateway.field.publishes(20).await;
        let delivered = |name: &str| format!("/streams/{name}/ledger/delivered");
        gateway.agent.shows("the other flows", |status| status.count(&delivered("readings")) == 20 * round).await.balances();
    }

    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    assert_eq!(status.count("/ledger/rejected/refused"), 0);
    assert_eq!(status.count("/streams/copies/ledger/buffered"), 100);
}

#[tokio::test]
async fn with_the_first_reading_of_a_lane_bad_the_others_come_in_order_and_one_of_them_twice_at_most() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.calls_invalid(Some("poison"));

    gateway.field.publishes_message("plant/broken/temp", "\"poison\"").await;
    gateway.field.publishes(20).await;

    gateway.agent.shows_within(A_ROUND, "it is set aside", |status| status.count("/ledger/rejected/refused") == 1).await.balances();
    let repeats = {
        gateway.agent.shows("the others arrive", |status| status.count("/ledger/delivered") == 20).await.balances();
        gateway.cloud.consumer("plant-readings").repeats
    };
    assert!(repeats.same_name <= 1 && repeats.marked + repeats.unmarked == 0, "{repeats:?}");
    assert_eq!(gateway.cloud.consumer("plant-readings").distinct(), 20);
    assert_eq!(gateway.agent.status().await.count("/ledger/duplicated"), repeats.same_name);
}

#[tokio::test]
async fn what_was_set_aside_is_there_once_after_a_power_cut_and_nothing_that_was_delivered_before_it_comes_again() {
    let mut gateway = Gateway::new().set("buffer.hold", "0s").starts().await;
    gateway.cloud.calls_invalid(Some("poison"));
    gateway.cloud.away();
    for _ in 0..3 {
        gateway.field.publishes(20).await;
        gateway.field.publishes_message("plant/broken/temp", "\"poison\"").await;
    }
    gateway.field.publishes(20).await;
    gateway.holds(83).await;
    gateway.cloud.back();
    gateway.agent.shows("the first is set aside", |status| status.count("/ledger/rejected/refused") > 0).await;

    gateway.agent.power_off().await;
    gateway.agent.start();

    gateway
        .agent
        .shows("nothing waits", |status| status.count("/ledger/received") > 0 && status.count("/ledger/buffered") == 0)
        .await;
    let consumer = gateway.cloud.consumer("plant-readings");
    assert_eq!((consumer.distinct(), consumer.skipped()), (80, 0));
    gateway.agent.stops().await;
    let seqs: Vec<u64> = rejected(&gateway).iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, [20, 41, 62]);
}

#[tokio::test]
async fn a_proxy_that_takes_only_small_requests_takes_nothing_aside() {
    let mut gateway = Gateway::new().window(200).set("buffer.hold", "50ms").starts().await;
    gateway.cloud.fail_always(Some(Failure::TooLargeBeyond(30_000)));
    gateway.field.pads(500);
    gateway.cloud.away();
    gateway.field.publishes(500).await;
    gateway.holds(500).await;

    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.agent.status().await.count("/ledger/rejected/refused"), 0);
}

/// Seq, topic and reason of what is set aside; the agent does not run.
fn rejected(gateway: &Gateway) -> Vec<(u64, Option<String>, String)> {
    let connection = Connection::open(gateway.agent.dir().join("state/buffer.db")).unwrap();
    let mut rows = connection.prepare("SELECT seq, topic, reason FROM rejected ORDER BY id").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}
