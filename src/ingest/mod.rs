//! Stage 2 of 5: the only door into the buffer.
//!
//! Routes each reading to its streams, encodes it into the open chunk of its lane, and seals all chunks together. A source may
//! acknowledge a reading when it is safe in every stream: its receipt is a number that the buffer publishes.
//!
//! Invariant: a batch is taken only while the buffer has room for what its source may lead to; otherwise the source waits.

mod complaints;
mod gather;
pub mod intake;
mod lane;
pub mod route;

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

pub use gather::{SourceSettings, StreamSettings, partition_key};
pub use intake::Intake;

use self::{
    gather::Gathering,
    lane::OpenLane,
    route::{Router, Routes},
};
use crate::{
    buffer::{Buffer, Lane},
    clock::Clock,
    config::StreamConfig,
    reading::{Ordinal, Reading},
    record::{Previous, RunId, kpl::HashKeyUse},
    status::{BEAT, Status},
};

/// What ingest needs to know when it starts.
pub struct IngestSettings {
    /// The gateway's name.
    pub device: String,
    /// This start of the agent.
    pub run: RunId,
    /// The longest an unconfirmed reading stays in memory only.
    pub hold: Duration,
    /// Says when a reading arrived.
    pub clock: Clock,
    /// In the order of their ids.
    pub sources: Vec<SourceSettings>,
    /// All that are enabled.
    pub streams: Vec<StreamSettings>,
    /// Which of them takes what.
    pub routes: Arc<Routes>,
}

impl StreamSettings {
    /// A stream whose lanes are `lanes`, in the order of their numbers, and where each stood.
    pub fn new(name: &str, config: &StreamConfig, run: RunId, lanes: &[(Lane, Option<Previous>)]) -> Self {
        let open = |(lane, previous): &(Lane, Option<Previous>)| {
            let hash_key = if lane.layout.hash_key.is_some() { HashKeyUse::First } else { HashKeyUse::None };
            OpenLane::new(lane.id, run, hash_key, *previous)
        };
        Self {
            name: name.into(),
            encoding: config.encoding,
            partition_key: config.partition_key.clone(),
            linger: config.linger,
            lanes: lanes.iter().map(open).collect(),
        }
    }
}

/// The stage; [`Self::run`] is its task.
pub struct Ingest {
    gathering: Gathering,
    doors: Vec<Door>,
    hold: Duration,
    clock: Clock,
    buffer: Buffer,
    status: Status,
    /// Some source may not hand over, because there is no room.
    holding: bool,
    /// The door to be asked first, so that a busy source does not keep the others out.
    turn: usize,
}

struct Door {
    queue: mpsc::Receiver<Vec<Reading>>,
    safe: watch::Receiver<Ordinal>,
    repeatable: watch::Receiver<usize>,
    /// Readings without receipt at which a write is asked for.
    half_window: Option<u64>,
    reachable: Vec<String>,
    closed: bool,
}

/// Builds the stage, and a way in for each source, in the order of `settings.sources`.
pub fn stage(settings: IngestSettings, buffer: Buffer, status: &Status) -> (Vec<Intake>, Ingest) {
    let mut intakes = Vec::new();
    let mut doors = Vec::new();
    for source in &settings.sources {
        let (intake, door) = intake::door(Router::new(settings.routes.clone(), source.id, status.clone()));
        doors.push(Door {
            queue: door.queue,
            safe: door.safe.subscribe(),
            repeatable: door.repeatable,
            half_window: source.window.map(|window| u64::from(window / 2).max(1)),
            reachable: settings.routes.reachable_from(source.id).map(Into::into).collect(),
            closed: false,
        });
        buffer.publish_receipts(source.id, door.safe);
        intakes.push(intake);
    }
    let IngestSettings { device, run, hold, clock, sources, streams, routes } = settings;
    let gathering = Gathering::new(device, run, routes, status.clone(), sources, streams);
    (intakes, Ingest { gathering, doors, hold, clock, buffer, status: status.clone(), holding: false, turn: 0 })
}

impl Ingest {
    /// Ends when the last [`Intake`] is dropped and everything is sealed. From `stop` on everything is written at once, because the
    /// sources wait for their receipts before they go.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let stopping = stop.is_cancelled();
            let now = Instant::now();
            self.status.beat("ingest", now);
            let due = self.seal_what_is_due(now, stopping).unwrap_or(now + BEAT).min(now + BEAT);
            let buffer = self.buffer.clone();
            tokio::select! {
                batch = self.next_batch(stopping) => match batch {
                    Some((door, batch)) => self.take(door, &batch),
                    None => break,
                },
                () = buffer.settled() => {}
                () = sleep_until(due.into()) => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
        self.seal();
        self.buffer.write();
    }

    fn take(&mut self, door: usize, mut batch: &[Reading]) {
        self.gathering.may_be_repeated(door, *self.doors[door].repeatable.borrow());
        let clock = self.clock.belief();
        if self.gathering.ends_with(clock) {
            self.seal();
        }
        self.gathering.set_clock(clock);
        while !batch.is_empty() {
            let taken = self.gathering.take(Instant::now(), door, batch);
            batch = &batch[taken..];
            if self.gathering.is_full() {
                self.seal();
            }
        }
    }

    /// Seals the group if it has waited long enough, or must be written; says when it is due otherwise.
    fn seal_what_is_due(&mut self, now: Instant, stopping: bool) -> Option<Instant> {
        let writing = self.buffer.is_writing();
        let waited_for =
            self.doors.iter().enumerate().any(|(index, door)| {
                door.half_window.is_some_and(|half| self.gathering.received(index) >= *door.safe.borrow() + half)
            });
        // While a commit is under way the next group gathers behind it.
        if (waited_for || stopping) && !writing {
            self.seal();
            self.buffer.write();
        }
        let due = self.gathering.due((!writing).then_some(self.hold));
        if due.is_some_and(|due| due <= now) {
            self.seal();
            return None;
        }
        due
    }

    fn seal(&mut self) {
        if let Some(group) = self.gathering.seal() {
            self.buffer.append(group);
        }
    }

    /// The next batch of any source that may hand over; none when all have gone. While stopping they all may: it is one batch each, and
    /// they can't go before.
    async fn next_batch(&mut self, stopping: bool) -> Option<(usize, Vec<Reading>)> {
        let (buffer, open_bytes, count) = (self.buffer.clone(), self.gathering.open_bytes(), self.doors.len());
        let has_room = |door: &Door| buffer.has_room(door.reachable.iter().map(String::as_str), open_bytes);
        let open: Vec<bool> = self.doors.iter().map(|door| stopping || has_room(door)).collect();
        let holding = open.contains(&false);
        if self.holding != holding {
            self.holding = holding;
            self.status.lock().holding = holding;
        }
        let first = self.turn;
        let (doors, turn) = (&mut self.doors, &mut self.turn);
        poll_fn(move |context| {
            for index in (first..first + count).map(|index| index % count) {
                if !open[index] || doors[index].closed {
                    continue;
                }
                match doors[index].queue.poll_recv(context) {
                    Poll::Ready(Some(batch)) => {
                        *turn = (index + 1) % count;
                        return Poll::Ready(Some((index, batch)));
                    }
                    Poll::Ready(None) => doors[index].closed = true,
                    Poll::Pending => {}
                }
            }
            // Without any source there is still what waits in the buffer, until the agent is told to stop.
            if doors.iter().all(|door| door.closed) && (count > 0 || stopping) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
