//! The row that is left where readings were dropped: a chunk with a notice and nothing else, or in front of what stayed.

use bytes::Bytes;

use super::{Chunk, Earlier, Gap, Lane, Policy};
use crate::{
    buffer::store::Head,
    reading::Timestamp,
    record::{
        Notice,
        kpl::{HashKeyUse, put_record},
    },
    status::Reason,
};

/// Chunks of a lane that become one, all of one run and without a gap between their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: Head,
    pub(super) last: Head,
    /// What the lane counts in it.
    pub(super) counted: Earlier,
    /// What is in its chunks.
    pub(super) inside: Earlier,
}

impl Span {
    pub(super) fn of(head: Head) -> Self {
        let inside = Earlier { readings: head.readings, bytes: head.bytes };
        Self { first: head, last: head, counted: head.counted(), inside }
    }

    pub(super) fn add(&mut self, head: Head) {
        self.last = head;
        self.counted.add(head.counted().readings, head.counted().bytes);
        self.inside.add(head.readings, head.bytes);
    }

    /// Whether `head` may follow: nobody could tell what a notice says of two runs.
    pub(super) fn takes(&self, head: &Head) -> bool {
        follows(&self.last, head)
    }

    /// The chunk that stands for all of it: a notice, and behind it `rest`, which has `readings` and `keys`.
    pub(super) fn chunk(&self, policy: &Policy, lane: &Lane, why: Reason, level: u8, rest: Rest) -> (Chunk, Gap) {
        let gone = self.counted.readings.saturating_sub(rest.readings);
        let notice = Notice { run: self.first.run, from: self.first.first_seq, to: self.last.last_seq(), n: gone, why };
        let mut keys = rest.keys;
        let own_key = &lane.layout.partition_key;
        if keys.is_empty() && lane.layout.template.is_some() {
            keys.push(own_key.clone());
        }
        // At the end, so that the records before keep their places in the table.
        let key = if keys.is_empty() {
            0
        } else {
            keys.iter().position(|key| key == own_key).unwrap_or_else(|| {
                keys.push(own_key.clone());
                keys.len() - 1
            })
        };
        let key = u32::try_from(key).unwrap_or(u32::MAX); // a chunk has few keys
        let record = (gone > 0).then(|| record(policy, lane, &notice, key)).flatten();
        let data = [record.as_deref().unwrap_or_default(), &rest.data].concat();
        let gap = Gap {
            readings: gone,
            bytes: self.counted.bytes.cast_signed().saturating_sub_unsigned(data.len() as u64),
            last: notice.to,
            why,
            level,
            notice: record.is_some(),
        };
        let chunk = Chunk {
            lane: lane.id,
            readings: rest.readings,
            run: self.first.run,
            first_seq: self.first.first_seq,
            arrived: rest.arrived.unwrap_or(self.first.arrived),
            unsure: if rest.readings > 0 { self.last.unsure } else { None },
            notice: record.is_some(),
            keys: (!keys.is_empty()).then(|| keys.into()),
            data: Bytes::from(data),
        };
        (chunk, gap)
    }
}

/// What stays of a span.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub(super) readings: u64,
    /// As the clock said it, right or wrong: a row's head is corrected already.
    pub(super) arrived: Option<Timestamp>,
    pub(super) keys: Vec<String>,
    pub(super) data: Vec<u8>,
}

/// Whether `next` follows `last` in the same run, without a gap between their numbers.
pub(super) fn follows(last: &Head, next: &Head) -> bool {
    last.run == next.run && last.last_seq().checked_add(1) == Some(next.first_seq)
}

/// A stream that left the configuration has no encoding any more, so its lanes only count what is gone.
fn record(policy: &Policy, lane: &Lane, notice: &Notice, key: u32) -> Option<Vec<u8>> {
    let layout = &lane.layout;
    let encoding = policy.streams.get(&layout.stream)?.encoding;
    let data = notice.encode(encoding, &policy.device, &format!("{}/{}", layout.stream, layout.number))?;
    let mut record = Vec::new();
    put_record(&mut record, key, if layout.hash_key.is_some() { HashKeyUse::First } else { HashKeyUse::None }, &data);
    Some(record)
}
