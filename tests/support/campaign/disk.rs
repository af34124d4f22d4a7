//! A disk that is full: a small file system of our own, which the buffer shares with nobody.

use tempfile::TempDir;

use super::Tally;
use crate::support::{disk::Disk, gateway::Gateway};

/// Less than half of what waits.
const MIB: u64 = 4;
const READINGS: u64 = 6000;
const PADDING: usize = 1500;

/// Lets the disk run full while the endpoint is away, cuts the power there, and accounts for every reading when it is back. Nothing is
/// done where nobody may mount.
pub async fn runs_full() -> Tally {
    let mut tally = Tally::default();
    let folder = TempDir::new().expect("a temp dir can be made");
    let Some(disk) = Disk::in_memory(folder.path(), MIB) else {
        println!("  a full disk: left out, since only root may mount a small file system");
        return tally;
    };
    let plan = Gateway::new().set("device.state_dir", disk.folder().display().to_string()).set("buffer.hold", "0s");
    let plan = plan.set("buffer.when_full", "block");
    let mut gateway = plan.starts().await;
    gateway.cloud.away();
    gateway.field.pads(PADDING);
    gateway.field.publishes(READINGS).await;
    let full = |problem: &String| problem.contains("the buffer is full and may not drop: sources wait");
    gateway.agent.shows("it misses the room", |status| status.problems().iter().any(full)).await;
    tally.inject("disk: full", 1);
    gateway.agent.power_off().await;
    tally.inject(super::KILL, 1);
    gateway.agent.start();
    gateway.cloud.back();
    let repeats = gateway.everything_arrives().await;
    gateway.agent.stops().await;
    (tally.sent, tally.delivered) = (gateway.field.total(), gateway.field.total());
    (tally.same_name, tally.marked, tally.not_ours) = (repeats.same_name, repeats.marked, repeats.unmarked);
    tally
}
