//! One destination: what is known of the way there, and what the status says of it.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{
    DestinationSettings,
    meter::Meter,
    outlet::{NotTaken, Outlet, on_a_thread},
    reach::Reach,
    sent::{Sent, each},
    stream::hold,
    stride::Stride,
    turns::Turns,
};
use crate::{
    clock,
    file::{Folder, FolderError},
    kinesis::{Answer, Class},
    status::{BEAT, Status, what_and_remedy, with_causes},
};

/// One destination.
pub(super) struct Destination {
    /// Under `[destinations]`.
    pub(super) name: String,
    pub(super) outlet: Outlet,
    pub(super) meter: Meter,
    pub(super) stride: Stride,
    pub(super) turns: Turns,
    pub(super) reach: Reach,
    /// When finished files are looked after; none while they are.
    tidy_at: Option<Instant>,
}

impl Destination {
    pub(super) fn new(DestinationSettings { name, outlet, meter }: DestinationSettings, status: &Status) -> Self {
        status.link(&name, |link| {
            link.endpoint = outlet.endpoint();
            link.since = clock::now();
        });
        meter.tell(&name, clock::now(), status);
        Self {
            name,
            outlet,
            meter,
            stride: Stride::default(),
            turns: Turns::default(),
            reach: Reach::default(),
            tidy_at: Some(Instant::now()),
        }
    }

    /// A request that went at `started` found it out of reach.
    pub(super) fn is_away(&mut self, now: Instant, started: Instant, error: &NotTaken, random: f64, status: &Status) {
        // Where a pause is known nobody is asked before, so the next request would end as this one.
        let known = error.pause().or_else(|| (error.class() == Class::Barred).then(|| hold(random)));
        if let Some(pause) = self.reach.lost(now, started, known, random) {
            self.stride.lost();
            status.link(&self.name, |link| link.retry_at = Some(clock::now().after(pause)));
        }
    }

    /// Whether others come back with us from the outage that lasts.
    pub(super) fn is_long_away(&self) -> bool {
        self.outlet.is_shared() && self.reach.is_long_away()
    }

    /// Of a request that was `expected` to have so many bytes, `sent` has left, or nothing.
    pub(super) fn left(&mut self, expected: usize, sent: &[Sent], result: &Result<Vec<Answer>, NotTaken>, status: &Status) {
        let left = !sent.is_empty() && result.as_ref().err().is_none_or(NotTaken::was_sent);
        let time = clock::now();
        self.meter.allowance.ended(time, expected, left.then(|| sent.iter().map(|sent| sent.bytes).sum()));
        self.meter.tell(&self.name, time, status);
    }

    /// Learns from a request, and puts what it tells of the link into the status.
    pub(super) fn count(&mut self, sent: &[Sent], result: &Result<Vec<Answer>, NotTaken>, took: Duration, status: &Status) {
        let bytes: usize = sent.iter().map(|sent| sent.bytes).sum();
        let away = matches!(result, Err(error) if error.class().is_away());
        let refused: usize = match result {
            Ok(answers) => each(sent, answers).map(|(sent, answers)| sent.refused(answers)).sum(),
            Err(error) if away || !error.was_sent() => 0,
            Err(_) => bytes,
        };
        let tells = result.as_ref().err().is_none_or(NotTaken::tells_of_the_way);
        if !away {
            self.reach.found(tells);
        }
        if !matches!(result, Err(error) if away || !error.was_sent() || error.class() == Class::TooLarge) {
            self.turns.answered(bytes, self.stride.bytes(), took);
            self.stride.answered(bytes, took);
        }
        let part = format!("link {}", self.name);
        let error = result.as_ref().err().filter(|_| away).map(|error| {
            let (what, remedy) = what_and_remedy(error);
            let text = format!("{what}; {remedy}");
            status.problem(&part, clock::now(), what, &remedy);
            text
        });
        if !away && tells {
            status.solved(&part);
        }
        self.tell_of_detour(status);
        let (endpoint, address) = (self.outlet.endpoint(), self.outlet.address());
        let uploaded = if result.as_ref().err().is_none_or(NotTaken::was_sent) { self.outlet.on_the_wire(bytes) } else { 0 };
        let mut changed = false;
        status.link(&self.name, |link| {
            changed = tells && (link.up == away || link.put.count == 0);
            if changed {
                link.since = clock::now();
            }
            if !tells {
                return;
            }
            link.up = !away;
            endpoint.clone_into(&mut link.endpoint);
            link.address = address;
            link.error.clone_from(&error);
            link.retry_at = None; // whoever is away is given a time afterwards
            link.refused += refused as u64;
            link.put.observe(took.as_secs_f64());
            link.uploaded += uploaded as u64;
        });
        match error {
            Some(error) if changed => warn!(destination = self.name, "{error}; readings wait in the buffer"),
            None if changed => info!(destination = self.name, "the way to {} is open", self.outlet.endpoint()),
            _ => {}
        }
    }

    /// Says which endpoints are not used although they come first.
    fn tell_of_detour(&self, status: &Status) {
        let part = format!("endpoints {}", self.name);
        let left = self.outlet.left();
        if left.is_empty() {
            if status.solved(&part) {
                info!(destination = self.name, endpoint = self.outlet.endpoint(), "the first endpoint is used again");
            }
            return;
        }
        let left: Vec<_> = left.into_iter().map(|(url, why)| format!("endpoint {url} can't be used: {why}")).collect();
        let what = format!("{}, so {} is used", left.join(", "), self.outlet.endpoint());
        let remedy = "see why; it is asked again every 1 to 15 minutes, and used again when it answers";
        if status.problem(&part, clock::now(), what.clone(), remedy) {
            warn!(destination = self.name, "{what}");
        }
    }

    /// Finishes the files that are old enough, from time to time; none when there is nothing to do now.
    pub(super) fn tidy(&mut self, now: Instant) -> Option<impl Future<Output = Result<(), FolderError>> + Send + 'static> {
        let Outlet::Folder(folder) = &self.outlet else { return None };
        self.tidy_at.take_if(|at| *at <= now)?;
        let folder = folder.clone();
        Some(async move { on_a_thread(&folder, move |folder| folder.tidy(now)).await })
    }

    /// What came of that.
    pub(super) fn is_tidy(&mut self, now: Instant, result: Result<(), FolderError>, status: &Status) {
        self.tidy_at = Some(now + BEAT);
        let part = format!("files {}", self.name);
        match result {
            Ok(()) => {
                status.solved(&part);
            }
            Err(error) => {
                let (what, remedy) = what_and_remedy(&error);
                if status.problem(&part, clock::now(), what.clone(), &remedy) {
                    warn!(destination = self.name, "{what}; {remedy}");
                }
            }
        }
    }

    /// Nothing more will be put.
    pub(super) async fn close(&mut self) {
        let Outlet::Folder(folder) = &self.outlet else { return };
        // What is not finished now is finished at the next start.
        if let Err(error) = on_a_thread(folder, Folder::close).await {
            warn!(destination = self.name, "{}", with_causes(&error));
        }
    }
}
