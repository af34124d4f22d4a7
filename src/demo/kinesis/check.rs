//! The rules that hold for a put before any shard sees it.
//!
//! Most of a benchmark's bytes pass here, so texts are borrowed from the body, and data is decoded straight into the buffer that is
//! kept. Source of all bounds: Kinesis API reference, PutRecords and `PutRecordsRequestEntry`.

use std::borrow::Cow;

use md5::{Digest, Md5};
use serde::Deserialize;

use super::{answer::Refusal, store::Incoming, tank::MAX_RECORD_BYTES};

/// Most records in one request.
pub const MAX_RECORDS: usize = 500;
/// Most bytes in one request: data before base64, and partition keys.
pub const MAX_REQUEST_BYTES: usize = 10 << 20;
/// Most characters in a partition key.
const MAX_KEY_CHARS: usize = 256;

/// A text of a request, borrowed unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Reads a request's body.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad("SerializationException", error.to_string()))
}

/// The stream that a request means, by name or by ARN.
pub fn stream_name(name: Option<Text<'_>>, arn: Option<Text<'_>>) -> Result<String, Refusal> {
    let by_arn = |arn: Text<'_>| arn.0.rsplit_once(":stream/").map(|(_, name)| name.to_owned());
    let name = name.map(|name| name.0.into_owned()).or_else(|| by_arn(arn?));
    name.ok_or_else(|| Refusal::argument("Either StreamARN or StreamName must be provided."))
}

/// A put that keeps the rules.
#[derive(Debug)]
pub struct Put {
    /// The stream's name; there may be no such stream.
    pub stream: String,
    /// In the order of the request.
    pub records: Vec<Incoming>,
    /// Only asks whether it would be accepted.
    pub dry_run: bool,
}

impl Put {
    /// Reads the body of a PutRecords request.
    pub fn many(body: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct PutRecords<'a> {
            #[serde(borrow)]
            stream_name: Option<Text<'a>>,
            #[serde(borrow, rename = "StreamARN")]
            stream_arn: Option<Text<'a>>,
            #[serde(borrow)]
            records: Vec<Entry<'a>>,
            #[serde(default)]
            dry_run: bool,
        }
        let PutRecords { stream_name: name, stream_arn, records: entries, dry_run } = parse(body)?;
        let mut mistakes = Vec::new();
        if entries.is_empty() {
            mistakes.push(broken("records", "have length greater than or equal to 1"));
        }
        if entries.len() > MAX_RECORDS {
            mistakes.push(broken("records", &format!("have length less than or equal to {MAX_RECORDS}")));
        }
        let mut records = Vec::with_capacity(entries.len().min(MAX_RECORDS));
        for (place, entry) in entries.into_iter().enumerate() {
            records.push(entry.check(Some(place), &mut mistakes)?);
        }
        if !mistakes.is_empty() {
            return Err(Refusal::validation(&mistakes));
        }
        if records.iter().map(Incoming::size).sum::<usize>() > MAX_REQUEST_BYTES {
            return Err(Refusal::argument("Records size exceeds 10 MB limit"));
        }
        Ok(Self { stream: stream_name(name, stream_arn)?, records, dry_run })
    }

    /// Reads the body of a `PutRecord` request.
    pub fn one(body: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct PutRecord<'a> {
            #[serde(borrow)]
            stream_name: Option<Text<'a>>,
            #[serde(borrow, rename = "StreamARN")]
            stream_arn: Option<Text<'a>>,
            #[serde(borrow)]
            data: Text<'a>,
            #[serde(borrow)]
            partition_key: Text<'a>,
            #[serde(borrow)]
            explicit_hash_key: Option<Text<'a>>,
            #[serde(default)]
            dry_run: bool,
        }
        let PutRecord { stream_name: name, stream_arn, data, partition_key, explicit_hash_key, dry_run } = parse(body)?;
        let mut mistakes = Vec::new();
        let record = Entry { data, partition_key, explicit_hash_key }.check(None, &mut mistakes)?;
        if !mistakes.is_empty() {
            return Err(Refusal::validation(&mistakes));
        }
        Ok(Self { stream: stream_name(name, stream_arn)?, records: vec![record], dry_run })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    data: Text<'a>,
    #[serde(borrow)]
    partition_key: Text<'a>,
    #[serde(borrow)]
    explicit_hash_key: Option<Text<'a>>,
}

impl Entry<'_> {
    /// Adds what breaks the API's model to `mistakes`, which all count; the error is what ends the reading of a request at once.
    fn check(self, place: Option<usize>, mistakes: &mut Vec<String>) -> Result<Incoming, Refusal> {
        let field = |name: &str| place.map_or_else(|| name.to_owned(), |place| format!("records.{}.member.{name}", place + 1));
        let Self { data, partition_key: Text(key), explicit_hash_key } = self;
        let data = base64_simd::STANDARD.decode_to_vec(data.0.as_bytes());
        let data = data.map_err(|_| Refusal::bad("SerializationException", format!("{} is not base64", field("data"))))?;

        if data.len() + key.len() > MAX_RECORD_BYTES {
            mistakes.push(broken(&field("data"), &format!("have length less than or equal to {MAX_RECORD_BYTES}")));
        }
        if key.is_empty() {
            mistakes.push(broken(&field("partitionKey"), "have length greater than or equal to 1"));
        }
        if key.len() > MAX_KEY_CHARS && key.chars().count() > MAX_KEY_CHARS {
            mistakes.push(broken(&field("partitionKey"), &format!("have length less than or equal to {MAX_KEY_CHARS}")));
        }
        let explicit_hash_key = match explicit_hash_key {
            Some(Text(text)) if !is_decimal(&text) => {
                mistakes.push(broken(&field("explicitHashKey"), r"satisfy regular expression pattern: 0|([1-9]\d{0,38})"));
                None
            }
            Some(Text(text)) => Some(text.parse().map_err(|_| {
                let rule = "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1].";
                Refusal::argument(format!("{rule} Specified value was {text}"))
            })?),
            None => None,
        };
        let hash = explicit_hash_key.unwrap_or_else(|| hash_of(&key));
        Ok(Incoming { partition_key: key.into_owned(), explicit_hash_key, hash, data: data.into() })
    }
}

pub(super) fn broken(field: &str, rule: &str) -> String {
    format!("Value at '{field}' failed to satisfy constraint: Member must {rule}")
}

fn is_decimal(text: &str) -> bool {
    let digits = (1..=39).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}

/// The hash key of a record without an explicit one: the MD5 of its partition key, as a big-endian number.
pub fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(records: &[(usize, &str, Option<&str>)]) -> Result<Put, Refusal> {
        let entry = |(size, key, hash): &(usize, &str, Option<&str>)| {
            let data = base64_simd::STANDARD.encode_to_string(vec![0; *size]);
            serde_json::json!({ "Data": data, "PartitionKey": key, "ExplicitHashKey": hash })
        };
        let records: Vec<_> = records.iter().map(entry).collect();
        Put::many(serde_json::json!({ "StreamName": "s", "Records": records }).to_string().as_bytes())
    }

    #[test]
    fn a_record_of_full_size_passes_and_one_byte_more_fails_the_whole_request() {
        let full = MAX_RECORD_BYTES - 1;

        assert!(put(&[(full, "k", None)]).is_ok());
        let refused = put(&[(1, "k", None), (full + 1, "k", None)]).unwrap_err();

        assert_eq!(refused.code, "ValidationException");
        assert_eq!(
            refused.message,
            "1 validation error detected: Value at 'records.2.member.data' failed to satisfy constraint: \
             Member must have length less than or equal to 1048576"
        );
    }

    #[test]
    fn a_request_has_one_to_five_hundred_records_and_ten_mebibytes() {
        assert!(put(&vec![(1, "k", None); 500]).is_ok());
        assert_eq!(put(&vec![(1, "k", None); 501]).unwrap_err().code, "ValidationException");
        assert_eq!(put(&[]).unwrap_err().code, "ValidationException");
        assert!(put(&[((1 << 20) - 1, "k", None); 10]).is_ok());
        assert_eq!(put(&[((1 << 20) - 1, "k", None); 11]).unwrap_err().code, "InvalidArgumentException");
    }

    #[test]
    fn a_partition_key_has_1_to_256_characters_whatever_their_bytes() {
        assert!(put(&[(1, &"ü".repeat(256), None)]).is_ok());
        assert_eq!(put(&[(1, &"ü".repeat(257), None)]).unwrap_err().code, "ValidationException");
        assert_eq!(put(&[(1, "", None)]).unwrap_err().code, "ValidationException");
        assert_eq!(put(&[(1, "a \"quoted\" \\ key", None)]).unwrap().records[0].partition_key, "a \"quoted\" \\ key");
    }

    #[test]
    fn an_explicit_hash_key_is_a_plain_decimal_of_128_bits() {
        let hash = |text| put(&[(1, "k", Some(text))]).map(|put| put.records[0].hash).map_err(|refusal| refusal.code);

        assert_eq!(hash("0"), Ok(0));
        assert_eq!(hash("340282366920938463463374607431768211455"), Ok(u128::MAX));
        assert_eq!(hash("340282366920938463463374607431768211456"), Err("InvalidArgumentException"));
        assert_eq!(hash("007"), Err("ValidationException"));
        assert_eq!(hash("-1"), Err("ValidationException"));
        assert_eq!(put(&[(1, "gw-7", None)]).unwrap().records[0].hash, 66_273_172_578_761_821_691_903_228_539_483_469_009);
    }

    #[test]
    fn every_mistake_of_a_request_is_named() {
        let refused = put(&[(1, "", Some("x")), (1 << 20, "k", None)]).unwrap_err();

        assert!(refused.message.starts_with("3 validation errors detected"), "{}", refused.message);
        assert!(refused.message.contains("records.1.member.explicitHashKey") && refused.message.contains("records.2.member.data"));
    }
}
