//! What the answers to readings that travel one by one mean for their lane.

use std::time::Instant;

use super::{Drain, lane::Fate, plain, sent::Sent};
use crate::kinesis::Answer;

impl Drain {
    /// Settles `sent`, whose records at `places` have these `answers`. Where one is called invalid, says how many of those that are still
    /// to be accepted end with the first such, and why it is; then nothing is released if nothing was accepted, as it may be set aside.
    pub(super) fn one_by_one<'a>(
        &mut self,
        now: Instant,
        started: Instant,
        index: usize,
        sent: &'a Sent,
        places: &plain::Sent,
        answers: &[Answer],
    ) -> Option<(&'a Sent, u64, String)> {
        let stream = &mut self.streams[index];
        let lane = &mut stream.lanes[sent.index];
        let flow = lane.flow;
        let is = |nth: usize, which: fn(&Answer) -> bool| answers.get(nth).is_some_and(which);
        let count = |which: fn(&Answer) -> bool| answers.iter().filter(|answer| which(answer)).count() as u64;
        let forgotten = places.settle(|nth| is(nth, Answer::is_accepted), &mut lane.out_of_turn);
        let accepted = count(Answer::is_accepted);
        let invalid = answers.iter().enumerate().find_map(|(nth, answer)| match answer {
            Answer::Invalid { code, message } => Some((nth, format!("{code}: {message}"))),
            _ => None,
        });

        self.buffer.pin(sent.lane, lane.out_of_turn.end());
        match forgotten {
            Some(delivered) => self.buffer.forget(now, sent.lane, &stream.name, &delivered),
            None if accepted == 0 && invalid.is_some() => {}
            None => self.buffer.release(sent.lane),
        }

        let (throttled, failed) = (count(is_throttled), count(is_failed));
        let (fate, bytes) = match (throttled, accepted, failed) {
            (1.., ..) => (Some(Fate::Throttled), places.bytes_of(|nth| is(nth, is_throttled))),
            (0, 1.., _) => (Some(Fate::Accepted), places.bytes_of(|nth| is(nth, Answer::is_accepted))),
            (0, 0, 1..) => (Some(Fate::Failed), 0),
            (0, 0, 0) => (None, 0),
        };
        let (again, full) = (stream.flows[flow].retries + throttled + failed, stream.flows[flow].throttled + throttled);
        if let Some(fate) = fate {
            stream.settle(sent.index, started, now, bytes, fate, (self.random)());
        }
        (stream.flows[flow].retries, stream.flows[flow].throttled) = (again, full); // all of them, and not one
        if accepted > 0 {
            stream.accepted(sent.index, sent.asked, accepted);
        }
        invalid.map(|(nth, reason)| {
            let suspects = answers[..nth].iter().filter(|answer| !answer.is_accepted()).count() as u64 + 1;
            (sent, suspects, reason)
        })
    }
}

fn is_throttled(answer: &Answer) -> bool {
    matches!(answer, Answer::Throttled { .. })
}

fn is_failed(answer: &Answer) -> bool {
    matches!(answer, Answer::Failed { .. })
}
