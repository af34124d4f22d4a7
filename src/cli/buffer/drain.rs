//! `headwater buffer drain`: a dead gateway's readings reach their stream, from any computer that reaches the endpoint.
//!
//! It is the agent without sources: the same buffer, the same drain. What was confirmed leaves the file, so it can be stopped and
//! repeated at any time.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{failed, note, opened};
use crate::{
    agent,
    buffer::{Buffer, BufferError, BufferSettings, Lane, Opened, StreamRules, World},
    cli::{ConfigArgs, Failed, load, stop_on_signals},
    clock::{Boot, Clock},
    config::{Config, Files, StreamConfig, WhenFull},
    drain::{DestinationSettings, Meter},
    status::Status,
};

/// Sends what a buffer file holds to its streams, until it is empty
///
/// For the card of a dead gateway, or a copy of its buffer: run it on any computer that reaches the endpoint, with the gateway's own
/// configuration, of which the streams, the destinations and buffer.memory count. What was confirmed leaves the file, so it can be
/// stopped with Ctrl-C and repeated. Names are kept: what the gateway had sent already is recognised as a duplicate.
///
/// Exit code: 0 when the file is empty; 1 when something is left.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cp /media/card/var/lib/headwater/buffer.db* .\n  headwater buffer drain buffer.db --config fleet/ --device gw-0042"
)]
pub struct DrainArgs {
    /// The file; it is changed, so take a copy
    pub path: PathBuf,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Between two lines that say how much is left.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long the last requests may take when it is stopped.
const LAST_PUT: Duration = Duration::from_secs(5);

/// Some of the readings are still there.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("{readings} readings are still in {}; repeat the command to go on", path.display())]
    Stopped { path: PathBuf, readings: u64 },
    #[error(
        "{readings} readings in {} belong to {}; add {} to the configuration, and repeat the command",
        path.display(), streams.join(", "), streams.iter().map(|name| format!("[streams.{name}]")).collect::<Vec<_>>().join(", ")
    )]
    Unknown { path: PathBuf, readings: u64, streams: Vec<String> },
    #[error("{} can't be written, and what was sent has to leave it; copy the file and its -wal, and drain the copy", path.display())]
    ReadOnly { path: PathBuf, source: std::io::Error },
}

/// Sends what the file holds.
pub async fn drain(args: &DrainArgs, env: &[(String, String)]) -> Result<ExitCode, Failed> {
    let path = args.path.clone();
    let config = load(&args.config, env, Files::OfDestinations)?.config;
    let size = opened(&path)?.0.size();
    let writable = std::fs::OpenOptions::new().write(true).open(&path);
    writable.map_err(|source| Left::ReadOnly { path: path.clone(), source })?;
    let stop = stop_on_signals(|| {})?;
    let destinations = agent::open_destinations(&config).await?;

    let status = Status::default();
    let settings = settings(&config, path.clone(), size);
    let shown = status.clone();
    let opening = tokio::task::spawn_blocking(move || Buffer::open(&settings, &[], shown)).await?;
    let Opened { buffer, older: lanes, mut closed, .. } = opening.map_err(failed)?;
    let (known, unknown): (Vec<Lane>, Vec<Lane>) =
        lanes.into_iter().partition(|lane| config.streams.contains_key(&lane.layout.stream));
    let (finish, give_up) = (CancellationToken::new(), CancellationToken::new());
    // Nothing arrives here, so no boot needs a name.
    let clock = Clock::new(config.device.clock_synchronized.clone(), Boot::default());
    // What a gateway's link is given says nothing of the link here.
    let destination = |(name, outlet)| DestinationSettings { name, outlet, meter: Meter::default() };
    let destinations = destinations.into_iter().map(destination).collect();
    let stage = agent::drain_stage(&config, destinations, clock.changes(), &[], &known, &buffer, &status);
    let mut draining = tokio::spawn(stage.run(finish.clone(), give_up.clone()));

    let left = |lanes: &[Lane]| {
        let waiting = lanes.iter().map(|lane| buffer.waiting(lane.id));
        waiting.fold((0, false), |(readings, more), lane| (readings + lane.readings, more || lane.expected))
    };
    let mut tick = interval(TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    let mut damaged = None;
    while left(&known) != (0, false) {
        tokio::select! {
            ended = &mut closed => {
                damaged = ended.ok();
                break;
            }
            () = stop.cancelled() => break,
            () = buffer.settled() => {}
            _ = tick.tick() => tell(&status, &mut told),
        }
    }
    tell(&status, &mut told);
    finish.cancel();
    if tokio::time::timeout(LAST_PUT, &mut draining).await.is_err() {
        give_up.cancel();
        // Nothing is lost by a request that is cut off: its readings are in the file.
        let _ended: Result<(), tokio::task::JoinError> = draining.await;
    }
    let ((readings, _), (unsent, _)) = (left(&known), left(&unknown));
    drop(buffer);
    if let Some(error) = damaged {
        return Err(failed(error));
    }
    // Its log goes into the file when it is closed.
    let _closed: Result<BufferError, _> = closed.await;
    if readings > 0 {
        return Err(Left::Stopped { path, readings }.into());
    }
    if unsent > 0 {
        let streams: BTreeSet<_> = unknown.into_iter().map(|lane| lane.layout.stream).collect();
        return Err(Left::Unknown { path, readings: unsent, streams: streams.into_iter().collect() }.into());
    }
    note(&format!("{} is empty", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Nothing gives way here: what is in the file is sent, or stays.
fn settings(config: &Config, path: PathBuf, size: u64) -> BufferSettings {
    /// For the log, and for what a damaged file is salvaged into.
    const ROOM: u64 = 64 << 20;
    BufferSettings {
        path,
        hold: config.buffer.hold,
        memory: config.buffer.memory.0,
        max_size: config.buffer.max_size.0.max(4 * size + ROOM),
        keep_free: 0,
        device: config.device.id.clone(),
        streams: config.streams.iter().map(|(name, stream)| (name.clone(), rules(stream))).collect(),
        windows: std::collections::BTreeMap::new(),
        world: World::default(),
    }
}

fn rules(stream: &StreamConfig) -> StreamRules {
    StreamRules { when_full: WhenFull::Block, encoding: stream.encoding, ..StreamRules::default() }
}

/// Says what is new.
fn tell(status: &Status, told: &mut String) {
    let state = status.lock().clone();
    let ledger = state.ledger_total();
    let mut line = format!("{} readings sent, {} left", ledger.delivered, ledger.buffered);
    for problem in state.problems.values() {
        line = format!("{line}; {}; {}", problem.what, problem.remedy);
    }
    if line != *told {
        note(&line);
        *told = line;
    }
}
