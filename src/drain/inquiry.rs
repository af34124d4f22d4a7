//! Asks streams how they distribute records, and tells people what follows.

use std::{future::Future, pin::Pin, time::Instant};

use tracing::{debug, info, warn};

use super::{
    Drain,
    distribution::{Step, Told, Trail},
};
use crate::{
    clock,
    kinesis::{DescribeError, StreamSummary},
    status::{what_and_remedy, with_causes},
};

/// A question on its way, and the place of its stream.
pub(super) type Inquiry = Pin<Box<dyn Future<Output = (usize, Result<StreamSummary, DescribeError>)> + Send>>;

impl Drain {
    /// Whether a request may go before more is known of its stream. Asks where it has to.
    pub(super) fn may_send(&mut self, now: Instant, index: usize, hurry: bool) -> bool {
        let step = self.streams[index].distribution.step(now, hurry);
        if matches!(step, Step::Ask | Step::Send { ask: true }) {
            self.inquire(index);
        }
        matches!(step, Step::Send { .. })
    }

    fn inquire(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let destination = &mut self.destinations[stream.destination];
        let Some(client) = destination.outlet.kinesis().cloned() else { return };
        stream.distribution.asked();
        destination.in_flight += 1;
        let target = stream.target.clone();
        self.inquiries.push(Box::pin(async move { (index, client.describe(&target).await) }));
    }

    pub(super) fn told(&mut self, index: usize, result: &Result<StreamSummary, DescribeError>) {
        let stream = &mut self.streams[index];
        self.destinations[stream.destination].in_flight -= 1;
        let part = format!("aggregation {}", stream.name);
        let told = match result {
            Ok(summary) => {
                self.status.solved(&part);
                Told::Is(summary.distribution)
            }
            Err(error @ DescribeError::Denied { .. }) => {
                let (what, remedy) = what_and_remedy(error);
                let remedy = format!(
                    "{remedy}; or set aggregation = \"on\" if the stream never distributes records itself, or \"off\". Until then \
                     aggregates are sent, and should it begin to, consumers on KCL lose those up to the first answers that show it"
                );
                if self.status.problem(&part, clock::now(), what.clone(), &remedy) {
                    warn!(stream = stream.name, "{what}; {remedy}");
                }
                Told::Denied
            }
            Err(error) => {
                debug!(stream = stream.name, "{}", with_causes(error));
                Told::Nothing
            }
        };
        stream.distribution.told(Instant::now(), told, (self.random)());
        self.tell_of_aggregation(index);
    }

    /// Tells how readings travel, where that has changed.
    pub(super) fn tell_of_aggregation(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let (on, why) = (stream.distribution.aggregates(), stream.distribution.why());
        if self.status.aggregation(&stream.name, on, why) {
            stream.lanes.iter_mut().for_each(|lane| lane.trail = Trail::default());
            let how = if on { "together, as aggregates" } else { "one by one" };
            info!(stream = stream.name, "readings travel {how}: {why}");
        }
    }
}
