//! The aggregated record that the Kinesis Producer Library defines, cut and joined at the borders of its fields.
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord (protobuf, proto2) | MD5 of the protobuf, 16 bytes
//! message AggregatedRecord { repeated string partition_key_table = 1; repeated string explicit_hash_key_table = 2; repeated Record records = 3; }
//! message Record { required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2; required bytes data = 3; }
//! ```
//!
//! Fields of a repeated member that stand one behind the other need no frame of their own, so a chunk of `records` fields is
//! concatenated with the next as it is.
//!
//! Source: amazon-kinesis-producer, `aggregation-format.md` and `messages.proto`.

use md5::{Digest, Md5};

/// The first four bytes of every aggregate.
pub const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// Bytes around the protobuf: the magic and the MD5.
pub const FRAME_LEN: usize = MAGIC.len() + 16;

const PARTITION_KEY_FIELD: u8 = 0x0A;
const HASH_KEY_FIELD: u8 = 0x12;
const RECORD_FIELD: u8 = 0x1A;
const KEY_INDEX: u8 = 0x08;
const HASH_KEY_INDEX: u8 = 0x10;
const DATA: u8 = 0x1A;

/// Whether the user records of an aggregate carry its explicit hash key.
///
/// All of them or none: readers that know only proto3 take a missing index for index 0 as soon as the table has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKeyUse {
    /// No table, no index.
    None,
    /// One entry in the table, and index 0 in every record.
    First,
}

/// Appends one `records` field to `out`.
///
/// `partition_key` is an index into the key table. It is written even when it is 0, and the data even when they are empty: both are
/// `required`, and KCL takes an aggregate without them for an opaque record.
pub fn put_record(out: &mut Vec<u8>, partition_key: u32, hash_key: HashKeyUse, data: &[u8]) {
    let index_len = 1 + varint_len(u64::from(partition_key)) + if hash_key == HashKeyUse::First { 2 } else { 0 };
    let record_len = index_len + 1 + varint_len(data.len() as u64) + data.len();
    out.reserve(1 + varint_len(record_len as u64) + record_len);
    out.push(RECORD_FIELD);
    put_varint(out, record_len as u64);
    out.push(KEY_INDEX);
    put_varint(out, u64::from(partition_key));
    if hash_key == HashKeyUse::First {
        out.extend_from_slice(&[HASH_KEY_INDEX, 0]);
    }
    out.push(DATA);
    put_varint(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// Bytes that one entry of a key table takes in an aggregate.
pub fn table_entry_len(key: &str) -> usize {
    1 + varint_len(key.len() as u64) + key.len()
}

/// Joins the key tables and a run of `records` fields to one aggregate.
pub fn assemble(partition_keys: &[&str], hash_key: Option<&str>, fields: &[u8]) -> Vec<u8> {
    let mut out = begin(partition_keys, hash_key, fields.len());
    out.extend_from_slice(fields);
    finish(&mut out);
    out
}

/// An aggregate with its key tables, and room for `expected` bytes of `records` fields, which the caller appends.
pub fn begin(partition_keys: &[&str], hash_key: Option<&str>, expected: usize) -> Vec<u8> {
    let tables: usize = partition_keys.iter().copied().chain(hash_key).map(table_entry_len).sum();
    let mut out = Vec::with_capacity(FRAME_LEN + tables + expected);
    out.extend_from_slice(&MAGIC);
    partition_keys.iter().for_each(|key| put_text(&mut out, PARTITION_KEY_FIELD, key));
    if let Some(key) = hash_key {
        put_text(&mut out, HASH_KEY_FIELD, key);
    }
    out
}

/// Closes an aggregate that [`begin`] has opened.
pub fn finish(aggregate: &mut Vec<u8>) {
    let digest = Md5::digest(&aggregate[MAGIC.len()..]);
    aggregate.extend_from_slice(&digest);
}

fn put_text(out: &mut Vec<u8>, field: u8, text: &str) {
    out.push(field);
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A run of whole `records` fields at the head of some more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its bytes.
    pub len: usize,
    /// Its records.
    pub records: u64,
}

/// The bytes are not what [`put_record`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no run of KPL record fields")]
pub struct Malformed;

/// The longest run of whole fields within the first `at_most` bytes of `fields`, and at least `at_least` records.
pub fn cut(fields: &[u8], at_most: usize, at_least: u64) -> Result<Run, Malformed> {
    let mut run = Run::default();
    while run.len < fields.len() {
        let (_, len) = split_record(&fields[run.len..])?;
        if run.len + len > at_most && run.records >= at_least {
            break;
        }
        run.len += len;
        run.records += 1;
    }
    Ok(run)
}

/// One record of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Index into the key table.
    pub partition_key: u32,
    /// Whether it carries the hash key.
    pub hash_key: HashKeyUse,
    /// The user record.
    pub data: &'a [u8],
    /// Bytes of the whole field.
    pub field_len: usize,
}

/// The first record of a run of fields.
pub fn first_record(fields: &[u8]) -> Result<Record<'_>, Malformed> {
    let (mut record, field_len) = split_record(fields)?;
    let partition_key = u32::try_from(take_tagged(&mut record, KEY_INDEX)?).map_err(|_| Malformed)?;
    let hash_key = if record.first() == Some(&HASH_KEY_INDEX) {
        take_tagged(&mut record, HASH_KEY_INDEX)?;
        HashKeyUse::First
    } else {
        HashKeyUse::None
    };
    let data_len = take_tagged(&mut record, DATA)?;
    if data_len != record.len() as u64 {
        return Err(Malformed);
    }
    Ok(Record { partition_key, hash_key, data: record, field_len })
}

/// Whether `fields` are whole records and nothing else, each with one of `keys` keys.
pub fn is_run(mut fields: &[u8], keys: usize) -> bool {
    while !fields.is_empty() {
        let record = first_record(fields).ok();
        let Some(record) = record.filter(|record| usize::try_from(record.partition_key).is_ok_and(|key| key < keys)) else {
            return false;
        };
        fields = &fields[record.field_len..];
    }
    true
}

/// The inside of the first `records` field, and the length of the whole field.
fn split_record(fields: &[u8]) -> Result<(&[u8], usize), Malformed> {
    let mut rest = fields;
    let inside = usize::try_from(take_tagged(&mut rest, RECORD_FIELD)?).map_err(|_| Malformed)?;
    let record = rest.get(..inside).ok_or(Malformed)?;
    Ok((record, fields.len() - rest.len() + inside))
}

fn take_tagged(bytes: &mut &[u8], tag: u8) -> Result<u64, Malformed> {
    let (first, mut rest) = bytes.split_first().ok_or(Malformed)?;
    if *first != tag {
        return Err(Malformed);
    }
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Malformed)?;
        rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            *bytes = rest;
            return Ok(value);
        }
    }
    Err(Malformed)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    fn aggregate(keys: &[&str], hash_key: Option<u128>, records: &[(u32, &[u8])]) -> Vec<u8> {
        let mut fields = Vec::new();
        let hash_key_use = if hash_key.is_some() { HashKeyUse::First } else { HashKeyUse::None };
        records.iter().for_each(|(key, data)| put_record(&mut fields, *key, hash_key_use, data));
        assemble(keys, hash_key.map(|key| key.to_string()).as_deref(), &fields)
    }

    #[test]
    fn an_aggregate_is_byte_for_byte_what_the_python_aggregator_writes() {
        // Made with PyPI aws_kinesis_agg 1.2.3.
        assert_eq!(
            hex(&aggregate(&["dev-1", "dev-2"], None, &[(0, b"hello"), (1, b""), (0, &[0, 0xFF])])),
            "f3899ac20a056465762d310a056465762d321a0908001a0568656c6c6f1a0408011a001a0608001a0200ff310f620b2bcc4dc890116c0ba020f9e9"
        );
        assert_eq!(
            hex(&aggregate(
                &["dev-1", "dev-2"],
                Some(66_273_172_578_761_821_691_903_228_539_483_469_009),
                &[(0, b"hello"), (1, b"world")]
            )),
            "f3899ac20a056465762d310a056465762d32122636363237333137323537383736313832313639313930333232383533393438333436393030391a0b\
             080010001a0568656c6c6f1a0b080110001a05776f726c64e26dddbf31c49427b6c517259ee4442d"
        );
    }

    #[test]
    fn a_run_is_cut_only_between_records() {
        let mut fields = Vec::new();
        put_record(&mut fields, 0, HashKeyUse::None, b"one");
        let first = fields.len();
        put_record(&mut fields, 0, HashKeyUse::None, &[7; 300]);

        assert_eq!(cut(&fields, first - 1, 0), Ok(Run { len: 0, records: 0 }));
        assert_eq!(cut(&fields, first - 1, 1), Ok(Run { len: first, records: 1 }));
        assert_eq!(cut(&fields, fields.len() - 1, 0), Ok(Run { len: first, records: 1 }));
        assert_eq!(cut(&fields, usize::MAX, 0), Ok(Run { len: fields.len(), records: 2 }));
        assert_eq!(cut(&fields[1..], usize::MAX, 0), Err(Malformed));
    }

    #[test]
    fn a_record_reads_back_as_it_was_put() {
        let mut fields = Vec::new();
        put_record(&mut fields, 300, HashKeyUse::First, b"data");
        let expected = Record { partition_key: 300, hash_key: HashKeyUse::First, data: b"data", field_len: fields.len() };
        put_record(&mut fields, 0, HashKeyUse::None, b"");

        assert_eq!(first_record(&fields), Ok(expected));
        assert_eq!(first_record(&fields[expected.field_len..]).map(|record| record.data), Ok(&b""[..]));
        assert_eq!(first_record(b""), Err(Malformed));
        assert!(is_run(&fields, 301) && is_run(b"", 0));
        assert!(!is_run(&fields, 300) && !is_run(&fields[1..], 301) && !is_run(&fields[..fields.len() - 1], 301));
    }

    #[test]
    fn the_length_of_a_varint_is_known_before_it_is_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
