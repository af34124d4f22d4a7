//! The gateway with its MQTT source, and a test in the place of ingest.

use std::{collections::VecDeque, sync::Arc};

use headwater::{
    config::{Config, MqttConfig, StreamConfig},
    ingest::{
        intake::{Door, door},
        route::{Router, Routes},
    },
    reading::{Fingerprint, Ordinal, Reading, SourceId},
    sources::{
        SourceError,
        mqtt::{self, Legacy},
    },
    status::{Ledger, SourceState, Status},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, eventually};

pub struct Gateway {
    door: Door,
    status: Status,
    stop: CancellationToken,
    source: JoinHandle<Result<(), SourceError>>,
    ahead: VecDeque<Reading>,
    _folder: TempDir,
}

impl Gateway {
    pub fn start(config: MqttConfig) -> Self {
        Self::start_again(config, Vec::new())
    }

    /// As after a restart, with the fingerprints that the run before committed.
    pub fn start_again(config: MqttConfig, known: Vec<Fingerprint>) -> Self {
        let (status, stop) = (Status::default(), CancellationToken::new());
        let (intake, door) = door(router(status.clone()));
        let folder = TempDir::new().unwrap();
        let legacy = Legacy { publishes: known, subscriptions: folder.path().join("subscriptions.json") };
        let source = tokio::spawn(mqtt::run("broker".into(), "gw-1".into(), config, intake, legacy, status.clone(), stop.clone()));
        Self { door, status, stop, source, ahead: VecDeque::new(), _folder: folder }
    }

    /// Takes the next `n` readings from the source.
    pub async fn takes(&mut self, n: usize) -> Vec<Reading> {
        while self.ahead.len() < n {
            let batch = timeout(DEADLINE, self.door.queue.recv()).await;
            let batch = batch
                .unwrap_or_else(|_| panic!("only {} of {n} readings arrived, the last {:?}", self.ahead.len(), self.ahead.back()));
            self.ahead.extend(batch.expect("the source has ended"));
        }
        self.ahead.drain(..n).collect()
    }

    /// All readings up to this one are safe.
    pub fn has_made_safe(&self, ordinal: Ordinal) {
        self.door.safe.send_replace(ordinal);
    }

    /// SIGTERM: the source has time to send what it owes.
    pub fn is_told_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the source has ended, told to.
    pub async fn stops(&mut self) {
        self.stop.cancel();
        timeout(DEADLINE, &mut self.source).await.expect("the source does not stop").expect("it panicked").expect("it failed");
    }

    /// SIGKILL, as the broker sees it.
    pub async fn kill(self) {
        self.source.abort();
        assert!(self.source.await.unwrap_err().is_cancelled());
    }

    /// Waits until the source's state is as wanted.
    pub async fn shows(&self, wanted: impl Fn(&SourceState) -> bool) {
        eventually("the source shows it", async || {
            let state = self.status.lock().sources.get("broker").cloned().unwrap_or_default();
            if wanted(&state) { Ok(()) } else { Err(format!("{state:?}")) }
        })
        .await;
    }

    pub fn source_state(&self) -> SourceState {
        self.status.lock().sources["broker"].clone()
    }

    pub fn ledger(&self) -> Ledger {
        self.status.lock().ledger_total()
    }

    /// Waits until the status says that something is wrong with `part`, and returns it.
    pub async fn complains(&self, part: &str) -> String {
        eventually(format!("a problem with {part}"), async || {
            let state = self.status.lock();
            state.problems.get(part).map(|problem| problem.what.clone()).ok_or(format!("{:?}", state.problems))
        })
        .await
    }
}

/// One stream takes everything.
fn router(status: Status) -> Router {
    let stream = StreamConfig { from: vec!["broker".into()], ..StreamConfig::default() };
    let config = Config { streams: [("readings".to_owned(), stream)].into(), ..Config::default() };
    let source = SourceId(0);
    Router::new(Arc::new(Routes::new(&config, |_| Some(source))), source, status)
}

/// Their payloads, in order.
pub fn payloads(readings: &[Reading]) -> Vec<String> {
    readings.iter().map(|reading| String::from_utf8_lossy(&reading.payload).into_owned()).collect()
}

/// What a commit would have kept of them.
pub fn fingerprints(readings: &[Reading]) -> Vec<Fingerprint> {
    readings.iter().filter_map(|reading| reading.fingerprint).collect()
}
