//! While all is well, and while the uplink is away.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::support::{
    consumer::{ONCE, Repeats},
    gateway::Gateway,
};

#[tokio::test]
async fn a_reading_arrives_without_another_one_that_pushes_it() {
    let mut gateway = Gateway::new().set("streams.readings.linger", "250ms").starts().await;

    for _ in 0..5 {
        gateway.field.publishes(1).await;
        assert_eq!(gateway.everything_arrives().await, ONCE);
    }
}

#[tokio::test]
async fn while_the_link_is_good_nothing_is_written() {
    // Longer than any put takes on a busy machine.
    let mut gateway = Gateway::new().set("buffer.hold", "20s").starts().await;
    gateway.field.publishes(1).await;
    gateway.everything_arrives().await; // so the subscription has been granted, and written down
    let before = (files(gateway.agent.dir()), gateway.agent.status().await.count("/disk/written"));

    for _ in 0..60 {
        gateway.field.publishes(5).await;
        assert_eq!(gateway.everything_arrives().await, ONCE);
    }

    let after = (files(gateway.agent.dir()), gateway.agent.status().await.count("/disk/written"));
    assert_eq!(before, after);
}

#[tokio::test]
async fn what_waits_longer_than_hold_for_its_confirmation_is_written() {
    let mut gateway = Gateway::new().set("buffer.hold", "100ms").starts().await;
    let before = gateway.agent.status().await.count("/disk/written");
    gateway.cloud.away();

    gateway.field.publishes(1).await;

    gateway.agent.shows("it is written", |status| status.count("/disk/written") > before).await.balances();
    gateway.cloud.back();
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn while_the_endpoint_is_away_the_agent_collects_and_then_everything_drains() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).starts().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;

    gateway.cloud.away();
    gateway.field.publishes(5000).await;
    gateway.holds(5000).await;
    let status = gateway.agent.status().await;
    assert_eq!((status.text("/state"), status.text("/sources/broker/state")), ("buffering", "connected"));
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.agent.status().await.text("/state"), "sending");
    gateway.agent.stops().await;
}

#[tokio::test]
async fn what_was_stored_before_the_answer_was_lost_is_sent_again_under_the_same_name() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.fail_next(1, headwater::demo::kinesis::Failure::StoreThenClose);

    gateway.field.publishes(10).await;
    let repeats = gateway.everything_arrives().await;
    gateway.field.publishes(10).await;

    gateway.everything_arrives().await;
    assert!(repeats.same_name > 0, "{repeats:?}");
    assert_eq!(repeats, Repeats { same_name: repeats.same_name, ..ONCE });
    assert_eq!(gateway.agent.status().await.count("/ledger/duplicated"), repeats.same_name);
}

#[tokio::test]
async fn a_slow_link_carries_a_backlog_in_requests_that_fit_it() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 2).starts().await;
    gateway.cloud.away();
    gateway.field.pads(200);
    gateway.field.publishes(1000).await;
    gateway.holds(1000).await;

    gateway.cloud.slow(Duration::from_millis(300), Some(128 << 10));
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

/// Length and last change of each of the buffer's files.
fn files(dir: &Path) -> Vec<(String, u64, SystemTime)> {
    let files = fs::read_dir(dir.join("state")).unwrap().map(|entry| {
        let (entry, name) = entry.map(|entry| (entry.metadata().unwrap(), entry.file_name())).unwrap();
        (name.to_string_lossy().into_owned(), entry.len(), entry.modified().unwrap())
    });
    files.collect()
}
