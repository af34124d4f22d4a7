//! What the wall clock does to a gateway: it starts in 1970, jumps, is set, and stands still with the machine.

use std::time::Duration;

use headwater::clock;

use crate::support::{
    consumer::{ONCE, Reading},
    gateway::{Gateway, Plan},
};

const HOUR: i64 = 3600;

#[tokio::test]
async fn clock_wrong_at_start_readings_are_marked_and_corrected_when_the_clock_is_set() {
    let mut gateway = without_battery().await;
    let before = clock::now().0;
    gateway.field.publishes(100).await;
    gateway.holds(100).await;
    let after = clock::now().0;

    let status = gateway.agent.status().await;
    assert_eq!((status.text("/clock/state"), status.text("/state")), ("wrong", "buffering"));
    let problems = status.problems();
    assert!(problems.len() == 1 && problems[0].contains("year 1970") && problems[0].contains("timedatectl"), "{problems:?}");
    assert_eq!(gateway.cloud.counts().requests, 0, "what is signed in 1970 is refused");
    gateway.agent.clock().is_confirmed();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    for reading in gateway.cloud.readings("plant-readings") {
        assert_eq!(reading.clk.as_deref(), Some("corrected"));
        assert!((before - 1..=after + 1).contains(&reading.ts), "{before} {reading:?} {after}");
    }
    let status = gateway.agent.shows("the clock is right", |status| status.text("/clock/state") == "right").await;
    assert!(status.problems().is_empty());
}

#[tokio::test]
async fn readings_on_the_disk_are_corrected_too_and_after_a_power_cut_as_well() {
    let mut gateway = without_battery().await;
    let before = clock::now().0;
    gateway.field.publishes(100).await;
    gateway.field.is_acknowledged(100).await;
    let after = clock::now().0;
    gateway.agent.power_off().await;
    gateway.cloud.away();
    gateway.agent.start();
    gateway.holds(100).await;

    gateway.agent.clock().is_confirmed();
    gateway.agent.shows("it tries to send", |status| !status.text("/link/error").is_empty()).await;
    gateway.agent.stops().await;
    gateway.agent.start();
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
    for reading in gateway.cloud.readings("plant-readings") {
        assert_eq!(reading.clk.as_deref(), Some("corrected"));
        assert!((before - 1..=after + 1).contains(&reading.ts), "{before} {reading:?} {after}");
    }
}

#[tokio::test]
async fn a_clock_that_nobody_has_confirmed_stops_nothing_and_every_reading_says_so() {
    let mut gateway = Gateway::new().with_a_clock().installs().await;
    gateway.agent.clock().is_kept();
    gateway.agent.clock().is_off_by(-30 * 24 * HOUR);
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(10).await;
    assert_eq!(gateway.everything_arrives().await, ONCE);
    let status = gateway.agent.status().await;
    assert_eq!(status.text("/clock/state"), "unsure");
    assert!(status.problems()[0].contains("no time server"), "{:?}", status.problems());
    gateway.agent.clock().is_confirmed();
    gateway.agent.shows("the clock is right", |status| status.text("/clock/state") == "right").await;
    gateway.field.publishes(10).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let marks: Vec<_> = gateway.cloud.readings("plant-readings").into_iter().map(|reading| reading.clk).collect();
    assert_eq!(marks, [vec![Some("unsure".to_owned()); 10], vec![None; 10]].concat());
}

#[tokio::test]
async fn a_clock_that_jumps_back_and_forth_by_hours_keeps_nothing_waiting_and_changes_no_order() {
    let mut gateway = Gateway::new().with_a_clock().set("buffer.hold", "50ms").installs().await;
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    for (round, hours) in [5, -7, 48, 0, -100, 0].into_iter().enumerate() {
        gateway.field.publishes(100).await;
        if round % 2 == 1 {
            gateway.cloud.away();
        }
        gateway.agent.clock().is_off_by(hours * HOUR);
        gateway.field.publishes(100).await;
        gateway.cloud.back();
        assert_eq!(gateway.everything_arrives().await, ONCE);
    }

    assert!(gateway.cloud.readings("plant-readings").iter().all(|reading| reading.clk.is_none()));
    let status = gateway.agent.shows("the clock was set", |status| status.holds_a("/clock/moved_ms")).await;
    assert!(status.problems().is_empty(), "{:?}", status.problems());
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_lane_leads_to_the_run_before_although_the_clock_was_set_back() {
    let mut gateway = Gateway::new().with_a_clock().set("buffer.hold", "0s").installs().await;
    let mut runs: Vec<Reading> = Vec::new();

    for (run, hours) in [10, 5, 0].into_iter().enumerate() {
        gateway.agent.clock().is_off_by(hours * HOUR);
        gateway.agent.start();
        gateway.field.is_listened_to().await;
        gateway.field.publishes(3).await;
        gateway.everything_arrives().await;
        gateway.agent.stops().await;
        runs.push(gateway.cloud.readings("plant-readings")[3 * run].clone());
    }

    for pair in runs.windows(2) {
        let previous = pair[1].prev.as_ref().map(|previous| (previous.run.as_str(), previous.seq));
        assert_eq!(previous, Some((pair[0].run.as_str(), 2)));
    }
}

#[tokio::test]
async fn a_machine_that_was_suspended_goes_on_where_it_was() {
    let plan = Gateway::new().set("sources.broker.keep_alive", "1s").set("buffer.hold", "50ms");
    let mut gateway = plan.broker(|broker| broker.setting("log_type", "all")).starts().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;

    gateway.agent.freezes();
    gateway.field.publishes(100).await;
    gateway.field.misses_the_agent().await;
    gateway.agent.thaws();
    gateway.field.publishes(100).await;

    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
    gateway.agent.shows_within(Duration::from_mins(1), "all is well", |status| status.problems().is_empty()).await;
}

/// It has started in 1970, and knows that a time server will tell it more.
async fn without_battery() -> Gateway {
    let plan: Plan = Gateway::new().with_a_clock().set("buffer.hold", "0s");
    let mut gateway = plan.broker(|broker| broker.setting("log_type", "all")).installs().await;
    gateway.agent.clock().is_kept();
    gateway.agent.clock().is_in_1970();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway
}
