//! PutRecords and `PutRecord`: what is stored, and what is answered.
//!
//! Invariant: an answer has as many entries as the request had records, in the same order, unless a fault on command says otherwise.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    answer::{self, ACCOUNT, Refusal},
    check::Put,
    fault::Failure,
    server::{Moment, State},
    shards::ShardId,
    store::{Answer, Refused},
};

/// What comes of a put; none: the connection closes without an answer.
pub type Outcome = Option<Response>;

/// Answers PutRecords.
pub fn many(put: Put, state: &mut State, moment: Moment) -> Result<Outcome, Refusal> {
    let stream = put.stream.clone();
    let (answers, half) = match store(put, state, moment)? {
        Stored::Answers(answers) => (answers, false),
        Stored::Half(answers) => (answers, true),
        Stored::Instead(outcome) => return Ok(outcome),
    };
    let failed_record_count = answers.iter().filter(|answer| answer.is_err()).count();
    let records = answers.into_iter().map(|answer| EntryResult::new(&stream, answer)).collect();
    let result = PutResult { failed_record_count, records, encryption_type: "NONE" };
    Ok(Some(if half { answer::half(&result) } else { answer::json(&result) }))
}

/// Answers `PutRecord`, which has no partial failure: its one record is refused as a whole request.
pub fn one(put: Put, state: &mut State, moment: Moment) -> Result<Outcome, Refusal> {
    let stream = put.stream.clone();
    let answers = match store(put, state, moment)? {
        Stored::Answers(answers) | Stored::Half(answers) => answers,
        Stored::Instead(outcome) => return Ok(outcome),
    };
    let answer = answers.into_iter().next().ok_or_else(Refusal::internal)?;
    answer
        .map(|stored| Some(answer::json(&EntryResult::new(&stream, Ok(stored)))))
        .map_err(|(shard, why)| refusal(&stream, shard, why))
}

enum Stored {
    /// Record by record.
    Answers(Vec<Answer>),
    /// Record by record, and half of it gets through.
    Half(Vec<Answer>),
    /// A fault took over.
    Instead(Outcome),
}

fn store(put: Put, state: &mut State, moment: Moment) -> Result<Stored, Refusal> {
    let State { store, faults, .. } = state;
    store.counts.puts += 1;
    let Put { stream, records, dry_run } = put;
    if store.shards(&stream).is_none() {
        return Err(Refusal::no_stream(&stream));
    }
    if dry_run {
        return Err(Refusal::bad("DryRunOperationException", "Request would have succeeded, but DryRun is set."));
    }
    let (invalid, one_by_one) = faults.poisoned(records.iter().map(|record| &record.data[..]));
    if let Some(place) = invalid.first().filter(|_| !one_by_one) {
        let what = format!("Value at 'records.{}.member.data' is called invalid on command", place + 1);
        return Err(Refusal::validation(&[what]));
    }
    let failure = faults.for_put();
    let bytes = records.iter().map(|record| record.data.len()).sum();
    let no_stream = || Refusal::no_stream(&stream);
    if let Some(instead) = failure.and_then(|failure| instead(failure, bytes, no_stream, "kinesis:PutRecords")) {
        return instead.map(Stored::Instead);
    }
    match failure {
        Some(Failure::TooFewRecords) => {
            let one_less = records.len().saturating_sub(1);
            return Ok(Stored::Answers((0..one_less).map(|_| Ok((ShardId(0), store.end()))).collect()));
        }
        Some(Failure::TooManyRecords) => {
            return Ok(Stored::Answers((0..=records.len()).map(|_| Ok((ShardId(0), store.end()))).collect()));
        }
        _ => {}
    }
    let refuse = |place: usize| match failure {
        _ if invalid.binary_search(&place).is_ok() => Some(Refused::Invalid),
        Some(Failure::RefuseEvery(n)) if n > 0 && place.is_multiple_of(n) => Some(Refused::Throughput),
        _ => faults.refuses_record().then_some(Refused::Internal),
    };
    let answers = store.put(&stream, records, refuse, moment.since_start, moment.wall);
    let answers = answers.ok_or_else(|| Refusal::no_stream(&stream))?;
    if failure == Some(Failure::StoreThenClose) {
        return Ok(Stored::Instead(None));
    }
    if failure == Some(Failure::HalfAnAnswer) {
        return Ok(Stored::Half(answers));
    }
    Ok(Stored::Answers(answers))
}

/// What becomes of a put of `bytes` that nothing is stored of; none when it goes on.
pub(super) fn instead(
    failure: Failure,
    bytes: usize,
    no_stream: impl FnOnce() -> Refusal,
    action: &str,
) -> Option<Result<Outcome, Refusal>> {
    let answered = match failure {
        Failure::InternalFailure => return Some(Err(Refusal::internal())),
        Failure::AccessDenied => {
            return Some(Err(Refusal::bad("AccessDeniedException", format!("not authorized to perform: {action}"))));
        }
        Failure::ResourceNotFound => return Some(Err(no_stream())),
        Failure::ExpiredToken => {
            let message = "The security token included in the request is expired";
            return Some(Err(Refusal::bad("ExpiredTokenException", message)));
        }
        Failure::Validation => return Some(Err(Refusal::validation(&["Value at 'records' was refused on command".into()]))),
        Failure::Code(code) => return Some(Err(Refusal::bad(code, "refused on command"))),
        Failure::CloseBeforeStore => return Some(Ok(None)),
        Failure::BadGateway => answer::bad_gateway(),
        Failure::Unavailable => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Failure::Page(status) => answer::page(status),
        Failure::TooLargeBeyond(most) if bytes > most => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Failure::Garbage => answer::garbage(),
        Failure::ErrorInside => answer::error_inside(),
        Failure::Endless => answer::endless(),
        Failure::Trickle => answer::trickle(),
        Failure::Gzip => answer::gzip(),
        Failure::Never => answer::never(),
        Failure::TooLargeBeyond(_)
        | Failure::TooFewRecords
        | Failure::TooManyRecords
        | Failure::RefuseEvery(_)
        | Failure::StoreThenClose
        | Failure::HalfAnAnswer => return None,
    };
    Some(Ok(Some(answered)))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutResult {
    failed_record_count: usize,
    records: Vec<EntryResult>,
    encryption_type: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum EntryResult {
    #[serde(rename_all = "PascalCase")]
    Stored { sequence_number: String, shard_id: String },
    #[serde(rename_all = "PascalCase")]
    Refused { error_code: &'static str, error_message: String },
}

impl EntryResult {
    fn new(stream: &str, answer: Answer) -> Self {
        match answer {
            Ok((shard, sequence)) => Self::Stored { sequence_number: sequence.to_string(), shard_id: shard.to_string() },
            Err((shard, why)) => {
                let Refusal { code, message, .. } = refusal(stream, shard, why);
                Self::Refused { error_code: code, error_message: message }
            }
        }
    }
}

fn refusal(stream: &str, shard: ShardId, why: Refused) -> Refusal {
    match why {
        Refused::Internal => Refusal::internal(),
        Refused::Invalid => Refusal::argument("the record is called invalid on command"),
        Refused::Throughput => Refusal::bad(
            "ProvisionedThroughputExceededException",
            format!("Rate exceeded for shard {shard} in stream {stream} under account {ACCOUNT}."),
        ),
    }
}
