//! Takes an aggregated Kinesis record apart, with the checks that Amazon's own consumer makes.
//!
//! Shape: `F3 89 9A C2`, the protobuf `AggregatedRecord`, its MD5 (16 bytes). Source: amazon-kinesis-producer,
//! `aggregation-format.md`; amazon-kinesis-client, `AggregatorUtil.deaggregate`.
//!
//! Invariant: what is not an aggregate in every respect is one plain record; no byte is ever left out.

use std::ops::RangeInclusive;

use md5::{Digest, Md5};

use super::kpl::{FRAME_LEN, MAGIC, Malformed};

/// One record of a producer, as it lies in an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRecord<'a> {
    /// The producer's partition key.
    pub partition_key: &'a str,
    /// Overrides the partition key's hash.
    pub explicit_hash_key: Option<u128>,
    /// The producer's bytes.
    pub data: &'a [u8],
}

impl UserRecord<'_> {
    /// Where in the stream it belongs: its explicit hash key, or the MD5 of its partition key.
    pub fn hash_key(&self) -> u128 {
        self.explicit_hash_key.unwrap_or_else(|| u128::from_be_bytes(Md5::digest(self.partition_key).into()))
    }
}

/// The user records in `data`, in order; none when `data` is no aggregate and thus is one record by itself.
///
/// As KCL does it, everything that follows is no aggregate: another beginning; not more than 20 bytes; an MD5 that does not match;
/// bytes that are not the protobuf message, a required field that is missing included. So is, beyond KCL, which throws then, an index
/// that points out of its table and a hash key that is not a number below 2^128.
pub fn deaggregate(data: &[u8]) -> Option<Vec<UserRecord<'_>>> {
    let body = data.strip_prefix(&MAGIC)?;
    let message = &body[..data.len().checked_sub(FRAME_LEN)?];
    if message.is_empty() || Md5::digest(message)[..] != body[message.len()..] {
        return None;
    }
    let (mut partition_keys, mut hash_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields(message);
    while let Some(field) = fields.next().ok()? {
        match field {
            (1, Value::Bytes(key)) => partition_keys.push(std::str::from_utf8(key).ok()?),
            (2, Value::Bytes(key)) => hash_keys.push(std::str::from_utf8(key).ok()?.parse::<u128>().ok()?),
            (3, Value::Bytes(record)) => records.push(Indexed::read(record)?),
            (1..=3, _) => return None,
            _ => {}
        }
    }
    let mut users = Vec::with_capacity(records.len());
    for record in records {
        let explicit_hash_key = match record.hash_key {
            Some(index) => Some(*hash_keys.get(index)?),
            None => None,
        };
        users.push(UserRecord { partition_key: partition_keys.get(record.partition_key)?, explicit_hash_key, data: record.data });
    }
    Some(users)
}

/// Whether KCL hands `records`, an aggregate from a shard with these `hashes`, to its application. When one of them belongs elsewhere
/// it drops all of them, without a word.
pub fn kcl_accepts(records: &[UserRecord], hashes: &RangeInclusive<u128>) -> bool {
    records.iter().all(|record| hashes.contains(&record.hash_key()))
}

/// The message `Record`, before its indices are looked up.
struct Indexed<'a> {
    partition_key: usize,
    hash_key: Option<usize>,
    data: &'a [u8],
}

impl<'a> Indexed<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let (mut partition_key, mut hash_key, mut data) = (None, None, None);
        let mut fields = Fields(message);
        while let Some(field) = fields.next().ok()? {
            match field {
                (1, Value::Number(index)) => partition_key = Some(usize::try_from(index).ok()?),
                (2, Value::Number(index)) => hash_key = Some(usize::try_from(index).ok()?),
                (3, Value::Bytes(bytes)) => data = Some(bytes),
                (1..=3, _) => return None,
                _ => {} // tags, which neither KPL nor KCL use
            }
        }
        Some(Self { partition_key: partition_key?, hash_key, data: data? })
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a protobuf message. Source: Protocol Buffers documentation, "Encoding".
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; none at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() { Ok(None) } else { self.field().map(Some).ok_or(Malformed) }
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `aws_kinesis_agg` 1.2.3: dev-1 "hello", dev-2 "", dev-1 00 FF.
    const PLAIN: &str = "f3899ac20a056465762d310a056465762d321a0908001a0568656c6c6f1a0408011a001a0608001a0200ff310f620b2bcc4dc890116c0ba020\
                         f9e9";
    /// Made by the same: dev-1 "hello", dev-2 "world", both with the explicit hash key MD5("gw-7").
    const EXPLICIT: &str = "f3899ac20a056465762d310a056465762d32122636363237333137323537383736313832313639313930333232383533393438333436393030\
                            391a0b080010001a0568656c6c6f1a0b080110001a05776f726c64e26dddbf31c49427b6c517259ee4442d";
    const GW_7: u128 = 66_273_172_578_761_821_691_903_228_539_483_469_009;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn aggregate(message: &[u8]) -> Vec<u8> {
        [&MAGIC[..], message, &Md5::digest(message)[..]].concat()
    }

    #[test]
    fn an_aggregate_of_another_producer_is_taken_apart_in_order() {
        let (plain, explicit) = (bytes(PLAIN), bytes(EXPLICIT));

        let records = deaggregate(&plain).unwrap();
        assert_eq!(
            records.iter().map(|r| (r.partition_key, r.data)).collect::<Vec<_>>(),
            [("dev-1", &b"hello"[..]), ("dev-2", b""), ("dev-1", b"\x00\xFF")]
        );
        assert!(records.iter().all(|record| record.explicit_hash_key.is_none()));

        let records = deaggregate(&explicit).unwrap();
        assert_eq!(
            records.iter().map(|r| (r.partition_key, r.data)).collect::<Vec<_>>(),
            [("dev-1", &b"hello"[..]), ("dev-2", b"world")]
        );
        assert!(records.iter().all(|record| record.hash_key() == GW_7));
    }

    #[test]
    fn a_record_belongs_where_the_md5_of_its_partition_key_points() {
        assert_eq!(UserRecord { partition_key: "gw-7", explicit_hash_key: None, data: b"" }.hash_key(), GW_7);
    }

    #[test]
    fn whatever_is_damaged_is_one_plain_record() {
        let whole = bytes(EXPLICIT);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(deaggregate(&flipped).is_none(), "byte {at}");
            assert!(deaggregate(&whole[..at]).is_none(), "cut at {at}");
        }
        assert!(deaggregate(&aggregate(b"")).is_none());
        assert!(deaggregate(b"21.5").is_none());
    }

    #[test]
    fn a_message_that_lacks_what_it_must_have_is_one_plain_record() {
        let key = b"\x0a\x01k";
        let with = |record: &[u8]| aggregate(&[&key[..], b"\x1a", &[u8::try_from(record.len()).unwrap()], record].concat());
        assert!(deaggregate(&with(b"\x08\x00\x1a\x01x")).is_some());
        for (why, record) in [
            ("no index", &b"\x1a\x01x"[..]),
            ("no data", b"\x08\x00"),
            ("an index out of the table", b"\x08\x01\x1a\x01x"),
            ("a hash key index without a table", b"\x08\x00\x10\x00\x1a\x01x"),
            ("a length beyond the end", b"\x08\x00\x1a\x05x"),
            ("a group", b"\x08\x00\x0b"),
            ("a number without an end", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            assert!(deaggregate(&with(record)).is_none(), "{why}");
        }
    }

    #[test]
    fn kcl_drops_the_whole_aggregate_when_one_record_belongs_elsewhere() {
        let plain = bytes(PLAIN);
        let records = deaggregate(&plain).unwrap();
        let mut hashes: Vec<u128> = records.iter().map(UserRecord::hash_key).collect();
        hashes.sort_unstable();
        let (lowest, highest) = (hashes[0], hashes[2]);

        assert!(kcl_accepts(&records, &(lowest..=highest)));
        assert!(!kcl_accepts(&records, &(lowest..=highest - 1)));
        assert!(!kcl_accepts(&records, &(lowest + 1..=highest)));
    }
}
