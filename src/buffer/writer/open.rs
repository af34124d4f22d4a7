//! Opens the file, makes ready what is known from it, and gives it the thread that owns it.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use super::{
    ATTEMPTS, Writer,
    lanes::{self, Placed},
};
use crate::{
    buffer::{
        Buffer, BufferError, BufferSettings, Inner, Lane, LaneId, Layout, Opened, Shared,
        pool::{Phases, Pool},
        salvage::{self, Job},
        store::{Store, quarantine},
    },
    clock,
    reading::Fingerprint,
    record::Previous,
    status::{Status, with_causes},
};

/// Opens the file, or makes it. One that is found damaged is set aside, and a new one is made.
pub(in crate::buffer) fn open(settings: &BufferSettings, layouts: &[Layout], status: Status) -> Result<Opened, BufferError> {
    whole(&settings.path, move || try_open(settings, layouts, status.clone()))
}

/// What `open` opens at `path`; where that is damaged, what it opens there when the damaged file is set aside.
pub(in crate::buffer) fn whole<T>(path: &Path, open: impl Fn() -> Result<T, BufferError>) -> Result<T, BufferError> {
    let mut opened = open();
    for _ in 1..ATTEMPTS {
        if matches!(opened, Err(BufferError::Read { .. })) {
            opened = open();
        }
    }
    match opened {
        Err(error @ (BufferError::Damaged { .. } | BufferError::Read { .. })) => {
            let aside = quarantine(path, clock::now())?;
            warn!("{}; it is {}", with_causes(&error), aside.display());
            open()
        }
        opened => opened,
    }
}

fn try_open(settings: &BufferSettings, layouts: &[Layout], status: Status) -> Result<Opened, BufferError> {
    let Prepared { writer, jobs, lanes, older, known } = prepare(settings, layouts, status)?;
    let shared = writer.shared.clone();
    let (ended, closed) = oneshot::channel();
    let path = settings.path.clone();
    let spawned = thread::Builder::new().name("buffer".into()).spawn(move || {
        // `ended` is dropped with the thread, whatever ends it.
        if let Err(damaged) = writer.run(&path) {
            let _nobody_asks: Result<(), BufferError> = ended.send(damaged);
        }
    });
    let unopened = |source: std::io::Error| BufferError::Open { path: settings.path.clone(), source: source.into() };
    spawned.map_err(unopened)?;
    if !jobs.is_empty() {
        let shared = shared.clone();
        thread::Builder::new().name("salvage".into()).spawn(move || salvage::run(jobs, &shared)).map_err(unopened)?;
    }
    Ok(Opened { buffer: Buffer::of(shared), lanes, older, known, closed })
}

/// An open file, and what is known from it.
pub(in crate::buffer) struct Prepared {
    /// To be given a thread.
    pub(in crate::buffer) writer: Writer,
    /// Files to be salvaged.
    pub(in crate::buffer) jobs: Vec<Job>,
    /// As in [`Opened`].
    pub(in crate::buffer) lanes: Vec<(Lane, Option<Previous>)>,
    /// As in [`Opened`].
    pub(in crate::buffer) older: Vec<Lane>,
    /// As in [`Opened`].
    pub(in crate::buffer) known: BTreeMap<String, Vec<Fingerprint>>,
}

/// Opens the file, without the thread that is to own it.
pub(in crate::buffer) fn prepare(settings: &BufferSettings, layouts: &[Layout], status: Status) -> Result<Prepared, BufferError> {
    let mut store = Store::open_in(settings.world, &settings.path, settings.max_size, settings.keep_free)?;
    let (jobs, aside) = salvage::jobs(&settings.path, &mut store, layouts, &status)?;
    let expected: BTreeSet<LaneId> = jobs.iter().flat_map(Job::targets).collect();
    let mut pool = Pool::new(settings.into());
    let Placed { lanes, older } = lanes::place(&mut store, &mut pool, settings, layouts, &expected)?;
    pool.expect(expected);

    let (known, needed) = store.settings()?;
    // What this file says of a boot is younger than what a damaged one does.
    let right = jobs.iter().flat_map(Job::settings).chain(known).collect();
    pool.add_settings(right, needed || !jobs.is_empty());
    let mut known: BTreeMap<String, Vec<Fingerprint>> = BTreeMap::new();
    let mut rows: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
    for (row, source, fingerprints) in store.receipts()? {
        rows.entry(source.clone()).or_default().push((row, fingerprints.len()));
        known.entry(source).or_default().extend(fingerprints);
    }
    for (name, (source, window)) in &settings.windows {
        pool.add_source(*source, usize::from(*window), rows.remove(name).unwrap_or_default());
    }
    let names = settings.windows.iter().map(|(name, (source, _))| (*source, name.clone())).collect();
    for (stream, (waiting, oldest)) in pool.backlog() {
        status.received(stream, waiting.readings);
        let mut state = status.lock();
        let shown = state.streams.entry(stream.to_owned()).or_default();
        shown.orphaned = !settings.streams.contains_key(stream);
        (shown.backlog_bytes, shown.oldest) = (waiting.bytes, oldest);
        drop(state);
        if waiting.readings > 0 {
            info!(stream, readings = waiting.readings, "found readings in the buffer");
        }
    }

    let inner =
        Inner { pool, reads: VecDeque::new(), asides: VecDeque::new(), salvage: None, receipts: BTreeMap::new(), closing: false };
    let shared = Arc::new(Shared {
        inner: Mutex::new(inner),
        work: Condvar::new(),
        appended: Notify::new(),
        settled: Notify::new(),
        status,
    });
    let writer = Writer {
        shared: shared.clone(),
        store,
        names,
        max_size: settings.max_size,
        now: settings.world.now,
        #[cfg(test)]
        mutant: settings.world.mutant,
        opened: (settings.world.now)(),
        phases: Phases::default(),
        full_at: None,
        gives_way: false,
        failing: false,
        squeezed: false,
        salvage_again: None,
        part_again: None,
        aside,
        mark_again: None,
        looked: (settings.world.now)(),
        damaged: OnceCell::new(),
        unread: BTreeMap::new(),
    };
    writer.report();
    writer.tell_of_set_aside();
    writer.shared.settle(writer.shared.lock(), &Vec::new());
    Ok(Prepared { writer, jobs, lanes, older, known })
}
