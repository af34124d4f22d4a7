//! One destination: what is known of the way there.
//!
//! Invariant: while a destination is out of reach, one request at a time goes there, as a probe, after waits that grow.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{
    lane::LONGEST_WAIT,
    outlet::{NotTaken, Outlet, on_a_thread},
    pace::Stride,
    sent::{Sent, each},
    stream::hold,
    turns::Turns,
};
use crate::{
    backoff::Backoff,
    clock,
    file::{Folder, FolderError},
    kinesis::{Answer, Class},
    status::{BEAT, Status, what_and_remedy, with_causes},
};

/// One destination.
pub(super) struct Destination {
    /// Under `[destinations]`.
    name: String,
    pub(super) outlet: Outlet,
    pub(super) stride: Stride,
    pub(super) turns: Turns,
    /// Requests on their way.
    pub(super) in_flight: usize,
    /// The last request was answered.
    open: bool,
    /// Set while it is out of reach.
    down: Option<Down>,
    /// When finished files are looked after; none while they are.
    tidy_at: Option<Instant>,
}

struct Down {
    backoff: Backoff,
    /// When it was last found to be so.
    since: Instant,
    retry_at: Instant,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Not before this.
    Closed(Instant),
    /// Not before the probe that is on its way has come to an end, which wakes us.
    Probed,
}

impl Destination {
    pub(super) fn new(name: String, outlet: Outlet, status: &Status) -> Self {
        status.link(&name, |link| {
            link.endpoint = outlet.endpoint();
            link.since = clock::now();
        });
        Self {
            name,
            outlet,
            stride: Stride::default(),
            turns: Turns::default(),
            in_flight: 0,
            open: false,
            down: None,
            tidy_at: Some(Instant::now()),
        }
    }

    /// Whether the last request was answered, so that the next one is likely to be.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn gate(&self, now: Instant) -> Gate {
        match &self.down {
            Some(down) if down.retry_at > now => Gate::Closed(down.retry_at),
            Some(_) if self.in_flight > 0 => Gate::Probed,
            _ => Gate::Open,
        }
    }

    /// What failed until now need not wait any longer.
    pub(super) fn try_at(&mut self, now: Instant) {
        if let Some(down) = &mut self.down {
            down.retry_at = now;
        }
    }

    /// A request that went at `started` found it out of reach.
    pub(super) fn is_away(&mut self, now: Instant, started: Instant, error: &NotTaken, random: f64, status: &Status) {
        // Requests that were on their way together fail together: that is one failure.
        if self.down.as_ref().is_none_or(|down| down.since <= started) {
            let mut backoff = self.down.as_ref().map_or(Backoff::up_to(LONGEST_WAIT), |down| down.backoff);
            self.stride.lost();
            let pause = match error.pause() {
                // Nobody is asked before that, so the next request would end as this one.
                Some(pause) => pause,
                None if error.class() == Class::Barred => hold(random),
                None => backoff.pause(random),
            };
            self.down = Some(Down { backoff, since: now, retry_at: now + pause });
            status.link(&self.name, |link| link.retry_at = Some(clock::now().after(pause)));
        }
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
        if !away {
            self.down = None;
        }
        if !matches!(result, Err(error) if away || !error.was_sent() || error.class() == Class::TooLarge) {
            self.turns.answered(bytes, self.stride.bytes(), took);
            self.stride.answered(bytes, took);
        }
        let tells = result.as_ref().err().is_none_or(NotTaken::tells_of_the_way);
        self.open = if tells { !away } else { self.open };
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
