//! The way out: CPU of a MiB of backlog, beside the parts that nobody can do without.

use std::{path::Path, time::Duration};

use aws_sdk_kinesis::{
    Client as Sdk,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    primitives::Blob,
    types::PutRecordsRequestEntry,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use headwater::{
    clock::{Boot, Clock},
    config::{Aggregation, CredentialsConfig, DrainOrder, KinesisConfig},
    drain::{DestinationSettings, Drain, DrainSettings, Meter, Outlet, StreamSettings},
    kinesis::Client,
};
use md5::{Digest, Md5};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Outcome, agent,
    cloud::{Cloud, STREAM},
    gate::{Gate, NAME, group},
    machine::own_cpu,
    median,
    table::Table,
};

const RUNS: usize = 3;
/// Waits for the cloud: 115 MiB.
const READINGS: u64 = 1_000_000;
/// Readings of a commit while the cloud is away.
const GROUP: u64 = 500;
/// As large as a record is made.
const RECORD: usize = 1000 << 10;

pub fn measure() -> Outcome<()> {
    let table = Table::new("Drain: CPU of a MiB of backlog (1,000,000 readings of 113 bytes on the disk, TLS to the endpoint)");
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(run()?);
    }
    let of = |part: fn(&Run) -> Duration| median(runs.iter().map(|run| part(run).as_secs_f64() * 1e3 / run.mib).collect());
    let (read, md5, put, drain) = (of(|run| run.read), of(|run| run.md5), of(|run| run.put), of(|run| run.drain));
    table.note("reading the rows from SQLite", format!("{read:.2} ms"));
    table.note("MD5 of the records", format!("{md5:.2} ms"));
    table.note("the SDK's put of 1,000 KiB", format!("{put:.2} ms"));
    table.note("the drain, deletes included", format!("{drain:.2} ms"));
    table.at_most("  over the sum of its parts", drain / (read + md5 + put), 1.3, "x");
    Ok(())
}

struct Run {
    mib: f64,
    read: Duration,
    md5: Duration,
    put: Duration,
    drain: Duration,
}

fn run() -> Outcome<Run> {
    let folder = tempfile::tempdir()?;
    let mut gate = Gate::open(folder.path())?;
    (0..READINGS / GROUP).try_for_each(|turn| gate.commit(&group(turn * GROUP, GROUP), GROUP))?;
    gate.close();

    let (rows, read) = timed(|| rows(folder.path()))?;
    let bytes: usize = rows.iter().map(Vec::len).sum();
    let records: Vec<Vec<u8>> = rows.concat().chunks(RECORD).map(<[u8]>::to_vec).collect();
    let (_, md5) = timed(|| Ok(records.iter().map(Md5::digest).fold(0_u8, |sum, digest| sum ^ digest[0])))?;

    let mut cloud = Cloud::start(1, false, &agent::ca(folder.path()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sdk = sdk(folder.path(), &cloud.url)?;
    let ((), put) = timed(|| runtime.block_on(puts(&sdk, records)))?;
    cloud.tell("forget")?;
    let drain = drain(folder.path(), &mut cloud, &runtime)?;
    Ok(Run { mib: bytes as f64 / f64::from(1 << 20), read, md5, put, drain })
}

fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let before = own_cpu();
    let done = work()?;
    Ok((done, own_cpu().saturating_sub(before)))
}

fn rows(folder: &Path) -> Outcome<Vec<Vec<u8>>> {
    let file = Connection::open(folder.join("buffer.db"))?;
    let mut select = file.prepare("SELECT data FROM chunk ORDER BY id")?;
    let rows = select.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn sdk(folder: &Path, url: &str) -> Outcome<Sdk> {
    let roots = TrustStore::empty().with_pem_certificate(std::fs::read(agent::ca(folder))?);
    let tls = TlsContext::builder().with_trust_store(roots).build()?;
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls).build_https();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(Credentials::new("bench", "secret", None, None, "bench"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .http_client(http)
        .build();
    Ok(Sdk::from_conf(config))
}

async fn puts(sdk: &Sdk, records: Vec<Vec<u8>>) -> Outcome<()> {
    for record in records {
        let entry = PutRecordsRequestEntry::builder().data(Blob::new(record)).partition_key("bench").build()?;
        sdk.put_records().stream_name(STREAM).records(entry).send().await?;
    }
    Ok(())
}

fn drain(folder: &Path, cloud: &mut Cloud, runtime: &Runtime) -> Outcome<Duration> {
    let gate = Gate::open(folder)?;
    let secret = agent::secret(folder)?;
    let config = KinesisConfig {
        region: "eu-west-1".into(),
        endpoint: cloud.url.as_str().into(),
        ca: Some(agent::ca(folder)),
        credentials: CredentialsConfig::Static { access_key_id: "bench".into(), secret_access_key_file: secret },
        ..KinesisConfig::default()
    };
    let client = runtime.block_on(Client::open(&config))?;
    let stream = StreamSettings {
        name: NAME.into(),
        target: STREAM.into(),
        destination: 0,
        linger: Duration::ZERO,
        aggregation: Aggregation::On,
        lanes: vec![gate.lane.clone()],
        order: DrainOrder::OldestFirst,
        priority: 0,
        older: Vec::new(),
    };
    let settings = DrainSettings {
        destinations: vec![DestinationSettings { name: "cloud".into(), outlet: Outlet::Kinesis(client), meter: Meter::default() }],
        streams: vec![stream],
        clock: Clock::new("/nonexistent/synchronized".into(), Boot(1)).changes(),
        random: || 0.5,
    };
    let drain = Drain::new(settings, gate.buffer.clone(), gate.status.clone());
    let finish = CancellationToken::new();
    let ((), took) = timed(|| {
        let running = runtime.spawn(drain.run(finish.clone(), CancellationToken::new()));
        let arrived = cloud.wait_for(READINGS)?;
        if (arrived.get("distinct"), arrived.get("again"), arrived.get("disorder")) != (READINGS, 0, 0) {
            return Err(format!("the stream is wrong: {arrived:?}").into());
        }
        // Long enough for the delete that waits for an insert to go without one.
        std::thread::sleep(Duration::from_millis(1500));
        finish.cancel();
        Ok(runtime.block_on(running)?)
    })?;
    gate.close();
    Ok(took)
}
