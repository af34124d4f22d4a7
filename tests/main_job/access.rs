//! The cloud answers, and says no.

use std::time::Duration;

use headwater::demo::kinesis::Failure;

use crate::support::{consumer::ONCE, gateway::Gateway};

#[tokio::test]
async fn while_a_stream_is_missing_its_data_stays_others_flow_and_it_recovers_by_itself() {
    let mut gateway = Gateway::new().stream("copies", "plant-copies").set("buffer.hold", "50ms").starts().await;

    gateway.field.publishes(100).await;
    let delivered = |name: &str| format!("/streams/{name}/ledger/delivered");
    gateway.agent.shows("the other one flows", |status| status.count(&delivered("readings")) == 100).await.balances();
    let tells = |problems: Vec<String>| problems.iter().any(|problem| problem.contains("plant-copies"));
    let status = gateway.agent.shows("it says what is missing", |status| tells(status.problems())).await;
    assert_eq!(status.count("/streams/copies/ledger/buffered"), 100);
    gateway.cloud.create_stream("plant-copies", 1);

    // It is looked for once a minute.
    gateway.agent.shows_within(Duration::from_secs(75), "they drain", |status| status.count("/ledger/buffered") == 0).await;
    assert_eq!(gateway.everything_is_in("plant-copies").await, ONCE);
    assert!(gateway.agent.status().await.problems().is_empty());
}

#[tokio::test]
async fn while_access_is_denied_data_stays_and_the_status_says_what_to_do() {
    let mut gateway = Gateway::new().set("buffer.hold", "50ms").starts().await;
    gateway.cloud.fail_next(1, Failure::AccessDenied);

    gateway.field.publishes(10).await;
    let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
    let problems = status.problems();
    assert!(problems[0].contains("kinesis:PutRecords"), "{problems:?}");
    assert_eq!(status.count("/ledger/buffered"), 10);

    // A restart tries at once.
    gateway.agent.stops().await;
    gateway.agent.start();
    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn whatever_the_endpoint_answers_nothing_is_lost_or_in_disorder() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 3).window(200).starts().await;
    for failure in [
        Failure::InternalFailure,
        Failure::Unavailable,
        Failure::BadGateway,
        Failure::Garbage,
        Failure::TooFewRecords,
        Failure::RefuseEvery(2),
        Failure::Code("ThrottlingException"),
        Failure::ExpiredToken,
        Failure::CloseBeforeStore,
        Failure::Validation,
        Failure::StoreThenClose,
    ] {
        gateway.cloud.fail_next(1, failure);
    }

    for _ in 0..5 {
        gateway.field.publishes(200).await;
    }

    let repeats = gateway.everything_arrives().await;
    assert_eq!((repeats.marked, repeats.unmarked), (0, 0));
}
