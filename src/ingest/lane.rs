//! The open chunk of one lane: readings are encoded here, once.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    buffer::{Chunk, LaneId},
    clock::Belief,
    config::check::MAX_READING,
    reading::{Reading, Timestamp},
    record::{
        Envelope, Members, PayloadReader, Previous, RunId, Unreadable,
        kpl::{HashKeyUse, put_record},
    },
};

/// Most partition keys in one chunk: they travel with it, and are looked for one by one.
const KEYS_A_CHUNK: usize = 64;

/// One lane, as far as ingest knows it.
#[derive(Debug)]
pub(super) struct OpenLane {
    id: LaneId,
    run: RunId,
    hash_key: HashKeyUse,
    /// The number of the next reading.
    seq: u64,
    previous: Option<Previous>,
    /// The same for all readings of a chunk, as far as it is not right.
    clock: Belief,
    data: Vec<u8>,
    readings: u64,
    arrived: Timestamp,
    since: Option<Instant>,
    keys: Vec<Arc<str>>,
    key_bytes: usize,
    last_bytes: usize,
}

/// Over 1,000 KiB when encoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl OpenLane {
    pub(super) fn new(id: LaneId, run: RunId, hash_key: HashKeyUse, previous: Option<Previous>) -> Self {
        Self {
            id,
            run,
            hash_key,
            seq: 0,
            previous,
            clock: Belief::default(),
            data: Vec::new(),
            readings: 0,
            arrived: Timestamp::default(),
            since: None,
            keys: Vec::new(),
            key_bytes: 0,
            last_bytes: 0,
        }
    }

    /// Encodes `reading` behind the others, and says why its payload can't be read, if so. `key` is its partition key where that is not
    /// the lane's own; `scratch` is reused.
    pub(super) fn push(
        &mut self,
        now: Instant,
        reading: &Reading,
        envelope: &Envelope,
        reader: &PayloadReader,
        key: Option<&Arc<str>>,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Unreadable>, TooLarge> {
        let arrived = self.clock.set.time(reading.arrived);
        let members = Members {
            seq: self.seq,
            arrived,
            unsure: self.clock.unsure().is_some(),
            dup: reading.dup,
            previous: if self.seq == 0 { self.previous } else { None },
        };
        let most = MAX_READING.as_len();
        if reading.payload.len() > most && !envelope.may_shrink(reader.format) {
            return Err(TooLarge);
        }
        scratch.clear();
        let unreadable = envelope.encode(scratch, &members, &reading.payload, reader);
        if scratch.len() > most {
            return Err(TooLarge);
        }
        let key = key.map_or(0, |key| self.index_of(key));
        if self.data.capacity() == 0 {
            // Chunks of a lane resemble each other, so the next one hardly has to grow.
            self.data.reserve(self.last_bytes + self.last_bytes / 8);
        }
        put_record(&mut self.data, key, self.hash_key, scratch);
        self.seq += 1;
        self.readings += 1;
        if self.since.is_none() {
            self.since = Some(now);
            self.arrived = arrived;
        }
        Ok(unreadable)
    }

    fn index_of(&mut self, key: &Arc<str>) -> u32 {
        let index = self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
            self.keys.push(key.clone());
            self.key_bytes += key.len();
            self.keys.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX) // `is_full` keeps it at 64 at most
    }

    /// What is believed of the clock from now on. Nothing unsure may be in the open chunk but what is so in the same way.
    pub(super) fn set_clock(&mut self, clock: Belief) {
        debug_assert!(self.since.is_none() || self.clock.unsure() == clock.unsure(), "a chunk is corrected as one");
        self.clock = clock;
    }

    /// Bytes in the open chunk, its keys included.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.key_bytes
    }

    /// When the first reading of the open chunk arrived.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether the chunk must be sealed before it takes another reading.
    pub(super) fn is_full(&self, at: usize) -> bool {
        self.bytes() >= at || self.keys.len() >= KEYS_A_CHUNK
    }

    /// Closes the chunk and begins another one.
    pub(super) fn seal(&mut self) -> Option<Chunk> {
        self.since.take()?;
        let readings = std::mem::take(&mut self.readings);
        let keys = std::mem::take(&mut self.keys);
        self.key_bytes = 0;
        self.last_bytes = self.data.len();
        Some(Chunk {
            lane: self.id,
            readings,
            run: self.run,
            first_seq: self.seq - readings,
            arrived: self.arrived,
            unsure: self.clock.unsure(),
            notice: false,
            keys: (!keys.is_empty()).then(|| keys.iter().map(ToString::to_string).collect()),
            data: Bytes::from(std::mem::take(&mut self.data)),
        })
    }
}
