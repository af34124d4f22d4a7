//! `PutRecordBatch` of Amazon Data Firehose, at the same address: its rules, and what its streams took.
//!
//! What the service would deliver to a bucket is kept here in the order of arrival. A Firehose stream takes what one shard takes, which
//! is what the service gives one in most regions.
//!
//! Source of all bounds: Firehose API reference, `PutRecordBatch` and `Record`.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    answer::{self, ACCOUNT, Refusal},
    check::{Text, broken, parse},
    fault::Failure,
    put::{Outcome, instead},
    server::{Moment, State},
    store::{Refused, Store},
    tank::Tank,
};

/// Most records in one request.
const MAX_RECORDS: usize = 500;
/// Most bytes in one request, before base64.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// Most bytes in one record, before base64.
const MAX_RECORD_BYTES: usize = 1000 << 10;

/// One Firehose stream.
#[derive(Debug)]
pub struct Delivery {
    tank: Tank,
    records: Vec<Bytes>,
}

/// A batch that keeps the rules.
#[derive(Debug)]
pub struct Batch {
    stream: String,
    records: Vec<Bytes>,
}

impl Batch {
    /// Reads the body of a request.
    pub fn of(body: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct PutRecordBatch<'a> {
            delivery_stream_name: String,
            #[serde(borrow)]
            records: Vec<Entry<'a>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry<'a> {
            #[serde(borrow)]
            data: Text<'a>,
        }
        let PutRecordBatch { delivery_stream_name: stream, records: entries } = parse(body)?;
        let mut mistakes = Vec::new();
        if entries.is_empty() {
            mistakes.push(broken("records", "have length greater than or equal to 1"));
        }
        if entries.len() > MAX_RECORDS {
            mistakes.push(broken("records", &format!("have length less than or equal to {MAX_RECORDS}")));
        }
        let mut records = Vec::with_capacity(entries.len().min(MAX_RECORDS));
        for (place, Entry { data }) in entries.into_iter().enumerate() {
            let field = format!("records.{}.member.data", place + 1);
            let data = base64_simd::STANDARD.decode_to_vec(data.0.as_bytes());
            let data = data.map_err(|_| Refusal::bad("SerializationException", format!("{field} is not base64")))?;
            if data.len() > MAX_RECORD_BYTES {
                mistakes.push(broken(&field, &format!("have length less than or equal to {MAX_RECORD_BYTES}")));
            }
            records.push(Bytes::from(data));
        }
        if !mistakes.is_empty() {
            return Err(Refusal::validation(&mistakes));
        }
        if records.iter().map(Bytes::len).sum::<usize>() > MAX_REQUEST_BYTES {
            return Err(Refusal::argument("Records size exceeds 4 MB limit"));
        }
        Ok(Self { stream, records })
    }
}

/// Answers `PutRecordBatch`.
pub fn put(batch: Batch, state: &mut State, moment: Moment) -> Result<Outcome, Refusal> {
    let State { store, faults, .. } = state;
    store.counts.puts += 1;
    let Batch { stream, records } = batch;
    let no_stream = || Refusal::bad("ResourceNotFoundException", format!("Firehose {stream} under account {ACCOUNT} not found."));
    if !store.deliveries.contains_key(&stream) {
        return Err(no_stream());
    }
    let (invalid, one_by_one) = faults.poisoned(records.iter().map(|record| &record[..]));
    if let Some(place) = invalid.first().filter(|_| !one_by_one) {
        let what = format!("Value at 'records.{}.member.data' is called invalid on command", place + 1);
        return Err(Refusal::validation(&[what]));
    }
    let failure = faults.for_put();
    let bytes = records.iter().map(Bytes::len).sum();
    if let Some(instead) = failure.and_then(|failure| instead(failure, bytes, no_stream, "firehose:PutRecordBatch")) {
        return instead;
    }
    let (count, lie) = (records.len(), |count| (0..count).map(|_| Ok(store.end().to_string())).collect());
    let answers: Vec<Answer> = match failure {
        Some(Failure::TooFewRecords) => lie(count.saturating_sub(1)),
        Some(Failure::TooManyRecords) => lie(count + 1),
        _ => {
            let refuse = |place: usize| match failure {
                _ if invalid.binary_search(&place).is_ok() => Some(Refused::Invalid),
                Some(Failure::RefuseEvery(n)) if n > 0 && place.is_multiple_of(n) => Some(Refused::Throughput),
                _ => faults.refuses_record().then_some(Refused::Internal),
            };
            store.deliver(&stream, records, refuse, moment.since_start)
        }
    };
    let failed_put_count = answers.iter().filter(|answer| answer.is_err()).count();
    let request_responses = answers.into_iter().map(EntryResult::from).collect();
    let result = PutResult { failed_put_count, encrypted: false, request_responses };
    Ok(match failure {
        Some(Failure::StoreThenClose) => None,
        Some(Failure::HalfAnAnswer) => Some(answer::half(&result)),
        _ => Some(answer::json(&result)),
    })
}

/// The name of a record that was taken, or why it was not.
type Answer = Result<String, Refused>;

impl Store {
    /// Creates a Firehose stream; `false` when it exists.
    pub(super) fn create_delivery(&mut self, stream: &str, now: Duration) -> bool {
        let new = !self.deliveries.contains_key(stream);
        if new {
            self.deliveries.insert(stream.to_owned(), Delivery { tank: Tank::full(now), records: Vec::new() });
        }
        new
    }

    /// The records that a Firehose stream took, in the order of their arrival.
    pub fn delivered(&self, stream: &str) -> &[Bytes] {
        self.deliveries.get(stream).map_or(&[], |delivery| &delivery.records)
    }

    fn deliver(
        &mut self,
        stream: &str,
        records: Vec<Bytes>,
        mut refuse: impl FnMut(usize) -> Option<Refused>,
        now: Duration,
    ) -> Vec<Answer> {
        let Some(delivery) = self.deliveries.get_mut(stream) else { return Vec::new() };
        let mut answers = Vec::with_capacity(records.len());
        for (place, data) in records.into_iter().enumerate() {
            let size = data.len();
            let mut full = || self.limits.as_ref().is_some_and(|limits| !delivery.tank.take(now, limits, size));
            if let Some(why) = refuse(place).or_else(|| full().then_some(Refused::Throughput)) {
                self.counts.refused_records += 1;
                self.counts.refused_bytes += size as u64;
                answers.push(Err(why));
                continue;
            }
            self.counts.records += 1;
            self.counts.record_bytes += size as u64;
            delivery.records.push(data);
            answers.push(Ok(format!("{stream}-{}", delivery.records.len())));
        }
        answers
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutResult {
    failed_put_count: usize,
    encrypted: bool,
    request_responses: Vec<EntryResult>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum EntryResult {
    #[serde(rename_all = "PascalCase")]
    Taken { record_id: String },
    #[serde(rename_all = "PascalCase")]
    Refused { error_code: &'static str, error_message: String },
}

impl From<Answer> for EntryResult {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(record_id) => Self::Taken { record_id },
            Err(Refused::Throughput) => {
                Self::Refused { error_code: "ServiceUnavailableException", error_message: "Slow down.".into() }
            }
            Err(Refused::Internal) => {
                let Refusal { code, message, .. } = Refusal::internal();
                Self::Refused { error_code: code, error_message: message }
            }
            Err(Refused::Invalid) => {
                let error_message = "the record is called invalid on command".into();
                Self::Refused { error_code: "InvalidArgumentException", error_message }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sizes: &[usize]) -> Result<usize, &'static str> {
        let entry = |size: &usize| serde_json::json!({ "Data": base64_simd::STANDARD.encode_to_string(vec![0; *size]) });
        let records: Vec<_> = sizes.iter().map(entry).collect();
        let body = serde_json::json!({ "DeliveryStreamName": "s", "Records": records }).to_string();
        Batch::of(body.as_bytes()).map(|batch| batch.records.len()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_batch_has_one_to_five_hundred_records_of_a_thousand_kibibytes_and_four_mebibytes_in_all() {
        assert_eq!(batch(&[MAX_RECORD_BYTES]), Ok(1));
        assert_eq!(batch(&[MAX_RECORD_BYTES + 1]), Err("ValidationException"));
        assert_eq!(batch(&[]), Err("ValidationException"));
        assert_eq!(batch(&[1; 500]), Ok(500));
        assert_eq!(batch(&[1; 501]), Err("ValidationException"));
        let quarter = MAX_RECORD_BYTES;
        let rest = MAX_REQUEST_BYTES - 4 * quarter;
        assert_eq!(batch(&[quarter, quarter, quarter, quarter, rest]), Ok(5));
        assert_eq!(batch(&[quarter, quarter, quarter, quarter, rest + 1]), Err("InvalidArgumentException"));
    }
}
