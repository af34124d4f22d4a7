//! The tasks of the agent: started by name, watched, and waited for.

use std::{collections::BTreeMap, time::Instant};

use tokio::{task::JoinSet, time::timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{AgentError, StageError};
use crate::status::with_causes;

/// The tasks of the agent, by name.
#[derive(Default)]
pub(super) struct Stages {
    tasks: JoinSet<(String, Result<(), StageError>)>,
    pub(super) running: BTreeMap<tokio::task::Id, String>,
}

impl Stages {
    pub(super) fn spawn(&mut self, name: &str, stage: impl Future<Output = Result<(), StageError>> + Send + 'static) {
        let owned = name.to_owned();
        let handle = self.tasks.spawn(async move { (owned, stage.await) });
        self.running.insert(handle.id(), name.to_owned());
    }

    /// Waits until `stop`, or until a stage ends without having been told to.
    pub(super) async fn early_end(&mut self, stop: &CancellationToken) -> Option<AgentError> {
        tokio::select! {
            // First, because a source may have ended for it by the time that we look.
            biased;
            () = stop.cancelled() => None,
            Some((stage, result)) = self.next() => Some(AgentError::Stage { stage, source: result.err() }),
        }
    }

    async fn next(&mut self) -> Option<(String, Result<(), StageError>)> {
        let (id, stage, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, (stage, result))) => (id, stage, result),
            Err(panic) => (panic.id(), self.running.get(&panic.id()).cloned().unwrap_or_default(), Err(StageError::Panic(panic))),
        };
        self.running.remove(&id);
        Some((stage, result))
    }

    /// Waits until all stages that `which` names have ended, until `deadline` at most.
    pub(super) async fn ended_within(&mut self, deadline: Instant, which: impl Fn(&str) -> bool) {
        while self.running.values().any(|stage| which(stage)) {
            let Ok(Some((stage, result))) = timeout_at(deadline.into(), self.next()).await else { return };
            if let Err(error) = result {
                error!(stage, "{}", with_causes(&error));
            }
        }
    }

    /// Ends whoever is still there, and names them.
    pub(super) async fn end(mut self) -> Vec<String> {
        let late = self.running.into_values().collect();
        self.tasks.shutdown().await;
        late
    }
}
