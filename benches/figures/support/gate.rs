//! The buffer behind its own interface, with groups made by hand: what ingest and the drain do to it, without them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use headwater::{
    buffer::{
        Buffer, BufferError, BufferSettings, Chunk, Delivered, Group, Lane, Layout, Mark, Opened, Position, StreamRules, World,
    },
    reading::{Fingerprint, SourceId, Timestamp},
    record::{
        RunId,
        kpl::{HashKeyUse, put_record},
    },
    status::Status,
};
use tokio::{
    runtime::Runtime,
    sync::{oneshot, watch},
};

use super::{Outcome, payload};

/// The name under `[streams]`.
pub const NAME: &str = "readings";
/// What the broker may repeat: kept with every commit.
pub const WINDOW: u16 = 1000;
const SOURCE: SourceId = SourceId(0);

/// An open buffer of one lane.
pub struct Gate {
    /// The buffer.
    pub buffer: Buffer,
    /// Its lane.
    pub lane: Lane,
    /// What it tells.
    pub status: Status,
    closed: oneshot::Receiver<BufferError>,
    safe: watch::Receiver<u64>,
    runtime: Runtime,
    readings: u64,
}

impl Gate {
    /// Opens the buffer in `folder`, at its default size.
    pub fn open(folder: &Path) -> Outcome<Self> {
        Self::with_room(folder, 2 << 30)
    }

    /// The same with room for `max_size` bytes.
    pub fn with_room(folder: &Path, max_size: u64) -> Outcome<Self> {
        let settings = BufferSettings {
            path: folder.join("buffer.db"),
            hold: Duration::from_hours(1),
            memory: 4 << 20,
            max_size,
            streams: [(NAME.to_owned(), StreamRules::default())].into(),
            keep_free: 0,
            device: "gw".into(),
            windows: [("broker".to_owned(), (SOURCE, WINDOW))].into(),
            world: World::default(),
        };
        let partition_key = format!("bench-gateway/{NAME}/0");
        let layout = Layout { stream: NAME.into(), number: 0, of: 1, partition_key, hash_key: None, template: None };
        let status = Status::default();
        let Opened { buffer, lanes, closed, .. } = Buffer::open(&settings, &[layout], status.clone())?;
        let (publish, safe) = watch::channel(0);
        buffer.publish_receipts(SOURCE, publish);
        let (lane, _) = lanes.into_iter().next().ok_or("the buffer has no lane")?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { buffer, lane, status, closed, safe, runtime, readings: 0 })
    }

    /// Adds a group of `readings`, and waits until it is on the disk.
    pub fn commit(&mut self, data: &Bytes, readings: u64) -> Outcome<()> {
        self.append(data, readings);
        self.buffer.write();
        self.settle()
    }

    /// Waits until everything is on the disk.
    pub fn settle(&mut self) -> Outcome<()> {
        let readings = self.readings;
        self.runtime.block_on(self.safe.wait_for(|safe| *safe >= readings))?;
        Ok(())
    }

    /// Adds a group of `readings`; nobody looks at the bound of the memory.
    pub fn append(&mut self, data: &Bytes, readings: u64) {
        let first_seq = self.readings;
        self.readings += readings;
        // The ledger is ingest's to keep; without it nothing could be delivered.
        self.status.received(NAME, readings);
        let fingerprint = |number: u64| Fingerprint {
            packet: u16::try_from(number % 65_535 + 1).unwrap_or(1),
            #[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
            hash: number.wrapping_mul(0x9E37_79B9_7F4A_7C15) as u32,
        };
        let fingerprints = (first_seq..self.readings).map(fingerprint).collect();
        let chunk = Chunk {
            lane: self.lane.id,
            readings,
            run: RunId(1),
            first_seq,
            arrived: Timestamp(1),
            unsure: None,
            notice: false,
            keys: None,
            data: data.clone(),
        };
        let mark = Mark { source: SOURCE, up_to: self.readings, fingerprints, repeatable: 0 };
        self.buffer.append(Group { chunks: vec![chunk], marks: vec![mark], since: Instant::now() });
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> u64 {
        self.buffer.waiting(self.lane.id).bytes
    }

    /// Delivers the oldest, chunk by chunk, until at most `bytes` wait.
    pub fn drain_to(&mut self, bytes: u64) -> Outcome<()> {
        self.drain_in_pieces(bytes, 1)
    }

    /// The same, as much at a time as holds `at_once` bytes.
    pub fn drain_in_pieces(&mut self, bytes: u64, at_once: u64) -> Outcome<()> {
        while self.waiting() > bytes {
            let taken = self.runtime.block_on(self.buffer.oldest(self.lane.id, at_once))?;
            let taken = taken.ok_or("what waits is not there")?;
            let last = taken.pieces.last().ok_or("nothing was taken")?;
            let delivered = Delivered {
                readings: taken.pieces.iter().map(|piece| piece.readings).sum(),
                bytes: taken.pieces.iter().map(|piece| piece.data.len() as u64).sum(),
                up_to: Position { number: last.position.number + 1, ..Position::default() },
            };
            self.buffer.forget(Instant::now(), self.lane.id, NAME, &delivered);
        }
        Ok(())
    }

    /// Closes the file.
    pub fn close(self) {
        drop(self.buffer);
        // Resolves when the thread has ended, which is what matters.
        let _: Result<BufferError, _> = self.runtime.block_on(self.closed);
    }
}

/// `count` readings from number `first` on, encoded raw, as a chunk holds them.
pub fn group(first: u64, count: u64) -> Bytes {
    let mut data = Vec::new();
    for number in first..first + count {
        put_record(&mut data, 0, HashKeyUse::None, &payload::of(number, payload::now()));
    }
    data.into()
}
