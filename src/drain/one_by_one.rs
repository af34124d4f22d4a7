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
        let bytes = |which: fn(&Answer) -> bool| places.bytes_of(|nth| is(nth, which));
        let (again, full) = (stream.flows[flow].retries + throttled + failed, stream.flows[flow].throttled + throttled);
        let mut settle = |fate, bytes| stream.settle(sent.index, started, now, bytes, fate, (self.random)());
        if accepted > 0 {
            settle(Fate::Accepted, bytes(Answer::is_accepted));
        }
        if throttled > 0 {
            settle(Fate::Throttled, bytes(is_throttled));
        } else if failed > 0 && accepted == 0 {
            settle(Fate::Failed, 0);
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
