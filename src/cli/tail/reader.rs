//! Reads all shards of a stream, one page at a time, at a pace that leaves the shards to other consumers too.
//!
//! Invariant: pages of a shard come in order and none is skipped: after an error the reading goes on where it stood.

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::shards::Family;
use crate::{
    kinesis::{
        Arrived, Client, HashKey, Position, ReadError, Shard, Start,
        limits::{READ_INTERVAL, READ_INTERVAL_BEHIND},
    },
    reading::Timestamp,
};

/// The longest wait between two attempts while the stream can't be read.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A stream, read from a given start.
pub(super) struct Reader {
    client: Client,
    stream: String,
    start: Start,
    began: Timestamp,
    family: Family,
    cursors: Vec<Cursor>,
    /// When to ask for shards; none while those that are read are all that there are.
    listing: Option<Instant>,
    listed_before: bool,
    failures: u32,
    /// Nothing is asked before this time.
    resume: Instant,
}

/// One shard, as far as it was read.
struct Cursor {
    shard: Shard,
    start: Start,
    position: Option<Position>,
    due: Instant,
    ended: bool,
}

/// What the reader has to report.
pub(super) enum Step {
    /// Records of a shard with these hash keys, in order.
    Records(RangeInclusive<HashKey>, Vec<Arrived>),
    /// The stream can't be read; it is tried again, without another word, until it can.
    Away(ReadError),
    /// It can be read again.
    Back,
}

impl Reader {
    /// Reads `stream` from `start`; `began` is the present by the wall clock.
    pub(super) fn new(client: Client, stream: &str, start: Start, began: Timestamp) -> Self {
        let now = Instant::now();
        Self {
            client,
            stream: stream.to_owned(),
            start,
            began,
            family: Family::default(),
            cursors: Vec::new(),
            listing: Some(now),
            listed_before: false,
            failures: 0,
            resume: now,
        }
    }

    /// Waits for the next thing to report. An error is final: a person has to act first.
    pub(super) async fn next(&mut self) -> Result<Step, ReadError> {
        loop {
            match self.attempt().await {
                Ok(Some(page)) => {
                    self.failures = 0;
                    return Ok(page);
                }
                Ok(None) if self.failures == 0 => {}
                Ok(None) => {
                    self.failures = 0;
                    return Ok(Step::Back);
                }
                Err(error @ (ReadError::Refused { .. } | ReadError::Public { .. })) => return Err(error),
                Err(error) => {
                    self.resume = Instant::now() + wait(self.failures);
                    self.failures += 1;
                    if self.failures == 1 {
                        return Ok(Step::Away(error));
                    }
                }
            }
        }
    }

    /// Does what is due first.
    async fn attempt(&mut self) -> Result<Option<Step>, ReadError> {
        let next = self.cursors.iter_mut().min_by_key(|cursor| cursor.due);
        match (next, self.listing) {
            (Some(cursor), listing) if listing.is_none_or(|listing| cursor.due < listing) => {
                sleep_until(cursor.due.max(self.resume)).await;
                let page = cursor.read(&self.client, &self.stream, self.began).await?;
                let step = (!page.is_empty()).then(|| Step::Records(cursor.shard.hashes.clone(), page));
                self.retire();
                Ok(step)
            }
            (_, listing) => {
                sleep_until(listing.unwrap_or(self.resume).max(self.resume)).await;
                self.list().await?;
                Ok(None)
            }
        }
    }

    /// Lets go of the shards that were read to their end.
    fn retire(&mut self) {
        let (open, ended) = self.cursors.drain(..).partition(|cursor| !cursor.ended);
        self.cursors = open;
        for cursor in ended {
            self.family.finish(&cursor.shard.id);
            self.listing = Some(Instant::now());
        }
    }

    async fn list(&mut self) -> Result<(), ReadError> {
        let shards = self.client.shards(&self.stream).await?;
        if !self.listed_before && self.start == Start::Latest {
            self.family.skip_closed(&shards);
        }
        // What a child of a shard takes came after the start, however late it is found.
        let start = match &self.start {
            Start::Latest if self.listed_before => Start::Oldest,
            start => start.clone(),
        };
        self.listed_before = true;
        let due = Instant::now();
        let begun = self.family.begin(&shards).into_iter();
        self.cursors.extend(begun.map(|shard| Cursor { shard, start: start.clone(), position: None, due, ended: false }));
        let again = self.cursors.is_empty() || self.family.awaits_heirs(&shards);
        self.listing = again.then_some(due + READ_INTERVAL);
        Ok(())
    }
}

impl Cursor {
    async fn read(&mut self, client: &Client, stream: &str, began: Timestamp) -> Result<Vec<Arrived>, ReadError> {
        let position = match self.position.take() {
            Some(position) => position,
            None => client.position(stream, &self.shard.id, &self.start).await?,
        };
        let page = match client.read(stream, &position).await {
            Ok(page) => page,
            Err(ReadError::Expired { .. }) => {
                // The present has moved on since then.
                if self.start == Start::Latest {
                    self.start = Start::At(began);
                }
                self.due = Instant::now() + READ_INTERVAL;
                return Ok(Vec::new());
            }
            Err(error) => {
                self.position = Some(position);
                return Err(error);
            }
        };
        if let Some(last) = page.records.last() {
            self.start = Start::After(last.sequence.clone());
        }
        self.ended = page.next.is_none();
        self.position = page.next;
        self.due = Instant::now() + if page.more { READ_INTERVAL_BEHIND } else { READ_INTERVAL };
        Ok(page.records)
    }
}

/// How long to leave a stream alone that failed so often before.
fn wait(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5)).min(MAX_WAIT)
}
