//! Where records go, and what is known of the way there.
//!
//! Invariant: while a destination is out of reach, one request at a time goes there, as a probe, after waits that grow.

use std::{
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    lane::LONGEST_WAIT,
    pace::{Stride, base64_len},
    pack::Form,
    sent::{Sent, each},
    stream::hold,
    turns::Turns,
};
use crate::{
    backoff::Backoff,
    clock,
    kinesis::{Answer, Class, Client, Firehose, HeldCredentials, PutError, Record, ServiceClock, limits},
    status::{Status, what_and_remedy},
};

/// Asks an endpoint whether it is back; the outlet itself learns the answer.
pub(super) type Look = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What takes records; cheap to clone.
#[derive(Clone, Debug)]
pub enum Outlet {
    /// Amazon Kinesis Data Streams.
    Kinesis(Client),
    /// Amazon Data Firehose.
    Firehose(Firehose),
}

impl Outlet {
    /// Where it is, for people: a URL.
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Kinesis(client) => client.endpoint(),
            Self::Firehose(client) => client.endpoint(),
        }
    }

    /// The address that it was reached at, or tried at, last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Kinesis(client) => client.address(),
            Self::Firehose(client) => client.address(),
        }
    }

    /// Endpoints before that one, and why they are not used.
    fn left(&self) -> Vec<(&str, String)> {
        match self {
            Self::Kinesis(client) => client.left(),
            Self::Firehose(client) => client.left(),
        }
    }

    /// When an endpoint that was left should be asked whether it is back: the question, to be asked beside the readings.
    pub(super) fn look(&self, target: &str, now: Instant) -> Option<Look> {
        match self {
            Self::Kinesis(client) => client.look(target, now).map(|look| Box::pin(look) as Look),
            Self::Firehose(client) => client.look(target, now).map(|look| Box::pin(look) as Look),
        }
    }

    /// What a record is there.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::Kinesis(_) => Form::Aggregate,
            Self::Firehose(_) => Form::Joined { most: limits::FIREHOSE_MAX_LINES, largest: limits::FIREHOSE_MAX_RECORD.as_len() },
        }
    }

    /// Set where it makes a difference whether readings travel together.
    pub(super) fn kinesis(&self) -> Option<&Client> {
        match self {
            Self::Kinesis(client) => Some(client),
            Self::Firehose(_) => None,
        }
    }

    /// Most bytes in one request, unless one reading alone has more.
    pub(super) fn max_request(&self) -> usize {
        match self {
            Self::Kinesis(_) => limits::MAX_REQUEST.as_len() / 2, // half of what the service takes
            Self::Firehose(_) => limits::FIREHOSE_MAX_REQUEST.as_len(),
        }
    }

    /// What its requests are signed with, and at what time.
    pub(crate) fn signing(&self) -> (HeldCredentials, ServiceClock) {
        match self {
            Self::Kinesis(client) => client.signing(),
            Self::Firehose(client) => client.signing(),
        }
    }

    /// One request, over within `timeout`. The answers are in the order of `records`, and as many.
    pub(super) async fn put(&self, target: &str, records: Vec<Record>, timeout: Duration) -> Result<Vec<Answer>, PutError> {
        match self {
            Self::Kinesis(client) => client.put(target, records, timeout).await,
            Self::Firehose(client) => client.put(target, records.into_iter().map(|record| record.data).collect(), timeout).await,
        }
    }
}

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
            outlet.endpoint().clone_into(&mut link.endpoint);
            link.since = clock::now();
        });
        Self { name, outlet, stride: Stride::default(), turns: Turns::default(), in_flight: 0, open: false, down: None }
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
    pub(super) fn is_away(&mut self, now: Instant, started: Instant, error: &PutError, random: f64, status: &Status) {
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
    pub(super) fn count(&mut self, sent: &[Sent], result: &Result<Vec<Answer>, PutError>, took: Duration, status: &Status) {
        let bytes: usize = sent.iter().map(|sent| sent.bytes).sum();
        let away = matches!(result, Err(error) if error.class().is_away());
        let refused: usize = match result {
            Ok(answers) => each(sent, answers).map(|(sent, answers)| sent.refused(answers)).sum(),
            Err(error) if away || error.was_not_sent() => 0,
            Err(_) => bytes,
        };
        if !away {
            self.down = None;
        }
        if !matches!(result, Err(error) if away || error.was_not_sent() || error.class() == Class::TooLarge) {
            self.turns.answered(bytes, self.stride.bytes(), took);
            self.stride.answered(bytes, took);
        }
        // Without credentials nothing may have been sent, and the link is as it was.
        let tells = !matches!(result, Err(error) if !away && (error.was_not_sent() || error.class() == Class::Credentials));
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
            if !matches!(result, Err(error) if error.was_not_sent()) {
                link.uploaded += base64_len(bytes) as u64;
            }
        });
        match error {
            Some(error) if changed => warn!(destination = self.name, "{error}; readings wait in the buffer"),
            None if changed => info!(destination = self.name, "the way to the cloud is open"),
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
}
