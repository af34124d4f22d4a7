//! What random campaigns of faults have found: each test is the shortest way to a defect that one of them met.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod full;
mod stopping;

use support::{eventually, mosquitto::Mosquitto};

/// Waits until the broker has the agent's subscription: what is published before goes nowhere.
async fn is_subscribed(broker: &Mosquitto) {
    eventually("the broker logs the subscription", async || {
        let log = broker.log();
        if log.contains("headwater-gw-1-broker 1 ") { Ok(()) } else { Err(log) }
    })
    .await;
}
