//! Stage 4 of 5: empties the buffer into the destinations, as fast as they let it and in order.
//!
//! One request a stream is on its way, with one record of each lane that is ready; in a `live-first` stream two, one with what is live and
//! one with what has waited. Only what was refused is sent again, before anything later of its lane. While a destination is out of reach,
//! one request at a time goes there as a probe. To a stream that can't have aggregates readings go one by one, and those behind a refused
//! one with it.
//!
//! Invariant: the buffer forgets what was confirmed and sets aside what is found to be invalid, and nothing else; whatever else happens
//! to a request, its readings wait again.

mod allowance;
mod bisect;
mod destination;
mod distribution;
mod inquiry;
mod lane;
mod load;
mod meter;
mod one_by_one;
mod outlet;
mod pace;
mod pack;
mod plain;
mod reach;
#[cfg(feature = "demo")]
pub mod rehearsal;
mod sent;
mod settle;
mod stream;
mod stride;
mod turns;
mod window;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::watch, time::sleep_until};
use tokio_util::sync::CancellationToken;

use self::{
    allowance::Months,
    bisect::Ask,
    destination::Destination,
    distribution::Distribution,
    inquiry::Inquiry,
    load::{Loaded, Wanted, load},
    outlet::{Look, NotTaken},
    reach::Gate,
    sent::Sent,
    stream::{Next, Stream, Train},
};
pub use self::{meter::Meter, outlet::Outlet};
use crate::{
    buffer::{Buffer, BufferError, Lane},
    clock::{Belief, Trust},
    config::{Aggregation, DrainOrder},
    file::FolderError,
    kinesis::{Answer, Record},
    status::{BEAT, LaneState, Status},
};

/// Who starts with so many bytes in a lane begins as after an outage. A thousand gateways with less are a minute's work for their shard.
const MUCH: u64 = 64 << 10;

/// What the drain needs to know when it starts.
pub struct DrainSettings {
    /// Where they lead to.
    pub destinations: Vec<DestinationSettings>,
    /// Every stream that is configured.
    pub streams: Vec<StreamSettings>,
    /// What is believed of the clock, once the buffer knows it: while it is wrong, nothing is sent.
    pub clock: watch::Receiver<Belief>,
    /// Uniform in 0..1; for waits.
    pub random: fn() -> f64,
}

/// One destination.
pub struct DestinationSettings {
    /// The name under `[destinations]`.
    pub name: String,
    /// What takes records.
    pub outlet: Outlet,
    /// What may be sent there.
    pub meter: Meter,
}

/// One stream, as far as it is sent.
pub struct StreamSettings {
    /// The name under `[streams]`.
    pub name: String,
    /// What it is called there.
    pub target: String,
    /// Its place among the destinations.
    pub destination: usize,
    /// How long a reading may wait for company.
    pub linger: Duration,
    /// Whether readings travel together; they always do where it makes no difference.
    pub aggregation: Aggregation,
    /// Today's lanes.
    pub lanes: Vec<Lane>,
    /// Lanes of an older layout, or earlier parts, that still have something, in the order in which they began.
    pub older: Vec<Lane>,
    /// What goes first.
    pub order: DrainOrder,
    /// Where the link is slow, streams with a higher one go first.
    pub priority: u16,
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
    /// Questions to streams, which nobody waits for in the end.
    inquiries: FuturesUnordered<Inquiry>,
}

/// What has come to an end.
enum Ended {
    Put(Put),
    Aside { stream: usize, lane: usize, result: Result<bool, BufferError> },
    Tidied { destination: usize, result: Result<(), FolderError> },
    Noted { destination: usize, months: Months, result: io::Result<()> },
}

/// A request that has come to an end.
struct Put {
    stream: usize,
    train: Train,
    /// Lanes that had nothing to send after all, or whose readings could not be read.
    empty: Vec<(usize, Ask)>,
    /// Of those, the ones that could not be read, and why.
    unread: Vec<(usize, String)>,
    sent: Vec<Sent>,
    started: Instant,
    /// Bytes that it was expected to have.
    expected: usize,
    result: Result<Vec<Answer>, NotTaken>,
}

impl Drain {
    /// Builds the stage.
    pub fn new(settings: DrainSettings, buffer: Buffer, status: Status) -> Self {
        let destination = |settings| Destination::new(settings, &status);
        let mut destinations: Vec<Destination> = settings.destinations.into_iter().map(destination).collect();
        let stream = |settings: StreamSettings| {
            let StreamSettings { name, target, destination, linger, aggregation, lanes, older, order, priority } = settings;
            let mut stream = Stream::new(&name, &target, destination, linger, order, priority);
            older.into_iter().for_each(|lane| stream.add(lane, true));
            lanes.into_iter().for_each(|lane| stream.add(lane, false));
            if destinations[destination].outlet.kinesis().is_some() {
                stream.distribution = Distribution::new(aggregation);
                if let Some((on, why)) = stream.distribution.says() {
                    status.aggregation(&name, on, why);
                }
            }
            // Whatever was away, or without power, others were too.
            let shared = destinations[destination].outlet.is_shared();
            if shared && stream.lanes.iter().any(|lane| buffer.waiting(lane.lane.id).bytes >= MUCH) {
                stream.begin_slowly();
            }
            stream
        };
        let mut streams: Vec<Stream> = settings.streams.into_iter().map(stream).collect();
        // In the order in which they have their turns.
        streams.sort_by_key(|stream| Reverse(stream.priority));
        streams.iter().for_each(|stream| destinations[stream.destination].turns.add(stream.priority));
        Self {
            streams,
            destinations,
            buffer,
            status,
            clock: settings.clock,
            random: settings.random,
            in_flight: FuturesUnordered::new(),
            looks: FuturesUnordered::new(),
            inquiries: FuturesUnordered::new(),
        }
    }

    /// Sends until `finish`: then one last request a train, and the end, when they are answered or at `give_up`. What has no answer
    /// then is still in the buffer.
    pub async fn run(mut self, finish: CancellationToken, give_up: CancellationToken) {
        let mut last_put = vec![[false; 2]; self.streams.len()];
        let mut order = Vec::with_capacity(self.streams.len());
        (0..self.streams.len()).for_each(|index| self.report(index));
        loop {
            let finishing = finish.is_cancelled();
            let now = Instant::now();
            self.status.beat("drain", now);
            let mut wake = now + BEAT;
            self.order(&mut order);
            for &index in &order {
                let last_put = &mut last_put[index];
                self.let_live_pass(now, index);
                for &train in self.streams[index].trains() {
                    let last = &mut last_put[train as usize];
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
                tokio::select! {
                    () = self.close() => {}
                    () = give_up.cancelled() => {}
                }
                return;
            }
            self.tidy(now);
            tokio::select! {
                Some(ended) = self.in_flight.next() => match ended {
                    Ended::Put(put) => self.settle(put),
                    Ended::Aside { stream, lane, result } => self.is_aside(stream, lane, &result),
                    Ended::Noted { destination, months, result } => self.is_noted(destination, months, result),
                    Ended::Tidied { destination, result } => self.destinations[destination].is_tidy(Instant::now(), result, &self.status),
                },
                Some(()) = self.looks.next() => {}
                Some(reply) = self.inquiries.next() => self.replied(reply),
                () = self.buffer.appended() => {}
                Ok(()) = self.clock.changed() => self.clock_was_set(),
                () = sleep_until(wake.into()) => {}
                () = finish.cancelled(), if !finishing => {}
                () = give_up.cancelled() => return,
            }
        }
    }

    fn tidy(&mut self, now: Instant) {
        for (index, destination) in self.destinations.iter_mut().enumerate() {
            if let Some(work) = destination.tidy(now) {
                self.in_flight.push(Box::pin(async move { Ended::Tidied { destination: index, result: work.await } }));
            }
        }
    }

    async fn close(&mut self) {
        for destination in &mut self.destinations {
            destination.close().await;
        }
        self.note_the_end().await;
    }

    /// What failed because of the clock need not wait.
    fn clock_was_set(&mut self) {
        let now = Instant::now();
        self.destinations.iter_mut().for_each(|destination| destination.reach.try_at(now));
    }

    /// Lanes of a `live-first` stream that are behind go on in another part. While the link is away, or nothing may be sent, everything is
    /// behind, and nothing would pass.
    fn let_live_pass(&mut self, now: Instant, index: usize) {
        let stream = &mut self.streams[index];
        let destination = &self.destinations[stream.destination];
        if !destination.reach.is_open() || destination.meter.is_closed() {
            return;
        }
        for lane in stream.behind(now, |lane| self.buffer.waiting(lane.id), destination.stride.bytes()) {
            if let Some(part) = self.buffer.begin_part(stream.lanes[lane].lane.id) {
                stream.begin_part(now, lane, part);
            }
        }
    }

    fn next(&mut self, now: Instant, index: usize, train: Train, hurry: bool) -> Next {
        let above_busy = self.is_above_busy(index);
        let stream = &self.streams[index];
        let destination = &self.destinations[stream.destination];
        // What waits is corrected when the clock is set.
        if destination.outlet.needs_the_time() && self.clock.borrow().trust == Trust::Wrong {
            return Next::Idle;
        }
        // Where there is a rate, the order of the streams decides.
        if !hurry && !destination.meter.allowance.is_rated() && !destination.turns.may_send(stream.priority, above_busy) {
            return Next::Idle; // the end of what is on its way wakes us
        }
        match destination.reach.gate(now) {
            Gate::Open => {}
            Gate::Closed(until) => return Next::Wait(until),
            Gate::Probed => return Next::Idle,
        }
        let (at_most, destination) = (destination.stride.bytes(), stream.destination);
        let at_most = match self.permitted(now, destination) {
            Ok(permitted) => at_most.min(permitted),
            Err(next) => return next,
        };
        let buffer = &self.buffer;
        let next = self.streams[index].next(now, train, |lane| buffer.waiting(lane.id), at_most, hurry);
        let first = matches!(next, Next::Send(_)).then(|| self.first(now, index, hurry)).flatten();
        first.unwrap_or(next)
    }

    /// Whether a stream of the same destination with a higher priority has a request on its way.
    fn is_above_busy(&self, index: usize) -> bool {
        let Stream { destination, priority, .. } = self.streams[index];
        // Those with a higher one stand before.
        let mut above = self.streams[..index].iter().filter(|other| other.destination == destination && other.priority > priority);
        above.any(|other| Train::ALL.iter().any(|train| other.is_busy(*train)))
    }

    fn send(&mut self, started: Instant, index: usize, train: Train, lanes: &[(usize, usize)]) {
        let above_busy = self.is_above_busy(index);
        let stream = &mut self.streams[index];
        stream.set_busy(train, true);
        let destination = &mut self.destinations[stream.destination];
        destination.reach.in_flight += 1;
        let wanted = |(lane, at_most): &(usize, usize)| {
            let (index, at_most, asked) = (*lane, *at_most, stream.ask(*lane));
            let one_by_one = stream.goes_one_by_one(index).then(|| stream.lanes[index].out_of_turn.clone());
            Wanted { index, lane: stream.lanes[index].lane.clone(), at_most, asked, one_by_one }
        };
        let chosen: Vec<Wanted> = lanes.iter().map(wanted).collect();
        for Wanted { index, lane, at_most, .. } in &chosen {
            let waiting = usize::try_from(self.buffer.waiting(lane.id).bytes).unwrap_or(usize::MAX);
            stream.lanes[*index].in_flight = waiting.min(*at_most);
        }
        let expected = chosen.iter().map(|wanted| stream.lanes[wanted.index].in_flight).sum();
        let contested = above_busy || destination.meter.allowance.is_rated();
        destination.turns.sends(stream.priority, contested, expected, destination.stride.bytes());
        destination.meter.allowance.sends(started, expected);
        stream.served = Some(started);
        let (buffer, outlet, target) = (self.buffer.clone(), destination.outlet.clone(), stream.target.clone());
        let stride = destination.stride;
        self.looks.extend(outlet.look(&target, started));
        self.report(index);
        self.in_flight.push(Box::pin(async move {
            let mut empty: Vec<(usize, Ask)> = chosen.iter().map(|wanted| (wanted.index, wanted.asked)).collect();
            let Loaded { sent, records, unread } = load(&buffer, &outlet, chosen).await;
            empty.retain(|(lane, _)| !sent.iter().any(|sent| sent.index == *lane));
            let bytes = records.iter().map(Record::size).sum();
            let result =
                if records.is_empty() { Ok(Vec::new()) } else { outlet.put(&target, records, stride.timeout(bytes)).await };
            Ended::Put(Put { stream: index, train, empty, unread, sent, started, expected, result })
        }));
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

/// The part of the status that speaks for what becomes of a stream's requests.
fn part_of(stream: &str) -> String {
    format!("stream {stream}")
}

/// Another one, for whether its readings can be had: that a destination takes some says nothing of those.
fn waiting_part_of(stream: &str) -> String {
    format!("stream {stream}, what waits")
}
