//! The way to the cloud, end to end: the real agent and the real command, over TLS, on lines that are cut, slow, silent or lying.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod credentials;
mod faults;
mod lines;
mod online;

use self::support::{
    gateway::{Gateway, Plan},
    line::Line,
};

/// Everything stands, with a line between the agent and the endpoint; the agent does not run yet.
async fn behind_a_line(plan: Plan) -> (Gateway, Line) {
    let mut gateway = plan.installs().await;
    let line = Line::to(gateway.cloud.address().port());
    let url = format!("https://127.0.0.1:{}", line.port());
    gateway.is_configured(|plan| plan.set("destinations.cloud.endpoint", url));
    (gateway, line)
}
