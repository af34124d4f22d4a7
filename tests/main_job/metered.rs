//! A link that is metered: bytes a second, hours of the day, bytes a month.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{
    cloud::STREAM,
    consumer::ONCE,
    gateway::{Gateway, Plan},
    process::Picture,
};

const MONTH: u64 = 2 << 20;

fn with(setting: &str, value: &str) -> Plan {
    Gateway::new().set(&format!("destinations.cloud.{setting}"), value.to_owned()).window(200)
}

/// From an hour ago until in two hours.
fn these_hours() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let clock = |time: Duration| format!("{:02}:{:02}", time.as_secs() / 3600 % 24, time.as_secs() / 60 % 60);
    format!("{}-{}", clock(now + Duration::from_hours(23)), clock(now + Duration::from_hours(2)))
}

#[tokio::test]
async fn with_a_rate_no_request_is_larger_than_what_it_carries_in_two_seconds() {
    let mut gateway = with("max_rate", "32 KiB/s").starts().await;
    gateway.field.pads(1000);

    gateway.field.publishes(100).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let largest = gateway.cloud.look(|store| store.records(STREAM).map(|record| record.data.len()).max());
    assert!(largest.unwrap() <= 48 << 10, "{largest:?}");
}

#[tokio::test]
async fn in_quiet_hours_readings_wait_and_after_them_all_arrive() {
    let mut gateway = Gateway::new().set("destinations.cloud.quiet_hours", vec![these_hours()]).starts().await;

    gateway.field.publishes(100).await;

    gateway.holds(100).await;
    let paused = gateway.agent.shows("it is quiet", |status| status.text("/link/paused/why") == "quiet_hours").await;
    assert_eq!(paused.text("/state"), "buffering");
    assert_eq!(gateway.cloud.readings(STREAM).len(), 0);

    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.set("destinations.cloud.quiet_hours", Vec::<String>::new()));
    gateway.agent.start();
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_month_that_is_used_up_stays_so_through_a_power_cut() {
    let mut gateway = with("max_bytes_per_month", "2 MiB").starts().await;
    gateway.field.pads(2000);

    gateway.field.publishes(1000).await;

    let is_used_up = |status: &Picture| status.text("/link/paused/why") == "max_bytes_per_month";
    let status = gateway.agent.shows("the month is used up", is_used_up).await;
    let used = status.count("/link/month/used");
    assert!(used.abs_diff(MONTH) < 8 << 10, "up to a reading: {used}");
    assert!(status.problems().iter().any(|problem| problem.contains("max_bytes_per_month of cloud is used up")), "{status:?}");
    let arrived = gateway.cloud.readings(STREAM).len();

    gateway.agent.power_off().await;
    gateway.agent.start();

    let status = gateway.agent.shows("the month is used up", is_used_up).await;
    assert!(status.count("/link/month/used") >= used, "{status:?}");
    assert_eq!(gateway.cloud.readings(STREAM).len(), arrived);
}
