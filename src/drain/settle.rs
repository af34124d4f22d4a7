//! What follows from a request that has come to an end.

use std::{error::Error, time::Instant};

use tracing::{info, warn};

use super::{
    Drain, Ended, Put,
    lane::Fate,
    outlet::NotTaken,
    part_of,
    sent::{Part, Sent, each},
    stream::{Stream, Then},
    waiting_part_of,
};
use crate::{
    buffer::BufferError,
    clock,
    kinesis::{Answer, Class},
    status::{what_and_remedy, with_causes},
};

impl Drain {
    pub(super) fn settle(&mut self, put: Put) {
        let now = Instant::now();
        let Put { stream, train, empty, unread, sent, started, expected, result } = put;
        let tried: Vec<usize> = empty.iter().map(|(lane, _)| *lane).chain(sent.iter().map(|sent| sent.index)).collect();
        tried.iter().for_each(|lane| self.streams[stream].lanes[*lane].in_flight = 0);
        self.tell_of_unread(stream, &tried, &unread);
        for (lane, asked) in empty {
            let then = self.streams[stream].empty(now, lane, asked, (self.random)());
            self.then(then, stream, "");
        }
        let destination = self.streams[stream].destination;
        self.streams[stream].set_busy(train, false);
        self.destinations[destination].reach.in_flight -= 1;
        self.destinations[destination].left(expected, &sent, &result, &self.status);
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

    /// Of the lanes that were `tried`, those in `unread` could not be read.
    fn tell_of_unread(&mut self, index: usize, tried: &[usize], unread: &[(usize, String)]) {
        let stream = &mut self.streams[index];
        let part = waiting_part_of(&stream.name);
        let failed: Vec<usize> = unread.iter().map(|(lane, _)| *lane).collect();
        match (stream.could_be_read(tried, &failed), unread) {
            (false, [(lane, why), ..]) => {
                let number = stream.lanes[*lane].lane.layout.number;
                let what =
                    format!("the next readings of stream {}, lane {number}, can't be read from the buffer: {why}", stream.name);
                let remedy = "check the disk; they stay in the buffer and are tried again every second";
                if self.status.problem(&part, clock::now(), what.clone(), remedy) {
                    warn!(stream = stream.name, "{what}; {remedy}");
                }
            }
            (true, _) if self.status.solved(&part) => info!(stream = stream.name, "what waits can be read again"),
            _ => {}
        }
    }

    fn answered(&mut self, now: Instant, started: Instant, index: usize, sent: &[Sent], answers: &[Answer]) {
        self.streams[index].answered();
        let before = self.streams[index].accepted;
        let mut invalid = Vec::new();
        for (sent, answers) in each(sent, answers) {
            let (delivered, answer) = match (&sent.part, answers) {
                (Part::Joined(delivered), [answer]) => (delivered, answer),
                (Part::Joined(_), _) => continue, // the client gives as many answers as there were records
                (Part::OneByOne(places), _) => {
                    invalid.extend(self.one_by_one(now, started, index, sent, places, answers));
                    continue;
                }
            };
            let stream = &mut self.streams[index];
            let readings = delivered.readings;
            let fate = match answer {
                Answer::Accepted { shard, .. } => {
                    stream.distribution.shows(stream.lanes[sent.index].trail.took(shard));
                    Fate::Accepted
                }
                Answer::Throttled { .. } => Fate::Throttled,
                Answer::Failed { .. } => Fate::Failed,
                Answer::Invalid { code, message } => {
                    invalid.push((sent, readings, format!("{code}: {message}")));
                    continue;
                }
            };
            match fate {
                Fate::Accepted if sent.asked.skip == 0 => self.buffer.forget(now, sent.lane, &stream.name, delivered),
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
        self.tell_of_aggregation(index);
        let stream = &self.streams[index];
        let refused_all = stream.accepted == before && !invalid.is_empty();
        if !refused_all && self.status.solved(&part_of(&stream.name)) {
            info!(stream = stream.name, "the stream takes readings again");
        }
        // Last, because what was accepted beside them is what tells.
        for (sent, suspects, reason) in invalid {
            let random = (self.random)();
            let then = self.streams[index].invalid(now, sent.index, sent.asked, suspects, random);
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

    pub(super) fn is_aside(&mut self, index: usize, lane: usize, result: &Result<bool, BufferError>) {
        let stream = &mut self.streams[index];
        stream.set_busy(stream.train(lane), false);
        stream.set_aside(Instant::now(), lane, matches!(result, Ok(true)));
    }

    pub(super) fn failed(&mut self, now: Instant, started: Instant, index: usize, sent: &[Sent], error: &NotTaken) {
        let random = (self.random)();
        let stream = &mut self.streams[index];
        if error.may_be_stored() {
            self.status.duplicated(&stream.name, sent.iter().map(Sent::readings).sum());
        }
        for sent in sent {
            if let Part::OneByOne(places) = &sent.part {
                places.settle(|_| false, &mut stream.lanes[sent.index].out_of_turn);
            }
        }
        let records: Vec<_> = sent.iter().map(|sent| (sent.index, sent.asked, sent.units())).collect();
        let class = error.class();
        let then = stream.failed(now, class, &records, random);
        // What is to be set aside is still outstanding, so that nothing else happens to it meanwhile.
        let kept = |sent: &Sent| matches!(then, Then::SetAside(lane) if lane == sent.index);
        sent.iter().filter(|sent| !kept(sent)).for_each(|sent| self.buffer.release(sent.lane));
        match class {
            Class::Away | Class::Barred => {
                sent.iter().for_each(|sent| stream.flows[stream.lanes[sent.index].flow].retries += sent.records as u64);
                let index = stream.destination;
                self.streams.iter_mut().filter(|stream| stream.destination == index).for_each(Stream::was_away);
                self.destinations[index].is_away(now, started, error, random, &self.status);
                // Before the next probe: if it is answered, it may be the first of a thousand gateways'.
                if self.destinations[index].is_long_away() {
                    self.streams.iter_mut().filter(|stream| stream.destination == index).for_each(Stream::begin_slowly);
                }
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
}
