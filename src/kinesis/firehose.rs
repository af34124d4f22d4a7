//! Amazon Data Firehose: puts. The only file that knows this SDK's operations.
//!
//! What was put can't be read back here: Firehose hands it on to S3 or wherever its stream leads.

use std::{net::SocketAddr, time::Duration};

use aws_sdk_firehose::{
    primitives::Blob,
    types::{PutRecordBatchResponseEntry, Record},
};

use super::{
    Answer, Cause, ClientError, PutError, Service,
    answer::harmless,
    error::{SLOW_DOWN, Verdict, verdict},
    guard::SystemNames,
    link::{Link, PUT_ANSWER, Way},
};
use crate::config::KinesisConfig;

/// A client of one endpoint; cheap to clone.
#[derive(Clone, Debug)]
pub struct Firehose {
    sdk: aws_sdk_firehose::Client,
    link: Link,
}

impl Firehose {
    /// Gets everything ready. Reads the files that `config` names; contacts nobody.
    #[expect(clippy::unused_async, reason = "a source of credentials may have to be waited for one day")]
    pub async fn open(config: &KinesisConfig) -> Result<Self, ClientError> {
        let (link, settings) = Link::open(Service::Firehose, config, SystemNames)?;
        Ok(Self { sdk: aws_sdk_firehose::Client::new(&settings), link })
    }

    /// The endpoint's URL.
    pub fn endpoint(&self) -> &str {
        self.link.endpoint()
    }

    /// The address of the last connection, or else the one that was tried last.
    pub fn address(&self) -> Option<SocketAddr> {
        self.link.address()
    }

    /// One `PutRecordBatch`, over within `timeout`. The answers are in the order of `records`, and as many.
    pub async fn put(&self, stream: &str, records: Vec<Vec<u8>>, timeout: Duration) -> Result<Vec<Answer>, PutError> {
        let sent = records.len();
        if sent == 0 {
            return Ok(Vec::new());
        }
        let target = self.link.target(stream);
        let records = match records.into_iter().map(|data| Record::builder().data(Blob::new(data)).build()).collect() {
            Ok(records) => records,
            Err(error) => return Err(PutError::Invalid { target, source: Cause::from(error) }),
        };
        let request = self.sdk.put_record_batch().delivery_stream_name(stream).set_records(Some(records)).customize();
        let way = Way::reading(PUT_ANSWER);
        match self.link.send(timeout, &way, |way| request.interceptor(way).send()).await {
            Ok(output) => answers(output.request_responses, sent)
                .map_err(|source| PutError::Unknown { target, source: way.with_answer(source) }),
            Err(failure) => Err(self.link.put_error(target, failure).await),
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
