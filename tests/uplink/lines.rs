//! Lines that break, fall silent, or are thin and far.

use std::time::Duration;

use crate::{
    behind_a_line,
    support::{
        clock_now,
        consumer::ONCE,
        gateway::Gateway,
        left_out,
        line::Line,
        namespaces::{CLOUD, Namespaces},
        process::Picture,
    },
};

/// 64 kbit/s.
const THIN: u64 = 8_000;
/// Of 800 ms there and back.
const FAR: Duration = Duration::from_millis(400);
/// What such a line takes for all that a test sends.
const PATIENCE: Duration = Duration::from_mins(4);

/// A request that nothing comes back on is waited for at least twice as long, in milliseconds.
const PROBE: u64 = 5000;

#[tokio::test]
async fn uplink_or_endpoint_away_sources_go_on_one_probe_at_a_time_goes_and_the_first_success_resumes_slowly() {
    let plan = Gateway::new().with_scale().stream("copies", "plant-copies").set("streams.readings.lanes", 4);
    // With "auto" each stream is asked how it distributes records, by a request of its own.
    let plan = plan.set("streams.readings.aggregation", "on").set("streams.copies.aggregation", "on");
    let (mut gateway, line) = behind_a_line(plan).await;
    gateway.cloud.create_stream("plant-copies", 1);
    line.breaks();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(20).await;
    gateway.field.weighs(20).await;
    gateway.holds(20 + 20 + 20).await;
    let waits = |status: &Picture| status.text("/state") == "buffering" && status.holds_a("/link/retry_at");
    let status = gateway.agent.shows("that it is away, and when it is tried again", waits).await;
    assert_eq!([status.text("/sources/broker/state"), status.text("/sources/scale/state")], ["connected"; 2]);
    let wait = status.count("/link/retry_at").saturating_sub(status.count("/clock/now"));
    assert!(wait <= 60_000, "{wait} ms");

    // Five lanes of two streams have something; while one request waits for its answer, none of the others goes.
    let tried = line.tries().len();
    line.falls_silent();
    let silent = clock_now();
    line.is_tried(tried + 1).await;
    gateway.field.pads(1000);
    gateway.field.publishes(1000).await;
    gateway.field.weighs(50).await;
    gateway.holds(60 + 1000 + 1000 + 50).await;
    let probes: Vec<u64> = line.tries().into_iter().filter(|at| *at > silent).collect();
    assert!(probes.windows(2).all(|pair| pair[1] - pair[0] > PROBE), "{probes:?}");
    line.is_mended();

    gateway.agent.shows_within(PATIENCE, "nothing waits", |status| status.count("/ledger/buffered") == 0).await;
    assert_eq!(gateway.everything_is_in("plant-readings").await, ONCE);
    gateway.cloud.consumer("plant-copies").lacks_nothing();
    assert_eq!(gateway.agent.status().await.text("/state"), "sending");
    let sizes: Vec<usize> = gateway.cloud.received("plant-copies").iter().map(|record| record.data.len()).collect();
    assert!(2 * sizes[0] < *sizes.iter().max().unwrap(), "the first is small, and they grow: {sizes:?}");
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_line_that_breaks_is_not_tried_before_the_time_that_the_status_names() {
    let (mut gateway, line) = behind_a_line(Gateway::new()).await;
    line.breaks();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(10).await;

    // Waits are random parts of one that doubles, so one of the first four is long enough to be seen.
    for _ in 0..4 {
        let status = gateway.agent.shows("when it tries again", |status| status.holds_a("/link/retry_at")).await;
        let (promised, before) = (status.count("/link/retry_at"), line.tries().len());
        line.is_tried(before + 1).await;
        let next = line.tries()[before];
        assert!(next >= promised, "tried at {next}, and not before {promised} was promised");
    }

    line.is_mended();
    gateway.everything_arrives().await;
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_line_that_falls_silent_under_a_request_costs_a_repetition_and_no_reading() {
    let (mut gateway, line) = behind_a_line(Gateway::new()).await;
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(100).await;
    gateway.everything_arrives().await;
    let memory = gateway.agent.resident();

    line.falls_silent();
    gateway.field.publishes(100).await;
    let status = gateway.agent.shows("that nothing comes back", |status| !status.text("/link/error").is_empty()).await;
    assert!(!status.holds("/link/up"), "{status:?}");
    status.balances();
    line.is_mended();

    gateway.everything_arrives().await;
    let grown = gateway.agent.resident().saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes more than before");
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_backlog_drains_over_a_thin_and_far_line() {
    let (mut gateway, line) = behind_a_line(Gateway::new()).await;
    line.breaks();
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.field.publishes(200).await;
    gateway.holds(200).await;

    line.is_slow(THIN, FAR);
    line.is_mended();

    gateway.agent.shows_within(PATIENCE, "nothing waits", |status| status.count("/ledger/buffered") == 0).await;
    gateway.everything_arrives().await;
    gateway.agent.stops().await;
}

#[tokio::test]
async fn a_backlog_drains_over_a_network_that_is_thin_and_far_and_loses_packets() {
    let network = match Namespaces::new() {
        Ok(network) => network,
        Err(why) => return left_out(&format!("no namespaces here, so the line of the test above has to do: {why}")),
    };
    if let Err(why) = network.is_thin(64, 5) {
        return left_out(&format!("this kernel can't shape, so the line of the test above has to do: {why}"));
    }
    // The field is reached by a serial line: there is no broker in the gateway's namespace.
    let mut gateway = Gateway::new().with_scale().set("sources.broker.enabled", false).installs().await;
    let line = Line::from(network.listens(), gateway.cloud.address().port());
    line.is_slow(u64::MAX, FAR);
    gateway.is_configured(|plan| {
        plan.set("destinations.cloud.endpoint", format!("https://localhost:{}", line.port()))
            .set("destinations.cloud.resolve.localhost", vec![CLOUD.to_string()])
    });
    gateway.agent.is_started_by(network.prefix());
    line.breaks();
    gateway.agent.start();
    gateway.field.weighs(200).await;
    gateway.holds(200).await;

    line.is_mended();

    let status = gateway.agent.shows_within(PATIENCE, "nothing waits", |status| status.count("/ledger/buffered") == 0).await;
    assert!(status.text("/link/address").starts_with(&CLOUD.to_string()), "{status:?}");
    gateway.everything_arrives().await;
    gateway.agent.stops().await;
}
