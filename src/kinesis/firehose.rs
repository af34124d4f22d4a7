//! Amazon Data Firehose: puts. The only file that knows this SDK's operations.
//!
//! What was put can't be read back here: Firehose hands it on to S3 or wherever its stream leads.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aws_sdk_firehose::types::PutRecordBatchResponseEntry;
use tracing::debug;

use super::{
    Answer, Cause, ClientError, PutError, Service, Trial,
    answer::harmless,
    body::{Body, Written},
    clock::ServiceClock,
    credentials::HeldCredentials,
    guard::SystemNames,
    link::{LOOK_TIMEOUT, Link, PUT_ANSWER},
    verdict::{SLOW_DOWN, Verdict, verdict},
    way::Failure,
};
use crate::config::KinesisConfig;

/// A client of one region and account, by any of its endpoints; cheap to clone.
#[derive(Clone, Debug)]
pub struct Firehose(Link<aws_sdk_firehose::Client>);

impl Firehose {
    /// Gets everything ready. Reads the files that `config` names; contacts nobody.
    #[expect(clippy::unused_async, reason = "a source of credentials may have to be waited for one day")]
    pub async fn open(config: &KinesisConfig) -> Result<Self, ClientError> {
        Link::open(Service::Firehose, config, SystemNames, aws_sdk_firehose::Client::new).map(Self)
    }

    /// The URL that the next request goes to.
    pub fn endpoint(&self) -> &str {
        self.0.endpoint()
    }

    /// The address of the last connection there, or else the one that was tried last.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address()
    }

    /// What its requests are signed with, and at what time.
    pub fn signing(&self) -> (HeldCredentials, ServiceClock) {
        self.0.signing()
    }

    /// One `PutRecordBatch`, over within `timeout`. The answers are in the order of `records`, and as many.
    pub async fn put(&self, stream: &str, records: Vec<Vec<u8>>, timeout: Duration) -> Result<Vec<Answer>, PutError> {
        let sent = records.len();
        if sent == 0 {
            return Ok(Vec::new());
        }
        let passage = self.0.passage();
        let target = passage.target(stream);
        let request = passage.sdk().put_record_batch().delivery_stream_name(stream).set_records(Some(Vec::new())).customize();
        let request = request.interceptor(Written::new(Body::of_batch(stream, records)));
        let way = passage.way(PUT_ANSWER);
        match passage.send(timeout, &way, |way| request.interceptor(way).send()).await {
            Ok(output) => {
                answers(output.request_responses, sent).map_err(|why| PutError::Unknown { target, source: way.no_answer(&*why) })
            }
            Err(failure) => Err(passage.put_error(target, failure)),
        }
    }

    /// When an endpoint that was left should be asked whether it is back: the question. It needs no answer: from then on the endpoint
    /// is used again, or left for longer.
    pub fn look(&self, stream: &str, now: Instant) -> Option<impl Future<Output = ()> + Send + 'static> {
        let place = self.0.look(now)?;
        let (client, stream) = (self.clone(), stream.to_owned());
        Some(async move {
            let passage = client.0.passage_to(place);
            // Without a record it stores nothing anywhere, and the service says that it is invalid, which is an answer too.
            let request = passage.sdk().put_record_batch().delivery_stream_name(&stream).set_records(Some(Vec::new())).customize();
            let asked = passage.send(LOOK_TIMEOUT, &passage.way(PUT_ANSWER), |way| request.interceptor(way).send()).await;
            debug!(endpoint = &*passage.target(&stream).endpoint, back = asked.is_ok(), "asked an endpoint whether it is back");
        })
    }

    /// Endpoints before that one in the list, and why they are not used.
    pub fn left(&self) -> Vec<(&str, String)> {
        self.0.left()
    }

    /// The layers of the way, to be tried out.
    pub fn trial(&self) -> Trial {
        self.0.trial()
    }

    /// Asks the endpoint at `place` of [`Self::trial`] for an answer of any kind. Firehose has no rehearsal, so this is an empty batch,
    /// which it calls invalid; whether `stream` exists and may be used stays open.
    pub async fn knock(&self, place: usize, stream: &str, timeout: Duration) -> Result<(), PutError> {
        let passage = self.0.passage_to(place);
        let request = passage.sdk().put_record_batch().delivery_stream_name(stream).set_records(Some(Vec::new())).customize();
        match passage.send(timeout, &passage.way(PUT_ANSWER), |way| request.interceptor(way).send()).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(refusal)) if refusal.verdict() == Verdict::Invalid => Ok(()),
            Err(failure) => Err(passage.put_error(passage.target(stream), failure)),
        }
    }
}

fn answers(results: Vec<PutRecordBatchResponseEntry>, sent: usize) -> Result<Vec<Answer>, Cause> {
    if results.len() != sent {
        return Err(format!("it answers for {} of {sent} records", results.len()).into());
    }
    results.into_iter().map(answer).collect()
}

fn answer(result: PutRecordBatchResponseEntry) -> Result<Answer, Cause> {
    let message = harmless(&result.error_message.unwrap_or_default());
    match (result.error_code, result.record_id) {
        // Of one record among others it always means that: the service itself is there.
        (Some(code), _) if code == SLOW_DOWN => Ok(Answer::Throttled { message }),
        (Some(code), _) => Ok(match verdict(200, &code) {
            Verdict::Throttled => Answer::Throttled { message },
            Verdict::Invalid => Answer::Invalid { code, message },
            _ => Answer::Failed { code, message },
        }),
        (None, Some(id)) => Ok(Answer::Accepted { shard: String::new(), sequence: id }),
        (None, None) => Err("it neither took nor refused a record".into()),
    }
}
