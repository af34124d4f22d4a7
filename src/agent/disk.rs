//! Waits for a disk that can't be used yet: full, read-only after an error, or not answering.
//!
//! To end would only let systemd start us again, without a page that says why. Nothing is taken from the sources meanwhile, so the broker
//! keeps what it can. Nor is anything sent: SQLite can't open a database that has a log where it can't write, neither lock it nor make
//! the log, and to read it without a lock and forget what was sent would send everything again after the next start.
//!
//! To systemd it is ready meanwhile, as it would be if the disk had failed a moment later. It ends only where that helps: where the disk is
//! well again, and this process alone still finds it read-only.
//!
//! A disk that is only full does not come here: a buffer that exists opens without a write, or with the room of its reserve.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    AgentError,
    build::{Plan, open_buffer},
    mount::is_read_only_for_us_alone,
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
    let folder = &config.device.state_dir;
    // Where it is so from the start, the unit or the mount has to be changed.
    let mut only_we_cannot = None;
    loop {
        match open_buffer(config, plan, status).await {
            Err(AgentError::Buffer(error)) if error.passes_by_itself() => {
                let (what, remedy) = what_and_remedy(&error);
                let remedy = format!("{remedy}; until then sources wait, and it is tried again every {} s", AGAIN.as_secs());
                let only_we = is_read_only_for_us_alone(folder);
                if told(status, &what, &remedy) {
                    warn!("{what}; {remedy}");
                }
                // An attempt that hangs is a stuck stage from now on.
                status.beat(PART, Instant::now());
                if only_we_cannot.replace(only_we) == Some(false) && only_we {
                    return Err(AgentError::ReadOnlyView { path: folder.clone() });
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

/// Says that the buffer does not open, and why, in one moment; `true` when that is news.
fn told(status: &Status, what: &str, remedy: &str) -> bool {
    let mut state = status.lock();
    state.buffer.blocked = true;
    state.problem(PART, now(), what.to_owned(), remedy)
}
