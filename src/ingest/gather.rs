//! The group that is being gathered: every reading goes into the open chunks of its lanes, and all chunks are sealed together.
//!
//! Invariant: what is sealed is a point in the order of arrival of every source. So "safe" is one number a source, and a commit never
//! holds half of a reading that goes to several streams.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use md5::{Digest, Md5};

use super::{
    complaints::Complaints,
    lane::{OpenLane, TooLarge},
    route::Routes,
};
use crate::{
    buffer::{Group, Mark},
    clock::Belief,
    config::Encoding,
    kinesis::limits::MAX_PARTITION_KEY_CHARS,
    reading::{Fingerprint, Ordinal, Reading, SourceId},
    record::{Envelope, PayloadReader, RunId},
    status::{Reason, Status, UNROUTED},
};

/// A chunk is sealed at this size: small enough that dropping or cutting one takes little, large enough that a row's overhead is lost.
const CHUNK_BYTES: usize = 64 << 10;
/// All open chunks together are sealed at this size, however many lanes there are.
const GROUP_BYTES: usize = 256 << 10;
/// Topics of one source whose routes are remembered; a source that makes topics up starts over.
const TOPICS_A_SOURCE: usize = 4096;
/// Bytes of what is remembered of them: a topic alone may have 65,535, and each stream that takes it has it once more.
const TOPIC_BYTES_A_SOURCE: usize = 2 << 20;
/// What the scratch pad keeps of its size: the usual reading is far smaller, and the largest should not stay for ever.
const SCRATCH: usize = 256 << 10;

/// One source, as far as its readings are concerned.
#[derive(Debug)]
pub struct SourceSettings {
    /// Its place.
    pub id: SourceId,
    /// Its name in the envelope.
    pub name: String,
    /// How its payloads are read.
    pub reader: PayloadReader,
    /// How many unacknowledged readings its sender allows, if it waits for acknowledgements.
    pub window: Option<u16>,
}

/// One stream, as far as its readings are encoded.
#[derive(Debug)]
pub struct StreamSettings {
    /// The name under `[streams]`.
    pub name: String,
    /// What a user record is.
    pub encoding: Encoding,
    /// Template of the user records' partition keys.
    pub partition_key: Option<String>,
    /// How long a reading may wait for company.
    pub linger: Duration,
    /// Its lanes, in the order of their numbers.
    pub(super) lanes: Vec<OpenLane>,
}

#[derive(Debug)]
pub(super) struct Gathering {
    device: String,
    run: RunId,
    routes: Arc<Routes>,
    status: Status,
    sources: Vec<SourceState>,
    streams: Vec<StreamState>,
    clock: Belief,
    scratch: Vec<u8>,
    open_bytes: usize,
    full: bool,
    since: Option<Instant>,
}

#[derive(Debug)]
struct SourceState {
    settings: SourceSettings,
    topics: HashMap<Box<str>, Arc<[Target]>, foldhash::fast::RandomState>,
    topic_bytes: usize,
    unreadable: u64,
    complaints: Complaints,
    received: Ordinal,
    sealed: Ordinal,
    fingerprints: Vec<Fingerprint>,
    /// How many publishes its sender may repeat.
    repeatable: usize,
}

#[derive(Debug)]
struct StreamState {
    settings: StreamSettings,
    taken: u64,
    too_large: u64,
}

/// Where readings of one topic go, with everything about them that is always the same.
#[derive(Debug)]
struct Target {
    stream: usize,
    lane: usize,
    envelope: Envelope,
    key: Option<Arc<str>>,
}

impl Target {
    fn size(&self) -> usize {
        self.envelope.size() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

impl Gathering {
    pub(super) fn new(
        device: String,
        run: RunId,
        routes: Arc<Routes>,
        status: Status,
        sources: Vec<SourceSettings>,
        streams: Vec<StreamSettings>,
    ) -> Self {
        let source = |settings| SourceState {
            settings,
            topics: HashMap::default(),
            topic_bytes: 0,
            unreadable: 0,
            complaints: Complaints::default(),
            received: 0,
            sealed: 0,
            fingerprints: Vec::new(),
            repeatable: 0,
        };
        Self {
            device,
            run,
            routes,
            status,
            sources: sources.into_iter().map(source).collect(),
            streams: streams.into_iter().map(|settings| StreamState { settings, taken: 0, too_large: 0 }).collect(),
            clock: Belief::default(),
            scratch: Vec::new(),
            open_bytes: 0,
            full: false,
            since: None,
        }
    }

    /// The sender of source `index` may repeat so many publishes, what comes next included.
    pub(super) fn may_be_repeated(&mut self, index: usize, publishes: usize) {
        self.sources[index].repeatable = publishes;
    }

    /// Whether the group must be sealed before readings are taken with another belief in the clock: a chunk is corrected as one.
    pub(super) fn ends_with(&self, clock: Belief) -> bool {
        self.since.is_some() && self.clock.unsure() != clock.unsure()
    }

    /// What is believed of the clock from now on; see [`Self::ends_with`].
    pub(super) fn set_clock(&mut self, clock: Belief) {
        if self.clock != clock {
            self.clock = clock;
            let lanes = self.streams.iter_mut().flat_map(|stream| &mut stream.settings.lanes);
            lanes.for_each(|lane| lane.set_clock(clock));
        }
    }

    /// Takes readings of source `index`, in the order of their arrival, until the group is full; says how many that were.
    pub(super) fn take(&mut self, now: Instant, index: usize, batch: &[Reading]) -> usize {
        let (mut unrouted, mut taken) = (0, 0);
        self.since = self.since.or_else(|| (!batch.is_empty()).then_some(now));
        for reading in batch {
            let targets = self.targets(index, &reading.topic);
            let source = &mut self.sources[index];
            source.received += 1;
            source.fingerprints.extend(reading.fingerprint);
            let what = (&*reading.topic, self.clock.set.time(reading.arrived));
            if targets.is_empty() {
                unrouted += 1;
                source.complaints.unrouted(&source.settings.name, what, &self.status);
            }
            let mut unreadable = None;
            for target in targets.iter() {
                let stream = &mut self.streams[target.stream];
                let lane = &mut stream.settings.lanes[target.lane];
                let before = lane.bytes();
                let reader = &source.settings.reader;
                match lane.push(now, reading, &target.envelope, reader, target.key.as_ref(), &mut self.scratch) {
                    Ok(why) => {
                        stream.taken += 1;
                        unreadable = unreadable.or(why);
                    }
                    Err(TooLarge) => stream.too_large += 1,
                }
                self.open_bytes += lane.bytes() - before;
                self.full |= lane.is_full(CHUNK_BYTES) || self.open_bytes >= GROUP_BYTES;
            }
            source.unreadable += u64::from(unreadable.is_some());
            let settings = (source.settings.name.as_str(), source.settings.reader.format);
            source.complaints.legible(unreadable, settings, what, &self.status);
            taken += 1;
            if self.full {
                break;
            }
        }
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH);
        self.account(index, unrouted);
        taken
    }

    fn account(&mut self, index: usize, unrouted: u64) {
        let source = &mut self.sources[index];
        let unreadable = std::mem::take(&mut source.unreadable);
        if unreadable > 0 {
            self.status.source(&source.settings.name, |source| source.unreadable += unreadable);
        }
        for stream in &mut self.streams {
            let (taken, too_large) = (std::mem::take(&mut stream.taken), std::mem::take(&mut stream.too_large));
            if taken > 0 {
                self.status.received(&stream.settings.name, taken);
            }
            if too_large > 0 {
                self.status.rejected(&stream.settings.name, Reason::TooLarge, too_large);
            }
        }
        if unrouted > 0 {
            self.status.rejected(UNROUTED, Reason::Unrouted, unrouted);
        }
    }

    fn targets(&mut self, index: usize, topic: &str) -> Arc<[Target]> {
        if let Some(targets) = self.sources[index].topics.get(topic) {
            return targets.clone();
        }
        let source = &self.sources[index].settings;
        let taken = self.routes.streams_of(source.id, topic);
        let targets = taken.filter_map(|name| self.target(source, topic, name)).collect::<Arc<[Target]>>();
        let SourceState { topics, topic_bytes, .. } = &mut self.sources[index];
        let bytes = topic.len() + targets.iter().map(Target::size).sum::<usize>();
        *topic_bytes += bytes;
        if topics.len() >= TOPICS_A_SOURCE || *topic_bytes > TOPIC_BYTES_A_SOURCE {
            topics.clear();
            *topic_bytes = bytes;
        }
        topics.insert(topic.into(), targets.clone());
        targets
    }

    fn target(&self, source: &SourceSettings, topic: &str, stream: &str) -> Option<Target> {
        let index = self.streams.iter().position(|known| known.settings.name == stream)?;
        let settings = &self.streams[index].settings;
        let lane = lane_of(topic, settings.lanes.len());
        let name = format!("{stream}/{lane}");
        let key = settings.partition_key.as_ref().map(|template| partition_key(template, &self.device, &source.name, topic).into());
        let envelope = Envelope::new(settings.encoding, &self.device, self.run, &name, &source.name, topic);
        Some(Target { stream: index, lane, envelope, key })
    }

    /// Bytes in open chunks.
    pub(super) fn open_bytes(&self) -> u64 {
        self.open_bytes as u64
    }

    /// Whether the group must be sealed before it takes more.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// When the group is to be sealed although it is not full: when a reading has waited for company as long as its stream allows,
    /// or any reading for `hold`.
    pub(super) fn due(&self, hold: Option<Duration>) -> Option<Instant> {
        let lingered = self.lanes().filter_map(|(lane, linger)| Some(lane.since()? + linger)).min();
        // Readings that no stream takes still wait for their receipt.
        let at_the_latest = hold.and_then(|hold| Some(self.since? + hold));
        lingered.into_iter().chain(at_the_latest).min().or(self.since)
    }

    fn lanes(&self) -> impl Iterator<Item = (&OpenLane, Duration)> {
        self.streams.iter().flat_map(|stream| stream.settings.lanes.iter().map(|lane| (lane, stream.settings.linger)))
    }

    /// Closes all open chunks, and says how far every source is with them.
    pub(super) fn seal(&mut self) -> Option<Group> {
        let since = self.since.take()?;
        self.open_bytes = 0;
        self.full = false;
        let lanes = self.streams.iter_mut().flat_map(|stream| &mut stream.settings.lanes);
        let chunks = lanes.filter_map(OpenLane::seal).collect();
        let mark = |source: &mut SourceState| {
            (source.sealed < source.received).then(|| {
                source.sealed = source.received;
                let SourceState { settings, received, fingerprints, repeatable, .. } = source;
                Mark { source: settings.id, up_to: *received, fingerprints: take_sized(fingerprints), repeatable: *repeatable }
            })
        };
        Some(Group { chunks, marks: self.sources.iter_mut().filter_map(mark).collect(), since })
    }

    /// How many readings source `index` has handed over.
    pub(super) fn received(&self, index: usize) -> Ordinal {
        self.sources[index].received
    }
}

/// The partition key that `template` gives a reading.
pub fn partition_key(template: &str, device: &str, source: &str, topic: &str) -> String {
    let key = template.replace("{topic}", topic).replace("{source}", source).replace("{device.id}", device);
    key.chars().take(MAX_PARTITION_KEY_CHARS).collect()
}

/// Takes a list, and leaves an empty one with as much room: the next is likely to be as long.
fn take_sized<T>(list: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(list.len());
    std::mem::replace(list, next)
}

/// The lane of a topic: the same in every version, since an order must survive an upgrade.
fn lane_of(topic: &str, lanes: usize) -> usize {
    let digest = Md5::digest(topic.as_bytes());
    let (head, _) = digest.split_at(8);
    let hash = head.iter().fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    usize::try_from(hash % lanes.max(1) as u64).unwrap_or(0) // below `lanes`
}

#[cfg(test)]
mod tests;
