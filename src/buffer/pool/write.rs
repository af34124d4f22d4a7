//! When something has to be written, and what goes into the transaction.

use super::{Boot, Chunk, Delete, Duration, Earlier, Gap, Held, Instant, LaneId, Pool, Receipts, Setting, alone, repeats::Receipt};

/// Most bytes in one transaction: bounds the WAL, and the time that one commit takes.
const WRITE_BYTES: u64 = 1 << 20;
/// Deletes wait this long for an insert to ride on; losing one only sends its chunk again.
const DELETE_IDLE: Duration = Duration::from_secs(1);
/// A commit that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What is asked of the writer, and how its last attempt ended.
#[derive(Debug, Default)]
pub(super) struct State {
    /// All groups before this one are to be written without waiting.
    asked: u64,
    /// Since when a delete waits.
    pub(super) delete_since: Option<Instant>,
    /// Not before this, because the last attempt failed.
    retry_at: Option<Instant>,
    /// A transaction is under way.
    busy: bool,
    /// With all groups before this one.
    pub(super) under_way: u64,
    /// The last attempt found no room, and nothing to drop; only a delete changes that, or a chunk that was on its way.
    full: bool,
    /// How the clock is set now that it is right, if that is not written yet.
    pub(super) right: Option<Right>,
    /// There may be readings on the disk that need it.
    pub(super) unsure_rows: bool,
}

/// How the clock was set in one boot when it was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Right {
    pub(in crate::buffer) boot: Boot,
    pub(in crate::buffer) set: Setting,
    /// When that was known.
    pub(in crate::buffer) since: Instant,
}

/// One transaction's worth of work.
#[derive(Debug, Default)]
pub(in crate::buffer) struct Write {
    pub(in crate::buffer) rows: Vec<WriteRow>,
    /// Lanes that the file does not know to have begun.
    pub(in crate::buffer) begins: Vec<LaneId>,
    pub(in crate::buffer) deletes: Vec<Delete>,
    pub(in crate::buffer) receipts: Vec<Receipt>,
    /// What readings need whose clock was set later, where there are any on the disk.
    pub(in crate::buffer) right: Option<Right>,
    groups_below: u64,
}

#[derive(Debug)]
pub(in crate::buffer) struct WriteRow {
    pub(in crate::buffer) number: u64,
    pub(in crate::buffer) chunk: Chunk,
    pub(in crate::buffer) earlier: Earlier,
    pub(in crate::buffer) gap: Option<Gap>,
    pub(in crate::buffer) from: u64,
    group: u64,
}

impl State {
    /// There may be something to drop now that was on its way before.
    pub(super) fn look_again(&mut self) {
        self.full = false;
    }
}

/// Pages that a chunk needs. What stands only for others takes next to none: the place of a row that it replaces.
pub(super) fn pages_of(chunk: &Chunk, pages_for: impl Fn(u64) -> u64) -> u64 {
    if chunk.readings == 0 { 0 } else { pages_for(chunk.bytes()) }
}

impl Write {
    pub(in crate::buffer) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.deletes.is_empty() && self.right.is_none()
    }
}

impl Pool {
    /// Everything that is in memory now is to be written without waiting.
    pub(in crate::buffer) fn ask(&mut self) {
        self.writing.asked = self.groups.next();
    }

    pub(super) fn ask_if_half_full(&mut self) {
        if self.unwritten >= self.policy.memory / 2 {
            self.ask();
        }
    }

    /// Whether a commit is under way or was asked for, so that the next group may gather behind it.
    pub(in crate::buffer) fn is_writing(&self) -> bool {
        self.writing.busy || (self.writing.asked > self.groups.first())
    }

    /// When the next write is due; none when nothing has to be written.
    pub(in crate::buffer) fn due(&self) -> Option<Instant> {
        let State { asked, delete_since, retry_at, full, right, unsure_rows, .. } = self.writing;
        let first_held = self.lanes.values().filter_map(|lane| lane.memory.iter().find(|held| !held.written));
        let insert = first_held
            .map(|held| if held.group < asked { held.since } else { held.since + self.policy.hold })
            .min()
            .filter(|_| !full);
        let delete = delete_since.map(|since| if full { since } else { since + DELETE_IDLE });
        let right = right.filter(|_| unsure_rows).map(|right| right.since);
        let due = insert.into_iter().chain(delete).chain(right).min()?;
        Some(retry_at.map_or(due, |retry| retry.max(due)))
    }

    /// What to write now: the deletes that wait, and whole groups in the order of their arrival, up to a transaction's worth and to
    /// `room` pages.
    pub(in crate::buffer) fn write(&mut self, room: u64, pages_for: impl Fn(u64) -> u64) -> Write {
        let deletes = self.lanes.values().filter_map(super::LaneState::deletable).collect();
        let mut write = Write { deletes, ..Write::default() };
        for held in self.unwritten() {
            let Held { number, ref chunk, earlier, gap, from, group, .. } = *held;
            write.rows.push(WriteRow { number, chunk: chunk.clone(), earlier, gap, from, group });
        }
        write.rows.sort_by_key(|row| row.group);
        let mut groups_below = self.groups.next();
        let (mut taken, mut bytes, mut pages) = (0, 0, 0);
        for rows in write.rows.chunk_by(|row, next| row.group == next.group) {
            pages += rows.iter().map(|row| pages_of(&row.chunk, &pages_for)).sum::<u64>();
            if bytes >= WRITE_BYTES || pages > room {
                groups_below = rows[0].group;
                break;
            }
            bytes += rows.iter().map(|row| row.chunk.bytes()).sum::<u64>();
            taken += rows.len();
        }
        if taken < write.rows.len() {
            write.rows.truncate(taken);
            self.writing.full = pages > room && write.is_empty();
        }
        if !write.rows.is_empty() {
            // What is due by `hold` takes everything with it: a second commit costs more than a larger one.
            self.writing.asked = self.writing.asked.max(self.groups.next());
            write.begins = self.begun(write.rows.iter().map(|row| row.chunk.lane));
            write.receipts = self.receipts(groups_below);
            write.groups_below = groups_below;
        }
        let unsure = self.writing.unsure_rows || write.rows.iter().any(|row| row.chunk.unsure.is_some());
        write.right = self.writing.right.filter(|_| unsure);
        self.writing.busy = !write.is_empty();
        self.writing.under_way = write.groups_below;
        if write.is_empty() {
            self.writing.delete_since = None;
        }
        write
    }

    /// Whether the next transaction frees anything.
    pub(in crate::buffer) fn has_deletes(&self) -> bool {
        self.lanes.values().any(|state| state.deletable().is_some())
    }

    /// When a step that failed may be tried again.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.writing.retry_at
    }

    /// There may be room again.
    pub(in crate::buffer) fn look_again(&mut self) {
        self.writing.look_again();
    }

    /// Whether nothing can be written because nothing may be dropped.
    pub(in crate::buffer) fn is_full(&self) -> bool {
        self.writing.full
    }

    /// Pages that one transaction's worth of what is unwritten needs.
    pub(in crate::buffer) fn pages_wanted(&self, pages_for: impl Fn(u64) -> u64) -> u64 {
        let (mut bytes, mut pages) = (0, 0);
        for held in self.lanes.values().flat_map(|lane| &lane.memory).filter(|held| !held.written) {
            if bytes >= WRITE_BYTES {
                break;
            }
            bytes += held.chunk.bytes();
            pages += pages_of(&held.chunk, &pages_for);
        }
        pages
    }

    /// `write` is on the disk.
    pub(in crate::buffer) fn written(&mut self, now: Instant, write: &Write) -> Receipts {
        self.writing = State {
            asked: self.writing.asked,
            right: self.writing.right.filter(|right| write.right != Some(*right)),
            unsure_rows: self.writing.unsure_rows || write.rows.iter().any(|row| row.chunk.unsure.is_some()),
            ..State::default()
        };
        for delete in &write.deletes {
            let Some(state) = self.lanes.get_mut(&delete.lane) else { continue };
            state.deleted_below = state.deleted_below.max(delete.up_to + 1);
        }
        self.have_begun(&write.begins);
        for row in &write.rows {
            let Some(state) = self.lanes.get_mut(&row.chunk.lane) else { continue };
            if row.chunk.readings == 0 && row.from <= state.first_droppable() {
                state.spent_below = row.number + 1;
            }
            state.written_below = state.written_below.max(row.number + 1);
            state.tail = alone::Tail::of(row.number, &row.chunk, row.earlier, row.gap);
            // One that was confirmed meanwhile is not in memory any more; its row is deletable at once.
            if let Some(held) = state.held(row.number).and_then(|index| state.memory.get_mut(index)) {
                held.written = true;
                self.unwritten -= held.chunk.bytes();
                self.groups.close(held);
            }
        }
        self.writing.delete_since = self.has_deletes().then_some(now);
        self.saved(&write.receipts, write.groups_below);
        self.evict();
        self.close_groups()
    }

    /// `write` was rolled back: it is tried again later, with the same numbers.
    pub(in crate::buffer) fn failed(&mut self, now: Instant) {
        self.writing.busy = false;
        self.writing.under_way = 0;
        self.writing.retry_at = Some(now + RETRY);
    }

    /// Unwritten chunks, or what stands for them.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = &Held> {
        self.lanes.values().flat_map(|lane| &lane.memory).filter(|held| !held.written)
    }

    /// Written chunks leave memory, oldest first, when they take more than a quarter of it; the drain reads them back.
    fn evict(&mut self) {
        for state in self.lanes.values_mut() {
            while self.memory > self.policy.memory / 4
                && let Some(held) = state.memory.pop_front_if(|held| held.written)
            {
                self.memory -= held.chunk.bytes();
            }
        }
    }
}
