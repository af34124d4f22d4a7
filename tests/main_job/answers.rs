//! What comes back is no answer of Kinesis, or only a part of one.

use std::time::Duration;

use headwater::demo::kinesis::Failure;

use crate::support::gateway::Gateway;

/// Long enough for two answers that never end, and the waits after them.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn whatever_comes_back_instead_of_an_answer_nothing_is_lost_and_the_lane_goes_on() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 2).set("buffer.hold", "50ms").starts().await;
    for failure in [
        Failure::Page(200),
        Failure::Page(302),
        Failure::Page(400),
        Failure::Page(401),
        Failure::Page(403),
        Failure::Page(407),
        Failure::Page(429),
        Failure::Garbage,
        Failure::ErrorInside,
        Failure::Gzip,
        Failure::HalfAnAnswer,
        Failure::TooFewRecords,
        Failure::TooManyRecords,
        Failure::Endless,
    ] {
        gateway.cloud.fail_always(Some(failure));
        let before = gateway.cloud.counts().puts;
        gateway.field.publishes(20).await;
        gateway.cloud.is_put(before + 1).await;
        gateway.cloud.fail_always(None);

        let delivered = |status: &crate::support::process::Picture| status.count("/ledger/buffered") == 0;
        gateway.agent.shows_within(PATIENCE, &format!("it goes on after {failure:?}"), delivered).await.balances();
    }

    let repeats = gateway.everything_arrives().await;
    assert_eq!((repeats.marked, repeats.unmarked), (0, 0));
    assert_eq!(gateway.agent.status().await.count("/ledger/rejected/refused"), 0);
}

#[tokio::test]
async fn an_answer_that_never_comes_or_never_ends_is_given_up_and_the_lane_goes_on() {
    let mut gateway = Gateway::new().set("buffer.hold", "50ms").starts().await;
    gateway.cloud.fail_next(1, Failure::Never);
    gateway.cloud.fail_next(1, Failure::Trickle);

    gateway.field.publishes(20).await;

    gateway.agent.shows_within(PATIENCE, "it goes on", |status| status.count("/ledger/delivered") == 20).await.balances();
    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
}

#[tokio::test]
async fn an_answer_without_an_end_takes_no_memory() {
    let mut gateway = Gateway::new().starts().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;
    let before = gateway.agent.resident();
    gateway.cloud.fail_always(Some(Failure::Endless));

    let puts = gateway.cloud.counts().puts;
    gateway.field.publishes(20).await;
    gateway.cloud.is_put(puts + 5).await;

    let after = gateway.agent.resident();
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
    gateway.cloud.fail_always(None);
    gateway.agent.shows_within(PATIENCE, "it goes on", |status| status.count("/ledger/buffered") == 0).await.balances();
}

#[tokio::test]
async fn the_status_shows_the_page_that_came_back_and_when_it_is_tried_again() {
    let mut gateway = Gateway::new().starts().await;
    let status = gateway.agent.status().await;
    assert_eq!(status.text("/link/error"), "not tried yet");
    gateway.cloud.fail_always(Some(Failure::Page(403)));

    gateway.field.publishes(20).await;

    let status = gateway.agent.shows("the link is down", |status| status.count("/link/retry_at") > 0).await;
    let error = status.text("/link/error");
    assert!(error.contains("HTTP 403") && error.contains("Welcome to our network"), "{error}");
    assert!(status.problems().iter().any(|problem| problem.contains("HTTP 403")), "{status:?}");
    gateway.cloud.fail_always(None);
    let status = gateway.agent.shows_within(PATIENCE, "it is up", |status| status.holds("/link/up")).await;
    assert_eq!((status.text("/link/error"), status.count("/link/retry_at")), ("", 0));
}
