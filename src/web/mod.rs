//! What people and programs beside the gateway see of it: the status as JSON and as text, metrics, health.
//!
//! Invariant: looking changes nothing, and nothing here can stop a reading: a port that is taken is a problem in the status, not
//! the end of the agent.

pub mod error;
pub mod metrics;
pub mod pace;
pub mod report;
mod serve;
pub mod text;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{Json, Router, extract, response::IntoResponse, routing::get};
use http::{HeaderMap, StatusCode, header};
use tokio_util::sync::CancellationToken;

use self::{pace::Pace, report::Report};
use crate::{
    clock,
    config::{DeviceConfig, HttpConfig},
    reading::Timestamp,
    status::{State, Status},
};

/// Everything there is to see of one agent; cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    /// The gateway's name.
    pub device: String,
    /// The name of this run of the agent.
    pub run: String,
    /// Of the program.
    pub version: &'static str,
    /// When the agent started.
    pub started: Instant,
    /// Labels of this gateway.
    pub tags: BTreeMap<String, String>,
    /// What the stages report.
    pub status: Status,
    pace: Arc<Mutex<Pace>>,
}

impl View {
    /// The view of an agent that started at `started`.
    pub fn new(device: &DeviceConfig, run: String, started: Instant, status: Status) -> Self {
        let (version, pace) = (env!("CARGO_PKG_VERSION"), Arc::default());
        Self { device: device.id.clone(), run, version, started, tags: device.tags.clone(), status, pace }
    }

    /// The status as it is `now` by the wall clock, and `at` by the clock that never jumps.
    pub fn report(&self, now: Timestamp, at: Instant) -> Report {
        let state = self.status.lock().clone();
        let before = self.pace.lock().unwrap_or_else(PoisonError::into_inner).before().cloned();
        Report::new(self, &state, before.as_ref(), now, at)
    }

    /// Remembers how much waits, so that a later report can tell where that leads.
    pub fn sample(&self, at: Instant) {
        let sample = pace::Sample::new(at, &self.status.lock());
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).note(sample);
    }
}

/// Serves the page on `[http] listen` and on the Unix socket until `stop`. Whoever wants to watch the agent stop cancels `stop` last.
///
/// An address that can't be listened on is told in the status, and tried again.
pub async fn run(config: &HttpConfig, socket: &Path, view: View, stop: CancellationToken) {
    let routes = routes(view.clone());
    tokio::join!(
        serve::page(config.listen, routes.clone(), &view.status, &stop),
        serve::socket(socket, routes, &view.status, &stop),
        sample_regularly(&view, &stop),
    );
}

async fn sample_regularly(view: &View, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(pace::SPACING);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        view.sample(Instant::now());
    }
}

fn routes(view: View) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(view)
}

type Shown = extract::State<View>;

async fn page(extract::State(view): Shown) -> String {
    text::render(&view.report(clock::now(), Instant::now()))
}

/// JSON, or the text of `headwater status` for who accepts only that.
async fn status(extract::State(view): Shown, headers: HeaderMap) -> axum::response::Response {
    let report = view.report(clock::now(), Instant::now());
    if headers.get(header::ACCEPT).is_some_and(|wanted| wanted == "text/plain") {
        return text::render(&report).into_response();
    }
    Json(report).into_response()
}

async fn metrics(extract::State(view): Shown) -> impl IntoResponse {
    let state = view.status.lock().clone();
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&view, &state, clock::now()))
}

async fn healthz(extract::State(view): Shown) -> (StatusCode, String) {
    match sickness(&view.status.lock(), Instant::now()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

/// Why the agent needs help from outside: a stage that is stuck, or a disk that can't be written. Never because the uplink is away:
/// to wait for that is what the agent is for.
pub fn sickness(state: &State, now: Instant) -> Option<String> {
    if let Some(stage) = state.stuck(now) {
        return Some(format!("{stage} does not move any more; restart the agent, and report it with its log"));
    }
    let (_, problem) = state.problems.iter().find(|(part, _)| part.starts_with("buffer"))?;
    Some(format!("{}; {}", problem.what, problem.remedy))
}
