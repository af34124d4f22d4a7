//! A device on a serial line that sends on its own.
//!
//! The device does not know that we exist and never repeats itself, so the line is read whenever there is room, and opened again
//! under its stable name whenever it comes back. Modem lines are left as the driver sets them on opening: many adapters have none.
//!
//! While there is no room for readings the line is not read. With flow control the device then waits. Without it the kernel keeps
//! 4 KiB and what the driver holds, and drops the rest; that happens outside of this program, so it is in no count.
//!
//! Invariant: what waits here is at most one batch, one frame and what was read last; and a frame is either handed over or counted.

pub mod framing;
mod port;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::port::try_out;
use self::{
    framing::Decoder,
    port::{Event, Port},
};
use super::error::SourceError;
use crate::{
    backoff::{Backoff, random},
    clock,
    config::SerialConfig,
    ingest::intake::{BATCH_BYTES, BATCH_READINGS, Intake},
    reading::{Reading, Topic, Uptime},
    status::{BEAT, Reason, Status},
};

/// Longest wait before a port is tried again: a technician who plugs the adapter in again should not wonder whether it is broken.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the last batch may wait for room when the agent stops: a commit on a slow card, and a small part of the time that the
/// agent has for stopping.
const LAST_HAND_OVER: Duration = Duration::from_secs(2);

/// Reads the line until `stop`, through any number of unplugs.
///
/// Errors: only [`SourceError::Intake`], when ingest has ended before `stop`. A port that cannot be opened or read is told in
/// `status`, and tried again.
pub async fn run(
    name: String,
    config: SerialConfig,
    intake: Intake,
    status: Status,
    stop: CancellationToken,
) -> Result<(), SourceError> {
    let mut line = Line {
        decoder: Decoder::new(&config.framing),
        topic: config.topic.as_str().into(),
        arrived: clock::uptime(),
        batch: Vec::new(),
        batch_bytes: 0,
        state: "",
        backoff: Backoff::up_to(LONGEST_PAUSE),
        name,
        config,
        status,
    };
    let ended = line.follow(&intake, &stop).await;
    line.finish(&intake).await;
    ended
}

struct Line {
    name: String,
    config: SerialConfig,
    status: Status,
    decoder: Decoder,
    topic: Arc<str>,
    /// When the bytes arrived that the decoder holds.
    arrived: Uptime,
    batch: Vec<Reading>,
    batch_bytes: usize,
    state: &'static str,
    /// Of failures without a byte read between them.
    backoff: Backoff,
}

impl Line {
    async fn follow(&mut self, intake: &Intake, stop: &CancellationToken) -> Result<(), SourceError> {
        let mut port = Port::closed(self.config.clone(), Instant::now());
        let mut buffer = BytesMut::new();
        self.enter("connecting");
        loop {
            self.status.beat(&self.part(), std::time::Instant::now());
            self.decode();
            let full = self.batch_is_full();
            if port.is_open() {
                let held = full && intake.ready().now_or_never().is_none();
                self.enter(if held { "waiting" } else { "connected" });
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                slot = intake.ready(), if !self.batch.is_empty() => {
                    let slot = slot.map_err(|source| SourceError::Intake { name: self.name.clone(), source })?;
                    slot.offer(std::mem::take(&mut self.batch));
                    self.batch_bytes = 0;
                }
                event = port.next(&mut buffer), if !full => match event {
                    Event::Opened => self.opened(),
                    Event::Bytes => {
                        self.backoff.reset();
                        self.arrived = clock::uptime();
                        self.decoder.push(buffer.split());
                    }
                    Event::Failed(error) => {
                        let pause = self.failed(&error);
                        port.reopen(Instant::now() + pause);
                    }
                },
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    /// Fills the batch with the frames that have arrived.
    fn decode(&mut self) {
        let (mut received, mut invalid) = (0, 0);
        while !self.batch_is_full() {
            match self.decoder.next_frame() {
                Some(Ok(payload)) => {
                    received += 1;
                    self.batch_bytes += payload.len();
                    self.batch.push(Reading {
                        topic: Topic::Shared(self.topic.clone()),
                        payload,
                        arrived: self.arrived,
                        fingerprint: None,
                        dup: false,
                    });
                }
                Some(Err(framing::Overlong)) => invalid += 1,
                None => break,
            }
        }
        if received + invalid > 0 {
            self.status.source(&self.name, |source| {
                source.received += received;
                source.invalid += invalid;
                if received > 0 {
                    source.last_ts = Some(clock::time_of(self.arrived));
                }
            });
        }
    }

    fn batch_is_full(&self) -> bool {
        self.batch.len() >= BATCH_READINGS || self.batch_bytes >= BATCH_BYTES
    }

    fn opened(&self) {
        self.status.source(&self.name, |source| source.error = None);
        self.status.solved(&self.part());
        info!(source = self.name, port = %self.config.port.display(), baud = self.config.baud, "the serial port is open");
    }

    /// Tells what happened, once, and how long to wait before the next attempt.
    fn failed(&mut self, error: &SourceError) -> Duration {
        self.enter("connecting");
        self.give_up_open_frame();
        let (what, remedy) = error.what_and_remedy();
        self.status.source(&self.name, |source| source.error = Some(what.clone()));
        if self.status.problem(&self.part(), clock::now(), what.clone(), &remedy) {
            warn!(source = self.name, "{what}; {remedy}");
        }
        self.backoff.pause(random())
    }

    fn give_up_open_frame(&mut self) {
        if self.decoder.give_up() {
            self.status.source(&self.name, |source| source.invalid += 1);
        }
    }

    /// Hands over what was read, if there is room soon, and counts it as given up otherwise.
    async fn finish(&mut self, intake: &Intake) {
        let deadline = Instant::now() + LAST_HAND_OVER;
        loop {
            self.decode();
            if self.batch.is_empty() {
                break;
            }
            let batch = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            if let Ok(Ok(slot)) = tokio::time::timeout_at(deadline, intake.ready()).await {
                slot.offer(batch);
                continue;
            }
            warn!(source = self.name, readings = batch.len(), "stopped without room for the last readings; they are lost");
            for reading in &batch {
                intake.give_up(&reading.topic, Reason::NoRoom);
            }
        }
        self.give_up_open_frame();
        self.enter("stopped");
        self.status.rests(&self.part());
    }

    fn enter(&mut self, state: &'static str) {
        if self.state != state {
            self.state = state;
            self.status.source(&self.name, |source| source.state = state);
        }
    }

    /// As problems name it.
    fn part(&self) -> String {
        format!("source {}", self.name)
    }
}
