//! The cloud answers, and says no.

use std::time::Duration;

use headwater::demo::kinesis::Failure;

use crate::support::{cloud::STREAM, consumer::ONCE, gateway::Gateway, process::Picture};

/// Bytes a second of a lane that was refused again and again: what one shard leaves each of 2,000.
const LEAST_RATE: u64 = 512;
/// Bytes of a record of such a lane, at most: a shard takes a thousand of 1,024 a second, and the aggregate's frame is around it.
const LEAST_RECORD: usize = 1500;

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
    assert_eq!(gateway.cloud.call_off_failures(), 0, "there was time for each");
    // What was stored before the answer was lost came again, and was said to.
    let may_be = gateway.agent.status().await.count("/ledger/duplicated");
    assert!(0 < repeats.same_name && repeats.same_name <= may_be, "{} twice, {may_be} said to be", repeats.same_name);
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
        // Whatever has to wait is told.
        assert!(!gateway.agent.log().contains("WARN"), "{failure:?}: {}", gateway.agent.log());

        gateway.cloud.fail_always(Some(failure));
        let puts = gateway.cloud.counts().puts;
        gateway.field.publishes(10).await;
        let says = |status: &Picture| status.count("/ledger/buffered") == 10 && !status.problems().is_empty();
        let status = gateway.agent.shows("it has all, and says why they wait", says).await;
        assert!(status.problems()[0].contains("check `credentials`, `region` and this gateway's clock"), "{:?}", status.problems());
        assert_eq!(status.text("/state"), "buffering");
        status.balances();
        gateway.field.publishes(10).await;
        gateway.holds(20).await;
        assert_eq!(gateway.cloud.counts().puts - puts, 2, "{failure:?}: once more at once, and then one attempt a minute");

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
    let refused = gateway.cloud.counts().refused_records;
    assert!(refused > 0);
    assert_eq!(status.of_lanes("readings", "retries"), refused);
    assert_eq!(status.count("/ledger/duplicated"), 0);
}

#[tokio::test]
async fn throughput_exceeded_throttling_the_lane_slows_down_and_nothing_counts_as_an_error() {
    let mut gateway = Gateway::new().window(200).starts().await;
    for failure in [Failure::RefuseEvery(1), Failure::Code("ThrottlingException"), Failure::Code("KMSThrottlingException")] {
        gateway.cloud.fail_next(1, failure);
    }
    gateway.cloud.fail_always(Some(Failure::RefuseEvery(1)));
    gateway.field.publishes(40).await;
    let lane = |status: &Picture, what: &str| status.count(&format!("/streams/readings/lanes/0/{what}"));
    // Each refusal takes a part of it, and none raises it.
    let slow = |status: &Picture| lane(status, "throttled") >= 4 && lane(status, "rate") == LEAST_RATE;
    let status = gateway.agent.shows("the lane is as slow as a lane can be", slow).await;
    assert_eq!(status.count("/ledger/buffered"), 40);

    gateway.cloud.fail_always(None);
    assert_eq!(gateway.everything_arrives().await, ONCE);
    let sizes: Vec<usize> = gateway.cloud.received(STREAM).iter().map(|record| record.data.len()).collect();
    assert!(sizes.len() > 1 && sizes[0] <= LEAST_RECORD, "what comes first is small, and no burst of all that waits: {sizes:?}");
    let status = gateway.agent.shows("the lane climbs again", |status| lane(status, "rate") > LEAST_RATE).await;
    assert!(status.holds("/link/up") && status.problems().is_empty(), "{status:?}");
    assert!(!gateway.agent.log().contains("WARN"), "{}", gateway.agent.log());
}
