//! Brings chunks of another file into a buffer that no agent has open.
//!
//! Invariant: what is here under its name is not brought in again, so an import can be repeated, and one that found no room goes on.

use std::{collections::BTreeMap, path::Path};

use super::{
    BufferError, Chunk, Lane, LaneId, Layout, Pool,
    pool::{Policy, SalvagedRow},
    store::{IMPORTED, Salvaged, Store, Transaction},
};
use crate::{
    clock::{Boot, Setting},
    record::RunId,
};

/// Bytes in one transaction.
const BATCH_BYTES: u64 = 256 << 10;

/// What was brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Readings that are new here.
    pub readings: u64,
    /// Readings that were here already.
    pub known: u64,
}

/// Numbers of readings that are here, by what makes them a name.
#[derive(Default)]
struct Names(BTreeMap<(String, u16, RunId), BTreeMap<u64, u64>>);

impl Names {
    /// Notes the numbers from `first` on and below `below`.
    fn add(&mut self, lane: (String, u16, RunId), mut first: u64, mut below: u64) {
        let spans = self.0.entry(lane).or_default();
        // Spans that touch are one, so a run that is here as a whole takes a few bytes.
        while let Some((begins, ends)) = spans.range(..=below).next_back().map(|(begins, ends)| (*begins, *ends))
            && ends >= first
        {
            spans.remove(&begins);
            first = first.min(begins);
            below = below.max(ends);
        }
        spans.insert(first, below);
    }

    fn holds(&self, lane: &(String, u16, RunId), first: u64, below: u64) -> bool {
        let spans = self.0.get(lane);
        spans.and_then(|spans| spans.range(..=first).next_back()).is_some_and(|(_, ends)| *ends >= below)
    }
}

/// Brings `chunks`, each with what it knows of its lane, into the file at `path`, with room for `max_size` bytes. They are sent before
/// what the file holds of today's lanes. `right` is what the other file knows of the clock in its boots.
///
/// Errors: as [`BufferError`]; what was brought in before stays.
pub fn import(
    path: &Path,
    max_size: u64,
    right: &[(Boot, Setting)],
    chunks: impl Iterator<Item = (Layout, Chunk)>,
) -> Result<Imported, BufferError> {
    let mut store = Store::open(path, max_size, 0)?;
    let mut target = Target::of(&store)?;
    let mut imported = Imported::default();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (layout, chunk) in chunks {
        let name = (layout.stream.clone(), layout.number, chunk.run);
        let below = chunk.notice().map_or(chunk.first_seq.saturating_add(chunk.readings), |notice| notice.to.saturating_add(1));
        if target.names.holds(&name, chunk.first_seq, below) {
            imported.known += chunk.readings;
            continue;
        }
        target.names.add(name, chunk.first_seq, below);
        let lane = target.lane(&mut store, &layout)?;
        bytes += chunk.bytes();
        batch.push(Chunk { lane, ..chunk });
        if bytes >= BATCH_BYTES {
            imported.readings += target.write(&mut store, path, right, &std::mem::take(&mut batch))?;
            bytes = 0;
        }
    }
    imported.readings += target.write(&mut store, path, right, &batch)?;
    Ok(imported)
}

/// The lanes that imported readings go to.
struct Target {
    pool: Pool,
    lanes: Vec<Lane>,
    names: Names,
}

impl Target {
    fn of(store: &Store) -> Result<Self, BufferError> {
        let policy = Policy { hold: std::time::Duration::ZERO, memory: 0, device: String::new(), streams: BTreeMap::new() };
        let (mut pool, mut lanes, mut names) = (Pool::new(policy), Vec::new(), Names::default());
        let stored = store.lanes()?;
        store.each_name(|lane, run, first, below| {
            if let Some(stored) = stored.iter().find(|stored| stored.lane.id == lane) {
                names.add((stored.lane.layout.stream.clone(), stored.lane.layout.number, run), first, below);
            }
        })?;
        for stored in stored.into_iter().filter(|stored| stored.salvage.as_deref() == Some(IMPORTED)) {
            lanes.push(stored.lane.clone());
            pool.add_lane(stored);
        }
        Ok(Self { pool, lanes, names })
    }

    fn lane(&mut self, store: &mut Store, layout: &Layout) -> Result<LaneId, BufferError> {
        if let Some(lane) = self.lanes.iter().find(|lane| lane.layout == *layout) {
            return Ok(lane.id);
        }
        let id = store.add_part(layout, Some(IMPORTED))?;
        store.is_last(id)?;
        let added = store.lanes()?.into_iter().find(|stored| stored.lane.id == id);
        self.lanes.extend(added.iter().map(|stored| stored.lane.clone()));
        added.into_iter().for_each(|stored| self.pool.add_lane(stored));
        Ok(id)
    }

    fn write(&mut self, store: &mut Store, path: &Path, right: &[(Boot, Setting)], chunks: &[Chunk]) -> Result<u64, BufferError> {
        let pages: u64 = chunks.iter().map(|chunk| Store::pages_for(chunk.bytes())).sum();
        let (used, budget) = store.pages();
        if used + pages > budget {
            return Err(BufferError::Full { path: path.into() });
        }
        let rows = self.pool.place(chunks);
        let inserts = rows.iter().map(SalvagedRow::insert).collect();
        let salvaged = Some(Salvaged { progress: None, right });
        store.commit(&Transaction { inserts, salvaged, ..Transaction::default() })?;
        self.pool.salvaged(&rows);
        store.keep_up()?;
        Ok(chunks.iter().map(|chunk| chunk.readings).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_touch_are_one_span_and_a_gap_stays_one() {
        let (mut names, lane) = (Names::default(), || ("s".to_owned(), 0, RunId(1)));
        for (first, below) in [(10, 20), (30, 40), (20, 25), (0, 10), (22, 23)] {
            names.add(lane(), first, below);
        }
        assert_eq!(names.0[&lane()], BTreeMap::from([(0, 25), (30, 40)]));
        assert!(names.holds(&lane(), 0, 25) && names.holds(&lane(), 31, 32));
        assert!(!names.holds(&lane(), 24, 31) && !names.holds(&lane(), 39, 41));
        assert!(!names.holds(&("s".to_owned(), 1, RunId(1)), 0, 1));
    }
}
