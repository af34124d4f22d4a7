//! One request: read, checked, given to its operation, answered.
//!
//! All that requests change is behind one lock, which is not held while a body is read or its data decoded.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{self, ConnectInfo, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::{
    answer::{self, Refusal},
    auth,
    check::{MAX_REQUEST_BYTES, Put},
    control,
    fault::{Faults, Pace},
    firehose::{self, Batch},
    line::{Line, Uplink},
    put, read,
    store::Store,
};
use crate::{clock, reading::Timestamp};

/// Room for a full request in base64, and for the JSON around it. A longer body is answered with 413.
const MAX_BODY: usize = MAX_REQUEST_BYTES / 3 * 4 + (1 << 20);

/// What requests and controls change.
#[derive(Debug)]
pub struct State {
    /// Streams, shards, records, counts.
    pub store: Store,
    /// What is to go wrong.
    pub faults: Faults,
    /// How quickly bytes come through.
    pub pace: Pace,
}

/// When something happens, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the endpoint started; never goes back.
    pub since_start: Duration,
    /// What consumers see.
    pub wall: Timestamp,
}

/// One endpoint, as its connections and its controls share it.
#[derive(Debug)]
pub struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: watch::Sender<()>,
    pub(super) uplink: Uplink,
    pub(super) region: String,
    pub(super) started: Instant,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics in its predicate still deserves an endpoint that answers the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { since_start: self.started.elapsed(), wall: clock::now() }
    }

    /// Waits until a request of `bytes` has come through the line.
    async fn travels_here(&self, bytes: usize) {
        let arrival = {
            let now = self.started.elapsed();
            self.lock().pace.arrival(now, bytes as u64)
        };
        pause(arrival.saturating_sub(self.started.elapsed())).await;
    }

    async fn travels_back(&self) {
        let one_way = self.lock().pace.one_way;
        pause(one_way).await;
    }

    fn operate(&self, headers: &HeaderMap, body: &[u8]) -> Result<put::Outcome, Refusal> {
        self.count_request(body.len());
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let moment = self.moment();
        if let Some(operation) = target.strip_prefix("Firehose_20150804.") {
            self.admit(headers, "firehose", moment)?;
            return match operation {
                "PutRecordBatch" => {
                    let batch = Batch::of(body).inspect_err(|_| self.lock().store.counts.broken_rules += 1)?;
                    firehose::put(batch, &mut self.lock(), moment)
                }
                _ => Err(no_operation(target)),
            };
        }
        self.admit(headers, "kinesis", moment)?;
        match target.strip_prefix("Kinesis_20131202.").unwrap_or_default() {
            "PutRecords" => {
                let checked = Put::many(body).inspect_err(|_| self.lock().store.counts.broken_rules += 1)?;
                put::many(checked, &mut self.lock(), moment)
            }
            "PutRecord" => {
                let checked = Put::one(body)?;
                put::one(checked, &mut self.lock(), moment)
            }
            "GetRecords" => read::records(body, &self.lock().store, moment.wall).map(Some),
            "GetShardIterator" => read::shard_iterator(body, &self.lock().store).map(Some),
            "ListShards" => control::list_shards(body, &self.lock().store).map(Some),
            "DescribeStreamSummary" => {
                let State { store, faults, .. } = &mut *self.lock();
                store.counts.describes += 1;
                match faults.for_describe() {
                    Some(code) => Err(Refusal::bad(code, "refused on command")),
                    None => control::describe_stream_summary(body, store, &self.region).map(Some),
                }
            }
            "UpdateStreamRecordDistributionStrategy" => control::distribute(body, &mut self.lock().store).map(Some),
            "CreateStream" => control::create_stream(body, &mut self.lock().store, moment).map(Some),
            "SplitShard" => control::split_shard(body, &mut self.lock().store, moment).map(Some),
            "MergeShards" => control::merge_shards(body, &mut self.lock().store, moment).map(Some),
            _ => Err(no_operation(target)),
        }
    }

    fn admit(&self, headers: &HeaderMap, service: &str, moment: Moment) -> Result<(), Refusal> {
        let key = auth::check(headers, service, &self.region, moment.wall)?;
        let State { store, faults, .. } = &mut *self.lock();
        key.clone_into(&mut store.last_key);
        faults.for_key(key).map_or(Ok(()), |code| Err(Refusal::bad(code, "refused on command")))
    }

    fn count_request(&self, body_bytes: usize) {
        let mut state = self.lock();
        state.store.counts.requests += 1;
        state.store.counts.body_bytes += body_bytes as u64;
    }
}

fn no_operation(target: &str) -> Refusal {
    Refusal::bad("UnknownOperationException", format!("no operation here is called {target:?}"))
}

/// A sleep of no time at all still waits for the timer's next millisecond, which would be most of what a put on loopback takes.
async fn pause(span: Duration) {
    if !span.is_zero() {
        tokio::time::sleep(span).await;
    }
}

/// The endpoint's only route: every operation is a POST to `/`.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(
    extract::State(shared): extract::State<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let body = match collect(&head.headers, body).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    shared.travels_here(body.len()).await;
    let outcome = shared.operate(&head.headers, &body).unwrap_or_else(|refusal| Some(refusal.into_response()));
    drop(body);
    shared.changed.send_replace(());
    shared.travels_back().await;
    outcome.unwrap_or_else(|| {
        line.cut();
        answer::empty() // never written: the connection is closed
    })
}

/// The whole body in one piece; otherwise the status to answer with.
async fn collect(headers: &HeaderMap, body: Body) -> Result<Bytes, StatusCode> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut whole = BytesMut::with_capacity(length.unwrap_or_default().min(MAX_BODY));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| StatusCode::BAD_REQUEST)?;
        if whole.len() + piece.len() > MAX_BODY {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
