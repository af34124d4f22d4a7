//! The thread that owns the file: it waits, and does what the pool decides.

mod aside;
mod lanes;
mod open;
mod overflow;
mod salvaged;

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

pub(super) use self::open::open;
#[cfg(test)]
pub(super) use self::open::{Prepared, prepare, whole};
use super::{
    AsideRequest, BufferError, Inner, LaneId, Piece, ReadRequest, Shared, Taken,
    pool::{Phases, Right, Write},
    salvage::Aside,
    store::{Insert, Receipt, SetAside, Store, Stored, Transaction, quarantine},
};
use crate::{
    clock,
    reading::SourceId,
    status::{BEAT, what_and_remedy},
};

/// The part of the status that this thread speaks for.
const PART: &str = "buffer";
/// A full buffer is no fault of the disk, so it is another part.
const OVERFLOW: &str = "overflow";
/// A buffer at its bound drops with every other chunk; it is one overflow until this long nothing had to go.
const OVERFLOW_IS_OVER: Duration = Duration::from_mins(1);

/// What the disk does not give after so many attempts is damaged: a worn card goes on like that, whatever else it still does.
const ATTEMPTS: u8 = 3;

/// Owns the file.
pub(super) struct Writer {
    shared: Arc<Shared>,
    store: Store,
    names: BTreeMap<SourceId, String>,
    max_size: u64,
    now: fn() -> Instant,
    #[cfg(test)]
    mutant: Option<super::world::Mutant>,
    opened: Instant,
    /// Which readings stay of those that are thinned.
    phases: Phases,
    /// When the buffer was full last, if that is not long ago.
    full_at: Option<Instant>,
    /// Something had to go then.
    gives_way: bool,
    /// The last transaction failed.
    failing: bool,
    /// SQLite found no room although we had counted on some.
    squeezed: bool,
    /// What was salvaged could not be written, and is not tried again before this.
    salvage_again: Option<Instant>,
    /// A part could not be made, and that is not tried again before this.
    part_again: Option<Instant>,
    /// Files that were set aside, of which the status speaks while they are there.
    aside: Vec<Aside>,
    /// That one of them was sent could not be kept, and that is not tried again before this.
    mark_again: Option<Instant>,
    /// When we last looked for what others may have changed.
    looked: Instant,
    /// SQLite has found that the file is not as it was written.
    damaged: OnceCell<String>,
    /// What the disk did not give, and how often in succession.
    unread: BTreeMap<(LaneId, Work), u8>,
}

/// What reads the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Drain,
    Overflow,
    Aside,
    /// For no lane alone.
    Commit,
    Tidy,
}

/// Stands for all lanes.
const NO_LANE: LaneId = LaneId(0);

/// What follows a step of the work.
pub(super) enum Turn<'a> {
    /// There may be more.
    Again,
    /// There is nothing more for so long, unless someone asks for it.
    Wait(MutexGuard<'a, Inner>, Duration),
    /// Nothing more is to come.
    End,
}

#[cfg(test)]
impl Writer {
    /// What it shares with the handles.
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// The file.
    pub(super) fn store(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl Writer {
    /// Works until the last handle is dropped. Errors: the file at `path` is damaged; then it is set aside, and the next start goes on.
    fn run(mut self, path: &Path) -> Result<(), BufferError> {
        self.work();
        let Some(damaged) = self.damaged.take() else { return Ok(()) };
        // Nobody waits for an answer that does not come.
        {
            let mut inner = self.shared.lock();
            tell_of_unwritten(inner.pool.unwritten_readings());
            inner.closing = true;
            inner.reads.clear();
            inner.asides.clear();
            inner.salvage = None;
        }
        drop(self.store);
        quarantine(path, clock::now())?;
        Err(BufferError::Damaged { path: path.into(), source: damaged.into() })
    }

    fn work(&mut self) {
        let shared = self.shared.clone();
        loop {
            match self.turn(&shared) {
                Turn::Again => {}
                Turn::Wait(inner, at_most) => drop(wait(&shared.work, inner, at_most)),
                Turn::End => return,
            }
        }
    }

    /// The next thing that there is to do.
    pub(super) fn turn<'a>(&mut self, shared: &'a Shared) -> Turn<'a> {
        if self.damaged.get().is_some() {
            return Turn::End;
        }
        let mut inner = shared.lock();
        if let Some(request) = inner.asides.pop_front() {
            drop(inner);
            self.set_aside(request);
            return Turn::Again;
        }
        if let Some(request) = inner.reads.pop_front() {
            drop(inner);
            self.read(request);
            return Turn::Again;
        }
        let now = (self.now)();
        if let Some((lane, layout)) = self.needs_part(&inner, now) {
            drop(inner);
            self.make_part(lane, layout);
            return Turn::Again;
        }
        self.shared.status.beat("buffer", now);
        self.tell_of_overflow(now, None, inner.pool.holds_a_stream());
        self.look_around(now, &mut inner);
        if let Some(at) = self.sent_aside(now, &inner) {
            drop(inner);
            self.mark_sent(now, at);
            return Turn::Again;
        }
        let Ok(mut inner) = self.drops_the_old(inner, now) else { return Turn::Again };
        let sleep = self.sleeps(&inner, now);
        let due = inner.pool.due();
        if due.is_none() && std::mem::take(&mut self.failing) && self.shared.status.solved(PART) {
            info!("nothing is left to be written to the buffer");
        }
        if due.is_none_or(|due| due > now)
            && !inner.closing
            && let Some(batch) = self.take_salvaged(now, &mut inner)
        {
            self.salvage(inner, batch);
            return Turn::Again;
        }
        match due {
            // What is still in memory when everyone has gone is written whenever it is due: there is no later.
            Some(due) if due <= now || inner.closing => {
                let wrote = self.write(inner);
                let inner = shared.lock();
                if inner.closing && !wrote { self.ends(inner) } else { Turn::Again }
            }
            None if inner.closing => self.ends(inner),
            Some(due) => Turn::Wait(inner, (due - now).min(sleep)),
            None => Turn::Wait(inner, sleep),
        }
    }

    /// Everyone has gone: keeps what is known besides the readings.
    fn ends<'a>(&mut self, mut inner: MutexGuard<'a, Inner>) -> Turn<'a> {
        if self.damaged.get().is_some() {
            return Turn::End;
        }
        inner.salvage = None;
        let (readings, names) = (inner.pool.unwritten_readings(), inner.pool.last_names());
        let begun = inner.pool.begun(names.iter().map(|(lane, ..)| *lane));
        drop(inner);
        tell_of_unwritten(readings);
        if let Err(error) = self.store.remember(&names, &begun) {
            self.complain(&error);
        }
        Turn::End
    }

    /// One transaction, if there is anything to write and room for it; `false` when not.
    fn write(&mut self, inner: MutexGuard<Inner>) -> bool {
        let mut inner = match self.makes_room(inner) {
            Ok(inner) => inner,
            Err(stepped) => return stepped,
        };
        let (used, budget) = self.store.pages();
        let write = inner.pool.write(budget.saturating_sub(used), Store::pages_for);
        self.shared.status.lock().buffer.blocked = inner.pool.is_full();
        self.tell_of_overflow((self.now)(), None, inner.pool.is_full());
        if write.is_empty() {
            return false;
        }
        drop(inner);
        #[cfg(test)]
        if self.mutant == Some(super::world::Mutant::ReceiptsFirst) {
            let inner = self.shared.lock();
            let receipts = inner.pool.receipts_to_come();
            self.shared.settle(inner, &receipts);
        }
        let started = (self.now)();
        let result = self.commit(&write);
        let now = (self.now)();
        self.shared.status.lock().buffer.commit.observe((now - started).as_secs_f64());
        let mut inner = self.shared.lock();
        match result {
            Ok(()) => {
                self.failing = false;
                self.squeezed = false;
                let receipts = inner.pool.written(now, &write);
                if write.right.is_some() {
                    self.correct_heads(&mut inner);
                }
                self.shared.settle(inner, &receipts);
                if self.shared.status.solved(PART) {
                    info!("the buffer can be written again");
                }
                self.keeps_up();
                if let Err(error) = self.store.shrink_if_worth_it() {
                    self.complain(&error);
                }
                self.report();
                true
            }
            Err(error) => {
                inner.pool.failed(now);
                drop(inner);
                self.failing = true;
                self.squeezed = matches!(error, BufferError::Full { .. });
                self.complain(&error);
                false
            }
        }
    }

    fn commit(&mut self, write: &Write) -> Result<(), BufferError> {
        let inserts = write.rows.iter().map(|row| Insert {
            number: row.number,
            chunk: &row.chunk,
            earlier: row.earlier,
            gap: row.gap,
            from: row.from,
        });
        let receipts = write.receipts.iter().filter_map(|receipt| {
            Some(Receipt {
                source: self.names.get(&receipt.source)?,
                row: receipt.row,
                fingerprints: &receipt.fingerprints,
                keep_from: receipt.keep_from,
            })
        });
        let transaction = Transaction {
            deletes: &write.deletes,
            inserts: inserts.collect(),
            begins: &write.begins,
            receipts: receipts.collect(),
            right: write.right.map(|Right { boot, set, .. }| (boot, set)),
            salvaged: None,
        };
        let done = self.store.commit(&transaction);
        self.tried(NO_LANE, Work::Commit, &done);
        done
    }

    /// What follows a commit.
    fn keeps_up(&mut self) {
        let done = self.store.keep_up();
        self.tried(NO_LANE, Work::Tidy, &done);
        if let Err(error) = done {
            self.complain(&error);
        }
    }

    /// Takes notice of whether the disk gave what was to be read.
    fn tried<T>(&mut self, lane: LaneId, work: Work, done: &Result<T, BufferError>) {
        match done {
            Ok(_) => {
                self.unread.remove(&(lane, work));
            }
            Err(BufferError::Read { source, .. }) => {
                let attempts = self.unread.entry((lane, work)).or_default();
                *attempts += 1;
                if *attempts >= ATTEMPTS {
                    self.store.is_left_alone();
                    self.damaged.get_or_init(|| format!("it can't be read: {source}"));
                }
            }
            Err(_) => {}
        }
    }

    /// The clock was set: what waits on the disk arrived at another time than was believed.
    fn correct_heads(&self, inner: &mut Inner) {
        for (lane, from) in inner.pool.heads_on_disk() {
            match self.store.heads(lane, from, 0, 1) {
                Ok(heads) => heads.iter().for_each(|head| inner.pool.head_arrived(lane, head.arrived)),
                Err(error) => self.complain(&error),
            }
        }
    }

    fn read(&mut self, request: ReadRequest) {
        let ReadRequest { lane, from, at_most, reply } = request;
        let result = self.store.read(lane, from.number, at_most);
        self.tried(lane, Work::Drain, &result);
        let mut inner = self.shared.lock();
        let answer = result.map(|mut stored| {
            let below = inner.pool.settled_below(lane);
            stored.retain(|stored| stored.number < below);
            // What follows a corrupt chunk is read next time, when the corrupt one is the head of its lane and can be given up.
            let intact = stored.iter().map_while(|stored| Some((stored.number, stored.chunk.as_ref()?)));
            let pieces: Vec<Piece> = intact.map(|(number, chunk)| Piece::starting_at(number, chunk, from)).collect();
            match (pieces.last(), stored.first()) {
                (Some(last), _) => {
                    let Piece { arrived, unsure, .. } = pieces[0];
                    let oldest = inner.pool.corrected(arrived, unsure);
                    inner.pool.took((self.now)(), lane, Some((last.position.number + 1, oldest)));
                }
                (None, Some(head)) => self.give_up(&mut inner, lane, head),
                (None, None) => inner.pool.took((self.now)(), lane, None),
            }
            (!pieces.is_empty()).then_some(Taken { lane, pieces, from_disk: true })
        });
        if answer.is_err() {
            inner.pool.release(lane);
        }
        drop(inner);
        match &answer {
            Err(error) => self.complain(error),
            Ok(_) if !self.failing && self.shared.status.solved(PART) => info!("the buffer can be read again"),
            Ok(_) => {}
        }
        if reply.send(answer).is_err() {
            // The drain was told to stop while it waited.
            self.shared.lock().pool.release(lane);
        }
    }

    fn give_up(&self, inner: &mut Inner, lane: LaneId, head: &Stored) {
        let Some(dropped) = inner.pool.give_up((self.now)(), lane, head) else { return };
        self.shared.status.dropped(&dropped.stream, dropped.why, dropped.readings);
        error!(
            stream = dropped.stream,
            readings = dropped.readings,
            "a chunk in the buffer is not what was written; it is given up"
        );
    }

    /// Puts what the files are like into the status.
    fn report(&self) {
        let mut state = self.shared.status.lock();
        state.buffer.disk_used = self.store.size();
        state.buffer.disk_max = self.max_size;
        state.buffer.disk_free = self.store.free();
        state.buffer.disk_written = self.store.written();
        let SetAside { readings, bytes } = self.store.set_aside();
        state.buffer.set_aside = readings;
        state.buffer.set_aside_bytes = bytes;
    }

    /// Says what is wrong with the disk; a damaged file ends the work on it.
    fn complain(&self, error: &BufferError) {
        if let BufferError::Damaged { source, .. } = error {
            // What is found later is the same damage.
            self.damaged.get_or_init(|| source.to_string());
            return;
        }
        let (what, remedy) = what_and_remedy(error);
        let remedy = format!("{remedy}; readings stay in memory and are written when that works again, meanwhile sources wait");
        if self.shared.status.problem(PART, clock::now(), what.clone(), &remedy) {
            warn!("{what}; {remedy}");
        }
    }
}

fn tell_of_unwritten(readings: u64) {
    if readings > 0 {
        error!(readings, "readings that were in memory alone could not be written; they were not acknowledged");
    }
}

fn wait<'a>(work: &Condvar, inner: MutexGuard<'a, Inner>, at_most: Duration) -> MutexGuard<'a, Inner> {
    work.wait_timeout(inner, at_most).unwrap_or_else(PoisonError::into_inner).0
}
