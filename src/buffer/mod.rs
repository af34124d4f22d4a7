//! Stage 3 of 5: the durable pool between the field and the cloud.
//!
//! The uplink may be away for days, and a sensor never repeats itself, so readings wait here: in memory while the link is good, in
//! SQLite when they must. One interface, append → oldest → forget, behind which only the buffer knows where a chunk lies.
//!
//! Invariants: a chunk stays, in memory or on disk, until its destination confirmed it, or it was set aside. A receipt is given only for
//! what is confirmed or fsynced. Memory and disk are bounded; when both are full, [`Buffer::has_room`] says no, and the wait travels back
//! to the source.

mod chunk;
pub mod cold;
mod error;
pub mod import;
mod pool;
mod salvage;
mod store;
mod world;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot, watch};

pub use chunk::{Chunk, Delivered, Group, Lane, LaneId, Layout, Mark, Piece, Position, Rejected, Taken, Waiting};
pub use error::{BoxError, BufferError};
pub use salvage::guess;
pub use store::{Process, owner_of};
pub use world::World;

use self::pool::{Oldest, Policy, Pool, Receipts};
use crate::{
    clock::{Belief, Unsure},
    config::{DrainOrder, Encoding, WhenFull},
    reading::{Fingerprint, Ordinal, SourceId},
    record::Previous,
    status::Status,
};

/// What the buffer needs to know when it opens.
#[derive(Clone, Debug)]
pub struct BufferSettings {
    /// The SQLite file.
    pub path: PathBuf,
    /// The longest an unconfirmed reading stays in memory only.
    pub hold: Duration,
    /// Bytes of readings in memory, at most.
    pub memory: u64,
    /// Bytes on disk, all files together.
    pub max_size: u64,
    /// Bytes of the file system that are left to everyone else.
    pub keep_free: u64,
    /// The gateway's name, for notices.
    pub device: String,
    /// By stream: what it may take, and what gives way.
    pub streams: BTreeMap<String, StreamRules>,
    /// Sources whose sender repeats what was not acknowledged, and how many of their readings it has in flight at most.
    pub windows: BTreeMap<String, (SourceId, u16)>,
    /// What it finds around it.
    #[doc(hidden)]
    pub world: World,
}

/// What one stream may take, and what gives way when it takes more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamRules {
    /// What gives way when it or the whole buffer is full.
    pub when_full: WhenFull,
    /// Bytes of its readings that may wait.
    pub max_size: Option<u64>,
    /// Readings that have waited longer are dropped.
    pub max_age: Option<Duration>,
    /// When the whole buffer is full, streams with a higher one give way last.
    pub priority: u16,
    /// How its notices are written.
    pub encoding: Encoding,
    /// What of it goes first.
    pub drain_order: DrainOrder,
}

/// A handle on the buffer; the file is closed when the last one is dropped.
#[derive(Clone)]
pub struct Buffer(Arc<Handle>);

struct Handle(Arc<Shared>);

/// What handles and the writer's thread share.
struct Shared {
    inner: Mutex<Inner>,
    /// Work for the writer.
    work: Condvar,
    /// A group was appended.
    appended: Notify,
    /// Something was written or confirmed.
    settled: Notify,
    status: Status,
}

struct Inner {
    pool: Pool,
    reads: VecDeque<ReadRequest>,
    asides: VecDeque<AsideRequest>,
    /// What the salvage has read, until it is written.
    salvage: Option<salvage::Batch>,
    receipts: BTreeMap<SourceId, watch::Sender<Ordinal>>,
    closing: bool,
}

struct ReadRequest {
    lane: LaneId,
    from: Position,
    at_most: u64,
    reply: oneshot::Sender<Result<Option<Taken>, BufferError>>,
}

struct AsideRequest {
    lane: LaneId,
    /// What its destination says of the first reading; none where all of the first chunk is no readings.
    reason: Option<String>,
    reply: oneshot::Sender<Result<bool, BufferError>>,
}

/// What a buffer knows from before.
pub struct Opened {
    /// The way in and out.
    pub buffer: Buffer,
    /// The lanes of `layouts`, in that order, and where each stood.
    pub lanes: Vec<(Lane, Option<Previous>)>,
    /// Lanes that nobody asked for, and that still have something, in the order in which they began: of an older layout, earlier parts of
    /// one of today's, or of a stream that left the configuration.
    pub older: Vec<Lane>,
    /// By source, what its sender may repeat and we have.
    pub known: BTreeMap<String, Vec<Fingerprint>>,
    /// Resolves when the thread that owns the file has ended: with an error where the file was found damaged and set aside, otherwise
    /// when the last handle was dropped, or it has panicked.
    pub closed: oneshot::Receiver<BufferError>,
}

impl Buffer {
    fn of(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Handle(shared)))
    }

    /// Opens the file, or makes it, and starts the thread that owns it. Blocks for as long as that takes.
    pub fn open(settings: &BufferSettings, layouts: &[Layout], status: Status) -> Result<Opened, BufferError> {
        writer::open(settings, layouts, status)
    }

    /// Where the watermark of `source` is to be published.
    pub fn publish_receipts(&self, source: SourceId, to: watch::Sender<Ordinal>) {
        self.lock().receipts.insert(source, to);
    }

    /// Adds a group behind all others; never waits. Ask [`Self::has_room`] before taking more from a source.
    pub fn append(&self, group: Group) {
        let mut inner = self.lock();
        let receipts = inner.pool.append(group);
        self.settle(inner, &receipts);
        self.0.0.appended.notify_one();
    }

    /// Whether a source may hand over more that goes to `streams`, while ingest holds `open_bytes` itself.
    pub fn has_room<'a>(&self, streams: impl Iterator<Item = &'a str>, open_bytes: u64) -> bool {
        self.lock().pool.has_room(streams, open_bytes)
    }

    /// Asks for everything that was appended to be written without waiting.
    pub fn write(&self) {
        self.lock().pool.ask();
        self.0.0.work.notify_one();
    }

    /// Whether a write was asked for and is not done: the next group may gather behind it.
    pub fn is_writing(&self) -> bool {
        self.lock().pool.is_writing()
    }

    /// Waits until something was written or confirmed since the last time. For one waiter.
    pub async fn settled(&self) {
        self.0.0.settled.notified().await;
    }

    /// Waits until something was appended since the last time. For one waiter.
    pub async fn appended(&self) {
        self.0.0.appended.notified().await;
    }

    /// What of `lane` is to be sent next: as much as holds `at_most` bytes, and at least one chunk if there is one. It is outstanding
    /// until [`Self::forget`] or [`Self::release`].
    pub async fn oldest(&self, lane: LaneId, at_most: u64) -> Result<Option<Taken>, BufferError> {
        loop {
            let answer = {
                let mut inner = self.lock();
                match inner.pool.oldest(lane, at_most) {
                    Oldest::Nothing => return Ok(None),
                    Oldest::InMemory(taken) => {
                        drop(inner);
                        match self.unless_empty(taken) {
                            Some(taken) => return Ok(Some(taken)),
                            None => continue,
                        }
                    }
                    Oldest::OnDisk(from) => {
                        let (reply, answer) = oneshot::channel();
                        inner.reads.push_back(ReadRequest { lane, from, at_most, reply });
                        answer
                    }
                }
            };
            self.0.0.work.notify_one();
            // Nothing came back when the head of the lane was dropped or is corrupt: then there is another head.
            let taken = answer.await.map_err(|_| BufferError::Closed)??;
            if let Some(taken) = taken.and_then(|taken| self.unless_empty(taken)) {
                return Ok(Some(taken));
            }
        }
    }

    /// What is left where raw readings were dropped has no bytes, and nobody has to confirm it.
    fn unless_empty(&self, taken: Taken) -> Option<Taken> {
        let last = taken.pieces.last().filter(|_| taken.pieces.iter().all(|piece| piece.data.is_empty()));
        let Some(Position { number, .. }) = last.map(|piece| piece.position) else { return Some(taken) };
        let mut inner = self.lock();
        let up_to = Position { number: number + 1, ..Position::default() };
        let receipts = inner.pool.forget(Instant::now(), taken.lane, &Delivered { readings: 0, bytes: 0, up_to });
        self.settle(inner, &receipts);
        None
    }

    /// `delivered` of `lane` was confirmed by its destination. What was written of it goes with the next insert.
    pub fn forget(&self, now: Instant, lane: LaneId, stream: &str, delivered: &Delivered) {
        let mut inner = self.lock();
        let receipts = inner.pool.forget(now, lane, delivered);
        self.0.0.status.delivered(stream, delivered.readings);
        self.settle(inner, &receipts);
    }

    /// Until it is said again, nothing of `lane` below chunk `below` is dropped or changed but by [`Self::forget`] and
    /// [`Self::set_aside`]: readings of it were confirmed out of turn, and whoever knows which knows them by their places. 0 ends it.
    pub fn pin(&self, lane: LaneId, below: u64) {
        self.lock().pool.pin(lane, below);
    }

    /// Takes the first reading that is outstanding of `lane` out of it, since its destination calls it invalid for `reason`. When this
    /// returns `true` it is on the disk, in the table `rejected`, and what was outstanding behind it waits again; with `false` it was gone.
    ///
    /// Errors: the reading is where it was; nothing is outstanding.
    pub async fn set_aside(&self, lane: LaneId, reason: String) -> Result<bool, BufferError> {
        self.ask_to_set_aside(lane, Some(reason)).await
    }

    /// The same for all that is left of the first chunk that is outstanding of `lane`, because it is not [`Piece::is_readings`]. With
    /// `false` it was gone, or no other chunk on the disk is: then the fault may be ours, and it waits for a version that does better.
    ///
    /// Errors: as there.
    pub async fn set_chunk_aside(&self, lane: LaneId) -> Result<bool, BufferError> {
        self.ask_to_set_aside(lane, None).await
    }

    async fn ask_to_set_aside(&self, lane: LaneId, reason: Option<String>) -> Result<bool, BufferError> {
        let (reply, answer) = oneshot::channel();
        self.lock().asides.push_back(AsideRequest { lane, reason, reply });
        self.0.0.work.notify_one();
        answer.await.map_err(|_| BufferError::Closed)?
    }

    /// What was outstanding of `lane` was not confirmed, and waits again.
    pub fn release(&self, lane: LaneId) {
        self.lock().pool.release(lane);
        self.0.0.work.notify_one();
    }

    /// What is believed of the clock. Once it is right, readings of this boot that are unsure can be corrected, and that stays so after
    /// a power cut.
    pub fn clock_is(&self, now: Instant, belief: Belief) {
        let mut inner = self.lock();
        inner.pool.clock_is(now, belief);
        self.settle(inner, &Receipts::new());
    }

    /// Milliseconds to be added to the time of readings that are `unsure`; none while that is not known.
    pub fn correction(&self, unsure: Unsure) -> Option<i64> {
        self.lock().pool.correction(unsure)
    }

    /// Begins another part of the lane whose youngest part is `today`, because that is behind: what is appended from now on goes there. It
    /// is a lane of its own. None while there is no empty one; then the youngest goes on.
    pub fn begin_part(&self, today: LaneId) -> Option<Lane> {
        let mut inner = self.lock();
        let part = inner.pool.begin_part(today)?;
        let layout = inner.pool.lane(part)?.clone();
        drop(inner);
        self.0.0.work.notify_one(); // another empty one has to be made
        Some(Lane { id: part, layout })
    }

    /// What waits in `lane`.
    pub fn waiting(&self, lane: LaneId) -> Waiting {
        let inner = self.lock();
        let (waiting, since) = inner.pool.lane_waiting(lane);
        Waiting { readings: waiting.readings, bytes: waiting.bytes, since, expected: inner.pool.is_expected(lane) }
    }

    /// Readings of `stream` that are here: what the ledger must say, less what ingest still holds.
    pub fn readings(&self, stream: &str) -> u64 {
        self.lock().pool.waiting(stream).readings
    }

    fn settle(&self, inner: MutexGuard<Inner>, receipts: &Receipts) {
        self.0.0.settle(inner, receipts);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.0.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Poisoned means that a stage panicked; the agent is about to end, and closing the file in order is still right.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everyone what has changed.
    fn settle(&self, inner: MutexGuard<Inner>, receipts: &Receipts) {
        for (source, up_to) in receipts {
            if let Some(to) = inner.receipts.get(source) {
                to.send_replace(*up_to);
            }
        }
        {
            let mut state = self.status.lock();
            state.buffer.memory = inner.pool.memory();
            for (stream, (waiting, oldest)) in inner.pool.backlog() {
                if let Some(stream) = state.streams.get_mut(stream) {
                    // What ingest has not sealed yet is in the ledger and not here.
                    debug_assert!(stream.ledger.buffered >= waiting.readings, "{:?} and {waiting:?}", stream.ledger);
                    stream.backlog_bytes = waiting.bytes;
                    stream.oldest = oldest;
                }
            }
        }
        drop(inner);
        self.work.notify_one();
        self.settled.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.work.notify_one();
    }
}

impl From<&BufferSettings> for Policy {
    fn from(settings: &BufferSettings) -> Self {
        let BufferSettings { hold, memory, device, streams, .. } = settings;
        Self { hold: *hold, memory: *memory, device: device.clone(), streams: streams.clone() }
    }
}
