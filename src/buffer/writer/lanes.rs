//! Which row of the file each of today's lanes goes on with, and the rows of parts that begin later.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::Writer;
use crate::{
    buffer::{
        BufferError, BufferSettings, Inner, Lane, LaneId, Layout,
        pool::Pool,
        store::{IMPORTED, Store, StoredLane},
    },
    config::DrainOrder,
    record::Previous,
};

/// A part that could not be made is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The lanes of a file.
pub(super) struct Placed {
    /// Those that were asked for, in that order, with the last name before.
    pub(super) lanes: Vec<(Lane, Option<Previous>)>,
    /// All others that have something, or are expected to, in the order in which they began.
    pub(super) older: Vec<Lane>,
}

/// Gives each of `layouts` its lane, and the pool what it has to know of them and all others; `expected` are those that more is to come
/// for.
pub(super) fn place(
    store: &mut Store,
    pool: &mut Pool,
    settings: &BufferSettings,
    layouts: &[Layout],
    expected: &BTreeSet<LaneId>,
) -> Result<Placed, BufferError> {
    let mut found = store.lanes()?;
    let known = found.len();
    let mut lanes = Vec::new();
    for layout in layouts {
        let lane = match going_on(&found[..known], layout) {
            Some(GoesOn { at, began_last }) => {
                if !began_last {
                    store.is_last(found[at].lane.id)?;
                }
                at
            }
            None => {
                found.push(StoredLane::new(Lane { id: store.add_lane(layout)?, layout: layout.clone() }));
                found.len() - 1
            }
        };
        lanes.push((found[lane].lane.clone(), last_name(&found, layout)));
    }
    let today: BTreeSet<LaneId> = lanes.iter().map(|(lane, _)| lane.id).collect();
    let mut parts = BTreeSet::new();
    for (lane, _) in &lanes {
        let rules = settings.streams.get(&lane.layout.stream);
        if rules.is_some_and(|rules| rules.drain_order == DrainOrder::LiveFirst) {
            let such = |stored: &&StoredLane| stored.salvage.is_none() && stored.lane.layout == lane.layout;
            let others = || found.iter().filter(such).map(|stored| stored.lane.id).filter(|part| *part != lane.id);
            pool.has_parts(lane.id, others());
            parts.extend(others());
        }
    }
    let mut older = Vec::new();
    for stored in found {
        let id = stored.lane.id;
        let has_something = stored.ends.is_some() || expected.contains(&id);
        if has_something && !today.contains(&id) {
            older.push(stored.lane.clone());
        }
        if has_something || today.contains(&id) || parts.contains(&id) {
            pool.add_lane(stored);
        }
    }
    Ok(Placed { lanes, older })
}

/// The name of a lane is its stream and number, whatever its layout.
fn has_name(stored: &StoredLane, layout: &Layout) -> bool {
    (&stored.lane.layout.stream, stored.lane.layout.number) == (&layout.stream, layout.number)
}

fn is_ours(stored: &StoredLane, layout: &Layout) -> bool {
    has_name(stored, layout) && stored.salvage.is_none()
}

/// A lane that goes on.
struct GoesOn {
    at: usize,
    /// No other of its stream and number began later.
    began_last: bool,
}

/// The lane among `found` that goes on as `layout`: the one that began last, if all of its stream that began last were of this layout; or
/// one that is empty. What has something, and is followed by something of another layout, is sent before that and ends there.
fn going_on(found: &[StoredLane], layout: &Layout) -> Option<GoesOn> {
    let such = |stored: &StoredLane| is_ours(stored, layout) && stored.lane.layout == *layout;
    let latest = found.iter().rfind(|stored| stored.lane.layout.stream == layout.stream && stored.salvage.is_none());
    let unchanged = latest.is_some_and(|latest| {
        let Layout { of, template, .. } = &latest.lane.layout;
        (of, template) == (&layout.of, &layout.template)
    });
    let last = found.iter().rposition(|stored| is_ours(stored, layout));
    match last.filter(|at| unchanged && such(&found[*at])) {
        Some(at) => Some(GoesOn { at, began_last: true }),
        None => found.iter().position(|stored| such(stored) && stored.ends.is_none()).map(|at| GoesOn { at, began_last: false }),
    }
}

/// `prev` leads from the lane before, of whatever layout, to this one. What was imported may be another gateway's.
fn last_name(found: &[StoredLane], layout: &Layout) -> Option<Previous> {
    let named = |stored: &&StoredLane| has_name(stored, layout) && stored.salvage.as_deref() != Some(IMPORTED);
    found.iter().rev().filter(named).find_map(|stored| stored.previous)
}

impl Writer {
    /// The lane that a part has to be made of, if that may be tried.
    pub(super) fn needs_part(&self, inner: &Inner, now: Instant) -> Option<(LaneId, Layout)> {
        inner.pool.needs_part().filter(|_| self.part_again.is_none_or(|at| at <= now))
    }

    /// Makes the row of a part, before it is needed.
    pub(super) fn make_part(&mut self, lane: LaneId, layout: Layout) {
        match self.store.add_part(&layout, None) {
            Ok(id) => self.shared.lock().pool.add_part(lane, Lane { id, layout }),
            Err(error) => {
                self.part_again = Some((self.now)() + AGAIN);
                self.complain(&error);
            }
        }
    }
}
