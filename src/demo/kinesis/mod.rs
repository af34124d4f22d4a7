//! A local Kinesis endpoint that keeps the service's rules, and breaks down on command.
//!
//! Emulators accept what the service refuses, and none of them throttles, so readings that arrive there prove little. This one has
//! the service's limits, its partial failures and its shards, and the demo and the tests use the same one.
//!
//! It speaks awsJson1.1 over HTTP/1.1: `CreateStream`, DescribeStreamSummary, `UpdateStreamRecordDistributionStrategy`, `ListShards`,
//! `SplitShard`, `MergeShards`, PutRecords, `PutRecord`, `GetShardIterator` and GetRecords; and of Firehose `PutRecordBatch`. A signature must
//! be there and have its form; its value is not checked.

mod answer;
mod auth;
mod check;
mod control;
mod fault;
mod firehose;
mod line;
pub mod oracle;
mod put;
mod read;
mod server;
mod shards;
mod store;
mod tank;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

pub use self::{
    check::hash_of,
    fault::Failure,
    shards::{HashRange, ReshardError, Shard, ShardId, Shards},
    store::{Counts, Distribution, Keep, Sequence, Store, StoredRecord},
    tank::{Limits, Tank},
};
use self::{
    fault::{Faults, Pace},
    line::{Line, Listener, Reach, Uplink},
    oracle::{Dropped, UserRecord},
    server::{Shared, State},
};

/// How an endpoint starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// On 127.0.0.1; 0 for any free one.
    pub port: u16,
    /// With these certificates; none: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The region that requests must be signed for.
    pub region: String,
    /// What the shards take; none: everything.
    pub limits: Option<Limits>,
    /// Which records stay readable.
    pub keep: Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, tls: None, region: "eu-west-1".into(), limits: Some(Limits::SERVICE), keep: Keep::All }
    }
}

/// A running endpoint: its controls, and a look at what arrived. It stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Endpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    url: Arc<str>,
    _stop: Arc<DropGuard>,
}

impl Endpoint {
    /// Starts to listen.
    pub async fn start(options: Options) -> io::Result<Self> {
        let Options { port, tls, region, limits, keep } = options;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = tcp.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            state: Mutex::new(State { store: Store::new(keep, limits), faults: Faults::default(), pace: Pace::default() }),
            changed: watch::Sender::new(()),
            uplink: Uplink::new(),
            region,
            started: Instant::now(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve(Listener::new(tcp, tls, shared.uplink.clone()), shared.clone(), stop.clone()));
        Ok(Self { shared, address, url: format!("{scheme}://{address}").into(), _stop: Arc::new(stop.drop_guard()) })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, or `https`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates `stream`; `false` when it exists.
    pub fn create_stream(&self, stream: &str, shards: u32) -> bool {
        let moment = self.shared.moment();
        self.change(|state| state.store.create(stream, Some(shards), moment.since_start, moment.wall))
    }

    /// From now on the records of `stream` are distributed like this, as `UpdateStreamRecordDistributionStrategy` asks for; `false` when
    /// there is no such stream.
    pub fn distribute(&self, stream: &str, distribution: Distribution) -> bool {
        self.change(|state| state.store.distribute(stream, distribution)).is_some()
    }

    /// From now on DescribeStreamSummary is refused with this code, such as `AccessDeniedException`; none ends that.
    pub fn describe_fails(&self, code: Option<&'static str>) {
        self.change(|state| state.faults.refuse_describe(code));
    }

    /// From now on requests that were signed with this access key, and with no other, are refused with this code, such as
    /// `ExpiredTokenException`; none ends that.
    pub fn refuses_key(&self, refused: Option<(&str, &'static str)>) {
        self.change(|state| state.faults.refuse_key(refused.map(|(key, code)| (key.to_owned(), code))));
    }

    /// Creates the Firehose stream `stream`; `false` when it exists.
    pub fn create_firehose(&self, stream: &str) -> bool {
        let now = self.shared.moment().since_start;
        self.change(|state| state.store.create_delivery(stream, now))
    }

    /// Cuts the uplink: open connections end, new ones are closed at once.
    pub fn away(&self) {
        self.shared.uplink.set(Reach::Away);
    }

    /// Lets packets vanish: connections stand, and no byte ever comes back on them.
    pub fn black_hole(&self) {
        self.shared.uplink.set(Reach::BlackHole);
    }

    /// Mends the uplink. Connections that hung in a black hole are closed.
    pub fn back(&self) {
        self.shared.uplink.set(Reach::There);
    }

    /// Slows the line down, for all connections together: a round trip, and bytes a second up. `(ZERO, None)` is full speed again.
    pub fn slow(&self, round_trip: Duration, bytes_per_second: Option<u64>) {
        self.change(|state| state.pace = Pace::new(round_trip, bytes_per_second));
    }

    /// Gives every shard `factor` times what the service's shards take.
    pub fn throttle(&self, factor: f64) {
        self.change(|state| state.store.limits = Some(Limits::SERVICE.times(factor)));
    }

    /// Lets every shard take everything.
    pub fn unlimited(&self) {
        self.change(|state| state.store.limits = None);
    }

    /// From now on each record is refused with `InternalFailure` at a chance of `percent`; the same `seed` picks the same ones.
    /// 0 percent ends it.
    pub fn refuse_at_random(&self, percent: f64, seed: u64) {
        self.change(|state| state.faults.refuse_at_random(percent, seed));
    }

    /// The next `n` puts that are well-formed and for a stream that exists fail as `failure` says; calls queue up.
    pub fn fail_next(&self, n: usize, failure: Failure) {
        self.change(|state| state.faults.fail_next(n, failure));
    }

    /// Calls off the failures that [`Self::fail_next`] asked for and that have not happened; says how many those are.
    pub fn call_off_failures(&self) -> usize {
        self.change(|state| state.faults.call_off())
    }

    /// From now on every put that is not spoken for by [`Self::fail_next`] fails as `failure` says; none ends that.
    pub fn fail_always(&self, failure: Option<Failure>) {
        self.change(|state| state.faults.fail_always(failure));
    }

    /// From now on a put with a record that contains `text` is refused as a whole with `ValidationException`; none ends that.
    pub fn calls_invalid(&self, text: Option<&str>) {
        self.change(|state| state.faults.poison(text.map(|text| text.as_bytes().to_vec()), false));
    }

    /// From now on each record that contains `text` is refused by itself with `InvalidArgumentException`; none ends that.
    pub fn calls_invalid_one_by_one(&self, text: Option<&str>) {
        self.change(|state| state.faults.poison(text.map(|text| text.as_bytes().to_vec()), true));
    }

    /// Splits a shard of `stream` in the middle of its hash keys.
    pub fn split(&self, stream: &str, shard: ShardId) -> Result<[ShardId; 2], ReshardError> {
        let now = self.shared.moment().since_start;
        let split = self.change(|state| state.store.split(stream, shard, None, now));
        split.unwrap_or(Err(ReshardError::NotOpen(shard)))
    }

    /// Merges two neighbouring shards of `stream`.
    pub fn merge(&self, stream: &str, shard: ShardId, adjacent: ShardId) -> Result<ShardId, ReshardError> {
        let now = self.shared.moment().since_start;
        let merged = self.change(|state| state.store.merge(stream, shard, adjacent, now));
        merged.unwrap_or(Err(ReshardError::NotOpen(shard)))
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.look(Store::counts)
    }

    /// The kept records of `stream`, in the order of their arrival.
    pub fn received(&self, stream: &str) -> Vec<StoredRecord> {
        self.look(|store| store.records(stream).cloned().collect())
    }

    /// What a consumer would get out of `stream`, record by record. See [`oracle`].
    pub fn consumed(&self, stream: &str) -> Vec<Result<Vec<UserRecord>, Dropped>> {
        self.received(stream).iter().map(oracle::user_records).collect()
    }

    /// Looks at everything under the endpoint's lock; requests wait meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&Store) -> T) -> T {
        at(&self.shared.lock().store)
    }

    /// Waits until `found` finds what it looks for. It is asked now and after every request, under the endpoint's lock. There is no
    /// deadline: the caller has one, and can [`Self::look`] at what is there instead.
    pub async fn wait_for<T>(&self, mut found: impl FnMut(&Store) -> Option<T>) -> T {
        let mut changes = self.shared.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(it) = self.look(&mut found) {
                return it;
            }
            // The sender is in `self.shared`, so this can't end with an error while we wait.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.lock())
    }
}

async fn serve(listener: Listener, shared: Arc<Shared>, stop: CancellationToken) {
    let uplink = shared.uplink.clone();
    let service = server::router(shared).into_make_service_with_connect_info::<Line>();
    tokio::select! {
        ended = axum::serve(listener, service) => if let Err(error) = ended {
            error!(%error, "the local Kinesis endpoint has ended");
        },
        () = stop.cancelled() => {}
    }
    uplink.end();
}
