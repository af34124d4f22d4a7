//! What happens to a buffer, as its users see it.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::{
    buffer::LaneId,
    reading::Ordinal,
    record::{Notice, Previous, RunId, kpl::first_record, names_of},
};

/// A row of lanes, and what it is: a place in `LANES`.
pub(super) type Row = (LaneId, usize);

/// A reading's name in its lane.
pub(super) type Name = (RunId, u64);

/// What is in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Reading(Name, Bytes),
    Notice(Notice),
}

/// A reading that was handed over.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    pub(super) name: Name,
    pub(super) ordinal: Ordinal,
    pub(super) data: Bytes,
}

/// What happened to the buffer, as its users see it; of which lane is told by its row.
#[derive(Debug)]
pub(super) enum Event {
    Appended(Row, Appended),
    /// The destination confirmed it.
    Confirmed(Row, Item),
    SetAside(Row, Name),
    /// A session ended without a receipt for these.
    Unacknowledged(Range<Ordinal>),
    /// Everything due is done. By lane: the number of the next chunk, and the last name.
    Settled {
        lanes: BTreeMap<Row, (u64, Option<Previous>)>,
        dropped: BTreeMap<String, u64>,
    },
}

/// What a run of records holds.
pub(super) fn items(data: &Bytes) -> Vec<Item> {
    let mut items = Vec::new();
    let mut fields = &data[..];
    while !fields.is_empty() {
        let record = first_record(fields).unwrap();
        items.push(match Notice::decode(record.data) {
            Some(notice) => Item::Notice(notice),
            None => {
                let (_, seq) = names_of(record.data).unwrap();
                Item::Reading((run_of(record.data), seq), data.slice_ref(record.data))
            }
        });
        fields = &fields[record.field_len..];
    }
    items
}

/// The run in an envelope, CBOR or JSON.
fn run_of(data: &[u8]) -> RunId {
    let mark: &[u8] = if data[0] == b'{' { b"\"run\":\"" } else { b"\x63run\x70" };
    let at = data.windows(mark.len()).position(|bytes| bytes == mark).unwrap() + mark.len();
    RunId(u64::from_str_radix(std::str::from_utf8(&data[at..at + 16]).unwrap(), 16).unwrap())
}

impl Item {
    pub(super) fn reading(self) -> Option<(Name, Bytes)> {
        match self {
            Self::Reading(name, data) => Some((name, data)),
            Self::Notice(_) => None,
        }
    }
}
