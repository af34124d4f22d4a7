//! What the wall clock does to a gateway: it starts in 1970, jumps, is set, and stands still with the machine.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use headwater::{clock, demo::kinesis::Counts};

use crate::support::{
    certificates::OFFICE,
    consumer::{ONCE, Reading},
    gateway::{Gateway, Plan},
    process::Picture,
    sleep::Sleep,
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
    let set_and_right = |status: &Picture| status.holds_a("/clock/moved_ms") && status.problems().is_empty();
    gateway.agent.shows("the clock was set, and all is well", set_and_right).await;
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_costs_one_refused_request_and_the_status_says_so() {
    for hours in [-1, 1] {
        let mut gateway = Gateway::new().with_a_clock().set("buffer.hold", "50ms").installs().await;
        gateway.agent.clock().is_off_by(hours * HOUR);
        gateway.agent.start();
        gateway.field.is_listened_to().await;

        for _ in 0..3 {
            gateway.field.publishes(10).await;
            assert_eq!(gateway.everything_arrives().await, ONCE);
        }

        let refused = |counts: Counts| counts.requests - counts.puts - counts.describes;
        assert_eq!(refused(gateway.cloud.counts()), 1, "{:?}", gateway.cloud.counts());
        let status = gateway.agent.shows("it says so", |status| !status.problems().is_empty()).await;
        let side = if hours < 0 { "1h behind" } else { "1h ahead of" };
        assert!(status.problems()[0].contains(side) && status.problems()[0].contains("timedatectl"), "{:?}", status.problems());
        // What was learned is the service's time, and not a distance to a clock that may be set.
        gateway.agent.clock().is_off_by(0);
        gateway.field.publishes(10).await;
        assert_eq!(gateway.everything_arrives().await, ONCE);
        assert_eq!(refused(gateway.cloud.counts()), 1, "{:?}", gateway.cloud.counts());
        gateway.agent.shows("all is well", |status| status.problems().is_empty()).await;
    }
}

#[tokio::test]
async fn a_clock_before_the_certificates_validity_is_called_wrong_and_readings_go_out_when_it_is_set() {
    let server = OFFICE.authority.server_config_from(SystemTime::now() - Duration::from_hours(24));
    let plan = Gateway::new().with_a_clock().set("buffer.hold", "50ms").cloud(|cloud| cloud.tls = Some(Arc::new(server)));
    let mut gateway = plan.installs().await;
    gateway.agent.clock().is_off_by(-30 * 24 * HOUR);
    gateway.agent.start();
    gateway.field.is_listened_to().await;

    gateway.field.publishes(10).await;
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    let problems = status.problems();
    assert!(problems[0].contains("this gateway's clock is wrong: it says") && problems[0].contains("timedatectl"), "{problems:?}");
    assert!(!problems[0].contains("TLS") && problems.len() == 1, "{problems:?}");
    gateway.agent.clock().is_off_by(0);
    gateway.field.publishes(10).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    gateway.agent.shows("all is well", |status| status.problems().is_empty()).await;
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

#[tokio::test]
async fn a_machine_that_slept_for_hours_has_a_clock_that_was_right_all_the_time() {
    const HOURS: i64 = 9;
    let mut gateway = Gateway::new().set("buffer.hold", "50ms").installs().await;
    // A time server has set the clock, so that any jump of it makes it unsure.
    let folder = gateway.agent.dir().join("timesync");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("synchronized"), "").unwrap();
    let mut sleep = Sleep::of(&mut gateway.agent);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.cloud.away();
    let before = clock::now().0;
    gateway.field.publishes(100).await;
    gateway.holds(100).await;
    let after = clock::now().0;

    sleep.takes_hours(&gateway.agent, HOURS);
    gateway.field.publishes(100).await;
    gateway.holds(200).await;
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let readings = gateway.cloud.readings("plant-readings");
    assert_eq!(readings.iter().filter(|reading| reading.clk.is_some()).count(), 0, "nobody has set it");
    assert!(readings[..100].iter().all(|reading| (before - 1..=after + 1).contains(&reading.ts)));
    let awake = after + HOURS * HOUR * 1000;
    assert!(readings[100..].iter().all(|reading| (awake - 1..awake + HOUR * 1000).contains(&reading.ts)));
    assert_eq!(gateway.agent.status().await.text("/clock/state"), "right");
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_machine_that_slept_in_the_middle_of_a_wait_sends_when_it_wakes_whatever_its_clock_says_then() {
    for hours in [8, -8, 200, -200] {
        let mut gateway = Gateway::new().with_a_clock().set("buffer.hold", "50ms").starts().await;
        gateway.cloud.away();
        let before = clock::now().0;
        gateway.field.publishes(100).await;
        gateway.holds(100).await;
        let after = clock::now().0;
        gateway.agent.shows("it waits for the next attempt", |status| status.holds_a("/link/retry_at")).await;

        gateway.agent.freezes();
        gateway.agent.clock().is_off_by(hours * HOUR);
        gateway.field.publishes(100).await;
        gateway.cloud.back();
        gateway.agent.thaws();

        assert_eq!(gateway.everything_arrives().await, ONCE, "{hours} hours");
        let readings = gateway.cloud.readings("plant-readings");
        let moved = hours * HOUR * 1000;
        assert!(readings[..100].iter().all(|reading| (before - 1..=after + 1).contains(&reading.ts)), "{hours} hours");
        assert!(readings[100..].iter().all(|reading| reading.ts >= after + moved - 1), "{hours} hours");
        gateway.agent.stops().await;
    }
}

#[tokio::test]
async fn a_machine_that_slept_since_1970_and_wakes_with_the_time_corrects_what_waits() {
    let mut gateway = without_battery().await;
    let before = clock::now().0;
    gateway.field.publishes(100).await;
    gateway.holds(100).await;
    let after = clock::now().0;

    gateway.agent.freezes();
    gateway.agent.clock().is_confirmed();
    gateway.agent.thaws();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let right = |reading: &Reading| reading.clk.as_deref() == Some("corrected") && (before - 1..=after + 1).contains(&reading.ts);
    let readings = gateway.cloud.readings("plant-readings");
    assert!(readings.iter().all(right), "{before} {:?} {after}", readings.iter().find(|reading| !right(reading)));
    gateway.agent.stops().await;
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
