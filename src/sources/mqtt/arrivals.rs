//! What has arrived and was not handed over yet: one batch, numbered, across connections.
//!
//! Invariant: a reading has its number from the moment it is in the batch, and batches are handed over whole and in order, so our
//! numbers are those of ingest.

use std::mem;

use crate::{
    clock,
    ingest::intake::{BATCH_BYTES, BATCH_READINGS, Intake, Slot},
    reading::{Ordinal, Reading, Uptime},
    sources::mqtt::redelivery::Redelivery,
    status::{Reason, SourceState},
};

/// The open batch of one source.
#[derive(Debug)]
pub struct Arrivals {
    batch: Vec<Reading>,
    bytes: usize,
    numbered: Ordinal,
    reported: Ordinal,
    last: Option<Uptime>,
    /// Publishes that were recognised as repeated, and not reported yet.
    pub repeated: u64,
    /// Which publishes we have had.
    pub memory: Redelivery,
}

impl Arrivals {
    /// Nothing has arrived, but for what `memory` knows.
    pub fn new(memory: Redelivery) -> Self {
        Self { batch: Vec::new(), bytes: 0, numbered: 0, reported: 0, last: None, repeated: 0, memory }
    }

    /// Whether one more reading may be taken.
    pub fn has_room(&self) -> bool {
        self.batch.len() < BATCH_READINGS && self.bytes < BATCH_BYTES
    }

    /// Whether nothing waits to be handed over.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The number of the last reading that was taken.
    pub fn numbered(&self) -> Ordinal {
        self.numbered
    }

    /// The number of the last reading that was handed over.
    pub fn handed_over(&self) -> Ordinal {
        self.numbered - self.batch.len() as Ordinal
    }

    /// Takes a reading, and numbers it.
    pub fn push(&mut self, reading: Reading) -> Ordinal {
        self.bytes += reading.topic.len() + reading.payload.len();
        self.last = Some(reading.arrived);
        self.batch.push(reading);
        self.numbered += 1;
        self.numbered
    }

    /// Hands the batch over.
    pub fn offer(&mut self, slot: Slot) {
        let batch = self.take();
        slot.may_be_repeated(self.memory.unsettled());
        slot.offer(batch);
    }

    /// Gives the batch up, and says how many readings are lost by that: the broker sends the others again.
    pub fn give_up(&mut self, intake: &Intake, why: Reason) -> u64 {
        self.numbered = self.handed_over();
        let batch = self.take();
        let lost = || batch.iter().filter(|reading| reading.fingerprint.is_none());
        lost().for_each(|reading| intake.give_up(&reading.topic, why));
        lost().count() as u64
    }

    /// Reports what has happened since the last report.
    pub fn report(&mut self, to: &mut SourceState) {
        let handed_over = self.handed_over();
        to.received += handed_over - mem::replace(&mut self.reported, handed_over);
        to.repeated += mem::take(&mut self.repeated);
        to.last_ts = self.last.map(clock::time_of).or(to.last_ts);
    }

    fn take(&mut self) -> Vec<Reading> {
        self.bytes = 0;
        // The next batch is likely to be as large, so it need not grow.
        let next = Vec::with_capacity(self.batch.len());
        mem::replace(&mut self.batch, next)
    }
}
