//! The body of a put, written while it is sent.
//!
//! Left to itself the SDK holds a request of 1 MiB four times over on its way to TLS: as records, in base64, in a JSON text that grows,
//! and for each of them the kernel has to find new pages. Here only the records are held. The text is written twice, 64 KiB at a time:
//! once for the signature's hash, and once for the connection. Everything else about the request stays the SDK's.
//!
//! Source of the form: Kinesis API Reference, `PutRecords`; Firehose API Reference, `PutRecordBatch`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut};
use aws_sigv4::http_request::SignableBody;
use aws_smithy_runtime_api::{box_error::BoxError, client::interceptors::dyn_dispatch_hint};
use aws_smithy_types::body::SdkBody;
use base64_simd::STANDARD;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::Record;

/// Bytes of text in one frame, about: small enough to be taken from the heap, and to stay in the cache until it is encrypted.
const FRAME: usize = 64 << 10;
/// Bytes of data that are encoded at a time: a multiple of three, so that base64 puts no padding in between.
const STEP: usize = 3 << 10;

/// What one put says, from some place on.
#[derive(Clone, Debug)]
pub(super) struct Body {
    parts: Arc<[Part]>,
    /// The part that comes next, and how many bytes of it are done.
    part: usize,
    done: usize,
    /// Bytes of text from here to the end.
    left: u64,
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// To be written in base64.
    Data(Vec<u8>),
}

impl Body {
    /// Of `PutRecords`.
    pub(super) fn of_records(stream: &str, records: Vec<Record>) -> Self {
        let records = records.into_iter().map(|record| {
            let hash_key = record.explicit_hash_key.map(|key| format!(r#""ExplicitHashKey":"{key}","#)).unwrap_or_default();
            (format!(r#""PartitionKey":{},{hash_key}"#, quoted(&record.partition_key)), record.data)
        });
        Self::new("StreamName", stream, records)
    }

    /// Of `PutRecordBatch`.
    pub(super) fn of_batch(stream: &str, records: Vec<Vec<u8>>) -> Self {
        Self::new("DeliveryStreamName", stream, records.into_iter().map(|data| (String::new(), data)))
    }

    /// `records` are their other members, and their data.
    fn new(name: &str, stream: &str, records: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        let mut text = format!(r#"{{"{name}":{},"Records":["#, quoted(stream));
        let mut parts = Vec::new();
        for (number, (members, data)) in records.enumerate() {
            let comma = if number > 0 { "," } else { "" };
            text.extend([comma, "{", &members, r#""Data":""#]);
            parts.extend([Part::Text(std::mem::take(&mut text)), Part::Data(data)]);
            text.push_str(r#""}"#);
        }
        text.push_str("]}");
        parts.push(Part::Text(text));
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts: parts.into(), part: 0, done: 0, left }
    }

    /// Writes what comes next to `frame`, which is empty; nothing at the end.
    fn write(&mut self, frame: &mut Vec<u8>) {
        while let Some(part) = self.parts.get(self.part).filter(|_| frame.len() < FRAME) {
            let step = match part {
                Part::Text(text) => {
                    frame.extend_from_slice(text.as_bytes());
                    text.len()
                }
                Part::Data(data) => {
                    let step = &data[self.done..data.len().min(self.done + STEP)];
                    STANDARD.encode_append(step, frame);
                    step.len()
                }
            };
            self.done += step;
            if self.done == part.bytes().len() {
                (self.part, self.done) = (self.part + 1, 0);
            }
        }
        self.left -= frame.len() as u64;
    }

    /// The hash that a signature is made of, in hexadecimal.
    fn hash(mut self) -> String {
        let (mut hash, mut frame) = (Sha256::new(), Vec::with_capacity(FRAME + STEP * 2));
        loop {
            frame.clear();
            self.write(&mut frame);
            if frame.is_empty() {
                return hexadecimal(&hash.finalize());
            }
            hash.update(&frame);
        }
    }
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Data(data) => data,
        }
    }

    /// Of the text that it becomes.
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Data(data) => STANDARD.encoded_length(data.len()),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// As a string of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut frame = Vec::with_capacity(FRAME + STEP * 2);
        self.write(&mut frame);
        Poll::Ready((!frame.is_empty()).then(|| Ok(Frame::data(frame.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Puts a body in the place of the one that the SDK wrote, before it is signed.
#[derive(Debug)]
pub(super) struct Written(Mutex<Option<Body>>);

impl Written {
    /// For one request.
    pub(super) fn new(body: Body) -> Self {
        Self(Mutex::new(Some(body)))
    }
}

#[dyn_dispatch_hint]
impl Intercept for Written {
    fn name(&self) -> &'static str {
        "Written"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or("a put is sent once")?;
        let mut signing = config.load::<SigV4OperationSigningConfig>().cloned().ok_or("a put is signed")?;
        signing.signing_options.payload_override = Some(SignableBody::Precomputed(body.clone().hash()));
        config.interceptor_state().store_put(signing);
        let request = context.request_mut();
        request.headers_mut().insert("content-length", body.left.to_string());
        *request.body_mut() = SdkBody::from_body_1_x(body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn frames(mut body: Body) -> Vec<Vec<u8>> {
        let next = || {
            let mut frame = Vec::new();
            body.write(&mut frame);
            (!frame.is_empty()).then_some(frame)
        };
        std::iter::from_fn(next).collect()
    }

    fn record(partition_key: &str, explicit_hash_key: Option<u128>, len: usize) -> Record {
        let data = (0..len).map(|place| u8::try_from(place % 251).unwrap()).collect();
        Record { partition_key: partition_key.into(), explicit_hash_key, data }
    }

    #[test]
    fn a_body_says_what_the_api_reference_asks_for_and_is_as_long_as_it_says() {
        for len in [0, 1, 2, 3, STEP - 1, STEP, STEP + 1, FRAME, 1_000 << 10] {
            let (first, second) = (record("gw/\"plant\"/0", None, len), record("k", Some(u128::MAX), 5));
            let body = Body::of_records("plant", vec![first.clone(), second.clone()]);
            let left = body.left;

            let text = frames(body).concat();

            assert_eq!(text.len() as u64, left, "{len}");
            let expected = json!({ "StreamName": "plant", "Records": [
                { "PartitionKey": "gw/\"plant\"/0", "Data": STANDARD.encode_to_string(&first.data) },
                { "PartitionKey": "k", "ExplicitHashKey": u128::MAX.to_string(), "Data": STANDARD.encode_to_string(&second.data) },
            ] });
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected, "{len}");
        }
        let text = frames(Body::of_batch("plant", vec![vec![1], vec![2]])).concat();
        let expected = json!({ "DeliveryStreamName": "plant", "Records": [{ "Data": "AQ==" }, { "Data": "Ag==" }] });
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn it_is_held_one_frame_at_a_time_and_the_hash_is_of_what_is_sent() {
        let body = Body::of_records("plant", (0..500).map(|_| record("k", None, 2_000)).collect());

        let frames = frames(body.clone());

        assert!(frames.iter().all(|frame| frame.len() <= FRAME + STEP * 2), "{:?}", frames.iter().map(Vec::len).max());
        assert!(frames.len() < 30, "few frames, though there are many records: {}", frames.len());
        assert_eq!(body.hash(), hexadecimal(&Sha256::digest(frames.concat())));
    }
}
