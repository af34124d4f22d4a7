//! Makes room, and drops what has waited too long: one step at a time, each a transaction of its own.
//!
//! What a step costs: dropping reads the rows' heads, a few for each 256 KiB that go, and writes one row; thinning reads one chunk or
//! two and writes one. Neither looks at what stays.

use std::{
    sync::MutexGuard,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{Inner, NO_LANE, OVERFLOW, OVERFLOW_IS_OVER, Work, Writer};
use crate::{
    buffer::{
        BufferError, LaneId,
        pool::{GiveWay, Rewrite},
        store::{Insert, Store, Transaction},
    },
    clock,
    status::{BEAT, Reason},
};

/// Bytes of chunks among which the next one to be thinned is looked for.
const LOOKED_AT: u64 = 1 << 20;
/// Most rows that one step looks at.
const ROWS: usize = 256;

impl Writer {
    /// One step towards room for what has to be written, if there is too little; whether there was one. Confirmed chunks go first.
    pub(super) fn makes_room<'a>(&mut self, mut inner: MutexGuard<'a, Inner>) -> Result<MutexGuard<'a, Inner>, bool> {
        self.store.take_reserve();
        let step = inner.pool.over_quota().or_else(|| {
            let wanted = inner.pool.pages_wanted(Store::pages_for);
            let (used, budget) = self.store.pages();
            if used + wanted <= budget && !self.squeezed || inner.pool.has_deletes() {
                return None;
            }
            let room = if self.squeezed { 0 } else { budget.saturating_sub(used) };
            inner.pool.make_room(room, Store::pages_for)
        });
        match step {
            Some(step) => {
                self.squeezed = false;
                Err(self.gives_way(inner, step))
            }
            None => Ok(inner),
        }
    }

    /// One step towards dropping what has waited too long, if anything has.
    pub(super) fn drops_the_old<'a>(&mut self, inner: MutexGuard<'a, Inner>, now: Instant) -> Result<MutexGuard<'a, Inner>, bool> {
        match inner.pool.expired(now, clock::now(), now - self.opened) {
            Some(step) => Err(self.gives_way(inner, step)),
            None => Ok(inner),
        }
    }

    /// How long the writer may sleep until something has waited too long.
    pub(super) fn sleeps(&self, inner: &Inner, now: Instant) -> Duration {
        inner.pool.next_expiry(now, clock::now(), now - self.opened).map_or(BEAT, |wait| wait.min(BEAT))
    }

    /// Does a step; `false` when it failed, and is to be tried again later.
    fn gives_way(&mut self, mut inner: MutexGuard<Inner>, step: GiveWay) -> bool {
        let now = (self.now)();
        let of = match step {
            GiveWay::Drop { lane, .. } | GiveWay::Thin { lane, .. } => lane,
            GiveWay::Refused(_) => NO_LANE,
        };
        let rewrite = match step {
            GiveWay::Refused(refused) => {
                for dropped in &refused {
                    self.shared.status.dropped(&dropped.stream, dropped.why, dropped.readings);
                }
                drop(inner);
                self.tell_of_overflow(now, refused.first().map(|dropped| dropped.why), false);
                return true;
            }
            GiveWay::Drop { lane, from, why, bytes } => self.drops(&mut inner, now, (lane, from, why), bytes),
            GiveWay::Thin { lane, level: 0, .. } => self.surveys(&mut inner, lane).map(|()| None),
            GiveWay::Thin { lane, from, level } => self.thins(&mut inner, lane, from, level),
        };
        self.tried(of, Work::Overflow, &rewrite);
        let rewrite = match rewrite {
            Ok(Some(rewrite)) => rewrite,
            Ok(None) => return true,
            Err(error) => {
                inner.pool.failed(now);
                drop(inner);
                self.failing = true;
                self.complain(&error);
                return false;
            }
        };
        drop(inner);
        self.rewrites(&rewrite)
    }

    /// Commits `rewrite`, and counts what is gone with it.
    fn rewrites(&mut self, rewrite: &Rewrite) -> bool {
        let Rewrite { number, from, chunk, earlier, gap, .. } = rewrite;
        let insert = Insert { number: *number, chunk, earlier: *earlier, gap: Some(*gap), from: *from };
        let result = self.store.commit(&Transaction { inserts: vec![insert], ..Transaction::default() });
        self.tried(NO_LANE, Work::Commit, &result);
        let now = (self.now)();
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        if let Err(error) = result {
            inner.pool.failed(now);
            drop(inner);
            self.failing = true;
            self.complain(&error);
            return false;
        }
        let dropped = inner.pool.rewritten(rewrite);
        if let Some(dropped) = dropped.filter(|dropped| dropped.readings > 0) {
            self.shared.status.dropped(&dropped.stream, dropped.why, dropped.readings);
        }
        shared.settle(inner, &Vec::new());
        if gap.why != Reason::MaxAge {
            self.tell_of_overflow(now, Some(gap.why), false);
        }
        self.keeps_up();
        self.report();
        true
    }

    /// Plans to drop the oldest chunks of `lane`, or those that are too old.
    fn drops(
        &self,
        inner: &mut Inner,
        now: Instant,
        (lane, from, why): (LaneId, u64, Reason),
        bytes: u64,
    ) -> Result<Option<Rewrite>, BufferError> {
        let heads = self.store.heads(lane, from, bytes, ROWS)?;
        let before = self.store.head_before(lane, inner.pool.first_free(lane), from)?;
        let (wall, up) = (clock::now(), now - self.opened);
        let mut freed = 0;
        let old: Vec<u64> = heads
            .iter()
            .zip(heads.iter().skip(1).map(Some).chain([None]))
            // What arrived last in a chunk arrived before the next one.
            .filter(|(head, next)| inner.pool.is_too_old(lane, head.number, next.unwrap_or(head).arrived, wall, up))
            .map(|(head, _)| head.number)
            .collect();
        let rewrite = inner.pool.plan_drop(now, lane, why, before, &heads, |head| {
            let goes = if why == Reason::MaxAge { old.contains(&head.number) } else { freed < bytes };
            freed += head.bytes;
            goes
        });
        Ok(rewrite)
    }

    /// Finds out how far `lane` was thinned before this process.
    fn surveys(&self, inner: &mut Inner, lane: LaneId) -> Result<(), BufferError> {
        let (first, below) = inner.pool.on_disk(lane);
        let heads = self.store.heads(lane, first, u64::MAX, ROWS)?;
        let level = heads.iter().find(|head| head.readings > 0).and_then(|head| head.gap).map_or(0, |gap| gap.level);
        let cursor = if level == 0 { first } else { self.store.first_below_level(lane, first, below, level)? };
        inner.pool.surveyed(lane, level, cursor);
        Ok(())
    }

    /// Plans to thin the next chunk of `lane`.
    fn thins(&mut self, inner: &mut Inner, lane: LaneId, from: u64, level: u8) -> Result<Option<Rewrite>, BufferError> {
        let heads = self.store.heads(lane, from, LOOKED_AT, ROWS)?;
        let before = self.store.head_before(lane, inner.pool.first_free(lane), from)?;
        let Some((before, head)) = inner.pool.plan_thin(lane, level, before, &heads) else { return Ok(None) };
        let chunk = |number: u64| Ok(self.store.chunk(lane, number)?.and_then(|stored| stored.chunk));
        let joined = match before {
            Some(before) => chunk(before.number)?.map(|chunk| (before, chunk)),
            None => None,
        };
        let Some(chunk) = chunk(head.number)? else {
            // Its bytes are not those that were written; the drain gives it up when it comes there.
            inner.pool.skip(lane, &head);
            return Ok(None);
        };
        let joined = joined.as_ref().map(|(before, chunk)| (*before, chunk));
        match inner.pool.thin(&mut self.phases, level, joined, (head, &chunk)) {
            Ok(Some(rewrite)) => return Ok(Some(rewrite)),
            Ok(None) => {}
            Err(malformed) => warn!(%malformed, "a chunk in the buffer can't be thinned; it stays as it is"),
        }
        inner.pool.skip(lane, &head);
        Ok(None)
    }

    /// Says once that the buffer is full, and once that it has not been so for a while.
    pub(super) fn tell_of_overflow(&mut self, now: Instant, why: Option<Reason>, blocked: bool) {
        let recently = self.full_at.is_some_and(|at| now <= at + OVERFLOW_IS_OVER);
        if why.is_none() && recently && (!blocked || self.gives_way) {
            return; // what gives way may be on its way for a moment, and it is one overflow still
        }
        self.gives_way = why.is_some();
        let what = match (why, blocked) {
            (Some(Reason::DropNewest), _) => "the buffer is full: the newest readings are dropped",
            (Some(Reason::Thin), _) => "the buffer is full: the oldest readings are thinned",
            (Some(_), _) => "the buffer is full: the oldest readings are dropped",
            (None, true) => "the buffer is full and may not drop: sources wait",
            _ if self.full_at.take().is_some() => {
                if self.shared.status.solved(OVERFLOW) {
                    info!("the buffer has room again");
                }
                return;
            }
            _ => return,
        };
        self.full_at = Some(now);
        let remedy = if self.store.is_squeezed() {
            "make room on the disk: there is none left beside what keep_free of [buffer] keeps for others"
        } else {
            "get the uplink back, or raise max_size of [buffer] and, if it has one, of the stream"
        };
        if !self.shared.status.problem(OVERFLOW, clock::now(), what.into(), remedy) {
            return;
        }
        if why.is_some() {
            error!("{what}; {remedy}");
        } else {
            warn!("{what}; {remedy}");
        }
    }
}
