//! Kinesis as npm's `kinesalite` understands it: strict about requests, right about splits and merges. It knows no stream ARNs and
//! throttles nobody.

use std::ops::Deref;

use serde_json::Value;
use tokio::process::Command;

use super::{certificates::OFFICE, in_repository, kinesis::Endpoint, part::Part};

/// An endpoint of this test's own, in memory.
pub struct Kinesalite {
    endpoint: Endpoint,
    part: Part,
}

impl Deref for Kinesalite {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Kinesalite {
    /// Starts it on a free port, behind TLS; it answers when this returns.
    pub async fn start() -> Self {
        in_repository("tests/emulator/node_modules/kinesalite");
        let script = in_repository("tests/emulator/kinesalite.js");
        let child = Part::start("kinesalite", Command::new("node").arg(script).env("SERVER_PEM", &OFFICE.server));
        Self { endpoint: Endpoint::on(announced_port(&child).await), part: child }
    }

    /// Stops it; requests to it fail from now on.
    pub async fn stop(mut self) {
        self.part.kill().await;
    }
}

/// The port that an emulator says it listens on, in the line of JSON that it prints when it is ready.
pub(super) async fn announced_port(part: &Part) -> u16 {
    let ready = part.out.line_with("\"port\"").await;
    let ready: Value = serde_json::from_str(&ready).expect("the line is JSON");
    ready["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port")
}
