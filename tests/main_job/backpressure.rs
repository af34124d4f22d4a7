//! The buffer is full, and something has to give way: the broker, or the oldest readings.

use std::fs;

use crate::support::{
    consumer::ONCE,
    gateway::{Gateway, Plan},
    process::Picture,
};

/// The smallest buffer that there is.
const MAX_SIZE: u64 = 8 << 20;

#[tokio::test]
async fn buffer_at_max_size_or_disk_under_keep_free_when_full_decides_and_draining_always_works() {
    const SENT: u64 = 800; // twice what fits
    let squeezed = || small_buffer().set("buffer.max_size", "1 GiB").set("buffer.keep_free", "1000000 GiB");
    for (bound, plan) in [("max_size", small_buffer as fn() -> Plan), ("keep_free", squeezed)] {
        for rule in ["block", "drop-oldest", "drop-newest", "thin"] {
            let mut gateway = plan().set("buffer.when_full", rule).starts().await;
            gateway.cloud.away();
            gateway.field.pads(20_000);
            gateway.field.publishes(SENT).await;

            let blocks = rule == "block";
            if blocks {
                let status = gateway.agent.shows("a source waits for room", |status| status.text("/state") == "holding").await;
                assert!(status.count("/ledger/received") < SENT, "{bound}, {rule}: {status:?}");
            } else {
                gateway.agent.shows("all were taken", |status| status.count("/ledger/received") == SENT).await.balances();
            }
            assert!(disk_use(&gateway) <= MAX_SIZE, "{bound}, {rule}");
            gateway.cloud.back();

            let drained = |status: &Picture| status.count("/ledger/received") == SENT && status.count("/backlog/bytes") == 0;
            let status = gateway.agent.shows("nothing waits", drained).await;
            status.balances();
            let dropped = status.count(&format!("/ledger/dropped/{}", rule.replace('-', "_")));
            assert_eq!(dropped > 0, !blocks, "{bound}, {rule}: {dropped}");
            gateway.agent.stops().await;
            let consumer = gateway.cloud.consumer("plant-readings");
            assert_eq!((consumer.missing(), consumer.explained(), consumer.repeats), (dropped, dropped, ONCE), "{bound}, {rule}");
        }
    }
}

#[tokio::test]
async fn with_a_full_buffer_that_blocks_the_broker_keeps_the_rest_and_nothing_is_lost() {
    let mut gateway = small_buffer().set("buffer.when_full", "block").starts().await;
    gateway.cloud.away();
    gateway.field.pads(20_000);

    gateway.field.publishes(800).await; // twice what fits
    let status = gateway.agent.shows("a source waits for room", waits_for_room).await;
    assert!((200..800).contains(&status.count("/ledger/received")), "{status:?}");
    assert!(disk_use(&gateway) <= MAX_SIZE);
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.agent.status().await.count("/ledger/dropped/drop_oldest"), 0);
}

#[tokio::test]
async fn with_a_full_buffer_that_drops_the_ledger_and_the_gap_in_seq_say_what() {
    let mut gateway = small_buffer().starts().await;
    gateway.cloud.away();
    gateway.field.pads(20_000);

    gateway.field.publishes(800).await;
    let status = gateway.agent.shows("all were taken", |status| status.count("/ledger/received") == 800).await;
    status.balances();
    assert!(disk_use(&gateway) <= MAX_SIZE);
    gateway.cloud.back();

    let (missing, skipped) = gateway.what_is_left_is_in("plant-readings").await;
    let status = gateway.agent.status().await;
    let (dropped, delivered) = (status.count("/ledger/dropped/drop_oldest"), status.count("/ledger/delivered"));
    assert_eq!((missing, skipped, delivered), (dropped, dropped, 800 - dropped));
    assert!((200..600).contains(&dropped), "{dropped}");
}

#[tokio::test]
async fn what_was_dropped_is_still_a_gap_after_a_restart() {
    let mut gateway = small_buffer().starts().await;
    gateway.cloud.away();
    gateway.field.pads(20_000);
    gateway.field.publishes(800).await;
    let status = gateway.agent.shows("all were taken", |status| status.count("/ledger/received") == 800).await;
    let dropped = status.count("/ledger/dropped/drop_oldest");

    gateway.agent.stops().await;
    gateway.agent.start();
    gateway.cloud.back();

    let (missing, skipped) = gateway.what_is_left_is_in("plant-readings").await;
    assert!(dropped > 0);
    assert_eq!(missing, skipped);
    assert_eq!(gateway.agent.status().await.count("/ledger/received"), 800 - missing);
    assert!((dropped..dropped + 50).contains(&missing), "{missing} missing, {dropped} dropped before the restart");
}

#[tokio::test]
async fn a_stream_that_may_hold_little_drops_alone() {
    let plan = Gateway::new().stream("copies", "plant-copies").set("streams.copies.max_size", "1 MiB");
    let mut gateway = plan.set("buffer.memory", "1 MiB").window(200).starts().await;
    gateway.cloud.create_stream("plant-copies", 1);
    gateway.cloud.away();
    gateway.field.pads(10_000);

    gateway.field.publishes(300).await;
    let taken = |name: &str| format!("/streams/{name}/ledger/received");
    gateway.agent.shows("all were taken", |status| status.count(&taken("copies")) == 300).await.balances();
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let (missing, _) = gateway.what_is_left_is_in("plant-copies").await;
    let status = gateway.agent.status().await;
    assert_eq!(status.count("/streams/copies/ledger/dropped/drop_oldest"), missing);
    assert_eq!(status.count("/streams/readings/ledger/dropped/drop_oldest"), 0);
    assert!((100..300).contains(&missing), "{missing}");
}

#[tokio::test]
async fn a_stream_that_may_hold_little_and_blocks_holds_its_source() {
    let plan = Gateway::new().set("streams.readings.max_size", "1 MiB").set("streams.readings.when_full", "block");
    let mut gateway = plan.set("buffer.memory", "1 MiB").window(200).starts().await;
    gateway.cloud.away();
    gateway.field.pads(10_000);

    gateway.field.publishes(300).await;
    let status = gateway.agent.shows("a source waits for room", waits_for_room).await;
    assert!((1 << 19..2 << 20).contains(&status.count("/backlog/bytes")), "{status:?}");
    assert!(status.count("/ledger/received") < 300, "{status:?}");
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn with_qos_0_nobody_can_be_held_and_what_finds_no_room_is_counted() {
    let plan = small_buffer().set("buffer.when_full", "block").set("sources.broker.qos", 0);
    let mut gateway = plan.installs().await;
    gateway.agent.start();
    gateway.field.is_listened_to_at(0).await;
    gateway.cloud.away();
    gateway.field.pads(20_000);

    gateway.field.publishes(800).await;
    let status = gateway.agent.shows("all were taken or counted", |status| status.count("/ledger/received") == 800).await;
    let lost = status.count("/ledger/dropped/no_room");
    status.balances();
    assert!(lost > 0, "{status:?}");
    gateway.cloud.back();

    gateway.agent.shows("the rest is delivered", |status| status.count("/ledger/delivered") == 800 - lost).await.balances();
    assert_eq!(gateway.cloud.consumer("plant-readings").distinct(), 800 - lost);
    assert_eq!(gateway.cloud.consumer("plant-readings").missing(), 0);
}

#[tokio::test]
async fn memory_stays_flat_while_the_backlog_grows() {
    let mut gateway = Gateway::new().window(1000).starts().await;
    gateway.cloud.away();

    gateway.field.publishes(20_000).await;
    gateway.holds(20_000).await;
    let before = gateway.agent.resident();
    gateway.field.publishes(60_000).await;
    gateway.holds(80_000).await;
    let (after, status) = (gateway.agent.resident(), gateway.agent.status().await);

    assert!(status.count("/memory_bytes") <= 4 << 20, "{status:?}");
    assert!(after < before + (4 << 20), "{before} bytes before, {after} after");
    gateway.cloud.back();
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

/// A source is held, and the buffer says why.
fn waits_for_room(status: &Picture) -> bool {
    status.text("/state") == "holding" && status.problems().iter().any(|problem| problem.contains("may not drop"))
}

fn small_buffer() -> Plan {
    Gateway::new().set("buffer.max_size", "8 MiB").set("buffer.memory", "1 MiB").window(200)
}

/// Bytes of all files of the buffer.
fn disk_use(gateway: &Gateway) -> u64 {
    let files = fs::read_dir(gateway.agent.dir().join("state")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}
