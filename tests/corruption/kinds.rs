//! What the gateway does about damage, whatever its kind.

use std::time::Duration;

use super::{
    files::Files,
    support::{eventually_within, gateway::Gateway, process::Picture},
};

/// Readings that wait when the damage is done; the sensors send one each after it.
pub const WAITING: u64 = 2_000;
const SENSORS: u64 = 8;
/// An agent that finds damage while it sends takes up to 10 s to end.
const LONGEST: Duration = Duration::from_secs(90);

/// How the agent ended before the damage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order: everything is in the database, and there is no log.
    Stop,
    /// By a power cut: the last of it is in the log.
    PowerCut,
}

/// A gateway whose agent has ended with [`WAITING`] readings on its disk, and is cut off from the cloud.
pub async fn full(end: End) -> (Gateway, Files) {
    let plan = Gateway::new().set("buffer.hold", "0s").set("buffer.max_size", "16 MiB").window(200);
    let plan = plan.broker(|broker| broker.setting("log_type", "all"));
    let mut gateway = plan.starts().await;
    gateway.cloud.away();
    gateway.field.pads(700);
    // In parts, so that a commit holds a part.
    for _ in 0..20 {
        gateway.field.publishes(WAITING / 20).await;
    }
    gateway.field.is_acknowledged(usize::try_from(WAITING).unwrap()).await;
    match end {
        End::Stop => gateway.agent.stops().await,
        End::PowerCut => gateway.agent.power_off().await,
    }
    let files = Files::of(&gateway.agent.dir().join("state"));
    (gateway, files)
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Readings that arrived, today's left out.
    pub arrived: u64,
    /// What the agent counts as lost since it was started last.
    pub lost: u64,
    /// Names that were left out between the first and the last of a lane, as the application sees it.
    pub missing: u64,
    /// The last status.
    pub status: Picture,
}

/// Starts the agent, again whenever it ends, as systemd does, and waits until everything that is left has arrived: each reading once,
/// and in order.
pub async fn recovers(gateway: &mut Gateway) -> Outcome {
    let outcome = goes_on(gateway).await;
    let repeats = gateway.cloud.consumer("plant-readings").repeats;
    // What was confirmed and not yet deleted comes again, under its name.
    assert_eq!((repeats.marked, repeats.unmarked), (0, 0));
    outcome
}

/// The same where readings of others may be among them.
pub async fn goes_on(gateway: &mut Gateway) -> Outcome {
    gateway.agent.start();
    gateway.cloud.back();
    gateway.field.publishes(SENSORS).await;
    let Gateway { field, cloud, agent, .. } = gateway;
    let status = eventually_within(LONGEST, "everything that is left is there", async || {
        agent.is_kept_running();
        let status = agent.try_status().await?;
        let salvaged = !status.problems().iter().any(|problem| problem.contains("so far"));
        let arrived = cloud.consumer("plant-readings").has_all_of(field.sent());
        if arrived && salvaged && status.count("/ledger/buffered") == 0 { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    status.balances();
    let missing = gateway.cloud.consumer("plant-readings").missing();
    let lost = status.count("/ledger/dropped/corrupt");
    let arrived = gateway.cloud.consumer("plant-readings").distinct() - SENSORS;
    Outcome { arrived, lost, missing, status }
}
