//! Everything that a gateway needs around it, embedded: a broker, sensors, a scale on a serial line, a Kinesis endpoint.
//!
//! It shows what the agent is for in half a minute, and proves it: the audit at the end compares what the stream holds with what
//! the sensors counted. Nothing is installed, configured or left behind.

pub mod audit;
pub mod broker;
pub mod kinesis;
mod numbers;
pub use crate::random;
mod script;
pub mod sensors;
pub mod serial;

use std::{
    fs::{self, Permissions},
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    audit::Audit,
    broker::{Broker, BrokerError},
    kinesis::{Endpoint, Keep, oracle},
    script::Scene,
    sensors::{Plant, SensorError, Sent},
    serial::Scale,
};
use crate::{
    clock,
    config::{
        BufferConfig, Config, CredentialsConfig, DestinationConfig, DeviceConfig, HttpConfig, KinesisConfig, MqttConfig,
        SerialConfig, SourceConfig, StreamConfig,
    },
    status::{State, Status},
    units::ByteCount,
};

/// The region that the demo's endpoint is in.
pub const REGION: &str = "eu-west-1";

const STREAM: &str = "plant-readings";
const SCALE_TOPIC: &str = "plant/scale";
const PLANT: Plant = Plant { lines: 3, machines: 4, rate: 100.0, seed: 17 };
const WEIGH_EVERY: Duration = Duration::from_millis(200);
/// Where the page is unless told otherwise or taken.
const PAGE_PORT: u16 = 8470;
/// Records that are kept readable: an hour's. The audit has seen each within a second.
const KEPT_BYTES: usize = 32 << 20;
/// Longest that the sources may take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Longest that the last readings may take to arrive: longer than the agent ever waits between two attempts.
const DRAIN_WITHIN: Duration = Duration::from_secs(75);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a demo runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The page's port; none: 8470, or a free one when that is taken.
    pub port: Option<u16>,
    /// Ends by itself after so many seconds; none: with Ctrl-C.
    pub seconds: Option<u64>,
}

/// How a demo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every reading arrived exactly once and in order.
    Passed,
    /// The mistakes were printed.
    Failed,
    /// Somebody did not want to wait until there was something to judge.
    Stopped,
}

/// Why a demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No room for the agent's files.
    #[error("no folder for the demo's files under {}; check its free space and rights", folder.display())]
    Folder {
        /// Where it should have been.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The page's port is taken.
    #[error("the page can't listen on {address}; choose another port with --port")]
    Page {
        /// Where it should listen.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The Kinesis endpoint did not start.
    #[error("the local Kinesis endpoint can't listen on 127.0.0.1")]
    Endpoint(#[source] io::Error),
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// There is no pseudoterminal for the scale, or it broke.
    #[error("the simulated serial line failed; check that /dev/pts is mounted")]
    Serial(#[source] io::Error),
    /// The sensors failed.
    #[error(transparent)]
    Sensors(#[from] SensorError),
    /// The agent's sources did not connect to what the demo gave them.
    #[error("{sources} did not connect within {CONNECT_WITHIN:?}; see the log")]
    NotConnected {
        /// The names of those sources.
        sources: String,
    },
    /// The agent ended while it was needed.
    #[error("the agent ended by itself; see the log")]
    AgentEnded,
    /// The agent failed.
    #[error("the agent failed")]
    Agent(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the demo and prints what happens.
///
/// `start_agent` runs an agent with a configuration until the token is cancelled; it reports to the given status.
pub async fn run<Agent, Running, Failure>(options: Options, start_agent: Agent) -> Result<Verdict, DemoError>
where
    Agent: FnOnce(Config, Status, CancellationToken) -> Running,
    Running: Future<Output = Result<(), Failure>>,
    Failure: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let page = page_address(options.port)?;
    let temporary = std::env::temp_dir();
    let folder = tempfile::Builder::new().prefix("headwater-demo-").tempdir_in(&temporary);
    let folder: TempDir = folder.map_err(|source| DemoError::Folder { folder: temporary, source })?;
    let keep = Keep::LastBytes(KEPT_BYTES);
    let cloud = Endpoint::start(kinesis::Options { keep, region: REGION.into(), ..kinesis::Options::default() }).await;
    let cloud = cloud.map_err(DemoError::Endpoint)?;
    cloud.create_stream(STREAM, 2);
    let broker = Broker::start(0).await?;
    let mut scale = Scale::plug_in(PLANT.seed).map_err(DemoError::Serial)?;

    let (status, stop) = (Status::default(), CancellationToken::new());
    let secret = folder.path().join("secret");
    write_secret(&secret).map_err(|source| DemoError::Folder { folder: secret.clone(), source })?;
    let config = config(folder.path(), secret, page, &broker, &scale, &cloud);
    let mut agent = std::pin::pin!(start_agent(config, status.clone(), stop.clone()));
    println!("The page is at http://{page}/ and the local Kinesis endpoint at {}", cloud.url());
    let stage = Stage { options, status, broker, cloud };
    let verdict = tokio::select! {
        ended = &mut agent => {
            ended.map_err(|source| DemoError::Agent(source.into()))?;
            return Err(DemoError::AgentEnded);
        }
        verdict = stage.play(&mut scale) => verdict,
    };
    stage.cloud.back();
    stop.cancel();
    agent.await.map_err(|source| DemoError::Agent(source.into()))?;
    verdict
}

/// Ends when somebody wants the demo to end.
async fn interrupted() {
    // A signal that can't be listened to ends the process as it always did.
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ctrl_c => {}
        _ = terminate => {}
    }
}

/// Port 0 and a taken default become a free port, which is then named in the configuration like any other.
fn page_address(port: Option<u16>) -> Result<SocketAddr, DemoError> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let try_port = |port| TcpListener::bind(address(port)).and_then(|listener| listener.local_addr());
    let found = match port {
        Some(port) => try_port(port),
        None => try_port(PAGE_PORT).or_else(|_| try_port(0)),
    };
    found.map_err(|source| DemoError::Page { address: address(port.unwrap_or(PAGE_PORT)), source })
}

/// The endpoint does not check what a request was signed with, only that it was.
fn write_secret(file: &Path) -> io::Result<()> {
    fs::write(file, "demo")?;
    fs::set_permissions(file, Permissions::from_mode(0o600))
}

/// The gateway of the demo: two sources, one stream with two lanes.
fn config(folder: &Path, secret: PathBuf, page: SocketAddr, broker: &Broker, scale: &Scale, cloud: &Endpoint) -> Config {
    let mqtt = MqttConfig {
        url: format!("mqtt://{}", broker.address()),
        topics: vec!["plant/+/+/temp".into()],
        window: broker::WINDOW,
        timestamp: Some("/ts".into()),
        ..MqttConfig::default()
    };
    let serial = SerialConfig { port: scale.port().to_owned(), topic: SCALE_TOPIC.into(), ..SerialConfig::default() };
    let stream = StreamConfig {
        destination: "cloud".into(),
        stream: STREAM.into(),
        from: vec!["broker".into(), "scale".into()],
        lanes: 2,
        ..StreamConfig::default()
    };
    let kinesis = KinesisConfig {
        region: REGION.into(),
        endpoint: cloud.url().into(),
        credentials: CredentialsConfig::Static { access_key_id: "DEMO".into(), secret_access_key_file: secret },
        ..KinesisConfig::default()
    };
    Config {
        device: DeviceConfig {
            id: "demo".into(),
            state_dir: folder.to_owned(),
            socket: folder.join("headwater.sock"),
            ..DeviceConfig::default()
        },
        sources: [("broker".into(), SourceConfig::Mqtt(mqtt)), ("scale".into(), SourceConfig::Serial(serial))].into(),
        streams: [("readings".into(), stream)].into(),
        destinations: [("cloud".into(), DestinationConfig::Kinesis(kinesis))].into(),
        // It is gone with the demo, and has to work on a small disk too.
        buffer: BufferConfig { keep_free: ByteCount(0), ..BufferConfig::default() },
        http: HttpConfig { listen: Some(page) },
    }
}

/// What the audit has seen of the stream.
#[derive(Default)]
struct Seen {
    audit: Audit,
    /// Records.
    count: u64,
}

impl Seen {
    fn looks_at(&mut self, cloud: &Endpoint) {
        let (news, count) = cloud.look(|store| {
            let (kept, count) = (store.records(STREAM).count(), store.accepted(STREAM));
            let seen = kept.saturating_sub(usize::try_from(count - self.count).unwrap_or(usize::MAX));
            (store.records(STREAM).skip(seen).cloned().collect::<Vec<_>>(), count)
        });
        self.count = count;
        news.iter().for_each(|record| self.audit.takes(oracle::user_records(record)));
    }
}

/// What plays around the agent.
struct Stage {
    options: Options,
    status: Status,
    broker: Broker,
    cloud: Endpoint,
}

impl Stage {
    async fn play(&self, scale: &mut Scale) -> Result<Verdict, DemoError> {
        tokio::select! {
            connected = self.until_connected() => connected?,
            () = interrupted() => return Ok(Verdict::Stopped),
        }
        let (curtain, mut audit) = (CancellationToken::new(), Seen::default());
        let sensors = sensors::run(PLANT, self.broker.address(), curtain.clone());
        let sensors = async { sensors.await.map_err(DemoError::Sensors) };
        let weighing = async { scale.weigh(WEIGH_EVERY, &curtain).await.map_err(DemoError::Serial) };
        let story = async {
            tokio::select! {
                () = self.tell(&mut audit) => {}
                () = interrupted() => println!("{}", script::LAST_WORDS),
            }
            curtain.cancel();
            self.cloud.back();
            Ok(())
        };

        let (mut sent, weighed, ()) = tokio::try_join!(sensors, weighing, story)?;

        sent.insert(SCALE_TOPIC.into(), weighed);
        tokio::select! {
            verdict = self.judge(audit, &sent) => Ok(verdict),
            () = interrupted() => Ok(Verdict::Stopped),
        }
    }

    /// Sensors must not speak before anyone listens: a broker forgets what nobody has subscribed to.
    async fn until_connected(&self) -> Result<(), DemoError> {
        let missing = |state: &State| script::not_connected(state, &["broker", "scale"]);
        let connected = self.until(|state| missing(state).is_empty());
        let sources = |_| DemoError::NotConnected { sources: missing(&self.status.lock()).join(" and ") };
        timeout(CONNECT_WITHIN, connected).await.map_err(sources)
    }

    /// Lets the uplink go and come and prints a line a second, until the time is over.
    async fn tell(&self, audit: &mut Seen) {
        let started = Instant::now();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut was_away, mut explained) = (false, false);
        loop {
            seconds.tick().await;
            audit.looks_at(&self.cloud);
            let second = started.elapsed().as_secs();
            let scene = script::scene(second, self.options.seconds);
            let away = matches!(scene, Scene::Away(_));
            if was_away && !away && !explained {
                println!("{}", script::WHY_SLOWLY);
                explained = true;
            }
            was_away = away;
            match scene {
                Scene::Away(_) => self.cloud.away(),
                Scene::There(_) => self.cloud.back(),
            }
            println!("{}", script::line(second, &self.status.lock(), scene, clock::now()));
            if self.options.seconds.is_some_and(|length| second >= length) {
                return;
            }
        }
    }

    async fn judge(&self, mut audit: Seen, sent: &Sent) -> Verdict {
        println!("The sensors have stopped after {} readings.", script::grouped(sent.values().sum()));
        if timeout(DRAIN_WITHIN, self.until(|state| script::drained(state, sent))).await.is_err() {
            println!("Not everything has drained after {DRAIN_WITHIN:?}.");
        }
        audit.looks_at(&self.cloud);
        let report = audit.audit.finish(sent);
        println!("{report}");
        if report.passed() { Verdict::Passed } else { Verdict::Failed }
    }

    async fn until(&self, so: impl Fn(&State) -> bool) {
        let mut looks = interval(LOOK_EVERY);
        while !so(&self.status.lock()) {
            looks.tick().await;
        }
    }
}
