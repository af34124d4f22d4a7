//! What a consumer on the Kinesis Client Library would get out of a record: an oracle, independent of how we write aggregates.
//!
//! The library drops a whole aggregate, without an error, when one user record in it hashes outside the shard that holds it.
//! Source: amazon-kinesis-producer `aggregation-format.md` for the form, amazon-kinesis-client `AggregatorUtil.deaggregate` for the
//! rule. Anything that is not an aggregate, a damaged one included, is one user record by itself.

use bytes::Bytes;
use md5::{Digest, Md5};

use super::{check::hash_of, store::StoredRecord};

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_LEN: usize = 16;

/// One user record, as an application behind the library sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Its partition key.
    pub partition_key: String,
    /// Its explicit hash key.
    pub explicit_hash_key: Option<u128>,
    /// Its bytes.
    pub data: Bytes,
    /// Whether it came in an aggregate.
    pub aggregated: bool,
}

/// The library would have dropped every user record of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user record with partition key {partition_key:?} has hash key {hash}, which is not one of its shard: all {dropped} are dropped"
)]
pub struct Dropped {
    /// Of the first user record that is in the wrong shard.
    pub partition_key: String,
    /// Its hash key.
    pub hash: u128,
    /// User records in the aggregate.
    pub dropped: usize,
}

/// The user records in `record`, in their order.
pub fn user_records(record: &StoredRecord) -> Result<Vec<UserRecord>, Dropped> {
    let Some(users) = aggregate(&record.data) else {
        return Ok(vec![UserRecord {
            partition_key: record.partition_key.clone(),
            explicit_hash_key: record.explicit_hash_key,
            data: record.data.clone(),
            aggregated: false,
        }]);
    };
    let hash = |user: &UserRecord| user.explicit_hash_key.unwrap_or_else(|| hash_of(&user.partition_key));
    match users.iter().find(|user| !record.range.contains(hash(user))) {
        None => Ok(users),
        Some(stray) => Err(Dropped { partition_key: stray.partition_key.clone(), hash: hash(stray), dropped: users.len() }),
    }
}

/// None when `data` is no aggregate, or not a whole one.
fn aggregate(data: &Bytes) -> Option<Vec<UserRecord>> {
    let rest = data.strip_prefix(&MAGIC)?;
    let (message, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST_LEN)?)?;
    if message.is_empty() || Md5::digest(message)[..] != *digest {
        return None;
    }
    let (mut keys, mut hash_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(key)) => keys.push(str::from_utf8(key).ok()?),
            (2, Value::Bytes(key)) => hash_keys.push(str::from_utf8(key).ok()?.parse().ok()?),
            (3, Value::Bytes(record)) => records.push(record),
            _ => {}
        }
    }
    records.into_iter().map(|record| user_record(data, record, &keys, &hash_keys)).collect()
}

fn user_record(whole: &Bytes, record: &[u8], keys: &[&str], hash_keys: &[u128]) -> Option<UserRecord> {
    let (mut key, mut hash_key, mut data) = (None, None, None);
    for field in Fields(record) {
        match field? {
            (1, Value::Number(index)) => key = Some(*keys.get(usize::try_from(index).ok()?)?),
            (2, Value::Number(index)) => hash_key = Some(*hash_keys.get(usize::try_from(index).ok()?)?),
            (3, Value::Bytes(bytes)) => data = Some(whole.slice_ref(bytes)),
            _ => {}
        }
    }
    // Both are `required` in the schema: without them the library takes the record for damaged.
    Some(UserRecord { partition_key: key?.to_owned(), explicit_hash_key: hash_key, data: data?, aggregated: true })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message; `None` stands for a place where it is damaged, and is the last item.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
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
    use crate::{
        demo::kinesis::{HashRange, Sequence, ShardId},
        reading::Timestamp,
    };

    // Made by the PyPI aggregator of awslabs/kinesis-aggregation: dev-1:"hello", dev-2:"", dev-1:00ff.
    const PLAIN: &str = "f3899ac20a056465762d310a056465762d321a0908001a0568656c6c6f1a0408011a001a0608001a0200ff\
                         310f620b2bcc4dc890116c0ba020f9e9";
    // dev-1:"hello", dev-2:"world", both with the explicit hash key that is MD5("gw-7").
    const EXPLICIT: &str = "f3899ac20a056465762d310a056465762d3212263636323733313732353738373631383231363931393033323238353339\
                            3438333436393030391a0b080010001a0568656c6c6f1a0b080110001a05776f726c64e26dddbf31c49427b6c517259ee4442d";

    fn stored(hex: &str, range: HashRange) -> StoredRecord {
        let data: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        StoredRecord {
            shard: ShardId(0),
            range,
            sequence: Sequence(1),
            partition_key: "a".into(),
            explicit_hash_key: None,
            data: data.into(),
            arrived: Timestamp(0),
        }
    }

    fn texts(users: &[UserRecord]) -> Vec<(&str, &[u8])> {
        users.iter().map(|user| (user.partition_key.as_str(), &user.data[..])).collect()
    }

    #[test]
    fn an_aggregate_made_by_others_is_read_back() {
        let plain = user_records(&stored(PLAIN, HashRange::ALL)).unwrap();
        let explicit = user_records(&stored(EXPLICIT, HashRange::ALL)).unwrap();

        assert_eq!(texts(&plain), [("dev-1", &b"hello"[..]), ("dev-2", b""), ("dev-1", b"\x00\xff")]);
        assert_eq!(texts(&explicit), [("dev-1", &b"hello"[..]), ("dev-2", b"world")]);
        assert_eq!(explicit[0].explicit_hash_key, Some(hash_of("gw-7")));
    }

    #[test]
    fn one_user_record_outside_its_shard_drops_the_whole_aggregate() {
        let only_dev_1 = HashRange { start: hash_of("dev-1"), end: hash_of("dev-1") };
        let gateway = HashRange { start: hash_of("gw-7"), end: hash_of("gw-7") };

        let dropped = user_records(&stored(PLAIN, only_dev_1)).unwrap_err();

        assert_eq!((dropped.partition_key.as_str(), dropped.dropped), ("dev-2", 3));
        assert_eq!(user_records(&stored(EXPLICIT, gateway)).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_aggregate_is_one_user_record_by_itself_wherever_it_lies() {
        let nowhere = HashRange { start: 5, end: 5 };
        let damaged = PLAIN.replace("68656c6c6f", "68656c6c70");

        for hex in ["", "f3899ac2", "00ff", &damaged] {
            let users = user_records(&stored(hex, nowhere)).unwrap();
            assert_eq!((users.len(), users[0].aggregated, users[0].partition_key.as_str()), (1, false, "a"), "{hex}");
        }
    }
}
