//! A serial device on its way into the agent, on real pseudo terminals; the tests play ingest's side of the door.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use headwater::{
    config::{Config, FramingConfig, SerialConfig, StreamConfig},
    ingest::{
        intake::{self, BATCH_READINGS, Door},
        route::{Router, Routes},
    },
    reading::SourceId,
    sources::{SourceError, serial},
    status::{Reason, SourceState, Status},
    units::ByteCount,
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, task::JoinHandle, time::timeout};
use tokio_serial::{SerialPort, SerialStream};
use tokio_util::sync::CancellationToken;

/// Far beyond what anything here takes; who waits longer says what it saw instead.
const DEADLINE: Duration = Duration::from_mins(1);

/// An adapter with its device, plugged in under a name that stays.
struct Device {
    line: SerialStream,
    // Keeps what is said before the agent has opened its side.
    _far_end: SerialStream,
    name: PathBuf,
}

impl Device {
    fn plugged_in_as(name: &Path) -> Self {
        let (line, far_end) = SerialStream::pair().unwrap();
        let replaced = name.with_extension("new");
        symlink(far_end.name().unwrap(), &replaced).unwrap();
        std::fs::rename(replaced, name).unwrap();
        Self { line, _far_end: far_end, name: name.to_owned() }
    }

    async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(DEADLINE, self.line.write_all(bytes.as_ref())).await.expect("the agent reads the line").unwrap();
    }

    fn unplug(self) {
        std::fs::remove_file(&self.name).unwrap();
    }
}

/// The source as it runs in the agent, and the other side of its door.
struct Gateway {
    folder: TempDir,
    door: Option<Door>,
    status: Status,
    stop: CancellationToken,
    source: JoinHandle<Result<(), SourceError>>,
}

/// Everything goes to one stream.
fn routes() -> Arc<Routes> {
    let stream = StreamConfig { from: vec!["scale".into()], ..StreamConfig::default() };
    let config = Config { streams: [("weights".to_owned(), stream)].into(), ..Config::default() };
    Arc::new(Routes::new(&config, |_| Some(SourceId(0))))
}

impl Gateway {
    fn start() -> Self {
        Self::start_with(FramingConfig::default())
    }

    fn start_with(framing: FramingConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (status, stop) = (Status::default(), CancellationToken::new());
        let (intake, door) = intake::door(Router::new(routes(), SourceId(0), status.clone()));
        let config =
            SerialConfig { port: folder.path().join("scale"), topic: "plant/scale".into(), framing, ..SerialConfig::default() };
        let source = tokio::spawn(serial::run("scale".into(), config, intake, status.clone(), stop.clone()));
        Self { folder, door: Some(door), status, stop, source }
    }

    fn port(&self) -> PathBuf {
        self.folder.path().join("scale")
    }

    /// The payloads of the next `n` readings, as ingest gets them.
    async fn receives(&mut self, n: usize) -> Vec<String> {
        let door = self.door.as_mut().unwrap();
        let mut payloads = Vec::new();
        while payloads.len() < n {
            let Ok(batch) = timeout(DEADLINE, door.queue.recv()).await else { panic!("only {payloads:?} arrived") };
            for reading in batch.expect("the source runs") {
                assert_eq!(&*reading.topic, "plant/scale");
                assert!(reading.fingerprint.is_none() && !reading.dup);
                payloads.push(String::from_utf8_lossy(&reading.payload).into_owned());
            }
        }
        payloads
    }

    async fn shows(&self, wanted: impl Fn(&SourceState) -> bool) -> SourceState {
        let state = || self.status.lock().sources.get("scale").cloned().unwrap_or_default();
        let seen = async {
            while !wanted(&state()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("the status stays {:?}", state()));
        state()
    }

    fn problem(&self) -> String {
        self.status
            .lock()
            .problems
            .get("source scale")
            .map(|problem| format!("{} / {}", problem.what, problem.remedy))
            .unwrap_or_default()
    }

    async fn stopped(self) -> (Result<(), SourceError>, Status) {
        self.stop.cancel();
        (self.source.await.unwrap(), self.status)
    }
}

#[tokio::test]
async fn a_line_becomes_a_reading_under_the_configured_topic() {
    let mut gateway = Gateway::start();
    let mut device = Device::plugged_in_as(&gateway.port());

    device.says("21.5 kg\r\n\r\n22.0 kg\r\n").await;

    assert_eq!(gateway.receives(2).await, ["21.5 kg", "22.0 kg"]);
    let shown = gateway.shows(|source| source.state == "connected").await;
    assert_eq!((shown.received, shown.invalid, shown.error), (2, 0, None));
    assert!(shown.last_ts.is_some());
}

#[tokio::test]
async fn a_frame_ends_at_the_configured_byte() {
    let mut gateway = Gateway::start_with(FramingConfig::Delimiter { byte: 3, max_length: ByteCount(100) });
    let mut device = Device::plugged_in_as(&gateway.port());

    device.says(b"\x02one\n\x03\x02two\r\x03").await;

    assert_eq!(gateway.receives(2).await, ["\x02one\n", "\x02two\r"]);
}

#[tokio::test]
async fn a_device_that_is_unplugged_is_read_again_when_it_is_back() {
    let mut gateway = Gateway::start();
    let mut device = Device::plugged_in_as(&gateway.port());
    device.says("before\n").await;
    assert_eq!(gateway.receives(1).await, ["before"]);

    device.says("half a li").await;
    gateway.shows(|source| source.state == "connected").await;
    device.unplug();
    let gone = gateway.shows(|source| source.state == "connecting" && source.error.is_some()).await;
    let mut device = Device::plugged_in_as(&gateway.port());
    device.says("after\n").await;

    assert_eq!(gateway.receives(1).await, ["after"]);
    assert!(gone.error.unwrap().contains("unplugged"));
    let back = gateway.shows(|source| source.state == "connected").await;
    assert_eq!((back.received, back.error), (2, None));
    assert_eq!(gateway.problem(), "");
}

#[tokio::test]
async fn a_frame_that_was_open_at_the_unplug_is_discarded_and_counted() {
    let mut gateway = Gateway::start_with(FramingConfig::Lines { max_length: ByteCount(8) });
    let mut device = Device::plugged_in_as(&gateway.port());
    // The overlong line is counted as soon as its ninth byte is read, so what follows it in the same write was read too.
    device.says("this line is too long\n22.").await;
    gateway.shows(|source| source.invalid == 1).await;

    device.unplug();
    gateway.shows(|source| source.invalid == 2).await;
    let mut device = Device::plugged_in_as(&gateway.port());
    device.says("23.0\n").await;

    assert_eq!(gateway.receives(1).await, ["23.0"]);
}

#[tokio::test]
async fn a_port_that_is_absent_or_busy_is_told_with_what_to_do_and_taken_when_it_is_there() {
    let mut gateway = Gateway::start();
    gateway.shows(|source| source.error.is_some()).await;
    assert!(gateway.problem().contains("there is no serial port") && gateway.problem().contains("by-id"), "{}", gateway.problem());

    let mut device = Device::plugged_in_as(&gateway.port());
    let other = tokio_serial::SerialStream::open(&tokio_serial::new(gateway.port().to_string_lossy(), 9600)).unwrap();
    gateway.shows(|source| source.error.as_ref().is_some_and(|error| error.contains("another program"))).await;
    assert!(gateway.problem().contains("fuser -v"), "{}", gateway.problem());

    drop(other);
    device.says("21.5\n").await;
    assert_eq!(gateway.receives(1).await, ["21.5"]);
}

#[tokio::test]
async fn a_file_that_is_no_serial_port_is_told_as_such() {
    let gateway = Gateway::start();
    std::fs::write(gateway.port(), "not a device").unwrap();

    gateway.shows(|source| source.error.as_ref().is_some_and(|error| error.contains("can't be set"))).await;

    assert!(gateway.problem().contains("is a serial port"), "{}", gateway.problem());
}

#[tokio::test]
async fn noise_without_an_end_is_one_invalid_frame_and_the_next_line_is_read() {
    let mut gateway = Gateway::start();
    let mut device = Device::plugged_in_as(&gateway.port());

    for _ in 0..64 {
        device.says([0xFF; 4096]).await;
    }
    device.says("\n21.5\n").await;

    assert_eq!(gateway.receives(1).await, ["21.5"]);
    assert_eq!(gateway.shows(|source| source.received == 1).await.invalid, 1);
}

#[tokio::test]
async fn while_there_is_no_room_the_line_is_not_read_and_nothing_is_lost() {
    const READINGS: usize = 8 * BATCH_READINGS;
    let mut gateway = Gateway::start();
    let device = Device::plugged_in_as(&gateway.port());
    let Device { mut line, _far_end, .. } = device;
    let expected: Vec<_> = (0..READINGS).map(|n| n.to_string()).collect();
    let lines = expected.join("\n") + "\n";
    let speaker = tokio::spawn(async move {
        line.write_all(lines.as_bytes()).await.unwrap();
        line
    });

    // One batch waits at the door, one in the source; the rest stays with the kernel and the device.
    let held = gateway.shows(|source| source.state == "waiting").await;
    assert!(held.received <= 2 * BATCH_READINGS as u64, "{held:?}");

    assert_eq!(gateway.receives(READINGS).await, expected);
    assert_eq!(gateway.shows(|source| source.state == "connected").await.received, READINGS as u64);
    drop(speaker.await.unwrap());
}

#[tokio::test]
async fn on_stop_the_last_readings_are_handed_over() {
    let mut gateway = Gateway::start();
    let mut device = Device::plugged_in_as(&gateway.port());
    // The first batch waits at the door, so the last one is still with the source when it is told to stop.
    device.says("first\n").await;
    gateway.shows(|source| source.received == 1).await;
    device.says("last\n").await;
    gateway.shows(|source| source.received == 2).await;

    gateway.stop.cancel();

    assert_eq!(gateway.receives(2).await, ["first", "last"]);
    let (ended, status) = gateway.stopped().await;
    assert!(ended.is_ok());
    assert_eq!(status.lock().sources["scale"].state, "stopped");
}

#[tokio::test]
async fn readings_that_find_no_room_on_stop_are_counted_as_dropped() {
    let gateway = Gateway::start();
    let mut device = Device::plugged_in_as(&gateway.port());
    device.says("first\n").await;
    gateway.shows(|source| source.received == 1).await;
    device.says("last\n").await;
    gateway.shows(|source| source.received == 2).await;

    let (ended, status) = gateway.stopped().await;

    assert!(ended.is_ok());
    let ledger = status.lock().streams["weights"].ledger.clone();
    assert_eq!(ledger.dropped.get(Reason::NoRoom), 1);
    assert!(ledger.balances());
}

#[tokio::test]
async fn a_source_whose_ingest_has_failed_ends_with_an_error() {
    let mut gateway = Gateway::start();
    drop(gateway.door.take());
    let mut device = Device::plugged_in_as(&gateway.port());
    device.says("21.5\n").await;

    let ended = timeout(DEADLINE, gateway.source).await.expect("the source ends").unwrap();

    assert!(matches!(ended, Err(SourceError::Intake { .. })), "{ended:?}");
}
