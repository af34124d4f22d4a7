//! Builds the stages, one task each, and stops them in order. Nobody else spawns.
//!
//! Invariant: a stage that ends before it was told to, by an error or a panic, ends the agent; systemd starts it again. There is one way
//! to recover, and it is always the same.

mod clock;
mod credentials;
mod disk;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use md5::{Digest, Md5};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    backoff,
    buffer::{Buffer, BufferError, BufferSettings, Lane, Layout, Opened, StreamRules, World},
    clock::{Belief, Boot, Clock},
    config::{Config, DestinationConfig, SourceConfig, StreamConfig},
    drain::{self, Drain, DrainSettings, Outlet},
    file::{self, Folder},
    ingest::{self, Ingest, IngestSettings, Intake, SourceSettings, StreamSettings, route::Routes},
    kinesis::{Client, ClientError, Firehose},
    reading::SourceId,
    record::{PayloadReader, Previous, RunId},
    sources::{self, SourceError, mqtt::Legacy},
    status::{Status, with_causes},
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
    let clock = Clock::new(config.device.clock_synchronized.clone(), Boot(run.0));
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
    let drain = drain_stage(&config, destinations.clone(), believed.clone(), &lanes, &older, &buffer, &status);

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
    spawn_keepers(&mut stages, destinations, &believed, &status, &stop);
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

/// What of the configuration is switched on, in the order in which stages know it.
struct Plan {
    sources: Vec<(String, SourceConfig)>,
    streams: Vec<(String, StreamConfig)>,
    layouts: Vec<Layout>,
}

impl Plan {
    fn new(config: &Config) -> Self {
        let streams: Vec<_> = config
            .streams
            .iter()
            .filter(|(_, stream)| stream.enabled)
            .map(|(name, stream)| (name.clone(), stream.clone()))
            .collect();
        let layouts = streams.iter().flat_map(|(name, stream)| layouts_of(&config.device.id, name, stream)).collect();
        let sources =
            config.sources.iter().filter(|(_, source)| source.enabled()).map(|(name, source)| (name.clone(), source.clone()));
        Self { sources: sources.collect(), streams, layouts }
    }

    fn source_ids(&self) -> impl Iterator<Item = (SourceId, &str, &SourceConfig)> {
        (0..).map(SourceId).zip(&self.sources).map(|(id, (name, source))| (id, name.as_str(), source))
    }

    fn source(&self, name: &str) -> Option<SourceId> {
        self.source_ids().find(|(_, known, _)| *known == name).map(|(id, ..)| id)
    }
}

/// The lanes of a stream: lane i of n takes hash keys from MD5(`DEVICE/STREAM`) + i · 2^128 / n on, so that the lanes of one gateway
/// spread evenly over the shards, and those of many gateways too.
pub(crate) fn layouts_of(device: &str, name: &str, stream: &StreamConfig) -> Vec<Layout> {
    let first = u128::from_be_bytes(Md5::digest(format!("{device}/{name}")).into());
    let of = u128::from(stream.lanes.max(1));
    let layout = |number: u16| {
        // 2^128 / n does not fit; what the rounding loses is less than one part in 2^120.
        let hash_key = first.wrapping_add(u128::MAX / of * u128::from(number));
        Layout {
            stream: name.into(),
            number,
            of: stream.lanes,
            partition_key: format!("{device}/{name}/{number}"),
            hash_key: (stream.lanes > 1 || stream.partition_key.is_some()).then_some(hash_key),
            template: stream.partition_key.clone(),
        }
    };
    (0..stream.lanes).map(layout).collect()
}

async fn open_buffer(config: &Config, plan: &Plan, status: &Status) -> Result<Opened, AgentError> {
    let state_dir = config.device.state_dir.clone();
    fs::create_dir_all(&state_dir).map_err(|source| AgentError::StateDir { path: state_dir.clone(), source })?;
    let window = |(id, name, source): (SourceId, &str, &SourceConfig)| match source {
        SourceConfig::Mqtt(mqtt) if mqtt.qos > 0 => Some((name.to_owned(), (id, mqtt.window))),
        SourceConfig::Mqtt(_) | SourceConfig::Serial(_) => None,
    };
    let stream = |(name, stream): (&String, &StreamConfig)| {
        let rules = StreamRules {
            when_full: stream.when_full.unwrap_or(config.buffer.when_full),
            max_size: stream.max_size.map(|size| size.0),
            max_age: stream.max_age.or(config.buffer.max_age),
            priority: stream.priority,
            encoding: stream.encoding,
            drain_order: stream.drain_order,
        };
        (name.clone(), rules)
    };
    let settings = BufferSettings {
        path: state_dir.join("buffer.db"),
        hold: config.buffer.hold,
        memory: config.buffer.memory.0,
        max_size: config.buffer.max_size.0,
        keep_free: config.buffer.keep_free.0,
        device: config.device.id.clone(),
        // One that is switched off takes nothing more; what it has still goes out.
        streams: config.streams.iter().map(stream).collect(),
        windows: plan.source_ids().filter_map(window).collect(),
        world: World::default(),
    };
    let (layouts, status) = (plan.layouts.clone(), status.clone());
    let opened = tokio::task::spawn_blocking(move || Buffer::open(&settings, &layouts, status)).await;
    Ok(opened.map_err(|panic| AgentError::Stage { stage: "buffer".into(), source: Some(StageError::Panic(panic)) })??)
}

/// An outlet for each destination that is configured.
pub(crate) async fn open_destinations(config: &Config) -> Result<BTreeMap<String, Outlet>, AgentError> {
    let mut outlets = BTreeMap::new();
    for (name, destination) in &config.destinations {
        let outlet = match destination {
            DestinationConfig::Kinesis(config) => Client::open(config).await.map(Outlet::Kinesis),
            DestinationConfig::Firehose(config) => Firehose::open(config).await.map(Outlet::Firehose),
            DestinationConfig::File(file) => Ok(Outlet::Folder(Folder::new(file, &config.device.id))),
        };
        outlets.insert(name.clone(), outlet.map_err(|source| AgentError::Destination { name: name.clone(), source })?);
    }
    Ok(outlets)
}

/// What keeps each destination's credentials fresh.
fn spawn_keepers(
    stages: &mut Stages,
    destinations: BTreeMap<String, Outlet>,
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
}

fn ingest_stage(
    config: &Config,
    plan: &Plan,
    run: RunId,
    clock: &Clock,
    lanes: &[(Lane, Option<Previous>)],
    buffer: &Buffer,
    status: &Status,
) -> (Vec<Intake>, Ingest) {
    let source = |(id, name, source): (SourceId, &str, &SourceConfig)| {
        let (format, timestamp) = source.payload();
        SourceSettings {
            id,
            name: name.into(),
            reader: PayloadReader { format, timestamp: timestamp.map(Into::into) },
            window: match source {
                SourceConfig::Mqtt(mqtt) => (mqtt.qos > 0).then_some(mqtt.window),
                SourceConfig::Serial(_) => None,
            },
        }
    };
    let stream = |(name, stream): &(String, StreamConfig)| StreamSettings::new(name, stream, run, &lanes_of(lanes, name));
    let settings = IngestSettings {
        device: config.device.id.clone(),
        run,
        hold: config.buffer.hold,
        clock: clock.clone(),
        sources: plan.source_ids().map(source).collect(),
        streams: plan.streams.iter().map(stream).collect(),
        routes: Arc::new(Routes::new(config, |name| plan.source(name))),
    };
    ingest::stage(settings, buffer.clone(), status)
}

fn lanes_of(lanes: &[(Lane, Option<Previous>)], stream: &str) -> Vec<(Lane, Option<Previous>)> {
    lanes.iter().filter(|(lane, _)| lane.layout.stream == stream).cloned().collect()
}

/// The drain of today's `lanes` and of `older` ones.
pub(crate) fn drain_stage(
    config: &Config,
    outlets: BTreeMap<String, Outlet>,
    clock: watch::Receiver<Belief>,
    lanes: &[(Lane, Option<Previous>)],
    older: &[Lane],
    buffer: &Buffer,
    status: &Status,
) -> Drain {
    let destinations: Vec<(String, Outlet)> = outlets.into_iter().collect();
    let stream = |(name, stream): (&String, &StreamConfig)| {
        Some(drain::StreamSettings {
            name: name.clone(),
            target: target_of(config, name, stream),
            destination: destinations.iter().position(|(destination, _)| *destination == stream.destination)?,
            linger: stream.linger,
            aggregation: stream.aggregation,
            lanes: lanes_of(lanes, name).into_iter().map(|(lane, _)| lane).collect(),
            older: older.iter().filter(|lane| lane.layout.stream == *name).cloned().collect(),
            order: stream.drain_order,
            priority: stream.priority,
        })
    };
    let streams = config.streams.iter().filter_map(stream).collect();
    let settings = DrainSettings { destinations, streams, clock, random: backoff::random };
    Drain::new(settings, buffer.clone(), status.clone())
}

/// What a stream is called where it leads to.
fn target_of(config: &Config, name: &str, stream: &StreamConfig) -> String {
    match config.destinations.get(&stream.destination) {
        Some(DestinationConfig::File(_)) => {
            file::target(if stream.stream.is_empty() { name } else { &stream.stream }, stream.encoding)
        }
        _ => stream.stream.clone(),
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

/// The tasks of the agent, by name.
#[derive(Default)]
struct Stages {
    tasks: JoinSet<(String, Result<(), StageError>)>,
    running: BTreeMap<tokio::task::Id, String>,
}

impl Stages {
    fn spawn(&mut self, name: &str, stage: impl Future<Output = Result<(), StageError>> + Send + 'static) {
        let owned = name.to_owned();
        let handle = self.tasks.spawn(async move { (owned, stage.await) });
        self.running.insert(handle.id(), name.to_owned());
    }

    /// Waits until `stop`, or until a stage ends without having been told to.
    async fn early_end(&mut self, stop: &CancellationToken) -> Option<AgentError> {
        tokio::select! {
            // First, because a source may have ended for it by the time that we look.
            biased;
            () = stop.cancelled() => None,
            Some((stage, result)) = self.next() => Some(AgentError::Stage { stage, source: result.err() }),
        }
    }

    async fn next(&mut self) -> Option<(String, Result<(), StageError>)> {
        let (id, stage, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, (stage, result))) => (id, stage, result),
            Err(panic) => (panic.id(), self.running.get(&panic.id()).cloned().unwrap_or_default(), Err(StageError::Panic(panic))),
        };
        self.running.remove(&id);
        Some((stage, result))
    }

    /// Waits until all stages that `which` names have ended, until `deadline` at most.
    async fn ended_within(&mut self, deadline: Instant, which: impl Fn(&str) -> bool) {
        while self.running.values().any(|stage| which(stage)) {
            let Ok(Some((stage, result))) = timeout_at(deadline.into(), self.next()).await else { return };
            if let Err(error) = result {
                error!(stage, "{}", with_causes(&error));
            }
        }
    }

    /// Ends whoever is still there, and names them.
    async fn end(mut self) -> Vec<String> {
        let late = self.running.into_values().collect();
        self.tasks.shutdown().await;
        late
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_spread_evenly_over_the_hash_keys_and_one_lane_needs_none() {
        let lanes = |lanes| StreamConfig { lanes, ..StreamConfig::default() };
        let four = layouts_of("gw", "s", &lanes(4));
        let keys: Vec<u128> = four.iter().filter_map(|layout| layout.hash_key).collect();
        assert_eq!(keys[0], u128::from_be_bytes(Md5::digest("gw/s").into()));
        for pair in keys.windows(2) {
            assert_eq!(pair[1].wrapping_sub(pair[0]) >> 126, 0);
            assert_eq!((pair[1].wrapping_sub(pair[0]) + 1) >> 126, 1);
        }
        assert_eq!(layouts_of("gw", "s", &lanes(1))[0].hash_key, None);
        let keyed = StreamConfig { partition_key: Some("{topic}".into()), ..lanes(1) };
        assert_eq!(layouts_of("gw", "s", &keyed)[0].hash_key, Some(keys[0]));
    }
}
