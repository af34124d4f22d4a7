//! `live-first`: what arrives now does not wait for what an outage has left, and a consumer that sorts by `seq` gets all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::support::{
    cloud::STREAM,
    consumer::{Previous, Reading},
    eventually,
    gateway::{Gateway, Plan},
};

const BACKLOG: u64 = 600;
/// A reading of the backlog: all of it takes a slow link half a minute, so that some of it waits when what is live is published.
const PADDING: usize = 2000;
const LIVE: u64 = 16;
const BYTES_PER_SECOND: u64 = 50_000;

/// A gateway whose memory is small, so that a backlog lies on its disk.
fn live_first() -> Plan {
    let plan = Gateway::new().set("streams.readings.drain_order", "live-first").window(200);
    plan.set("buffer.hold", "0s").set("buffer.memory", "1 MiB")
}

/// After an outage the backlog drains over a slow link, and has more left than one request.
async fn drains_a_backlog(plan: Plan) -> Gateway {
    let mut gateway = plan.starts().await;
    gateway.cloud.away();
    gateway.field.pads(PADDING);
    gateway.field.publishes(BACKLOG).await;
    gateway.holds(BACKLOG).await;
    gateway.field.pads(0);
    gateway.cloud.slow(Duration::from_millis(20), Some(BYTES_PER_SECOND));
    gateway.cloud.back();
    // By the third, the answer to the first is known, and what arrives is live.
    gateway.cloud.takes_records(STREAM, 3).await;
    gateway
}

/// Waits until everything is in the stream, over a fast link, and nothing waits. The readings in the order of their arrival, without
/// repeated ones.
async fn everything(gateway: &Gateway) -> Vec<Reading> {
    gateway.cloud.slow(Duration::from_millis(20), None);
    let sent = gateway.field.total();
    let readings = eventually("everything is there", async || {
        let mut names = BTreeSet::new();
        let mut readings = gateway.cloud.readings(STREAM);
        readings.retain(|reading| names.insert((reading.run.clone(), reading.lane.clone(), reading.seq)));
        if readings.len() as u64 == sent { Ok(readings) } else { Err(format!("{} of {sent}", readings.len())) }
    })
    .await;
    gateway.agent.shows("nothing waits", |status| status.count("/ledger/buffered") == 0).await.balances();
    readings
}

/// What a consumer makes of `readings`: each lane sorted by its runs, in the order in which they name each other, and by `seq`. Checks
/// that no number is missing, of names and of sensors.
fn sorted(readings: &[Reading]) {
    let mut lanes: BTreeMap<&str, BTreeMap<&str, BTreeMap<u64, &Reading>>> = BTreeMap::new();
    for reading in readings {
        lanes.entry(&reading.lane).or_default().entry(&reading.run).or_default().insert(reading.seq, reading);
    }
    for (lane, mut runs) in lanes {
        let mut sensors: BTreeMap<&str, u64> = BTreeMap::new();
        let mut last: Option<Previous> = None;
        while !runs.is_empty() {
            let known: Vec<&str> = runs.keys().copied().collect();
            let follows = |run: &BTreeMap<u64, &Reading>| match (&run[&0].prev, &last) {
                (Some(prev), Some(last)) => prev.run == last.run,
                (prev, None) => prev.as_ref().is_none_or(|prev| !known.contains(&prev.run.as_str())),
                (None, Some(_)) => false,
            };
            let name = *runs.iter().find(|(_, run)| follows(run)).unwrap_or_else(|| panic!("{lane}: none follows {last:?}")).0;
            let run = runs.remove(name).unwrap();
            assert!(run.keys().copied().eq(0..run.len() as u64), "{lane}, {name}: {:?}", run.keys());
            for reading in run.values() {
                let number = sensors.entry(&reading.topic).or_default();
                *number += 1;
                assert_eq!(reading.number(), *number, "{reading:?}");
            }
            last = Some(Previous { run: name.into(), seq: run.len() as u64 - 1 });
        }
    }
}

/// How many rising sequences the numbers of `readings` are woven of: 1 when they come in their order.
fn strands(readings: &[Reading]) -> usize {
    let mut ends: Vec<u64> = Vec::new();
    for reading in readings {
        // The strand whose end is nearest below.
        match ends.iter_mut().filter(|end| **end < reading.seq).max() {
            Some(end) => *end = reading.seq,
            None => ends.push(reading.seq),
        }
    }
    ends.len()
}

#[tokio::test]
async fn live_readings_arrive_before_a_backlog_has_drained_and_each_part_in_its_order() {
    let mut gateway = drains_a_backlog(live_first()).await;

    gateway.field.publishes(LIVE).await;

    let is_live = |reading: &Reading| reading.seq >= BACKLOG;
    eventually("what is live is there", async || {
        let readings = gateway.cloud.readings(STREAM);
        let live: BTreeSet<u64> = readings.iter().filter(|reading| is_live(reading)).map(|reading| reading.seq).collect();
        if live.len() as u64 == LIVE { Ok(()) } else { Err(format!("{} of {LIVE}", live.len())) }
    })
    .await;
    let readings = everything(&gateway).await;
    let last_live = readings.iter().rposition(is_live).unwrap();
    assert!(readings[last_live..].iter().any(|reading| !is_live(reading)), "a part of the backlog came later");
    assert_eq!(strands(&readings), 2);
    sorted(&readings);
}

#[tokio::test]
async fn a_second_outage_makes_what_was_live_a_part_of_the_backlog() {
    let mut gateway = drains_a_backlog(live_first()).await;

    gateway.cloud.away();
    gateway.field.pads(PADDING);
    gateway.field.publishes(BACKLOG).await;
    gateway.field.pads(0);
    let taken = gateway.cloud.look(|store| store.accepted(STREAM));
    gateway.cloud.back();
    gateway.cloud.takes_records(STREAM, taken + 4).await;
    gateway.field.publishes(LIVE).await;

    let readings = everything(&gateway).await;
    let last_live = readings.iter().rposition(|reading| reading.seq >= 2 * BACKLOG).unwrap();
    let behind = |from: u64| readings[last_live..].iter().filter(|reading| (from..from + BACKLOG).contains(&reading.seq)).count();
    assert!(behind(BACKLOG) > 0, "a part of the second outage's readings came later");
    assert!(strands(&readings) <= 3);
    sorted(&readings);
}

#[tokio::test]
async fn without_an_outage_a_live_first_lane_comes_in_its_order() {
    let mut gateway = live_first().set("streams.readings.lanes", 4).starts().await;
    gateway.cloud.refuse_at_random(25.0, 3);

    for _ in 0..5 {
        gateway.field.publishes(200).await;
    }

    assert_eq!(gateway.everything_arrives().await, crate::support::consumer::ONCE);
}

#[tokio::test]
async fn both_parts_survive_a_power_cut_while_they_drain() {
    let mut gateway = drains_a_backlog(live_first().set("streams.readings.lanes", 2)).await;

    for _ in 0..3 {
        gateway.field.publishes(LIVE).await;
        gateway.agent.power_off().await;
        gateway.agent.start();
        gateway.field.publishes(LIVE).await;
    }

    let readings = everything(&gateway).await;
    sorted(&readings);
}

#[tokio::test]
async fn a_stream_that_becomes_oldest_first_sends_all_parts_in_their_order() {
    let mut gateway = drains_a_backlog(live_first()).await;
    gateway.field.publishes(LIVE).await;
    // What the broker still has when the agent stops belongs to the next run.
    gateway.agent.shows("all of it is there", |status| status.count("/ledger/received") == BACKLOG + LIVE).await;
    gateway.cloud.away();

    gateway.agent.stops().await;
    gateway.is_configured(|plan| plan.set("streams.readings.drain_order", "oldest-first"));
    let before = gateway.cloud.readings(STREAM).len();
    gateway.agent.start();
    gateway.field.publishes(LIVE).await;
    gateway.cloud.back();

    let readings = everything(&gateway).await;
    sorted(&readings);
    let run = &readings[readings.len() - 1].run;
    let first_of_it = readings.iter().position(|reading| reading.run == *run).unwrap();
    assert_eq!(readings.len() - first_of_it, usize::try_from(LIVE).unwrap(), "all of the new run comes behind all of the old one");
    assert_eq!(strands(&readings[before..first_of_it]), 1);
}
