//! The agent's power is cut (kill -9), at every stage of a reading's way.

use headwater::demo::kinesis::Failure;

use crate::support::{
    consumer::{ONCE, Repeats},
    gateway::{Gateway, Plan},
};

#[tokio::test]
async fn a_reading_that_was_not_written_yet_is_still_with_the_broker() {
    // Five of a window of 20: nothing asks for a write.
    let mut gateway = Gateway::new().set("buffer.hold", "1h").starts().await;
    let before = gateway.agent.status().await.count("/disk/written");
    gateway.cloud.black_hole();
    gateway.field.publishes(5).await;
    gateway.holds(5).await;
    assert_eq!(gateway.agent.status().await.count("/disk/written"), before);

    gateway.agent.power_off().await;
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await.same_name, 0);
    assert!(gateway.cloud.readings("plant-readings").iter().all(|reading| reading.dup));
}

#[tokio::test]
async fn a_reading_that_was_acknowledged_to_the_broker_is_on_the_disk() {
    let mut gateway = acknowledging().starts().await;
    gateway.cloud.away();
    gateway.field.publishes(15).await;
    gateway.field.is_acknowledged(15).await;

    gateway.agent.power_off().await;
    gateway.field.broker.kill().await; // and with it what it may have kept
    gateway.cloud.back();
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_reading_whose_acknowledgement_was_lost_after_its_commit_is_recognised() {
    let mut gateway = acknowledging().through_a_cable().starts().await;
    gateway.cloud.away();
    let cable = gateway.field.cable.take().unwrap();
    cable.mutes_the_agent();
    gateway.field.publishes(15).await;
    cable.keeps(15).await;

    gateway.agent.power_off().await;
    cable.is_cut();
    gateway.cloud.back();
    gateway.agent.start();

    gateway.agent.shows("they are recognised", |status| status.count("/sources/broker/repeated") == 15).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn what_a_broker_has_in_flight_beyond_the_window_is_recognised_too() {
    let plan = acknowledging().through_a_cable().broker(|broker| broker.max_inflight(500));
    let mut gateway = plan.set("sources.broker.window", 20).starts().await;
    gateway.cloud.away();
    let cable = gateway.field.cable.take().unwrap();
    cable.mutes_the_agent();
    gateway.field.publishes(300).await;
    cable.keeps(300).await;

    gateway.agent.power_off().await;
    cable.is_cut();
    gateway.cloud.back();
    gateway.agent.start();

    gateway.agent.shows("they are recognised", |status| status.count("/sources/broker/repeated") == 300).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn what_a_broker_has_in_flight_beyond_the_window_is_recognised_at_qos_2_too() {
    let plan = acknowledging().through_a_cable().broker(|broker| broker.max_inflight(500));
    let mut gateway = plan.set("sources.broker.window", 20).set("sources.broker.qos", 2).installs().await;
    gateway.agent.start();
    gateway.field.is_listened_to_at(2).await;
    gateway.field.promises_exactly_once();
    gateway.cloud.away();
    let cable = gateway.field.cable.take().unwrap();
    cable.mutes_the_agent();
    gateway.field.publishes(300).await;
    cable.keeps(300).await;

    gateway.agent.power_off().await;
    cable.is_cut();
    gateway.cloud.back();
    gateway.agent.start();

    gateway.agent.shows("they are recognised", |status| status.count("/sources/broker/repeated") == 300).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_reading_in_the_middle_of_its_put_is_sent_again_under_the_same_name() {
    let mut gateway = acknowledging().starts().await;
    gateway.field.publishes(5).await;
    gateway.everything_arrives().await;
    gateway.cloud.black_hole();
    gateway.field.publishes(15).await;
    gateway.field.is_acknowledged(20).await;

    gateway.agent.power_off().await;
    gateway.cloud.fail_next(1, Failure::StoreThenClose);
    gateway.cloud.back();
    gateway.agent.start();

    let Repeats { same_name, marked, unmarked } = gateway.everything_arrives().await;
    assert!(same_name >= 15);
    assert_eq!((marked, unmarked), (0, 0));
}

#[tokio::test]
async fn a_reading_that_was_delivered_and_not_yet_deleted_has_one_name() {
    let mut gateway = acknowledging().installs().await;
    gateway.agent.lives_on_a_frail_disk();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.cloud.away();
    gateway.field.publishes(100).await;
    gateway.field.is_acknowledged(100).await;
    gateway.agent.cannot_write(); // and so it cannot delete
    gateway.cloud.back();
    gateway.agent.shows("it knows that they are delivered", |status| status.count("/ledger/delivered") == 100).await;

    gateway.agent.power_off().await;
    gateway.agent.start_until("running").await; // until it has opened its buffer it does not know what waits

    assert_eq!(gateway.everything_arrives().await, Repeats { same_name: 100, ..ONCE });
}

#[tokio::test]
async fn power_cut_at_any_moment_of_full_load_each_reading_is_there_once_or_again_under_the_same_name() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).set("buffer.hold", "50ms").starts().await;

    for _ in 0..5 {
        let Gateway { field, agent, .. } = &mut gateway;
        tokio::join!(field.publishes(1000), async {
            agent.shows("it takes readings", |status| status.count("/sources/broker/received") > 200).await;
            agent.power_off().await;
            agent.start();
        });
    }

    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
    assert!(gateway.cloud.consumer("plant-readings").runs() > 1);
    gateway.agent.stops().await;
}

#[tokio::test]
async fn power_cuts_lose_nothing_at_qos_2_either() {
    let mut gateway = Gateway::new().set("sources.broker.qos", 2).installs().await;
    gateway.agent.start();
    gateway.field.is_listened_to_at(2).await;
    gateway.field.promises_exactly_once();

    for _ in 0..3 {
        let Gateway { field, agent, .. } = &mut gateway;
        tokio::join!(field.publishes(300), async {
            agent.shows("it takes readings", |status| status.count("/sources/broker/received") > 50).await;
            agent.power_off().await;
            agent.start();
        });
    }

    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
}

/// Writes at once, at a broker that logs what it gets.
pub(super) fn acknowledging() -> Plan {
    Gateway::new().set("buffer.hold", "0s").broker(|broker| broker.setting("log_type", "all"))
}
