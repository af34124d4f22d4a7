//! Asks streams how they distribute records, and tells people what follows.

use std::{future::Future, pin::Pin, time::Instant};

use tracing::{debug, info, warn};

use super::{
    Drain,
    distribution::{Step, Told, Trail},
    outlet::NotTaken,
    stream::Next,
};
use crate::{
    clock,
    kinesis::{DescribeError, StreamSummary},
    status::{what_and_remedy, with_causes},
};

/// A question on its way.
pub(super) type Inquiry = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What came back.
pub(super) struct Reply {
    stream: usize,
    started: Instant,
    result: Result<StreamSummary, DescribeError>,
}

impl Drain {
    /// What has to happen before a request, if anything has. Asks where that is due.
    pub(super) fn first(&mut self, now: Instant, index: usize, hurry: bool) -> Option<Next> {
        let stream = &self.streams[index];
        let open = self.destinations[stream.destination].reach.is_open();
        match stream.distribution.step(now, hurry, open) {
            Step::Send { ask: false } => None,
            Step::Send { ask: true } => {
                self.inquire(now, index);
                None
            }
            Step::Ask => {
                self.inquire(now, index);
                Some(Next::Idle) // the answer wakes us
            }
            Step::Wait(until) => Some(until.map_or(Next::Idle, Next::Wait)),
        }
    }

    fn inquire(&mut self, started: Instant, index: usize) {
        let stream = &mut self.streams[index];
        let destination = &mut self.destinations[stream.destination];
        let Some(client) = destination.outlet.kinesis().cloned() else { return };
        stream.distribution.asked();
        destination.reach.in_flight += 1;
        let target = stream.target.clone();
        self.inquiries.push(Box::pin(async move {
            let result = client.describe(&target).await;
            Reply { stream: index, started, result }
        }));
    }

    pub(super) fn replied(&mut self, Reply { stream: index, started, result }: Reply) {
        let now = Instant::now();
        let stream = &mut self.streams[index];
        self.destinations[stream.destination].reach.in_flight -= 1;
        let part = format!("aggregation {}", stream.name);
        let told = match &result {
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
            Err(error @ DescribeError::Unknown { .. }) => {
                debug!(stream = stream.name, "{}", with_causes(error));
                Told::Nothing
            }
            Err(DescribeError::Failed(_)) => Told::Failed,
        };
        let first = stream.distribution.is_unknown();
        stream.distribution.told(now, told, (self.random)());
        match result {
            // Nothing goes out before the question is answered, so it tells what a put would. Later on, puts do.
            Err(DescribeError::Failed(error)) if first => {
                let destination = stream.destination;
                let result = Err(NotTaken::from(error));
                self.destinations[destination].count(&[], &result, now - started, &self.status);
                if let Err(error) = &result {
                    self.failed(now, started, index, &[], error);
                }
            }
            _ => self.tell_of_aggregation(index),
        }
    }

    /// Tells how readings travel, where that has changed.
    pub(super) fn tell_of_aggregation(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let Some((on, why)) = stream.distribution.says() else { return };
        if self.status.aggregation(&stream.name, on, why) {
            stream.lanes.iter_mut().for_each(|lane| lane.trail = Trail::default());
            let how = if on { "together, as aggregates" } else { "one by one" };
            info!(stream = stream.name, "readings travel {how}: {why}");
        }
    }
}
