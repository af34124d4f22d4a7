//! The cloud answers, and says no.

use std::time::Duration;

use headwater::demo::kinesis::Failure;

use crate::support::{consumer::ONCE, gateway::Gateway, process::Picture};

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
    let says = |status: &Picture| status.count("/ledger/buffered") == 10 && !status.problems().is_empty();
    let problems = gateway.agent.shows("it has all, and says why they wait", says).await.problems();
    assert!(problems[0].contains("kinesis:PutRecords"), "{problems:?}");

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

// The rows of the specification's table "what happens when", by their names.

#[tokio::test]
async fn stream_missing_access_denied_kms_refused_the_data_stays_and_the_status_says_what_to_fix() {
    for (failure, name) in [
        (Failure::ResourceNotFound, "check `stream`"),
        (Failure::AccessDenied, "kinesis:PutRecords"),
        (Failure::Code("KMSDisabledException"), "KMS key"),
        (Failure::Code("KMSAccessDeniedException"), "KMS key"),
        (Failure::Code("ResourceInUseException"), "check `stream`"),
    ] {
        let mut gateway = Gateway::new().set("buffer.hold", "50ms").starts().await;
        gateway.cloud.fail_always(Some(failure));
        gateway.field.publishes(10).await;

        let says = |status: &Picture| status.count("/ledger/buffered") == 10 && !status.problems().is_empty();
        let status = gateway.agent.shows("it has all, and says why they wait", says).await;
        let problems = status.problems();
        assert!(problems[0].contains(name) && problems[0].contains("every minute"), "{failure:?}: {problems:?}");
        assert_eq!(status.text("/state"), "buffering");
        status.balances();
        let puts = gateway.cloud.counts().puts;
        gateway.field.publishes(10).await;
        gateway.holds(20).await;
        assert_eq!(gateway.cloud.counts().puts, puts, "{failure:?}: one attempt a minute, whatever arrives");

        gateway.cloud.fail_always(None);
        gateway.agent.stops().await;
        gateway.agent.start();
        assert_eq!(gateway.everything_arrives().await, ONCE);
    }
}

#[tokio::test]
async fn expired_or_refused_credentials_clock_skew_are_refreshed_at_once_and_then_as_access_denied() {
    for failure in [Failure::ExpiredToken, Failure::Code("UnrecognizedClientException"), Failure::Code("InvalidSignatureException")]
    {
        let mut gateway = Gateway::new().set("buffer.hold", "50ms").starts().await;
        gateway.cloud.fail_next(1, failure);
        gateway.field.publishes(10).await;
        assert_eq!(gateway.everything_arrives().await, ONCE, "{failure:?} passes with new credentials");
        assert!(gateway.agent.status().await.problems().is_empty());

        gateway.cloud.fail_always(Some(failure));
        gateway.field.publishes(10).await;
        let status = gateway.agent.shows("it says why", |status| !status.problems().is_empty()).await;
        assert!(status.problems()[0].contains("check `credentials`, `region` and this gateway's clock"), "{:?}", status.problems());
        assert_eq!((status.count("/ledger/buffered"), status.text("/state")), (10, "buffering"));
        status.balances();

        gateway.cloud.fail_always(None);
        gateway.agent.stops().await;
        gateway.agent.start();
        assert_eq!(gateway.everything_arrives().await, ONCE);
    }
}

#[tokio::test]
async fn some_records_of_a_put_records_refused_only_those_are_sent_again_before_anything_later_of_their_lane() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).window(200).starts().await;
    gateway.cloud.refuse_at_random(40.0, 3);

    for _ in 0..10 {
        gateway.field.publishes(200).await;
    }

    assert_eq!(gateway.everything_arrives().await, ONCE, "what was accepted is not sent again, and each lane is in order");
    let status = gateway.agent.status().await;
    let again: u64 = (0..4).map(|lane| status.count(&format!("/streams/readings/lanes/{lane}/retries"))).sum();
    assert_eq!(again, gateway.cloud.counts().refused_records);
    assert_eq!(status.count("/ledger/duplicated"), 0);
}

#[tokio::test]
async fn throughput_exceeded_throttling_the_lane_slows_down_and_nothing_counts_as_an_error() {
    let mut gateway = Gateway::new().window(200).starts().await;
    gateway.cloud.fail_next(2, Failure::RefuseEvery(1));
    gateway.cloud.fail_next(2, Failure::Code("ThrottlingException"));
    gateway.cloud.fail_next(1, Failure::Code("KMSThrottlingException"));
    gateway.field.publishes(100).await;
    let lane = "/streams/readings/lanes/0";
    let status = gateway.agent.shows("it is throttled", |status| status.count(&format!("{lane}/throttled")) == 5).await;
    let rate = status.count(&format!("{lane}/rate"));
    assert!((1..=1 << 20).contains(&rate), "{rate}");

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let status = gateway.agent.status().await;
    assert!(status.holds("/link/up") && status.problems().is_empty(), "{status:?}");
    assert!(!gateway.agent.log().contains("WARN"), "{}", gateway.agent.log());
}
