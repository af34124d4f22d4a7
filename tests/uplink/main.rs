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

use std::{fs, sync::Arc};

use self::support::{
    certificates::Authority,
    gateway::{Gateway, Plan},
    line::Line,
};

/// Everything stands, the endpoint behind TLS; the agent believes its authority and does not run yet.
async fn installed(plan: Plan) -> Gateway {
    let office = Authority::new();
    let tls = Arc::new(office.server_config());
    let gateway = plan.cloud(|cloud| cloud.tls = Some(tls)).set("destinations.cloud.ca", "{dir}/office.pem").installs().await;
    fs::write(gateway.agent.dir().join("office.pem"), office.pem()).unwrap();
    gateway
}

/// The same, with a line between the agent and the endpoint.
async fn behind_a_line(plan: Plan) -> (Gateway, Line) {
    let mut gateway = installed(plan).await;
    let line = Line::to(gateway.cloud.address().port());
    let url = format!("https://127.0.0.1:{}", line.port());
    gateway.is_configured(|plan| plan.set("destinations.cloud.endpoint", url));
    (gateway, line)
}
