//! Brings what can be read of damaged files into the new one, behind the running agent.
//!
//! A thread reads, because a failing disk may take seconds over a page; the writer's thread writes, a batch at a time, each in one
//! transaction with how far that has come. So a restart goes on where the last one ended, and a reading is brought in once.
//!
//! Invariant: one batch is in memory; at most half of the buffer is filled with it, so today's readings have room.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{
    BufferError, Chunk, Lane, LaneId, Layout, Shared,
    cold::{ColdFile, ColdLane, Found, Item, Unread, beside},
    store::{Earlier, Progress, Store, StoredLane, is_sent, quarantined, unmark},
};
use crate::{
    clock::{self, Boot, Setting},
    record::kpl::{HashKeyUse, first_record},
    status::{Reason, Status},
};

/// Bytes in a batch.
const BATCH_BYTES: u64 = 256 << 10;
/// Chunks in a batch.
const BATCH_CHUNKS: usize = 1024;

/// A file that is to be salvaged, or goes on to be.
pub(super) struct Job {
    path: PathBuf,
    cold: ColdFile,
    progress: Progress,
    /// Lanes of the file in the order in which they are read, and where their readings go.
    lanes: Vec<(LaneId, LaneId)>,
    /// The lanes that were made for it.
    targets: Vec<Lane>,
    /// How the clock was set in earlier boots when it was right.
    right: Vec<(Boot, Setting)>,
    /// Why it was set aside, as far as its first pages tell.
    what: String,
    /// Readings in it that their destination had refused, and what can't be read of them.
    refused: (u64, Unread),
}

/// A file that was set aside, of which the status speaks while it is there.
pub(super) struct Aside {
    pub(super) path: PathBuf,
    /// The lanes that take its readings.
    lanes: Vec<LaneId>,
    /// All that can be read of it is in the buffer.
    salvaged: bool,
    /// Nothing of that is left to be sent, and it is kept that this is so.
    pub(super) sent: bool,
}

impl Aside {
    /// Takes notice of how far the salvage of some file has come.
    pub(super) fn hears(&mut self, progress: &Progress) {
        self.salvaged |= progress.done && self.path.file_name().is_some_and(|name| *name == *progress.file);
    }

    /// Whether nothing is left to be sent, and that is still to be kept. `is_empty` tells of lanes.
    pub(super) fn has_to_be_marked(&self, is_empty: impl Fn(LaneId) -> bool) -> bool {
        self.salvaged && !self.sent && self.lanes.iter().copied().all(is_empty)
    }
}

/// A part of a file on its way to the writer.
pub(super) struct Batch {
    pub(super) chunks: Vec<Chunk>,
    /// By stream, readings that are known to have been there.
    pub(super) lost: BTreeMap<String, u64>,
    pub(super) progress: Progress,
    /// What the damaged file knew of the clock, by boot.
    pub(super) right: Vec<(Boot, Setting)>,
    /// Why the file was set aside.
    pub(super) what: String,
    /// Readings in it that their destination had refused, and what can't be read of them.
    pub(super) refused: (u64, Unread),
    /// Lanes that more is to come for.
    pub(super) coming: BTreeSet<LaneId>,
    /// Answered when it is on the disk; dropped when the buffer closes.
    pub(super) done: oneshot::Sender<()>,
}

/// Finds what was set aside of the file at `path`; makes lanes for what is not salvaged yet. Says so in the status. Returns what is to
/// be done, and all files that were set aside.
pub(super) fn jobs(
    path: &Path,
    store: &mut Store,
    layouts: &[Layout],
    status: &Status,
) -> Result<(Vec<Job>, Vec<Aside>), BufferError> {
    let failed = |source: std::io::Error| BufferError::Open { path: path.into(), source: source.into() };
    let (mut jobs, mut asides) = (Vec::new(), Vec::new());
    for file in quarantined(path).map_err(failed)? {
        let Some(name) = file.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned) else { continue };
        if !is_there(&file) {
            unmark(&file).map_err(failed)?;
            continue;
        }
        let job = job(&file, &name, store, layouts, status)?;
        let lanes = lanes_of(store, &name)?.into_iter().map(|lane| lane.id).collect();
        let sent = is_sent(&file);
        let salvaged = store.salvage(&name)?.is_some_and(|progress| progress.done);
        asides.push(Aside { path: file, lanes, salvaged, sent });
        jobs.extend(job);
    }
    Ok((jobs, asides))
}

/// What is to be done for one file, if anything is.
fn job(file: &Path, name: &str, store: &mut Store, layouts: &[Layout], status: &Status) -> Result<Option<Job>, BufferError> {
    let begun = store.salvage(name)?;
    let cold = match ColdFile::open(file) {
        Ok(cold) => cold,
        Err(error) => {
            let what = format!("the buffer was damaged and set aside as {name}, which can't be read: {error}");
            let remedy = "check the disk, and that this user may read the file; it is tried again at the next start";
            status.problem(&part_of(file), clock::now(), what.clone(), remedy);
            warn!("{what}; {remedy}");
            return Ok(None);
        }
    };
    // They stay where they are, for whoever looks into why they were refused.
    let refused = cold.rejected_readings();
    if let Some(progress) = begun.as_ref().filter(|progress| progress.done) {
        tell(status, progress, "", refused);
        return Ok(None);
    }
    if is_sent(file) {
        tell_of_sent(status, name, refused);
        return Ok(None);
    }
    let what = match cold.found() {
        Found::Damaged(what) => what,
        _ => "a part of it can't be read".to_owned(),
    };
    let listed = cold.lanes().unwrap_or_default();
    let progress = match begun {
        Some(progress) => progress,
        None => {
            // Where nobody knows what its lanes were, its readings tell which of today's they would belong to.
            let guess = |layout: &Layout| ColdLane::guessed(layout.clone());
            let made = if listed.is_empty() { layouts.iter().map(guess).collect() } else { listed.clone() };
            store.begin_salvage(name, &made, &cold.receipts())?
        }
    };
    tell(status, &progress, &what, refused);
    let right = cold.settings();
    let targets = lanes_of(store, name)?;
    // As it was when that began: what is done is a place in this order, and the file may be damaged once more.
    let lanes = store.lanes_read(name)?.unwrap_or_else(|| {
        listed.iter().filter_map(|cold| Some((cold.lane.id, lane_with(&targets, &cold.lane.layout)?))).collect()
    });
    Ok(Some(Job { path: file.to_owned(), cold, right, progress, lanes, targets, what, refused }))
}

/// The lanes that take what is salvaged from the file `name`.
fn lanes_of(store: &Store, name: &str) -> Result<Vec<Lane>, BufferError> {
    let ours = |stored: &StoredLane| stored.salvage.as_deref() == Some(name);
    Ok(store.lanes()?.into_iter().filter(ours).map(|stored| stored.lane).collect())
}

impl Job {
    /// How the clock was set in earlier boots when it was right.
    pub(super) fn settings(&self) -> impl Iterator<Item = (Boot, Setting)> {
        self.right.iter().copied()
    }

    /// The lanes that its readings go to.
    pub(super) fn targets(&self) -> impl Iterator<Item = LaneId> {
        self.targets.iter().map(|lane| lane.id)
    }
}

/// Salvages one file after the other; returns when all is done, or the buffer closes.
pub(super) fn run(jobs: Vec<Job>, shared: &Arc<Shared>) {
    let mut later: BTreeSet<LaneId> = jobs.iter().flat_map(Job::targets).collect();
    for job in jobs {
        job.targets().for_each(|lane| {
            later.remove(&lane);
        });
        if !salvage(job, &later, shared) {
            return;
        }
    }
}

fn salvage(job: Job, later: &BTreeSet<LaneId>, shared: &Arc<Shared>) -> bool {
    let Job { path, cold, mut progress, lanes, targets, right, what, refused } = job;
    let mut chunks = cold.chunks_in_order(lanes.iter().map(|(cold, _)| *cold));
    if progress.up_to >= 0 {
        chunks.skip_to(progress.up_to);
    }
    let mut seen: BTreeMap<LaneId, Earlier> = BTreeMap::new();
    loop {
        let (mut batch, mut bytes, mut lost) = (Vec::new(), 0, BTreeMap::<String, u64>::new());
        let mut current = None;
        while bytes < BATCH_BYTES && batch.len() < BATCH_CHUNKS {
            let Some(item) = chunks.next() else {
                progress.done = true;
                break;
            };
            progress.up_to = item.id;
            let target = match lanes.iter().find(|(cold, _)| *cold == item.lane) {
                Some((_, target)) => targets.iter().find(|lane| lane.id == *target),
                None => {
                    let layouts = || targets.iter().map(|lane| &lane.layout);
                    let guessed = item.chunk.as_ref().and_then(|chunk| guess(layouts(), chunk));
                    guessed.and_then(|layout| targets.iter().find(|lane| lane.layout == *layout))
                }
            };
            current = target.map(|lane| lane.id).or(current);
            // However noisy a row is, a file never held more readings than it has bytes.
            let missing = missing_before(&mut seen, &item).min(cold.size())
                + if item.chunk.is_none() || target.is_none() { item.readings } else { 0 };
            if missing > 0 {
                let stream = target.map_or("", |lane| &lane.layout.stream);
                *lost.entry(stream.to_owned()).or_default() += missing;
                progress.lost += missing;
            }
            // Where raw readings were dropped nothing is left to be sent.
            if let (Some(chunk), Some(lane)) = (item.chunk.filter(|chunk| !chunk.data.is_empty()), target) {
                bytes += chunk.bytes();
                progress.readings += chunk.readings;
                batch.push(Chunk { lane: lane.id, ..chunk });
            }
        }
        let behind = |lane: &LaneId| current.is_none_or(|current| *lane >= current) && !progress.done;
        let coming = targets.iter().map(|lane| lane.id).filter(behind).chain(later.iter().copied()).collect();
        let (done, written) = oneshot::channel();
        {
            let mut inner = shared.lock();
            if inner.closing {
                return false;
            }
            inner.salvage = Some(Batch {
                chunks: batch,
                lost,
                progress: progress.clone(),
                right: right.clone(),
                what: what.clone(),
                refused,
                coming,
                done,
            });
        }
        shared.work.notify_one();
        if written.blocking_recv().is_err() {
            return false;
        }
        if progress.done {
            break;
        }
    }
    let Progress { file, readings, lost, .. } = &progress;
    let damaged_pages = chunks.damaged_pages();
    if *lost > 0 {
        error!(file, readings, lost, damaged_pages, "salvaged what can be read; the rest is lost");
    } else if damaged_pages > 0 {
        warn!(
            file,
            readings, damaged_pages, "salvaged what can be read; whether there were readings on damaged pages is not known"
        );
    } else {
        info!(file, readings, "salvaged everything that a damaged buffer held");
    }
    debug_assert!(path.ends_with(file));
    true
}

/// Readings that were between this chunk and the last one of its lane. Each took some bytes, and what is wrong with one count is hardly
/// wrong with the other in the same way.
fn missing_before(seen: &mut BTreeMap<LaneId, Earlier>, item: &Item) -> u64 {
    let before = seen.get(&item.lane).copied();
    // A row that can't be believed counts where it was found.
    let Some(earlier) = item.earlier.or(before) else { return 0 };
    let readings = earlier.readings.saturating_add(item.readings).saturating_add(item.gone);
    seen.insert(item.lane, Earlier { readings, bytes: earlier.bytes.saturating_add(item.bytes) });
    // A count that began anew is smaller.
    before.map_or(0, |before| earlier.readings.saturating_sub(before.readings).min(earlier.bytes.saturating_sub(before.bytes)))
}

/// The layout that a chunk belongs to by what its first reading says, where the list of lanes is gone.
pub fn guess<'a>(layouts: impl IntoIterator<Item = &'a Layout>, chunk: &Chunk) -> Option<&'a Layout> {
    let first = first_record(&chunk.data).ok()?;
    let fits = |layout: &&Layout| layout.hash_key.is_some() == (first.hash_key == HashKeyUse::First);
    let fitting: Vec<&Layout> = layouts.into_iter().filter(fits).collect();
    match (lane_name(first.data), fitting.as_slice()) {
        (Some(name), fitting) => {
            fitting.iter().find(|layout| format!("{}/{}", layout.stream, layout.number).as_bytes() == name).copied()
        }
        // Readings without names belong to the only lane that there is.
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// What stands behind `lane` in an envelope, CBOR or JSON.
fn lane_name(reading: &[u8]) -> Option<&[u8]> {
    let after = |mark: &[u8]| {
        let at = reading.windows(mark.len()).position(|bytes| bytes == mark)?;
        reading.get(at + mark.len()..)
    };
    if reading.first() == Some(&b'{') {
        return after(b"\"lane\":\"")?.split(|byte| *byte == b'"').next();
    }
    // A text of up to 23 bytes has its length in its first byte, of up to 255 in its second. Source: RFC 8949, section 3.
    match after(b"\x64lane")? {
        [head @ 0x60..=0x77, rest @ ..] => rest.get(..usize::from(head - 0x60)),
        [0x78, len, rest @ ..] => rest.get(..usize::from(*len)),
        _ => None,
    }
}

fn lane_with(lanes: &[Lane], layout: &Layout) -> Option<LaneId> {
    lanes.iter().find(|lane| lane.layout == *layout).map(|lane| lane.id)
}

/// The part of the status that speaks for a file.
pub(super) fn part_of(file: &Path) -> String {
    format!("damaged {}", file.file_name().unwrap_or_default().to_string_lossy())
}

/// Whether the file, or its log, is still there.
pub(super) fn is_there(file: &Path) -> bool {
    file.exists() || beside(file, "-wal").exists()
}

/// Puts into the status how far a file is salvaged.
pub(super) fn tell(status: &Status, Progress { file, readings, lost, done, .. }: &Progress, what: &str, refused: (u64, Unread)) {
    let why = if what.is_empty() { String::new() } else { format!(" ({what})") };
    let found =
        format!("the buffer was damaged{why} and set aside as {file}: {readings} readings salvaged, {lost} known to be lost");
    if *done {
        status.problem(&part_of(Path::new(file)), clock::now(), found, &may_go(file, refused));
    } else {
        let remedy = format!("leave {file} where it is until everything is salvaged, and check the disk");
        status.problem(&part_of(Path::new(file)), clock::now(), format!("{found} so far"), &remedy);
    }
}

/// Puts into the status that nothing of `file` is left to be sent.
fn tell_of_sent(status: &Status, file: &str, refused: (u64, Unread)) {
    let what = format!("the buffer was damaged and set aside as {file}: what could be read of it was sent");
    status.problem(&part_of(Path::new(file)), clock::now(), what, &may_go(file, refused));
}

/// What is to be done with a file that nothing is left to be salvaged of.
fn may_go(file: &str, (refused, unread): (u64, Unread)) -> String {
    let export = format!("`headwater buffer export --rejected {file}`");
    match (refused, unread.is_nothing()) {
        (0, true) => format!("check the disk; {file} may be deleted, no reading is left in it"),
        (_, true) => format!("check the disk; {file} may be deleted after {export}, for {refused} refused readings"),
        _ => format!(
            "check the disk; there may be refused readings in {file} that can't be read, so keep it for as long as those matter; \
             {export} writes what can be read"
        ),
    }
}

/// Puts what a batch brought into the ledger, before the pool has it.
pub(super) fn account(status: &Status, batch: &Batch, stream_of: impl Fn(LaneId) -> Option<String>) {
    for chunk in &batch.chunks {
        if let Some(stream) = stream_of(chunk.lane) {
            status.received(&stream, chunk.readings);
        }
    }
    batch.lost.iter().for_each(|(stream, readings)| status.dropped_at_the_door(stream, Reason::Corrupt, *readings));
}
