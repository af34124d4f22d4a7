//! What was salvaged, on its way into the file: when there is room for it, and nothing else is due.

use std::{
    collections::BTreeSet,
    sync::MutexGuard,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{BEAT, Inner, NO_LANE, Store, Transaction, Work, Writer};
use crate::buffer::{
    pool::SalvagedRow,
    salvage::{self, Aside, Batch},
    store::{Salvaged, mark_as_sent},
};

/// What could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

impl Writer {
    /// Looks now and then for what others have done to the disk: there may be room again, and what was set aside and then removed is no
    /// problem any more.
    pub(super) fn look_around(&mut self, now: Instant, inner: &mut Inner) {
        if now < self.looked + BEAT {
            return;
        }
        self.looked = now;
        self.report();
        inner.pool.look_again();
        let status = &self.shared.status;
        self.aside.retain(|aside| {
            let there = salvage::is_there(&aside.path);
            if !there && status.solved(&salvage::part_of(&aside.path)) {
                info!(file = %aside.path.display(), "what was set aside is removed");
            }
            there
        });
    }

    /// The place of a file that nothing is left to be sent of, which is still to be kept.
    pub(super) fn sent_aside(&self, now: Instant, inner: &Inner) -> Option<usize> {
        let sent = |aside: &Aside| aside.has_to_be_marked(|lane| inner.pool.is_empty(lane));
        self.aside.iter().position(sent).filter(|_| self.mark_again.is_none_or(|at| at <= now))
    }

    /// Keeps that nothing is left to be sent of the file at this place.
    pub(super) fn mark_sent(&mut self, now: Instant, at: usize) {
        let aside = &mut self.aside[at];
        let marked = mark_as_sent(&aside.path);
        aside.sent = marked.is_ok();
        if let Err(source) = marked {
            self.mark_again = Some(now + BEAT);
            warn!(
                file = %aside.path.display(),
                "all of it was sent, and that can't be kept; if the buffer is damaged once more, it is sent again: {source}"
            );
        }
    }

    /// What the salvage has read, if there is room for it. While it has to wait for that, nothing waits for it.
    pub(super) fn take_salvaged(&mut self, now: Instant, inner: &mut Inner) -> Option<Batch> {
        let batch = inner.salvage.as_ref()?;
        let pages: u64 = batch.chunks.iter().map(|chunk| Store::pages_for(chunk.bytes())).sum();
        let (used, budget) = self.store.pages();
        let room = used + pages <= budget / 2 || pages == 0;
        if !room || self.salvage_again.is_some_and(|at| at > now) {
            inner.pool.expect(BTreeSet::new());
            return None;
        }
        inner.salvage.take()
    }

    /// Writes a batch, in one transaction with how far the salvage has come.
    pub(super) fn salvage(&mut self, inner: MutexGuard<Inner>, batch: Batch) {
        let rows = inner.pool.place(&batch.chunks);
        drop(inner);
        let inserts = rows.iter().map(SalvagedRow::insert).collect();
        let transaction = Transaction {
            inserts,
            salvaged: Some(Salvaged { progress: Some(&batch.progress), right: &batch.right }),
            ..Transaction::default()
        };
        let written = self.store.commit(&transaction);
        self.tried(NO_LANE, Work::Commit, &written);
        if let Err(error) = written {
            self.salvage_again = Some((self.now)() + AGAIN);
            self.complain(&error);
            self.shared.lock().salvage = Some(batch);
            return;
        }
        let mut inner = self.shared.lock();
        salvage::account(&self.shared.status, &batch, |lane| inner.pool.stream_of(lane));
        inner.pool.salvaged(&rows);
        inner.pool.expect(batch.coming);
        salvage::tell(&self.shared.status, &batch.progress, &batch.what, batch.refused);
        self.aside.iter_mut().for_each(|aside| aside.hears(&batch.progress));
        self.shared.settle(inner, &Vec::new());
        self.shared.appended.notify_one();
        self.keeps_up();
        self.report();
        // Nobody waits any more when the agent stops.
        let _gone: Result<(), ()> = batch.done.send(());
    }
}
