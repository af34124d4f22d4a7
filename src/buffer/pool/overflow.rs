//! What gives way when there is no room, and what has waited too long: never what is on its way, or delivered in part.
//!
//! `drop-oldest` and `thin` take chunks on the disk: what is in memory alone is younger than all of those. Where nothing there can go, as
//! when others have filled the disk, they take the oldest of what is in memory alone, and `drop-newest` always takes the newest of that
//! (`alone.rs`). Streams of the lowest priority go first, and before them those that nobody configures any more.
//!
//! Each step is planned here, committed as one transaction, and only then counted, so that a step that fails has not happened.

use super::{
    Chunk, Duration, Earlier, Gap, Instant, LaneId, LaneState, Pool, StreamRules,
    alone::Tail,
    arrival,
    notice::{Rest, Span, follows},
    write::pages_of,
};
use crate::{
    buffer::store::{Head, Stored},
    config::WhenFull,
    reading::Timestamp,
    status::Reason,
};

/// A stamp from before this program was written says nothing of a reading's age: the clock was not set yet. 2020-01-01.
const FIRST_TIME: Timestamp = Timestamp(1_577_836_800_000);
/// What is freed at least when something has to give way, so that a trickle into a full buffer does not pay for it each time.
const FREED_AT_ONCE: u64 = 256 << 10;
/// What has waited too long goes in larger steps: all of it has to.
const AGED_AT_ONCE: u64 = 4 << 20;
/// Of a stream's own bound, which may be small, no more than this share.
const FREED_SHARE: u64 = 16;
/// A lane whose oldest chunk is old enough, and can't be dropped, is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What has to give way next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::buffer) enum GiveWay {
    /// The oldest chunks of `lane`, from this number on, until so many bytes are gone.
    Drop { lane: LaneId, from: u64, why: Reason, bytes: u64 },
    /// Some readings of the chunks of `lane` from this number on, each until it was halved `level` times; 0 when it must be found out
    /// from the file how often they were.
    Thin { lane: LaneId, from: u64, level: u8 },
    /// Nothing more: it was in memory alone, and is gone.
    Refused(Vec<Dropped>),
}

/// Readings that were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Dropped {
    pub(in crate::buffer) stream: String,
    pub(in crate::buffer) why: Reason,
    pub(in crate::buffer) readings: u64,
}

/// A row that takes the place of others.
#[derive(Debug)]
pub(in crate::buffer) struct Rewrite {
    pub(in crate::buffer) number: u64,
    pub(in crate::buffer) from: u64,
    pub(in crate::buffer) chunk: Chunk,
    pub(in crate::buffer) earlier: Earlier,
    pub(in crate::buffer) gap: Gap,
    /// What was in the chunks that go, and is not in this one.
    pub(super) gone: u64,
    /// Bytes of the chunks that go.
    pub(super) bytes: u64,
    /// When what follows arrived, if that is known.
    pub(super) next_arrived: Option<Timestamp>,
}

impl Pool {
    /// A stream with a bound of its own that has passed it and does not block.
    pub(in crate::buffer) fn over_quota(&mut self) -> Option<GiveWay> {
        let over: Vec<(String, StreamRules, u64)> = self
            .policy
            .streams
            .iter()
            .filter_map(|(stream, rules)| {
                let surplus = self.waiting(stream).bytes.checked_sub(rules.max_size?).filter(|surplus| *surplus > 0)?;
                Some((stream.clone(), *rules, surplus))
            })
            .collect();
        over.into_iter().find_map(|(stream, rules, surplus)| {
            let of_it = |state: &LaneState| state.lane.layout.stream == stream;
            let at_once = rules.max_size.map_or(FREED_AT_ONCE, |max| FREED_AT_ONCE.min(max / FREED_SHARE));
            match rules.when_full {
                WhenFull::Block => None,
                WhenFull::DropNewest => refused(self.refuse(of_it, |chunk| chunk.data.len() as u64, surplus)),
                WhenFull::DropOldest | WhenFull::Thin => self.oldest_of(of_it, surplus.max(at_once)),
            }
        })
    }

    /// What gives way when the whole buffer has only `room` pages for what is not written.
    pub(in crate::buffer) fn make_room(&mut self, room: u64, pages_for: impl Fn(u64) -> u64) -> Option<GiveWay> {
        let rules = self.policy.streams.clone();
        let of = |state: &LaneState| rules.get(&state.lane.layout.stream);
        if let Some(orphan) = self.oldest_of(|state| of(state).is_none(), FREED_AT_ONCE) {
            return Some(orphan);
        }
        let mut priorities: Vec<u16> = rules.values().map(|rules| rules.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities.into_iter().find_map(|priority| {
            let has = |state: &LaneState, newest: bool| {
                of(state).is_some_and(|rules| {
                    let falls = if newest { rules.when_full == WhenFull::DropNewest } else { drops_old(rules.when_full) };
                    rules.priority == priority && falls
                })
            };
            let surplus = self.unwritten().map(|held| pages_of(&held.chunk, &pages_for)).sum::<u64>().saturating_sub(room);
            let newest = self.refuse(|state| has(state, true), |chunk| pages_of(chunk, &pages_for), surplus);
            refused(newest)
                .or_else(|| self.oldest_of(|state| has(state, false), FREED_AT_ONCE))
                .or_else(|| refused(self.shed(|state| has(state, false), |chunk| pages_of(chunk, &pages_for), surplus)))
        })
    }

    /// The lane among those that `which` names whose oldest chunk gives way next, and how.
    fn oldest_of(&mut self, which: impl Fn(&LaneState) -> bool, bytes: u64) -> Option<GiveWay> {
        let candidates = self.lanes.values_mut().filter(|state| which(state) && state.first_droppable() < state.settled_below());
        // A lane that is being thinned has its turn when what it would thin next is the oldest.
        let next = |state: &LaneState| state.thinned.at.or(state.oldest).unwrap_or(Timestamp(i64::MAX));
        let state = candidates.min_by_key(|state| next(state))?;
        let lane = state.lane.id;
        let thins = self.policy.streams.get(&state.lane.layout.stream).is_some_and(|rules| rules.when_full == WhenFull::Thin);
        if thins && let Some((from, level)) = state.thinned.next(state.first_free(), state.settled_below()) {
            return Some(GiveWay::Thin { lane, from, level });
        }
        let why = if thins { Reason::Thin } else { Reason::DropOldest };
        Some(GiveWay::Drop { lane, from: state.first_droppable(), why, bytes })
    }

    /// A lane whose oldest readings have waited for longer than they may; none while nobody knows the clock to be right, since one that
    /// is months ahead would take everything. `up` is how long this process runs.
    pub(in crate::buffer) fn expired(&self, now: Instant, clock: Timestamp, up: Duration) -> Option<GiveWay> {
        let due = |state: &&LaneState| self.expires_in(state, now, clock, up).is_some_and(|wait| wait.is_zero());
        let state = self.lanes.values().find(due)?;
        Some(GiveWay::Drop { lane: state.lane.id, from: state.first_droppable(), why: Reason::MaxAge, bytes: AGED_AT_ONCE })
    }

    /// How long until readings may have waited for too long; none where nothing on the disk can.
    pub(in crate::buffer) fn next_expiry(&self, now: Instant, clock: Timestamp, up: Duration) -> Option<Duration> {
        self.lanes.values().filter_map(|state| self.expires_in(state, now, clock, up)).min()
    }

    fn expires_in(&self, state: &LaneState, now: Instant, clock: Timestamp, up: Duration) -> Option<Duration> {
        let max_age = self.policy.streams.get(&state.lane.layout.stream)?.max_age.filter(|_| self.clock_is_right)?;
        let first = state.first_droppable();
        let oldest = state.oldest.filter(|_| first < state.settled_below())?;
        let left =
            (max_age + Duration::from_millis(1)).saturating_sub(age(clock, oldest, (first >= state.ours_from).then_some(up)));
        let again = state.look_again.max(self.not_before()).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        Some(left.max(again))
    }

    /// Plans to drop the first chunks with readings among `heads`, which follow each other in `lane`: those that `goes` says, one after
    /// the other. A notice before them or behind them that says the same joins theirs; `before` is the row before all of `heads`. None
    /// when none of them is to go; then there is nothing to drop before the last of them.
    pub(in crate::buffer) fn plan_drop(
        &mut self,
        now: Instant,
        lane: LaneId,
        why: Reason,
        before: Option<Head>,
        heads: &[Head],
        mut goes: impl FnMut(&Head) -> bool,
    ) -> Option<Rewrite> {
        let state = self.lanes.get_mut(&lane)?;
        let below = state.settled_below();
        let first = heads.iter().position(|head| head.readings > 0);
        let first = first.filter(|first| head_is_below(&heads[*first], below) && goes(&heads[*first]));
        let Some(first) = first else {
            // There are notices alone, up to one that is not old enough.
            let looked_at = heads.last().map(|head| head.number + 1);
            let young = heads.iter().find(|head| head.readings > 0 && why == Reason::MaxAge).map(|head| head.number);
            state.spent_below = young.or(looked_at).unwrap_or(below);
            state.look_again = Some(now + LOOK_AGAIN);
            return None;
        };
        let says_the_same = |head: &Head| head.readings == 0 && head.gap.is_some_and(|gap| gap.why == why);
        let joined = first.checked_sub(1).map(|at| heads[at]).or(before);
        let joined = joined.filter(|head| says_the_same(head) && head.number >= state.first_free() && follows(head, &heads[first]));
        let mut span = Span::of(joined.unwrap_or(heads[first]));
        if joined.is_some() {
            span.add(heads[first]);
        }
        let mut at = first + 1;
        while let Some(head) = heads.get(at)
            && head_is_below(head, below)
            && span.takes(head)
            && (says_the_same(head) || head.readings > 0 && goes(head))
        {
            span.add(*head);
            at += 1;
        }
        state.forget_copies(span.last.number, &mut self.memory);
        let (chunk, gap) = span.chunk(&self.policy, &state.lane, why, 0, Rest::default());
        let next_arrived =
            heads.get(at).map(|head| head.arrived).or(state.memory.front().map(|held| arrival(&self.right, &held.chunk)));
        Some(Rewrite::of(&span, chunk, gap, next_arrived))
    }

    /// `rewrite` is on the disk: what is gone with it is not waited for any more.
    pub(in crate::buffer) fn rewritten(&mut self, rewrite: &Rewrite) -> Option<Dropped> {
        let state = self.lanes.get_mut(&rewrite.chunk.lane)?;
        state.waiting.add(0, rewrite.chunk.data.len() as u64);
        state.waiting.subtract(rewrite.gone, rewrite.bytes);
        if rewrite.number + 1 == state.written_below {
            state.tail = Tail::of(rewrite.number, &rewrite.chunk, rewrite.earlier, Some(rewrite.gap));
        }
        if rewrite.chunk.readings == 0 {
            state.spent_below = state.spent_below.max(rewrite.number + 1);
            if state.outstanding <= state.position.number {
                state.oldest = rewrite.next_arrived.or(state.oldest);
            }
        }
        if rewrite.gap.level > 0 {
            state.thinned.passed(rewrite.number, rewrite.chunk.arrived);
        }
        Some(Dropped { stream: state.lane.layout.stream.clone(), why: rewrite.gap.why, readings: rewrite.gone })
    }

    /// Gives up the chunk at the head of `lane`, which can't be read back.
    pub(in crate::buffer) fn give_up(&mut self, now: Instant, lane: LaneId, head: &Stored) -> Option<Dropped> {
        let state = self.lanes.get_mut(&lane)?;
        state.outstanding = 0;
        let begun = if state.position.number == head.number { state.position } else { super::Position::default() };
        // A row of an earlier version may say anything of itself.
        let (readings, bytes) = (head.readings.saturating_sub(begun.readings), head.bytes.saturating_sub(begun.offset));
        let (readings, bytes) = (readings.min(state.waiting.readings), bytes.min(state.waiting.bytes));
        state.waiting.subtract(readings, bytes);
        let dropped = Dropped { stream: state.lane.layout.stream.clone(), why: Reason::Corrupt, readings };
        self.advance(now, lane, super::Position { number: head.number + 1, ..super::Position::default() });
        Some(dropped)
    }

    /// The numbers of `lane` that are on the disk and may be dropped: from the first, and below the second.
    pub(in crate::buffer) fn on_disk(&self, lane: LaneId) -> (u64, u64) {
        self.lanes.get(&lane).map_or((0, 0), |state| (state.first_free(), state.settled_below()))
    }

    /// The first number of `lane` that is neither on its way nor delivered in part.
    pub(in crate::buffer) fn first_free(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(0, LaneState::first_free)
    }

    /// Whether a chunk of `lane` that arrived at `arrived` has waited for longer than it may.
    pub(in crate::buffer) fn is_too_old(
        &self,
        lane: LaneId,
        number: u64,
        arrived: Timestamp,
        clock: Timestamp,
        up: Duration,
    ) -> bool {
        self.lanes.get(&lane).is_some_and(|state| {
            let max_age = self.policy.streams.get(&state.lane.layout.stream).and_then(|rules| rules.max_age);
            let max_age = max_age.filter(|_| self.clock_is_right);
            let ours = (number >= state.ours_from).then_some(up);
            max_age.is_some_and(|max_age| age(clock, arrived, ours) > max_age)
        })
    }
}

impl Rewrite {
    pub(super) fn of(span: &Span, chunk: Chunk, gap: Gap, next_arrived: Option<Timestamp>) -> Self {
        Self {
            number: span.last.number,
            from: span.first.number,
            earlier: span.first.earlier,
            gone: span.inside.readings - chunk.readings,
            bytes: span.inside.bytes,
            chunk,
            gap,
            next_arrived,
        }
    }
}

impl LaneState {
    /// The first number that is neither on its way nor delivered in part, nor before one that is.
    pub(super) fn first_free(&self) -> u64 {
        // A read from the disk may go as far as there are rows.
        let outstanding = if self.outstanding == u64::MAX { self.written_below } else { self.outstanding };
        outstanding.max(self.pinned).max(self.position.number + u64::from(self.position.offset > 0))
    }

    /// The first number that overflow looks at.
    pub(super) fn first_droppable(&self) -> u64 {
        self.first_free().max(self.spent_below)
    }

    /// Written chunks up to `number` leave memory, so that whoever wants them reads what is on the disk by then.
    pub(super) fn forget_copies(&mut self, number: u64, memory: &mut u64) {
        while let Some(held) = self.memory.pop_front_if(|held| held.written && held.number <= number) {
            *memory -= held.chunk.bytes();
        }
    }
}

fn refused(dropped: Vec<Dropped>) -> Option<GiveWay> {
    (!dropped.is_empty()).then_some(GiveWay::Refused(dropped))
}

fn drops_old(when_full: WhenFull) -> bool {
    matches!(when_full, WhenFull::DropOldest | WhenFull::Thin)
}

fn head_is_below(head: &Head, number: u64) -> bool {
    head.number < number
}

/// How long a reading has waited. Clocks jump: none is younger than now, and none that arrived in this process, which has run for
/// `ours`, is older than that.
fn age(clock: Timestamp, arrived: Timestamp, ours: Option<Duration>) -> Duration {
    let age = Duration::from_millis(u64::try_from(clock.0.saturating_sub(arrived.0)).unwrap_or_default());
    match ours {
        Some(up) => age.min(up),
        None if arrived < FIRST_TIME => Duration::ZERO,
        None => age,
    }
}
