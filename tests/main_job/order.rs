//! The order of a lane, through everything that can upset one.

use crate::support::{consumer::ONCE, gateway::Gateway};

#[tokio::test]
async fn lanes_keep_their_order_while_a_quarter_of_all_records_is_refused() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).window(200).starts().await;
    gateway.cloud.refuse_at_random(25.0, 11);

    for _ in 0..10 {
        gateway.field.publishes(300).await;
    }

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let (refused, status) = (gateway.cloud.counts().refused_records, gateway.agent.status().await);
    assert!(refused > 0);
    assert_eq!((status.of_lanes("readings", "retries"), status.of_lanes("readings", "throttled")), (refused, 0));
}

#[tokio::test]
async fn lanes_keep_their_order_while_shards_throttle() {
    let mut gateway = Gateway::new()
        .set("streams.readings.lanes", 2)
        .cloud(|cloud| cloud.limits = Some(headwater::demo::kinesis::Limits::SERVICE.times(0.1)))
        .window(200)
        .starts()
        .await;
    gateway.field.pads(3000);

    gateway.field.publishes(1000).await;

    assert_eq!(gateway.everything_arrives().await, ONCE);
    let (refused, status) = (gateway.cloud.counts().refused_records, gateway.agent.status().await);
    assert!(refused > 0);
    assert_eq!((status.of_lanes("readings", "retries"), status.of_lanes("readings", "throttled")), (refused, refused));
    assert_eq!(status.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn lanes_keep_their_order_through_restarts_of_the_agent_and_refused_records() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).set("buffer.hold", "100ms").starts().await;
    gateway.cloud.refuse_at_random(30.0, 12);

    for round in 0..4 {
        let Gateway { field, agent, .. } = &mut gateway;
        tokio::join!(field.publishes(500), async {
            agent.shows("it takes readings", |status| status.count("/sources/broker/received") > 100).await;
            if round % 2 == 0 {
                agent.stops().await;
            } else {
                agent.power_off().await;
            }
            agent.start();
        });
    }

    assert_eq!(gateway.everything_arrives().await.unmarked, 0);
}

#[tokio::test]
async fn lanes_keep_their_order_and_readings_come_once_when_the_broker_is_reconnected() {
    let mut gateway = Gateway::new().through_a_cable().starts().await;

    for round in 0..5 {
        let Gateway { field, agent, .. } = &mut gateway;
        let cable = field.cable.take().unwrap();
        tokio::join!(field.publishes(1000), async {
            agent.shows("it takes more", |status| status.count("/sources/broker/received") > 1000 * round + 300).await;
            cable.is_cut();
        });
        field.cable = Some(cable);
    }

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert!(gateway.agent.status().await.count("/sources/broker/repeated") > 0);
}

#[tokio::test]
async fn when_the_number_of_lanes_changes_the_old_ones_drain_first() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 3).starts().await;
    gateway.cloud.away();
    gateway.field.publishes(300).await;
    gateway.holds(300).await;

    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.set("streams.readings.lanes", 2));
    gateway.agent.start();
    gateway.field.publishes(300).await;
    gateway.holds(600).await;
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn when_the_number_of_lanes_changes_back_what_came_between_keeps_its_turn() {
    let mut gateway = Gateway::new().set("streams.readings.lanes", 4).starts().await;
    gateway.cloud.away();
    gateway.field.publishes(300).await;
    gateway.holds(300).await;

    for (lanes, readings) in [(2, 600), (4, 900)] {
        gateway.agent.stops().await;
        gateway.is_configured(|plan| plan.set("streams.readings.lanes", lanes));
        gateway.agent.start();
        gateway.field.publishes(300).await;
        gateway.holds(readings).await;
    }
    gateway.cloud.back();

    assert_eq!(gateway.everything_arrives().await, ONCE);
}

#[tokio::test]
async fn a_stream_that_is_renamed_keeps_what_it_has_under_its_old_name_until_that_is_back() {
    let mut gateway = Gateway::new().starts().await;
    gateway.cloud.away();
    gateway.field.publishes(100).await;
    gateway.holds(100).await;

    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.without("streams.readings").stream("renamed", "plant-renamed"));
    gateway.cloud.create_stream("plant-renamed", 1);
    gateway.agent.start();
    gateway.field.is_listened_to().await;
    gateway.cloud.back();
    gateway.field.publishes(60).await;
    let new = |status: &crate::support::process::Picture| status.count("/streams/renamed/ledger/delivered");
    let status = gateway.agent.shows("the new name drains", |status| new(status) == 60).await;
    assert!(status.holds("/streams/readings/orphaned"), "{status:?}");
    assert_eq!(status.count("/streams/readings/ledger/buffered"), 100);
    status.balances();
    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.without("streams.renamed").stream("readings", crate::support::cloud::STREAM));
    gateway.agent.start();

    gateway.agent.shows("the old name drains", |status| status.count("/streams/readings/ledger/delivered") == 100).await;
    let old: Vec<u64> = gateway.cloud.readings(crate::support::cloud::STREAM).iter().map(|reading| reading.seq).collect();
    assert_eq!(old, (0..100).collect::<Vec<_>>());
    assert_eq!(gateway.cloud.readings("plant-renamed").len(), 60);
}

#[tokio::test]
async fn a_stream_that_left_the_configuration_keeps_what_it_has_until_it_is_back() {
    let mut gateway = Gateway::new().stream("copies", "plant-copies").starts().await;
    gateway.cloud.create_stream("plant-copies", 1);
    gateway.cloud.away();
    gateway.field.publishes(100).await;
    gateway.holds(200).await;

    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.without("streams.copies"));
    gateway.agent.start();
    gateway.cloud.back();
    let status = gateway.agent.shows("the other one drains", |status| status.count("/ledger/buffered") == 100).await;
    assert!(status.holds("/streams/copies/orphaned"), "{status:?}");
    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.stream("copies", "plant-copies"));
    gateway.agent.start();

    assert_eq!(gateway.everything_arrives().await, ONCE);
    assert_eq!(gateway.everything_is_in("plant-copies").await, ONCE);
}
