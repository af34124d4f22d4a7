//! What a buffer gives back after a cut, and whether that is what it promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::Path,
};

use super::{
    events::{Appended, Event, Item, Name, Row, items},
    stepped::{Stepped, now},
    tape::Seen,
    workload::{LANES, LIVE, WINDOW, layout, row_of},
};
use crate::{
    buffer::{
        BufferSettings, Chunk, Delivered, Group, LaneId, Mark, Position, Taken, cold::ColdFile, store::quarantined, tests::SOURCE,
    },
    reading::{Ordinal, Timestamp},
    record::{
        Notice, Previous, RunId,
        kpl::{HashKeyUse, put_record},
    },
};

/// The lanes of today after a cut.
pub(super) const TODAY: [usize; 5] = [0, 1, 2, 3, LIVE];

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that have something, in the order in which they began.
    order: Vec<Row>,
    lanes: BTreeMap<Row, FoundLane>,
    set_aside: BTreeMap<(Row, Name), Option<Vec<u8>>>,
    /// Ordinals of readings that the broker may repeat.
    known: BTreeSet<Ordinal>,
}

#[derive(Debug, Default)]
struct FoundLane {
    /// What is sent, in order.
    items: Vec<Item>,
    next: u64,
    previous: Option<Previous>,
    /// The number of a chunk that was added then.
    fresh: Option<u64>,
}

macro_rules! check {
    ($cond:expr, $($why:tt)+) => { if !$cond { return Err(format!($($why)+)); } };
}

/// Opens what a cut has left in the folder of `settings`, and closes it.
pub(super) fn looks_in(settings: &BufferSettings) -> Result<(), String> {
    let mut stepped = Stepped::open(settings, &TODAY.map(layout)).map_err(|error| crate::status::with_causes(&error))?;
    stepped.settles();
    stepped.closes();
    Ok(())
}

/// Opens what a cut has left in the folder of `settings`, drains it, adds to it, and closes it. Errors: it can't do that.
pub(super) fn recover(settings: &BufferSettings) -> Result<Found, String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let mut stepped = Stepped::open(settings, &TODAY.map(layout)).map_err(|error| crate::status::with_causes(&error))?;
    check_unharmed(&settings.path)?;
    let mut found = Found { known: stepped.known.iter().map(|known| known.hash.into()).collect(), ..Found::default() };
    for stored in stepped.store().lanes().map_err(|error| text(&error))? {
        let lane = FoundLane { next: stored.next, previous: stored.previous, ..FoundLane::default() };
        found.lanes.insert(row_of(&stored.lane), lane);
    }
    let has_set_aside = stepped.status.lock().buffer.set_aside > 0;

    let all: Vec<Row> = stepped.all_lanes().map(row_of).collect();
    for row in &all {
        let items = drains(&mut stepped, row.0, LANES[row.1].0)?;
        found.lanes.get_mut(row).ok_or("a lane has no row")?.items = items;
    }
    found.order = all;
    balances(&stepped)?;
    let today: Vec<Row> = stepped.lanes.iter().map(|(lane, _)| row_of(lane)).collect();
    for row in today {
        let number = adds(&mut stepped, row.0, LANES[row.1].0)?;
        found.lanes.get_mut(&row).ok_or("a lane has no row")?.fresh = Some(number);
    }
    balances(&stepped)?;
    let problems: Vec<_> =
        stepped.status.lock().problems.iter().map(|(part, problem)| format!("{part}: {}", problem.what)).collect();
    check!(problems.iter().all(|problem| problem.starts_with("set aside")), "{problems:?}");
    stepped.closes();

    let again = Stepped::open(settings, &TODAY.map(layout)).map_err(|error| crate::status::with_causes(&error))?;
    for (lane, _) in &again.lanes {
        let waiting = again.buffer().waiting(lane.id);
        check!(waiting.readings == 1, "{:?} has {waiting:?} instead of what was added", lane.layout);
    }
    drop(again);
    check_unharmed(&settings.path)?;
    if has_set_aside {
        let cold = ColdFile::open(&settings.path).map_err(|error| text(&error))?;
        let lanes = cold.lanes().ok_or("the lanes can't be read")?;
        let (rejected, unread) = cold.rejected();
        check!(unread.is_nothing(), "of what is set aside can't be read: {unread:?}");
        for refused in rejected {
            let lane = lanes.iter().find(|lane| lane.lane.id == refused.lane).ok_or("a reading of no lane is set aside")?;
            found.set_aside.insert((row_of(&lane.lane), (refused.run, refused.seq)), refused.data);
        }
    }
    Ok(found)
}

/// A cut is no damage.
fn check_unharmed(path: &Path) -> Result<(), String> {
    let aside = quarantined(path).map_err(|error| error.to_string())?;
    let why: Vec<_> = aside.iter().map(|file| ColdFile::look_at(file)).collect();
    check!(aside.is_empty(), "taken for damaged: {why:?}");
    Ok(())
}

fn balances(stepped: &Stepped) -> Result<(), String> {
    let ledger = stepped.status.lock().ledger_total();
    let waiting: u64 = stepped.all_lanes().map(|lane| stepped.buffer().waiting(lane.id).readings).sum();
    check!(ledger.balances() && ledger.buffered == waiting, "{waiting} readings wait, and {ledger:?}");
    check!(ledger.dropped.total() == 0 && ledger.rejected.total() == 0, "{ledger:?}");
    Ok(())
}

/// Takes everything that waits in a lane.
pub(super) fn drains(stepped: &mut Stepped, id: LaneId, stream: &str) -> Result<Vec<Item>, String> {
    let mut all = Vec::new();
    let before = stepped.buffer().waiting(id);
    let (mut sum, mut bytes_sum) = (0, 0);
    loop {
        let taken = stepped.answers(async move |buffer| buffer.oldest(id, 20_000).await).map_err(|error| error.to_string())?;
        let Some(Taken { pieces, .. }) = taken else { break };
        for piece in &pieces {
            let inside = items(&piece.data);
            let readings = inside.iter().filter(|item| matches!(item, Item::Reading(..))).count() as u64;
            check!(piece.readings == readings, "a chunk says {} readings and has {readings}", piece.readings);
            all.extend(inside);
        }
        let readings = pieces.iter().map(|piece| piece.readings).sum();
        let bytes = pieces.iter().map(|piece| piece.data.len() as u64).sum();
        (sum, bytes_sum) = (sum + readings, bytes_sum + bytes);
        let number = pieces.last().map_or(0, |last| last.position.number + 1);
        let up_to = Position { number, ..Position::default() };
        stepped.buffer().forget(now(), id, stream, &Delivered { readings, bytes, up_to });
    }
    check!((before.readings, before.bytes) == (sum, bytes_sum), "{before:?} waited, and {sum} readings of {bytes_sum} bytes came");
    Ok(all)
}

/// Adds one reading to a lane, and waits for its receipt; returns the number of its chunk.
fn adds(stepped: &mut Stepped, lane: LaneId, stream: &str) -> Result<u64, String> {
    let mut data = Vec::new();
    put_record(&mut data, 0, HashKeyUse::First, b"new");
    let run = RunId(u64::MAX);
    let chunk = Chunk {
        lane,
        readings: 1,
        run,
        first_seq: 0,
        arrived: Timestamp(7),
        unsure: None,
        notice: false,
        keys: None,
        data: data.into(),
    };
    let (publish, safe) = tokio::sync::watch::channel(0);
    stepped.buffer().publish_receipts(SOURCE, publish);
    stepped.status.received(stream, 1);
    let marks = vec![Mark { source: SOURCE, up_to: 1, fingerprints: Vec::new(), repeatable: 0 }];
    stepped.buffer().append(Group { chunks: vec![chunk.clone()], marks, since: now() });
    stepped.buffer().write();
    stepped.settles();
    check!(*safe.borrow() == 1, "what is added gets no receipt: {:?}", stepped.status.lock().problems);
    let taken = stepped.answers(async move |buffer| buffer.oldest(lane, 1).await).map_err(|error| error.to_string())?;
    stepped.buffer().release(lane);
    let piece = taken.and_then(|taken| taken.pieces.into_iter().next()).ok_or("what was added is not there")?;
    check!(piece.data == chunk.data, "something else is there than what was added");
    Ok(piece.position.number)
}

/// What must hold at one point of a record.
pub(super) struct Promised<'a> {
    seen: Seen,
    lanes: BTreeMap<Row, Lane<'a>>,
    dropped: BTreeMap<&'a str, u64>,
    unacknowledged: Vec<Range<Ordinal>>,
}

#[derive(Default)]
struct Lane<'a> {
    /// In order.
    appended: Vec<&'a Appended>,
    places: BTreeMap<Name, usize>,
    confirmed: BTreeSet<Name>,
    /// What the destination was told is gone.
    told: Vec<Notice>,
    set_aside: BTreeSet<Name>,
    next: u64,
    previous: Option<Previous>,
}

impl<'a> Promised<'a> {
    pub(super) fn nothing() -> Self {
        Self { seen: Seen::default(), lanes: BTreeMap::new(), dropped: BTreeMap::new(), unacknowledged: Vec::new() }
    }

    pub(super) fn sees(&mut self, seen: Seen) {
        self.seen = seen;
    }

    pub(super) fn hears(&mut self, event: &'a Event) {
        match event {
            Event::Appended(lane, appended) => {
                let lane = self.lanes.entry(*lane).or_default();
                lane.places.insert(appended.name, lane.appended.len());
                lane.appended.push(appended);
            }
            Event::Confirmed(lane, Item::Reading(name, _)) => {
                self.lanes.entry(*lane).or_default().confirmed.insert(*name);
            }
            Event::Confirmed(lane, Item::Notice(notice)) => self.lanes.entry(*lane).or_default().told.push(*notice),
            Event::SetAside(lane, name) => {
                self.lanes.entry(*lane).or_default().set_aside.insert(*name);
            }
            Event::Unacknowledged(ordinals) => self.unacknowledged.push(ordinals.clone()),
            Event::Settled { lanes, dropped } => {
                for (lane, (next, previous)) in lanes {
                    let lane = self.lanes.entry(*lane).or_default();
                    (lane.next, lane.previous) = (*next, *previous);
                }
                self.dropped = dropped.iter().map(|(stream, n)| (&stream[..], *n)).collect();
            }
        }
    }

    fn has_receipt(&self, ordinal: Ordinal) -> bool {
        ordinal <= self.seen.safe && !self.unacknowledged.iter().any(|never| never.contains(&ordinal))
    }

    /// Whether `found` keeps all of it.
    pub(super) fn holds(&self, found: &Found) -> Result<(), String> {
        let mut gone: BTreeMap<&str, u64> = BTreeMap::new();
        let mut there = BTreeMap::new();
        let nothing = FoundLane::default();
        for (lane, promised) in &self.lanes {
            let found_lane = found.lanes.get(lane).unwrap_or(&nothing);
            let in_lane = |what: String| format!("{:?}: {what}", LANES[lane.1]);
            *gone.entry(LANES[lane.1].0).or_default() +=
                promised.holds(self, *lane, found_lane, found, &mut there).map_err(in_lane)?;
        }
        self.holds_parts(found)?;
        for (lane, found) in found.lanes.iter().filter(|(lane, _)| !self.lanes.contains_key(lane)) {
            check!(found.items.is_empty(), "{:?}: something is there that nobody handed over", LANES[lane.1]);
        }
        for (stream, dropped) in &self.dropped {
            let gone = gone.get(stream).copied().unwrap_or_default();
            check!(gone >= *dropped, "{stream}: {dropped} readings counted as dropped, and {gone} are gone");
        }
        // What the broker may repeat is known with the readings; but for what was written when a reading before it was set aside: no other
        // reading of its group was, so nothing of the group may be taken for known yet. A repetition is stored again, and marked.
        let last = there.keys().last().max(found.known.last()).copied().unwrap_or_default();
        let young = there.iter().filter(|(ordinal, _)| **ordinal > last.saturating_sub(WINDOW.into()));
        let forgotten: Vec<_> = young.filter(|(ordinal, aside)| !**aside && !found.known.contains(ordinal)).collect();
        check!(forgotten.is_empty(), "{forgotten:?} would be stored again when the broker repeats them");
        Ok(())
    }
}

impl Promised<'_> {
    /// What arrived earlier is in a part that began earlier.
    fn holds_parts(&self, found: &Found) -> Result<(), String> {
        let mut last = None;
        for row in found.order.iter().filter(|(_, lane)| *lane == LIVE) {
            for item in &found.lanes[row].items {
                let Item::Reading(name, _) = item else { continue };
                let lane = self.lanes.get(row).ok_or_else(|| format!("nobody handed anything over to {row:?}"))?;
                let ordinal = lane.appended[lane.place(*name)?].ordinal;
                check!(last.is_none_or(|last| last < ordinal), "{name:?} is in a part that began too late");
                last = Some(ordinal);
            }
        }
        Ok(())
    }
}

impl Lane<'_> {
    fn place(&self, name: Name) -> Result<usize, String> {
        self.places.get(&name).copied().ok_or_else(|| format!("nobody handed over {name:?}"))
    }

    /// Says how many readings are gone otherwise than confirmed or set aside.
    fn holds(
        &self,
        outside: &Promised,
        lane: Row,
        found: &FoundLane,
        all: &Found,
        there: &mut BTreeMap<Ordinal, bool>,
    ) -> Result<u64, String> {
        let mut present: BTreeSet<usize> = BTreeSet::new();
        let mut last = None;
        for item in &found.items {
            let Item::Reading(name, data) = item else { continue };
            let place = self.place(*name)?;
            let appended = self.appended[place];
            check!(appended.data == *data, "{name:?} is not what was handed over");
            check!(last.is_none_or(|last| last < place), "{name:?} comes twice, or too late");
            last = Some(place);
            present.insert(place);
            let behind_one_aside = all.set_aside.keys().any(|(of, (run, seq))| *of == lane && *run == name.0 && *seq < name.1);
            there.insert(appended.ordinal, behind_one_aside);
        }
        let notices: Vec<&Notice> =
            found.items.iter().filter_map(|item| if let Item::Notice(notice) = item { Some(notice) } else { None }).collect();
        let says = |notice: &Notice, (run, seq): Name| notice.run == run && (notice.from..=notice.to).contains(&seq);
        let is_aside = |name: Name| self.set_aside.contains(&name) || all.set_aside.contains_key(&(lane, name));
        let mut gone = 0;
        for (place, appended) in self.appended.iter().enumerate() {
            let name = appended.name;
            if present.contains(&place) {
                check!(!all.set_aside.contains_key(&(lane, name)), "{name:?} is set aside and waits");
                continue;
            }
            let told = notices.iter().copied().chain(&self.told).any(|notice| says(notice, name));
            let explained = told || is_aside(name) || self.confirmed.contains(&name);
            check!(explained || !outside.has_receipt(appended.ordinal), "{name:?} had its receipt and is gone");
            let given_up = outside.unacknowledged.iter().any(|never| never.contains(&appended.ordinal));
            check!(explained || given_up || last.is_none_or(|last| last < place), "{name:?} is missing before others");
            // A notice of what nobody knows to be safe may be on the disk already.
            let counted = !is_aside(name) && (told || !self.confirmed.contains(&name));
            gone += u64::from(counted);
        }
        for notice in &notices {
            let of_it = || self.appended.iter().enumerate().filter(|(_, appended)| says(notice, appended.name));
            let missing: Vec<Name> =
                of_it().filter(|(place, _)| !present.contains(place)).map(|(_, missing)| missing.name).collect();
            // Some of them may have been confirmed before, or set aside, or an earlier notice has told of them.
            let otherwise = |name: &&Name| {
                is_aside(**name) || self.confirmed.contains(*name) || self.told.iter().any(|told| says(told, **name))
            };
            let (most, others) = (missing.len() as u64, missing.iter().filter(otherwise).count() as u64);
            check!((most - others..=most).contains(&notice.n), "{notice:?}, and {most} are missing, {others} of them otherwise");
        }
        for (name, data) in all.set_aside.iter().filter(|((of, _), _)| *of == lane).map(|((_, name), data)| (*name, data)) {
            let appended = self.appended[self.place(name)?];
            check!(data.as_deref() == Some(&appended.data[..]), "{name:?} is set aside, and not what was handed over");
        }
        // Names that were in memory alone are gone with it. Whatever the file has known, or keeps, is no younger than the last name.
        let order = |previous: Option<Previous>| previous.map(|Previous { run, seq }| self.place((run, seq))).transpose();
        let (before, now) = (order(self.previous)?, order(found.previous)?);
        let aside = all.set_aside.keys().filter(|(of, _)| *of == lane).map(|(_, name)| self.place(*name));
        let kept = aside.collect::<Result<Vec<_>, _>>()?.into_iter().chain(last).max();
        check!(now >= before && now >= kept, "the last name was {:?}, and is {:?}; {kept:?}", self.previous, found.previous);
        check!(found.next >= self.next, "the next chunk had number {}, and has {}", self.next, found.next);
        let fresh = found.fresh.unwrap_or(u64::MAX);
        check!(fresh >= self.next, "number {fresh} is used twice");
        Ok(gone)
    }
}
