//! A disk that is full: a small file system of our own, which the buffer shares with nobody.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::Tally;
use crate::support::gateway::Gateway;

/// Less than half of what waits.
const MIB: u64 = 4;
const READINGS: u64 = 6000;
const PADDING: usize = 1500;

/// Lets the disk run full while the endpoint is away, cuts the power there, and accounts for every reading when it is back. Nothing is
/// done where nobody may mount.
pub async fn runs_full() -> Tally {
    let mut tally = Tally::default();
    let Some(disk) = Disk::mounted() else {
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

/// A file system in memory; it goes when this is dropped.
pub struct Disk(TempDir);

impl Disk {
    /// None where nobody may mount.
    pub fn mounted() -> Option<Self> {
        let folder = TempDir::new().ok()?;
        let size = format!("size={MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output().ok()?;
        mounted.status.success().then_some(Self(folder))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a process that was killed a moment ago may still hold it.
        let _ended = Command::new("umount").arg("-l").arg(self.folder()).output();
    }
}
