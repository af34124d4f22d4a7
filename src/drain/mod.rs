//! Stage 4 of 5: empties the buffer into the destinations, as fast as they let it and in order.
//!
//! One request a stream is on its way, with one record of each lane that is ready; in a `live-first` stream two, one with what is live and
//! one with what has waited. Only what was refused is sent again, before anything later of its lane. While a destination is out of reach,
//! one request at a time goes there as a probe.
//!
//! Invariant: the buffer forgets what was confirmed and sets aside what is found to be invalid, and nothing else; whatever else happens
//! to a request, its readings wait again.

mod bisect;
mod destination;
mod lane;
mod load;
mod pace;
mod pack;
mod stream;
mod window;

use std::{
    collections::BTreeMap,
    error::Error,
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::watch, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::destination::Outlet;
use self::{
    bisect::Ask,
    destination::{Destination, Gate, Look},
    lane::Fate,
    load::{Wanted, load},
    stream::{Next, Stream, Then, Train},
};
use crate::{
    buffer::{Buffer, BufferError, Delivered, Lane, LaneId},
    clock::{self, Belief, Clock, Trust},
    config::DrainOrder,
    kinesis::{Answer, Class, PutError, Record},
    status::{BEAT, LaneState, Status, what_and_remedy, with_causes},
};

/// What the drain needs to know when it starts.
pub struct DrainSettings {
    /// What takes records, with their names under `[destinations]`.
    pub destinations: Vec<(String, Outlet)>,
    /// Every stream that is configured.
    pub streams: Vec<StreamSettings>,
    /// While it is wrong, nothing is sent.
    pub clock: Clock,
    /// Uniform in 0..1; for waits.
    pub random: fn() -> f64,
}

/// One stream, as far as it is sent.
pub struct StreamSettings {
    /// The name under `[streams]`.
    pub name: String,
    /// The name of the Kinesis stream.
    pub target: String,
    /// Its place among the destinations.
    pub destination: usize,
    /// How long a reading may wait for company.
    pub linger: Duration,
    /// Today's lanes.
    pub lanes: Vec<Lane>,
    /// Lanes of an older layout, or earlier parts, that still have something, in the order in which they began.
    pub older: Vec<Lane>,
    /// What goes first.
    pub order: DrainOrder,
}

/// The stage; [`Self::run`] is its task.
pub struct Drain {
    streams: Vec<Stream>,
    destinations: Vec<Destination>,
    buffer: Buffer,
    status: Status,
    clock: watch::Receiver<Belief>,
    random: fn() -> f64,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    looks: FuturesUnordered<Look>,
}

/// What has come to an end.
enum Ended {
    Put(Put),
    Aside { stream: usize, lane: usize, result: Result<bool, BufferError> },
}

/// A request that has come to an end.
struct Put {
    stream: usize,
    train: Train,
    /// Lanes that had nothing to send after all, or whose readings could not be read.
    empty: Vec<(usize, Ask)>,
    sent: Vec<Sent>,
    started: Instant,
    result: Result<Vec<Answer>, PutError>,
}

/// One record of a request.
struct Sent {
    index: usize,
    lane: LaneId,
    bytes: usize,
    asked: Ask,
    delivered: Delivered,
}

impl Drain {
    /// Builds the stage.
    pub fn new(settings: DrainSettings, buffer: Buffer, status: Status) -> Self {
        let stream = |settings: StreamSettings| {
            let StreamSettings { name, target, destination, linger, lanes, older, order } = settings;
            let mut stream = Stream::new(&name, &target, destination, linger, order);
            older.into_iter().for_each(|lane| stream.add(lane, true));
            lanes.into_iter().for_each(|lane| stream.add(lane, false));
            stream
        };
        let destination = |(name, outlet)| Destination::new(name, outlet, &status);
        Self {
            streams: settings.streams.into_iter().map(stream).collect(),
            destinations: settings.destinations.into_iter().map(destination).collect(),
            buffer,
            status,
            clock: settings.clock.changes(),
            random: settings.random,
            in_flight: FuturesUnordered::new(),
            looks: FuturesUnordered::new(),
        }
    }

    /// Sends until `finish`: then one last request a train, and the end, when they are answered or at `give_up`. What has no answer
    /// then is still in the buffer.
    pub async fn run(mut self, finish: CancellationToken, give_up: CancellationToken) {
        let mut last_put = vec![[false; 2]; self.streams.len()];
        loop {
            let finishing = finish.is_cancelled();
            let now = Instant::now();
            self.status.beat("drain", now);
            let mut wake = now + BEAT;
            for (index, last_put) in last_put.iter_mut().enumerate() {
                self.let_live_pass(now, index);
                for (train, last) in Train::ALL.into_iter().zip(last_put) {
                    if self.streams[index].is_busy(train) || *last {
                        continue;
                    }
                    *last = finishing;
                    match self.next(now, index, train, finishing) {
                        Next::Send(lanes) => self.send(now, index, train, &lanes),
                        Next::Wait(at) => wake = wake.min(at),
                        Next::Idle => {}
                    }
                }
            }
            if finishing && self.in_flight.is_empty() {
                return;
            }
            tokio::select! {
                Some(ended) = self.in_flight.next() => match ended {
                    Ended::Put(put) => self.settle(put),
                    Ended::Aside { stream, lane, result } => self.is_aside(stream, lane, &result),
                },
                Some(()) = self.looks.next() => {}
                () = self.buffer.appended() => {}
                Ok(()) = self.clock.changed() => self.clock_was_set(),
                () = sleep_until(wake.into()) => {}
                () = finish.cancelled(), if !finishing => {}
                () = give_up.cancelled() => return,
            }
        }
    }

    /// What failed because of the clock need not wait.
    fn clock_was_set(&mut self) {
        let now = Instant::now();
        self.destinations.iter_mut().for_each(|destination| destination.try_at(now));
    }

    /// Lanes of a `live-first` stream that are behind go on in another part. While the link is away everything is behind, and nothing
    /// would pass.
    fn let_live_pass(&mut self, now: Instant, index: usize) {
        let stream = &mut self.streams[index];
        let destination = &self.destinations[stream.destination];
        if !destination.is_open() {
            return;
        }
        for lane in stream.behind(now, |lane| self.buffer.waiting(lane.id), destination.stride.bytes()) {
            if let Some(part) = self.buffer.begin_part(stream.lanes[lane].lane.id) {
                stream.begin_part(now, lane, part);
            }
        }
    }

    fn next(&mut self, now: Instant, index: usize, train: Train, hurry: bool) -> Next {
        // TLS finds every certificate invalid then, and AWS every signature; what waits is corrected when the clock is set.
        if self.clock.borrow().trust == Trust::Wrong {
            return Next::Idle;
        }
        let stream = &mut self.streams[index];
        let destination = &self.destinations[stream.destination];
        match destination.gate(now) {
            Gate::Open => {}
            Gate::Closed(until) => return Next::Wait(until),
            Gate::Probed => return Next::Idle,
        }
        let buffer = &self.buffer;
        stream.next(now, train, |lane| buffer.waiting(lane.id), destination.stride.bytes(), hurry)
    }

    fn send(&mut self, started: Instant, index: usize, train: Train, lanes: &[(usize, usize)]) {
        let stream = &mut self.streams[index];
        stream.set_busy(train, true);
        let destination = &mut self.destinations[stream.destination];
        destination.in_flight += 1;
        let wanted = |(lane, at_most): &(usize, usize)| {
            let (index, at_most, asked) = (*lane, *at_most, stream.ask(*lane));
            Wanted { index, lane: stream.lanes[index].lane.clone(), at_most, asked }
        };
        let chosen: Vec<Wanted> = lanes.iter().map(wanted).collect();
        for Wanted { index, lane, at_most, .. } in &chosen {
            let waiting = usize::try_from(self.buffer.waiting(lane.id).bytes).unwrap_or(usize::MAX);
            stream.lanes[*index].in_flight = waiting.min(*at_most);
        }
        let (buffer, outlet, target, status) =
            (self.buffer.clone(), destination.outlet.clone(), stream.target.clone(), self.status.clone());
        let stride = destination.stride;
        self.looks.extend(outlet.look(&target, started));
        self.report(index);
        self.in_flight.push(Box::pin(async move {
            let mut empty: Vec<(usize, Ask)> = chosen.iter().map(|wanted| (wanted.index, wanted.asked)).collect();
            let (sent, records) = load(&buffer, &status, &outlet, chosen).await;
            empty.retain(|(lane, _)| !sent.iter().any(|sent| sent.index == *lane));
            let bytes = records.iter().map(Record::size).sum();
            let result =
                if records.is_empty() { Ok(Vec::new()) } else { outlet.put(&target, records, stride.timeout(bytes)).await };
            Ended::Put(Put { stream: index, train, empty, sent, started, result })
        }));
    }

    fn settle(&mut self, put: Put) {
        let now = Instant::now();
        let Put { stream, train, empty, sent, started, result } = put;
        for lane in empty.iter().map(|(lane, _)| *lane).chain(sent.iter().map(|sent| sent.index)) {
            self.streams[stream].lanes[lane].in_flight = 0;
        }
        for (lane, asked) in empty {
            let then = self.streams[stream].empty(now, lane, asked, (self.random)());
            self.then(then, stream, "");
        }
        let destination = self.streams[stream].destination;
        self.streams[stream].set_busy(train, false);
        self.destinations[destination].in_flight -= 1;
        if sent.is_empty() {
            return;
        }
        self.destinations[destination].count(&sent, &result, now - started, &self.status);
        match result {
            Ok(answers) => self.answered(now, started, stream, &sent, &answers),
            Err(error) => self.failed(now, started, stream, &sent, &error),
        }
        self.report(stream);
    }

    fn answered(&mut self, now: Instant, started: Instant, index: usize, sent: &[Sent], answers: &[Answer]) {
        let stream = &mut self.streams[index];
        stream.answered();
        let mut invalid = Vec::new();
        for (sent, answer) in sent.iter().zip(answers) {
            let readings = sent.delivered.readings;
            let fate = match answer {
                Answer::Accepted { .. } => Fate::Accepted,
                Answer::Throttled { .. } => Fate::Throttled,
                Answer::Failed { .. } => Fate::Failed,
                Answer::Invalid { code, message } => {
                    invalid.push((sent, format!("{code}: {message}")));
                    continue;
                }
            };
            match fate {
                Fate::Accepted if sent.asked.skip == 0 => self.buffer.forget(now, sent.lane, &stream.name, &sent.delivered),
                // It was sent before its turn, to learn whether it is accepted, and goes again in its turn under the same name.
                Fate::Accepted => {
                    self.buffer.release(sent.lane);
                    self.status.duplicated(&stream.name, readings);
                }
                Fate::Throttled | Fate::Failed => self.buffer.release(sent.lane),
            }
            if fate == Fate::Accepted {
                stream.accepted(sent.index, sent.asked, readings);
            }
            stream.settle(sent.index, started, now, sent.bytes, fate, (self.random)());
        }
        let name = stream.name.clone();
        if self.status.solved(&part_of(&name)) {
            info!(stream = name, "the stream takes readings again");
        }
        // Last, because what was accepted beside them is what tells.
        for (sent, reason) in invalid {
            let random = (self.random)();
            let then = self.streams[index].invalid(now, sent.index, sent.asked, sent.delivered.readings, random);
            if !matches!(then, Then::SetAside(_)) {
                self.buffer.release(sent.lane);
            }
            let what = format!("the stream calls one of its records invalid: {reason}");
            self.streams[index].refusal = (what, "report it with the log; it waits in the buffer and is tried again".into());
            self.then(then, index, &reason);
        }
    }

    /// What follows from a refusal for `reason`.
    fn then(&mut self, then: Then, index: usize, reason: &str) {
        let stream = &mut self.streams[index];
        match then {
            Then::GoOn => {}
            Then::Tell => {
                let (what, remedy) = &stream.refusal;
                if self.status.problem(&part_of(&stream.name), clock::now(), what.clone(), remedy) {
                    warn!(stream = stream.name, "{what}; {remedy}");
                }
            }
            Then::SetAside(lane) => {
                stream.set_busy(stream.train(lane), true);
                let (buffer, id, reason) = (self.buffer.clone(), stream.lanes[lane].lane.id, reason.to_owned());
                self.in_flight.push(Box::pin(async move {
                    let result = buffer.set_aside(id, reason).await;
                    Ended::Aside { stream: index, lane, result }
                }));
            }
        }
    }

    fn is_aside(&mut self, index: usize, lane: usize, result: &Result<bool, BufferError>) {
        let stream = &mut self.streams[index];
        stream.set_busy(stream.train(lane), false);
        stream.set_aside(Instant::now(), lane, matches!(result, Ok(true)));
    }

    fn failed(&mut self, now: Instant, started: Instant, index: usize, sent: &[Sent], error: &PutError) {
        let random = (self.random)();
        let stream = &mut self.streams[index];
        if matches!(error, PutError::Unknown { .. }) {
            self.status.duplicated(&stream.name, sent.iter().map(|sent| sent.delivered.readings).sum());
        }
        let records: Vec<_> = sent.iter().map(|sent| (sent.index, sent.asked, sent.delivered.readings)).collect();
        let class = error.class();
        let then = stream.failed(now, class, &records, random);
        // What is to be set aside is still outstanding, so that nothing else happens to it meanwhile.
        let kept = |sent: &Sent| matches!(then, Then::SetAside(lane) if lane == sent.index);
        sent.iter().filter(|sent| !kept(sent)).for_each(|sent| self.buffer.release(sent.lane));
        match class {
            Class::Away | Class::Barred => {
                records.iter().for_each(|(lane, ..)| stream.flows[stream.lanes[*lane].flow].retries += 1);
                let index = stream.destination;
                self.streams.iter_mut().filter(|stream| stream.destination == index).for_each(Stream::was_away);
                self.destinations[index].is_away(now, started, class, random, &self.status);
            }
            Class::Throttled => {
                for sent in sent {
                    stream.settle(sent.index, started, now, sent.bytes, Fate::Throttled, random);
                }
            }
            Class::Credentials | Class::Held => {
                let (what, remedy) = what_and_remedy(error);
                stream.refusal = (what, format!("{remedy}; everything waits in the buffer and is tried again every minute"));
                self.then(then, index, "");
            }
            Class::TooLarge | Class::Invalid => {
                if class == Class::TooLarge {
                    self.destinations[stream.destination].stride.too_large(sent.iter().map(|sent| sent.bytes).sum());
                }
                let (what, remedy) = what_and_remedy(error);
                stream.refusal =
                    (what, format!("{remedy}; everything waits in the buffer and is tried again at least every minute"));
                let reason = error.source().map_or_else(|| error.to_string(), with_causes);
                self.then(then, index, &reason);
            }
        }
    }

    fn report(&self, index: usize) {
        let stream = &self.streams[index];
        let mut lanes = BTreeMap::new();
        for (index, flow) in stream.flows.iter().enumerate() {
            let state: &mut LaneState = lanes.entry(flow.layout.number).or_default();
            state.rate += flow.rate();
            state.in_flight += stream.lanes.iter().filter(|lane| lane.flow == index).map(|lane| lane.in_flight as u64).sum::<u64>();
            state.retries += flow.retries;
            state.throttled += flow.throttled;
        }
        self.status.lock().streams.entry(stream.name.clone()).or_default().lanes = lanes.into_values().collect();
    }
}

fn part_of(stream: &str) -> String {
    format!("stream {stream}")
}
