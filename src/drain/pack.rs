//! Joins what waits in a lane to one aggregate, as large as it may be.
//!
//! Chunks are concatenated as they are. One that does not fit is cut between two readings, and the rest of it goes first next time.

use std::{borrow::Cow, sync::Arc};

use crate::{
    buffer::{Delivered, Layout, Piece, Position},
    record::kpl::{self, Malformed},
};

/// A record, and what the buffer may forget once it is confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// The aggregate.
    pub(super) data: Vec<u8>,
    /// What is in it.
    pub(super) delivered: Delivered,
}

/// Packs as many of `pieces`, from the first on, as make a record of at most `at_most` bytes; at least one reading, whatever its
/// size. None when there is none.
pub(super) fn pack(layout: &Layout, pieces: &[Piece], at_most: usize) -> Result<Option<Packed>, Malformed> {
    let mut keys = KeyTable::new(layout);
    let mut runs: Vec<Cow<[u8]>> = Vec::new();
    let mut len = kpl::FRAME_LEN + kpl::tables_len(std::iter::empty(), layout.hash_key);
    let Some(first) = pieces.first() else { return Ok(None) };
    let mut delivered = Delivered { readings: 0, bytes: 0, up_to: first.position };

    for piece in pieces {
        let indices = keys.join(piece.keys.as_ref());
        let room = at_most.saturating_sub(len + keys.len());
        let at_least = u64::from(runs.is_empty());
        let whole = piece.data.len() <= room;
        let run = if whole {
            kpl::Run { len: piece.data.len(), records: piece.readings }
        } else {
            kpl::cut(&piece.data, room, at_least)?
        };
        if run.records == 0 {
            break;
        }
        let fields = &piece.data[..run.len];
        let fields = match indices {
            None => Cow::Borrowed(fields),
            Some(indices) => {
                let mut copied = Vec::with_capacity(fields.len() + fields.len() / 16);
                kpl::copy_with_keys(&mut copied, fields, &indices)?;
                Cow::Owned(copied)
            }
        };
        len += fields.len();
        runs.push(fields);
        delivered.readings += run.records;
        delivered.bytes += run.len as u64;
        delivered.up_to = if run.len == piece.data.len() {
            Position { number: piece.position.number + 1, ..Position::default() }
        } else {
            Position {
                number: piece.position.number,
                offset: piece.position.offset + run.len as u64,
                readings: piece.position.readings + run.records,
            }
        };
        if !whole {
            break;
        }
    }
    let fields = runs.iter().map(|run| &**run);
    let data = kpl::assemble(keys.keys.iter().copied(), layout.hash_key, fields, len + keys.len());
    Ok(Some(Packed { data, delivered }))
}

/// The partition keys of an aggregate, each once.
struct KeyTable<'a> {
    keys: Vec<&'a str>,
    of_its_own: bool,
}

impl<'a> KeyTable<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { keys: vec![&layout.partition_key], of_its_own: true }
    }

    /// Adds a chunk's keys; says which index each has here, or nothing when the chunk's own indices are right as they are.
    fn join(&mut self, keys: Option<&'a Arc<[String]>>) -> Option<Vec<u32>> {
        let keys = keys?;
        if std::mem::take(&mut self.of_its_own) {
            self.keys.clear();
        }
        let index = |key: &'a String| {
            let index = self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
                self.keys.push(key);
                self.keys.len() - 1
            });
            u32::try_from(index).unwrap_or(u32::MAX) // a record of 1 MiB has room for far fewer
        };
        let indices: Vec<u32> = keys.iter().map(index).collect();
        let same = indices.iter().zip(0..).all(|(index, place)| *index == place);
        (!same).then_some(indices)
    }

    fn len(&self) -> usize {
        kpl::tables_len(self.keys.iter().copied(), None)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        reading::Timestamp,
        record::kpl::{HashKeyUse, put_record},
    };

    fn layout() -> Layout {
        Layout { stream: "s".into(), number: 0, of: 1, partition_key: "gw/s/0".into(), hash_key: None }
    }

    fn piece(number: u64, records: &[(u32, &[u8])], keys: Option<&[&str]>) -> Piece {
        let mut data = Vec::new();
        records.iter().for_each(|(key, record)| put_record(&mut data, *key, HashKeyUse::None, record));
        Piece {
            position: Position { number, ..Position::default() },
            readings: records.len() as u64,
            arrived: Timestamp(0),
            keys: keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
            data: Bytes::from(data),
        }
    }

    fn aggregate(keys: &[&str], records: &[(u32, &[u8])]) -> Vec<u8> {
        let fields = piece(0, records, None).data;
        kpl::assemble(keys.iter().copied(), None, std::iter::once(&fields[..]), 0)
    }

    #[test]
    fn chunks_are_joined_to_the_aggregate_of_all_their_readings() {
        let pieces = [piece(3, &[(0, b"a"), (0, b"b")], None), piece(4, &[(0, b"c")], None)];

        let packed = pack(&layout(), &pieces, 1000).unwrap().unwrap();

        assert_eq!(packed.data, aggregate(&["gw/s/0"], &[(0, b"a"), (0, b"b"), (0, b"c")]));
        let bytes = (pieces[0].data.len() + pieces[1].data.len()) as u64;
        assert_eq!(packed.delivered, Delivered { readings: 3, bytes, up_to: Position { number: 5, offset: 0, readings: 0 } });
    }

    #[test]
    fn a_chunk_that_does_not_fit_is_cut_and_never_passes_the_limit() {
        let pieces = [piece(3, &[(0, &[1; 100]), (0, &[2; 100])], None), piece(4, &[(0, &[3; 100])], None)];
        let whole = pack(&layout(), &pieces, usize::MAX).unwrap().unwrap().data.len();
        for at_most in 0..=whole {
            let packed = pack(&layout(), &pieces, at_most).unwrap().unwrap();
            assert!(packed.data.len() <= at_most || packed.delivered.readings == 1, "one reading goes whatever its size");
        }
        let packed = pack(&layout(), &pieces, whole - 1).unwrap().unwrap();
        assert_eq!(packed.delivered.up_to, Position { number: 4, offset: 0, readings: 0 });
        let packed = pack(&layout(), &pieces, 0).unwrap().unwrap();
        assert_eq!(packed.delivered.up_to, Position { number: 3, offset: packed.delivered.bytes, readings: 1 });
    }

    #[test]
    fn every_reading_keeps_its_own_key_when_chunks_with_other_keys_are_joined() {
        let pieces = [piece(0, &[(0, b"1"), (1, b"2")], Some(&["x", "y"])), piece(1, &[(0, b"3"), (1, b"4")], Some(&["z", "x"]))];

        let packed = pack(&layout(), &pieces, 1000).unwrap().unwrap();

        assert_eq!(packed.data, aggregate(&["x", "y", "z"], &[(0, b"1"), (1, b"2"), (2, b"3"), (0, b"4")]));
    }
}
