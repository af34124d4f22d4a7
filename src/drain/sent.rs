//! What a request carries of each lane.

use super::{bisect::Ask, plain};
use crate::{
    buffer::{Delivered, LaneId},
    kinesis::Answer,
};

/// What of one lane is in a request.
pub(super) struct Sent {
    pub(super) index: usize,
    pub(super) lane: LaneId,
    /// How many records it is.
    pub(super) records: usize,
    /// Data and partition keys.
    pub(super) bytes: usize,
    pub(super) asked: Ask,
    pub(super) part: Part,
}

/// How it travels.
pub(super) enum Part {
    /// As one record.
    Joined(Delivered),
    /// As a record each.
    OneByOne(plain::Sent),
}

impl Sent {
    /// Readings in it.
    pub(super) fn readings(&self) -> u64 {
        match &self.part {
            Part::Joined(delivered) => delivered.readings,
            Part::OneByOne(sent) => sent.readings,
        }
    }

    /// What a search for an invalid reading counts.
    pub(super) fn units(&self) -> u64 {
        match &self.part {
            Part::Joined(delivered) => delivered.readings,
            Part::OneByOne(_) => self.records as u64,
        }
    }

    /// Bytes of what `answers`, those to its records, do not accept.
    pub(super) fn refused(&self, answers: &[Answer]) -> usize {
        match &self.part {
            Part::OneByOne(sent) => sent.bytes_of(|nth| !answers.get(nth).is_some_and(Answer::is_accepted)),
            Part::Joined(_) if answers.iter().all(Answer::is_accepted) => 0,
            Part::Joined(_) => self.bytes,
        }
    }
}

/// Each part of a request with the answers to its records.
pub(super) fn each<'a>(sent: &'a [Sent], answers: &'a [Answer]) -> impl Iterator<Item = (&'a Sent, &'a [Answer])> {
    let mut rest = answers;
    sent.iter().map(move |sent| {
        let (own, others) = rest.split_at(sent.records.min(rest.len()));
        rest = others;
        (sent, own)
    })
}
