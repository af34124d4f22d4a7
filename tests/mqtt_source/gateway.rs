//! The gateway with its MQTT source, and a test in the place of ingest.

use std::time::Duration;

use headwater::{
    config::MqttConfig,
    ingest::{
        intake::{Door, door},
        route::Router,
    },
    reading::{Fingerprint, Ordinal, Reading},
    sources::{SourceError, mqtt},
    status::{Ledger, SourceState, Status},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// No event takes longer than this on a machine that works.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Gateway {
    door: Door,
    status: Status,
    stop: CancellationToken,
    source: JoinHandle<Result<(), SourceError>>,
    ahead: std::collections::VecDeque<Reading>,
}

impl Gateway {
    pub fn start(config: MqttConfig) -> Self {
        Self::start_again(config, Vec::new())
    }

    /// As after a restart, with the fingerprints that the run before committed.
    pub fn start_again(config: MqttConfig, known: Vec<Fingerprint>) -> Self {
        let (status, stop) = (Status::default(), CancellationToken::new());
        let (intake, door) = door(Router::new(std::sync::Arc::default(), headwater::reading::SourceId(0), status.clone()));
        let source = tokio::spawn(mqtt::run("broker".into(), "gw-1".into(), config, intake, known, status.clone(), stop.clone()));
        Self { door, status, stop, source, ahead: [].into() }
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
        let seen = async {
            while !self.status.lock().sources.get("broker").is_some_and(&wanted) {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(DEADLINE, seen).await.is_ok(), "the source shows {:?}", self.source_state());
    }

    pub fn source_state(&self) -> SourceState {
        self.status.lock().sources["broker"].clone()
    }

    pub fn ledger(&self) -> Ledger {
        self.status.lock().ledger_total()
    }

    /// What the status says is wrong, after waiting until it says something.
    pub async fn complains(&self, part: &str) -> String {
        let seen = async {
            loop {
                if let Some(problem) = self.status.lock().problems.get(part) {
                    return problem.what.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("no problem with {part}"))
    }
}

/// Their payloads, in order.
pub fn payloads(readings: &[Reading]) -> Vec<String> {
    readings.iter().map(|reading| String::from_utf8_lossy(&reading.payload).into_owned()).collect()
}

/// What a commit would have kept of them.
pub fn fingerprints(readings: &[Reading]) -> Vec<Fingerprint> {
    readings.iter().filter_map(|reading| reading.fingerprint).collect()
}
