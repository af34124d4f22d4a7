//! Kinesis as PyPI's `moto` understands it: it knows stream ARNs. Its shards end one hash key early, and after a split it goes on
//! filling the parent, so tests of resharding use [`super::kinesalite`].

use std::ops::Deref;

use tokio::process::Command;

use super::{in_repository, kinesalite::announced_port, kinesis::Endpoint, part::Part, python};

/// An endpoint of this test's own, in memory.
pub struct Moto {
    endpoint: Endpoint,
    part: Part,
}

impl Deref for Moto {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Moto {
    /// Starts it on a free port; it answers when this returns.
    pub async fn start() -> Self {
        let part = Part::start("moto", Command::new(python()).arg(in_repository("tests/emulator/moto_server.py")));
        Self { endpoint: Endpoint::on(announced_port(&part).await), part }
    }

    /// Stops it; requests to it fail from now on.
    pub async fn stop(mut self) {
        self.part.kill().await;
    }
}
