//! Joins what waits in a lane to one record, as large as it may be.
//!
//! Chunks are concatenated as they are, but for those whose readings have keys of their own, or arrived before the clock was set: these
//! go reading by reading. One that does not fit is cut between two readings, and the rest of it goes first next time.

use crate::{
    buffer::{Delivered, Layout, Piece, Position},
    clock::Unsure,
    record::{
        correct::{self, correct},
        kpl::{self, Malformed, Run},
    },
};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An aggregate of the Kinesis Producer Library, which its consumers split.
    Aggregate,
    /// The user records one behind the other: lines of JSON, or a CBOR sequence (RFC 8742).
    Joined {
        /// How many, at most.
        most: usize,
        /// Bytes that a record may not have, be it of a single reading.
        largest: usize,
    },
}

/// A record, and what the buffer may forget once it is confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// In the form that was asked for.
    pub(super) data: Vec<u8>,
    /// What is in it.
    pub(super) delivered: Delivered,
}

/// Packs as many of `pieces`, from the first on, as make a record of at most `at_most` bytes; at least one reading, whatever its
/// size. None when there is none. `correction` tells how many milliseconds are to be added to a time that is unsure, if that is known.
pub(super) fn pack(
    form: Form,
    layout: &Layout,
    pieces: &[Piece],
    at_most: usize,
    correction: impl Fn(Unsure) -> Option<i64>,
) -> Result<Option<Packed>, Malformed> {
    let Some(first) = pieces.first() else { return Ok(None) };
    let delivered = Delivered { readings: 0, bytes: 0, up_to: first.position };
    match form {
        Form::Aggregate => aggregate(delivered, layout, pieces, at_most, correction).map(Some),
        Form::Joined { most, largest } => joined(delivered, pieces, at_most, (most, largest), correction).map(Some),
    }
}

fn aggregate(
    mut delivered: Delivered,
    layout: &Layout,
    pieces: &[Piece],
    at_most: usize,
    correction: impl Fn(Unsure) -> Option<i64>,
) -> Result<Packed, Malformed> {
    let hash_key = layout.hash_key.map(|key| key.to_string());
    // Nearly always all readings have the lane's own key: then the record is complete as it grows.
    let expected = at_most.min(pieces.iter().map(|piece| piece.data.len()).sum());
    let record = kpl::begin(&[&layout.partition_key], hash_key.as_deref(), expected);
    let lead = record.len();
    let mut open = Open {
        room: at_most.saturating_sub(kpl::FRAME_LEN + hash_key.as_deref().map_or(0, kpl::table_entry_len)),
        keys: Vec::new(),
        record,
        records: 0,
        scratch: Vec::new(),
    };
    let own_key = std::slice::from_ref(&layout.partition_key);
    for piece in pieces {
        let run = match (&piece.keys, piece.unsure.and_then(&correction)) {
            (None, None) => open.append(&layout.partition_key, piece)?,
            (keys, add) => open.append_each(keys.as_deref().unwrap_or(own_key), piece, add)?,
        };
        if !took_all(&mut delivered, piece, run) {
            break;
        }
    }
    let data = if open.keys == [&layout.partition_key] {
        kpl::finish(&mut open.record);
        open.record
    } else {
        kpl::assemble(&open.keys, hash_key.as_deref(), &open.record[lead..])
    };
    Ok(Packed { data, delivered })
}

fn joined(
    mut delivered: Delivered,
    pieces: &[Piece],
    at_most: usize,
    (most, largest): (usize, usize),
    correction: impl Fn(Unsure) -> Option<i64>,
) -> Result<Packed, Malformed> {
    let mut data = Vec::with_capacity(at_most.min(pieces.iter().map(|piece| piece.data.len()).sum()));
    let mut count = 0;
    for piece in pieces {
        let add = piece.unsure.and_then(&correction);
        let mut run = Run::default();
        while run.len < piece.data.len() && count < most {
            let record = kpl::first_record(&piece.data[run.len..])?;
            let before = data.len();
            match add {
                Some(add) => correct(&mut data, record.data, add),
                None => data.extend_from_slice(record.data),
            }
            if count > 0 && data.len() > at_most {
                data.truncate(before);
                break;
            }
            // A reading of the largest size has no room for what a correction adds; it arrives as unsure as it is.
            if data.len() > largest {
                data.truncate(before);
                data.extend_from_slice(record.data);
            }
            count += 1;
            run.len += record.field_len;
            run.records += 1;
        }
        if !took_all(&mut delivered, piece, run) {
            break;
        }
    }
    Ok(Packed { data, delivered })
}

/// Counts `run`, which was taken of `piece`. Says whether that is all of it.
fn took_all(delivered: &mut Delivered, piece: &Piece, run: Run) -> bool {
    // A notice is a record, and no reading.
    let readings = run.records.saturating_sub(u64::from(piece.notice));
    delivered.readings += readings;
    delivered.bytes += run.len as u64;
    let Position { number, offset, readings: before } = piece.position;
    if run.len == piece.data.len() {
        delivered.up_to = Position { number: number + 1, ..Position::default() };
        return true;
    }
    if run.records > 0 {
        delivered.up_to = Position { number, offset: offset + run.len as u64, readings: before + readings };
    }
    false
}

/// The aggregate so far.
struct Open<'a> {
    /// Bytes that it may still grow by.
    room: usize,
    keys: Vec<&'a str>,
    /// Begins as if all readings had the lane's own key.
    record: Vec<u8>,
    records: u64,
    scratch: Vec<u8>,
}

impl<'a> Open<'a> {
    /// Takes what fits of a chunk whose readings all have the lane's own key: as it is.
    fn append(&mut self, key: &'a str, piece: &Piece) -> Result<Run, Malformed> {
        let entry = if self.keys.is_empty() { kpl::table_entry_len(key) } else { 0 };
        let room = self.room.saturating_sub(entry);
        let run = if piece.data.len() <= room {
            Run { len: piece.data.len(), records: piece.readings + u64::from(piece.notice) }
        } else {
            kpl::cut(&piece.data, room, u64::from(self.records == 0))?
        };
        if run.records > 0 {
            self.index_of(key);
            self.record.extend_from_slice(&piece.data[..run.len]);
            self.took(run.len + entry, run.records);
        }
        Ok(run)
    }

    /// Takes what fits of a chunk record by record: each with its key's place in the aggregate's table, and with `add` milliseconds added
    /// to its time.
    fn append_each(&mut self, keys: &'a [String], piece: &Piece, add: Option<i64>) -> Result<Run, Malformed> {
        let growth = LARGEST_INDEX + if add.is_some() { LARGEST_CORRECTION } else { 0 };
        let mut run = Run::default();
        while run.len < piece.data.len() {
            let record = kpl::first_record(&piece.data[run.len..])?;
            let key = usize::try_from(record.partition_key).ok().and_then(|key| keys.get(key)).ok_or(Malformed)?;
            let entry = if self.keys.contains(&key.as_str()) { 0 } else { kpl::table_entry_len(key) };
            // An index may take a byte or two more here than in the chunk.
            let len = record.field_len + growth + entry;
            if len > self.room && self.records > 0 {
                break;
            }
            let index = self.index_of(key);
            let data = match add {
                None => record.data,
                Some(add) => {
                    self.scratch.clear();
                    correct(&mut self.scratch, record.data, add);
                    &self.scratch
                }
            };
            kpl::put_record(&mut self.record, index, record.hash_key, data);
            self.took(len, 1);
            run.len += record.field_len;
            run.records += 1;
        }
        Ok(run)
    }

    fn index_of(&mut self, key: &'a str) -> u32 {
        let index = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX) // a record of 1 MiB has room for far fewer
    }

    fn took(&mut self, len: usize, records: u64) {
        self.room = self.room.saturating_sub(len);
        self.records += records;
    }
}

/// By how much a field can grow when its index does: from one byte to three, and its length by one.
const LARGEST_INDEX: usize = 3;
/// By how much it can grow when its reading's time is corrected: that, and its two lengths by one each.
const LARGEST_CORRECTION: usize = correct::MAX_GROWTH + 2;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        clock::{Boot, Setting},
        reading::Timestamp,
        record::kpl::{HashKeyUse, put_record},
    };

    fn layout() -> Layout {
        Layout { stream: "s".into(), number: 0, of: 1, partition_key: "gw/s/0".into(), hash_key: None, template: None }
    }

    fn piece(number: u64, records: &[(u32, &[u8])], keys: Option<&[&str]>) -> Piece {
        let mut data = Vec::new();
        records.iter().for_each(|(key, record)| put_record(&mut data, *key, HashKeyUse::None, record));
        Piece {
            position: Position { number, ..Position::default() },
            readings: records.len() as u64,
            arrived: Timestamp(0),
            unsure: None,
            notice: false,
            keys: keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
            data: Bytes::from(data),
        }
    }

    fn assembled(keys: &[&str], records: &[(u32, &[u8])]) -> Vec<u8> {
        let fields = piece(0, records, None).data;
        kpl::assemble(keys, None, &fields)
    }

    #[test]
    fn chunks_are_joined_to_the_aggregate_of_all_their_readings() {
        let pieces = [piece(3, &[(0, b"a"), (0, b"b")], None), piece(4, &[(0, b"c")], None)];

        let packed = pack(Form::Aggregate, &layout(), &pieces, 1000, |_| None).unwrap().unwrap();

        assert_eq!(packed.data, assembled(&["gw/s/0"], &[(0, b"a"), (0, b"b"), (0, b"c")]));
        let bytes = (pieces[0].data.len() + pieces[1].data.len()) as u64;
        assert_eq!(packed.delivered, Delivered { readings: 3, bytes, up_to: Position { number: 5, offset: 0, readings: 0 } });
    }

    #[test]
    fn a_chunk_that_does_not_fit_is_cut_and_never_passes_the_limit() {
        let pieces = [piece(3, &[(0, &[1; 100]), (0, &[2; 100])], None), piece(4, &[(0, &[3; 100])], None)];
        let whole = pack(Form::Aggregate, &layout(), &pieces, usize::MAX, |_| None).unwrap().unwrap().data.len();
        for at_most in 0..=whole {
            let packed = pack(Form::Aggregate, &layout(), &pieces, at_most, |_| None).unwrap().unwrap();
            assert!(packed.data.len() <= at_most || packed.delivered.readings == 1, "one reading goes whatever its size");
        }
        let packed = pack(Form::Aggregate, &layout(), &pieces, whole - 1, |_| None).unwrap().unwrap();
        assert_eq!(packed.delivered.up_to, Position { number: 4, offset: 0, readings: 0 });
        let packed = pack(Form::Aggregate, &layout(), &pieces, 0, |_| None).unwrap().unwrap();
        assert_eq!(packed.delivered.up_to, Position { number: 3, offset: packed.delivered.bytes, readings: 1 });
    }

    #[test]
    fn keys_that_do_not_fit_are_not_in_the_table() {
        let keys: Vec<String> = (0..200).map(|n| format!("{n:0>90}")).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let records: Vec<(u32, &[u8])> = (0..200).map(|n| (n, &b"reading"[..])).collect();
        let pieces = [piece(0, &records[..100], Some(&names)), piece(1, &records, Some(&names))];
        for at_most in [100, 1_000, 5_000, 15_000, 20_000] {
            let packed = pack(Form::Aggregate, &layout(), &pieces, at_most, |_| None).unwrap().unwrap();
            assert!(packed.data.len() <= at_most || packed.delivered.readings == 1, "{} > {at_most}", packed.data.len());
            assert!(at_most < 1_000 || packed.data.len() > at_most * 9 / 10, "{} << {at_most}", packed.data.len());
        }
    }

    #[test]
    fn every_reading_keeps_its_own_key_when_chunks_with_other_keys_are_joined() {
        let pieces = [piece(0, &[(0, b"1"), (1, b"2")], Some(&["x", "y"])), piece(1, &[(0, b"3"), (1, b"4")], Some(&["z", "x"]))];

        let packed = pack(Form::Aggregate, &layout(), &pieces, 1000, |_| None).unwrap().unwrap();

        assert_eq!(packed.data, assembled(&["x", "y", "z"], &[(0, b"1"), (1, b"2"), (2, b"3"), (0, b"4")]));
    }

    #[test]
    fn readings_with_and_without_keys_of_their_own_keep_them_side_by_side() {
        let pieces = [piece(0, &[(0, b"old")], None), piece(1, &[(0, b"new")], Some(&["t1"]))];

        let packed = pack(Form::Aggregate, &layout(), &pieces, 1000, |_| None).unwrap().unwrap();

        assert_eq!(packed.data, assembled(&["gw/s/0", "t1"], &[(0, b"old"), (1, b"new")]));
    }

    #[test]
    fn readings_of_a_wrong_clock_are_corrected_as_they_are_packed_and_cut_where_they_were() {
        let unsure = Unsure { boot: Boot(1), set: Setting(0) };
        let line = |clk: &str, ts: u64| format!("{{\"v\":1,\"seq\":1,\"ts\":{ts},\"clk\":\"{clk}\",\"val\":1}}\n").into_bytes();
        let (before, after) = (line("unsure", 5), line("corrected", 1_000_000_005));
        let early = Piece { unsure: Some(unsure), ..piece(3, &[(0, &before), (0, &before)], None) };
        let pieces = [early, piece(4, &[(0, b"late")], None)];
        let add = |_| Some(1_000_000_000);

        let packed = pack(Form::Aggregate, &layout(), &pieces, 1000, add).unwrap().unwrap();
        assert_eq!(packed.data, assembled(&["gw/s/0"], &[(0, &after), (0, &after), (0, b"late")]));
        let bytes = pieces.iter().map(|piece| piece.data.len() as u64).sum();
        assert_eq!(packed.delivered, Delivered { readings: 3, bytes, up_to: Position { number: 5, offset: 0, readings: 0 } });

        let whole = packed.data.len();
        for at_most in 0..=whole {
            let packed = pack(Form::Aggregate, &layout(), &pieces, at_most, add).unwrap().unwrap();
            assert!(packed.data.len() <= at_most || packed.delivered.readings == 1, "one reading goes whatever its size");
            let Position { offset, readings, .. } = packed.delivered.up_to;
            assert_eq!(offset, readings * pieces[0].data.len() as u64 / 2, "counted as it lies in the buffer");
        }
        let uncorrected = pack(Form::Aggregate, &layout(), &pieces, 1000, |_| None).unwrap().unwrap();
        assert_eq!(uncorrected.data, assembled(&["gw/s/0"], &[(0, &before), (0, &before), (0, b"late")]));
    }

    const JOINED: Form = Form::Joined { most: 500, largest: 1000 };

    #[test]
    fn readings_are_joined_one_behind_the_other_and_cut_between_two_of_them() {
        let pieces = [piece(3, &[(0, b"a\n"), (0, b"b\n")], None), piece(4, &[(1, b"c\n")], Some(&["x", "y"]))];

        let all = pack(JOINED, &layout(), &pieces, 1000, |_| None).unwrap().unwrap();
        assert_eq!(all.data, b"a\nb\nc\n");
        let bytes = (pieces[0].data.len() + pieces[1].data.len()) as u64;
        assert_eq!(all.delivered, Delivered { readings: 3, bytes, up_to: Position { number: 5, offset: 0, readings: 0 } });

        let cut = |form, at_most| pack(form, &layout(), &pieces, at_most, |_| None).unwrap().unwrap();
        let field = pieces[0].data.len() as u64 / 2;
        for one in [cut(JOINED, 0), cut(JOINED, 3), cut(Form::Joined { most: 1, largest: 1000 }, 1000)] {
            assert_eq!(one.data, b"a\n");
            assert_eq!(one.delivered.up_to, Position { number: 3, offset: field, readings: 1 });
        }
        for two in [cut(JOINED, 4), cut(JOINED, 5), cut(Form::Joined { most: 2, largest: 1000 }, 1000)] {
            assert_eq!(two.data, b"a\nb\n");
            assert_eq!(two.delivered.up_to, Position { number: 4, offset: 0, readings: 0 });
        }
    }

    #[test]
    fn a_joined_reading_is_corrected_unless_that_makes_it_too_large() {
        let unsure = Unsure { boot: Boot(1), set: Setting(0) };
        let line = |clk: &str, ts: u64| format!("{{\"v\":1,\"seq\":1,\"ts\":{ts},\"clk\":\"{clk}\",\"val\":1}}\n").into_bytes();
        let (before, after) = (line("unsure", 5), line("corrected", 1_000_000_005));
        let pieces = [Piece { unsure: Some(unsure), ..piece(3, &[(0, &before)], None) }];
        let joined = |largest| {
            let form = Form::Joined { most: 500, largest };
            pack(form, &layout(), &pieces, largest, |_| Some(1_000_000_000)).unwrap().unwrap().data
        };

        assert_eq!(joined(after.len()), after);
        assert_eq!(joined(after.len() - 1), before);
    }
}
