//! Waits for a disk that can't be used yet: full, read-only after an error, or not answering.
//!
//! To end would only let systemd start us again, without a page that says why. Nothing is taken from the sources meanwhile, so the broker
//! keeps what it can. Nor is anything sent: SQLite can't open a database that has a log where it can't write, neither lock it nor make
//! the log, and to read it without a lock and forget what was sent would send everything again after the next start.
//!
//! A disk that is only full does not come here: a buffer that exists opens without a write, or with the room of its reserve.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    AgentError,
    build::{Plan, open_buffer},
};
use crate::{
    buffer::Opened,
    clock::now,
    config::Config,
    status::{Status, what_and_remedy},
};

/// The part of the status that speaks for it; one that the buffer itself goes on with.
const PART: &str = "buffer";
/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(5);

/// Opens the buffer, as soon as that can be done; none when `stop` comes first. Errors: someone has to change something else first.
pub(super) async fn opened(
    config: &Config,
    plan: &Plan,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Option<Opened>, AgentError> {
    loop {
        match open_buffer(config, plan, status).await {
            Err(AgentError::Buffer(error)) if error.passes_by_itself() => {
                let (what, remedy) = what_and_remedy(&error);
                let remedy = format!("{remedy}; until then sources wait, and it is tried again every {} s", AGAIN.as_secs());
                status.lock().buffer.blocked = true;
                if status.problem(PART, now(), what.clone(), &remedy) {
                    warn!("{what}; {remedy}");
                }
            }
            opened => {
                status.lock().buffer.blocked = false;
                if status.solved(PART) {
                    info!("the buffer could be opened");
                }
                return opened.map(Some);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = sleep(AGAIN) => {}
        }
    }
}
