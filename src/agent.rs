//! Builds the stages, one task each, and stops them in order. Nobody else spawns.
//!
//! Invariant: a stage that ends before it was told to, by an error or a panic, ends the agent; systemd starts it again. There is one way
//! to recover, and it is always the same.

mod build;
mod certificate;
mod clock;
mod credentials;
mod disk;
mod mount;
mod stages;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinError};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub(crate) use self::build::{drain_stage, layouts_of, open_destinations};
use self::{
    build::{Plan, ingest_stage, metered},
    stages::Stages,
};
use crate::{
    buffer::{Buffer, BufferError, Opened},
    clock::{Belief, Clock},
    config::{Config, MqttConfig, SourceConfig},
    drain::Outlet,
    ingest::Intake,
    kinesis::ClientError,
    record::RunId,
    sources::{self, SourceError, mqtt::Legacy},
    status::Status,
    web::{self, View},
};

/// From the signal to the end, always.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Of that, what sources and ingest may take for their last readings and acknowledgements.
const SOURCES_WITHIN: Duration = Duration::from_secs(6);
/// How long the last requests may take. On a slow link an answer can be a minute away, and the readings are safe without it.
const LAST_PUT: Duration = Duration::from_secs(2);
/// By when that must have ended.
const DRAIN_WITHIN: Duration = Duration::from_secs(8);
/// And when everything but the buffer must have ended.
const CLOSE_WITHIN: Duration = Duration::from_secs(9);

/// Why the agent could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The folder of the buffer can't be made.
    #[error("cannot make the folder {path}; check that this user may write there, or set device.state_dir")]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The buffer does not open.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The disk can be written again, but not through the view of it that this process was started with.
    #[error("{path} can be written now, but stays read-only for this process; start headwater again, which systemd does by itself")]
    ReadOnlyView {
        /// The folder of the buffer.
        path: PathBuf,
    },
    /// A destination's settings can't be used.
    #[error("destination {name} can't be used")]
    Destination {
        /// Under `[destinations]`.
        name: String,
        /// Why not.
        source: ClientError,
    },
    /// The system has no randomness for a name of this run.
    #[error("no random numbers from the system; a run can't be named without them")]
    Randomness(#[source] getrandom::Error),
    /// A stage ended before it was told to.
    #[error("{stage} ended by itself")]
    Stage {
        /// Which.
        stage: String,
        /// Why; none when it ended without an error.
        source: Option<StageError>,
    },
    /// A stage did not end when it was told to.
    #[error("{} did not stop within {} s", stages.join(", "), STOP_WITHIN.as_secs())]
    Late {
        /// Which.
        stages: Vec<String>,
    },
}

/// Why a stage ended.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A source gave up.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The buffer's file is damaged; the next start makes a new one.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// It panicked: a bug.
    #[error("it panicked, which is a bug; please report it with the lines before this one")]
    Panic(#[source] JoinError),
}

/// Runs the agent until `stop`, and then for [`STOP_WITHIN`] at most.
///
/// An absent broker, port, name or endpoint delays nothing: each stage waits for its own.
pub async fn run(config: Config, status: Status, stop: CancellationToken) -> Result<(), AgentError> {
    let run = RunId(getrandom::u64().map_err(AgentError::Randomness)?);
    let device = config.device.id.clone();
    let started = Instant::now();
    info!(device, %run, "starting");
    let (finish, give_up) = (CancellationToken::new(), CancellationToken::new());
    let close = CancellationToken::new();

    let plan = Plan::new(&config);
    let clock = Clock::new(config.device.clock_synchronized.clone(), clock::present_boot(run));
    let mut stages = Stages::default();
    stages.spawn("web", {
        let (http, socket) = (config.http.clone(), config.device.socket.clone());
        let view = View::new(&config.device, run.to_string(), started, status.clone());
        let close = close.clone();
        async move {
            web::run(&http, &socket, view, close).await;
            Ok(())
        }
    });
    let Some(opened) = disk::opened(&config, &plan, &status, &stop).await? else {
        close.cancel();
        stages.ended_within(Instant::now() + STOP_WITHIN, |_| true).await;
        return Ok(());
    };
    let Opened { buffer, lanes, older, known, closed } = opened;
    let destinations = open_destinations(&config).await?;
    let (intakes, ingest) = ingest_stage(&config, &plan, run, &clock, &lanes, &buffer, &status);
    let (told, believed) = watch::channel(clock.belief());
    let drain = drain_stage(&config, metered(&config, destinations.clone()), believed.clone(), &lanes, &older, &buffer, &status);

    stages.spawn("buffer", async move {
        // Ends when its thread does, be it by a panic.
        closed.await.map_or(Ok(()), |error| Err(error.into()))
    });
    stages.spawn("clock", {
        let watch = clock::watch(clock, buffer.clone(), told, status.clone(), stop.clone());
        async move {
            watch.await;
            Ok(())
        }
    });
    spawn_keepers(&mut stages, destinations, &plan.sources, &believed, &status, &stop);
    stages.spawn("drain", {
        let (finish, give_up) = (finish.clone(), give_up.clone());
        async move {
            drain.run(finish, give_up).await;
            Ok(())
        }
    });
    stages.spawn("ingest", {
        let stop = stop.clone();
        async move {
            ingest.run(stop).await;
            Ok(())
        }
    });
    for (intake, (name, source)) in intakes.into_iter().zip(plan.sources) {
        let legacy = Legacy {
            publishes: known.get(&name).cloned().unwrap_or_default(),
            subscriptions: config.device.state_dir.join(format!("subscriptions-{name}.json")),
        };
        let stage = source_stage(&device, name.clone(), source, intake, legacy, &status, &stop);
        stages.spawn(&format!("source {name}"), stage);
    }
    status.lock().running = true;
    info!(stages = stages.running.len(), "running");

    let failed = stages.early_end(&stop).await;
    stop.cancel();
    status.lock().stopping = true;
    let told = Instant::now();
    info!("stopping: taking nothing more, writing and acknowledging what was taken");
    stages.ended_within(told + SOURCES_WITHIN, |stage| stage == "ingest" || stage.starts_with("source ")).await;
    finish.cancel();
    stages.ended_within((Instant::now() + LAST_PUT).min(told + DRAIN_WITHIN), |stage| stage == "drain").await;
    give_up.cancel();
    stages.ended_within(told + CLOSE_WITHIN, |stage| stage == "drain").await;
    close.cancel();
    stages.ended_within(told + CLOSE_WITHIN, |stage| stage != "buffer").await;
    let in_order = failed.is_none() && stages.running.values().eq(["buffer"]);
    debug_assert_ledger(&buffer, &status, in_order);
    drop(buffer);
    stages.ended_within(told + STOP_WITHIN, |_| true).await;
    let late = stages.end().await;
    match failed {
        Some(error) => Err(error),
        None if !late.is_empty() => Err(AgentError::Late { stages: late }),
        None => {
            info!("stopped");
            Ok(())
        }
    }
}

/// What keeps each destination's credentials fresh, and has an eye on the certificates that sources show.
fn spawn_keepers(
    stages: &mut Stages,
    destinations: BTreeMap<String, Outlet>,
    sources: &[(String, SourceConfig)],
    clock: &watch::Receiver<Belief>,
    status: &Status,
    stop: &CancellationToken,
) {
    for (name, outlet) in destinations {
        let keep = credentials::keep(name.clone(), outlet, clock.clone(), status.clone(), stop.clone());
        stages.spawn(&format!("credentials {name}"), async move {
            keep.await;
            Ok(())
        });
    }
    for (name, source) in sources {
        if let SourceConfig::Mqtt(MqttConfig { client_cert: Some(path), .. }) = source {
            let keep = certificate::keep(name.clone(), path.clone(), clock.clone(), status.clone(), stop.clone());
            stages.spawn(&format!("certificate of source {name}"), async move {
                keep.await;
                Ok(())
            });
        }
    }
}

fn source_stage(
    device: &str,
    name: String,
    source: SourceConfig,
    intake: Intake,
    legacy: Legacy,
    status: &Status,
    stop: &CancellationToken,
) -> impl Future<Output = Result<(), StageError>> + Send + 'static {
    let (device, status, stop) = (device.to_owned(), status.clone(), stop.clone());
    async move {
        match source {
            SourceConfig::Mqtt(mqtt) => sources::mqtt::run(name, device, mqtt, intake, legacy, status, stop).await?,
            SourceConfig::Serial(serial) => sources::serial::run(name, serial, intake, status, stop).await?,
        }
        Ok(())
    }
}

/// When everything has been sealed, the ledger and the buffer must name the same number of readings.
fn debug_assert_ledger(buffer: &Buffer, status: &Status, in_order: bool) {
    let snapshot = status.lock().clone();
    for (name, stream) in snapshot.streams.iter().filter(|_| in_order) {
        debug_assert!(stream.ledger.balances(), "stream {name}: {:?}", stream.ledger);
        debug_assert_eq!(stream.ledger.buffered, buffer.readings(name), "stream {name}: the ledger and the buffer");
    }
}
