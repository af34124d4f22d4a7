//! What a gateway does with its buffer, drawn from a seed, and what it was told meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::watch;

use super::{
    Dice,
    events::{Appended, Event, Item, Row, items},
    recorder::{self, Recording},
    stepped::{self, Stepped, now, passes},
    tape::Tape,
};
use crate::{
    buffer::{
        BufferError, BufferSettings, Chunk, Delivered, Group, Lane, Layout, Mark, Piece, Position, StreamRules, Taken, World,
        tests::SOURCE, world::Mutant,
    },
    clock::{Belief, Boot, Setting, Trust},
    config::{DrainOrder, Encoding, PayloadFormat, WhenFull},
    reading::{Fingerprint, Ordinal, Timestamp},
    record::{
        Envelope, Members, PayloadReader, RunId,
        kpl::{HashKeyUse, cut, put_record},
    },
    status::{Ledger, Reason},
};

/// All lanes that there ever are; the fourth has other siblings later, and the last one parts.
pub(super) const LANES: [(&str, u16, u16); 7] =
    [("oldest", 0, 1), ("newest", 0, 1), ("thin", 0, 1), ("kept", 0, 1), ("kept", 0, 2), ("kept", 1, 2), ("live", 0, 1)];
/// The one with parts.
pub(super) const LIVE: usize = 6;
/// Those that are configured, in turn.
const CONFIGURED: [&[usize]; 2] = [&[0, 1, 2, 3, LIVE], &[0, 1, 2, 4, 5, LIVE]];
/// Publishes that the broker may repeat.
pub(super) const WINDOW: u16 = 20;

/// Which of the workloads, and what is wrong with the program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) steps: u64,
    pub(super) hold: Duration,
    /// Each stream has a bound of its own; otherwise all together have one.
    pub(super) bounds: bool,
    pub(super) synchronous: &'static str,
    pub(super) mutant: Option<Mutant>,
}

/// What is on record of a workload.
pub(super) struct Run {
    pub(super) tape: Tape,
    /// Each with the place in the record that it happened at.
    pub(super) events: Vec<(usize, Event)>,
    /// What it did to readings, besides carrying them.
    pub(super) did: Did,
}

/// How many readings fell to each rule, and were set aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Did {
    pub(super) dropped_oldest: u64,
    pub(super) dropped_newest: u64,
    pub(super) thinned: u64,
    pub(super) set_aside: u64,
}

impl Did {
    pub(super) fn add(&mut self, ledger: &Ledger) {
        self.dropped_oldest += ledger.dropped.get(Reason::DropOldest);
        self.dropped_newest += ledger.dropped.get(Reason::DropNewest);
        self.thinned += ledger.dropped.get(Reason::Thin);
        self.set_aside += ledger.rejected.get(Reason::Refused);
    }
}

pub(super) struct Workload {
    plan: Plan,
    _dir: TempDir,
    pub(super) settings: BufferSettings,
    pub(super) recording: Recording,
    pub(super) open: Option<Stepped>,
    configured: usize,
    /// Parts of the lane that has some, as far as they began in this session.
    parts: Vec<Lane>,
    /// Names that were given in this run.
    run: u64,
    next_seq: BTreeMap<(String, u16), u64>,
    pub(super) ordinal: Ordinal,
    /// Up to here an earlier session ended without a receipt.
    pub(super) given_up: Ordinal,
    pub(super) events: Vec<(usize, Event)>,
    /// What earlier sessions dropped.
    dropped_before: BTreeMap<String, u64>,
    did: Did,
    unsure: bool,
    dice: Dice,
}

pub(super) fn layout(lane: usize) -> Layout {
    let (stream, number, of) = LANES[lane];
    Layout { stream: stream.into(), number, of, partition_key: format!("gw/{stream}/{number}"), hash_key: Some(5), template: None }
}

pub(super) fn row_of(Lane { id, layout }: &Lane) -> Row {
    let found = LANES.iter().position(|lane| *lane == (&layout.stream[..], layout.number, layout.of));
    (*id, found.unwrap_or_else(|| panic!("{layout:?} is none of ours")))
}

pub(super) fn settings(path: std::path::PathBuf, plan: &Plan) -> BufferSettings {
    let bound = |bytes| plan.bounds.then_some(bytes);
    let rules = |when_full, encoding, max_size| StreamRules { when_full, max_size, encoding, ..StreamRules::default() };
    BufferSettings {
        path,
        hold: plan.hold,
        memory: 256 << 10,
        max_size: 3_600_000, // with half a megabyte of readings it is full
        keep_free: 0,
        device: "gw".into(),
        streams: [
            ("oldest".to_owned(), rules(WhenFull::DropOldest, Encoding::Cbor, bound(12 << 10))),
            ("newest".to_owned(), rules(WhenFull::DropNewest, Encoding::Json, bound(30 << 10))),
            ("thin".to_owned(), rules(WhenFull::Thin, Encoding::Json, bound(30 << 10))),
            ("kept".to_owned(), rules(WhenFull::Block, Encoding::Cbor, None)),
            (
                "live".to_owned(),
                StreamRules { drain_order: DrainOrder::LiveFirst, ..rules(WhenFull::DropOldest, Encoding::Cbor, bound(16 << 10)) },
            ),
        ]
        .into(),
        windows: [("broker".to_owned(), (SOURCE, WINDOW))].into(),
        world: World { vfs: recorder::vfs(), now: stepped::now, synchronous: plan.synchronous, mutant: plan.mutant },
    }
}

impl Workload {
    pub(super) fn new(plan: Plan) -> Self {
        let dir = TempDir::new().unwrap();
        let settings = settings(dir.path().join("buffer.db"), &plan);
        let recording = Recording::of(dir.path(), Tape::over(dir.path()));
        Self {
            plan,
            settings,
            recording,
            _dir: dir,
            open: None,
            configured: 0,
            parts: Vec::new(),
            run: 0,
            next_seq: BTreeMap::new(),
            ordinal: 0,
            given_up: 0,
            events: Vec::new(),
            dropped_before: BTreeMap::new(),
            did: Did::default(),
            unsure: false,
            dice: Dice(plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        }
    }

    /// All of it.
    pub(super) fn run(mut self) -> Run {
        self.opens();
        for _ in 0..self.plan.steps {
            self.step();
        }
        self.closes();
        self.ends()
    }

    /// It is left where it stands.
    pub(super) fn ends(mut self) -> Run {
        drop(self.open.take());
        Run { tape: self.recording.ends(), events: self.events, did: self.did }
    }

    pub(super) fn stepped(&mut self) -> &mut Stepped {
        self.open.as_mut().expect("it is open between two sessions")
    }

    pub(super) fn opens(&mut self) {
        self.run += 1;
        self.next_seq.clear();
        self.parts.clear();
        let layouts: Vec<Layout> = CONFIGURED[self.configured].iter().map(|lane| layout(*lane)).collect();
        // Whoever starts it again does so until it opens.
        let stepped = loop {
            match Stepped::open(&self.settings, &layouts) {
                Ok(stepped) => break stepped,
                Err(error) => {
                    assert!(self.recording.tape().has_failed() && !matches!(error, BufferError::Damaged { .. }), "{error:?}");
                }
            }
        };
        let safe = self.recording.tape().seen().safe;
        let (publish, receipts) = watch::channel(safe);
        stepped.buffer().publish_receipts(SOURCE, publish);
        self.recording.tape().watch(receipts);
        self.open = Some(stepped);
        self.settled();
    }

    pub(super) fn closes(&mut self) {
        self.settled();
        self.dropped_before = self.dropped();
        let ledger = self.stepped().status.lock().ledger_total();
        self.did.add(&ledger);
        self.open.take().expect("it is open between two sessions").closes();
        let safe = self.recording.tape().seen().safe;
        if safe < self.ordinal {
            self.event(Event::Unacknowledged(safe + 1..self.ordinal + 1));
            self.given_up = self.ordinal;
        }
    }

    fn dropped(&mut self) -> BTreeMap<String, u64> {
        let mut dropped = self.dropped_before.clone();
        for (stream, state) in &self.stepped().status.clone().lock().streams {
            *dropped.entry(stream.clone()).or_default() += state.ledger.dropped.total();
        }
        dropped
    }

    /// Everything due is done, and written down.
    pub(super) fn settled(&mut self) {
        self.stepped().settles();
        let dropped = self.dropped();
        let lanes = self.stepped().store().lanes();
        assert!(lanes.is_ok() || self.recording.tape().has_failed(), "{:?}", lanes.err());
        let Ok(lanes) = lanes else { return };
        let lanes = lanes.into_iter().map(|stored| (row_of(&stored.lane), (stored.next, stored.previous))).collect();
        self.event(Event::Settled { lanes, dropped });
    }

    fn event(&mut self, event: Event) {
        let place = self.recording.tape().entries.len();
        self.events.push((place, event));
    }

    pub(super) fn step(&mut self) {
        match self.dice.roll(100) {
            0..45 => self.appends(),
            45..52 => self.stepped().buffer().write(),
            52..62 => passes(Duration::from_millis(self.dice.roll(2500))),
            62..87 => self.drains(),
            87..90 => {
                let shrunk = self.stepped().store().shrink();
                assert!(shrunk.is_ok() || self.recording.tape().has_failed(), "{shrunk:?}");
            }
            90..93 => self.sets_the_clock(),
            93..95 => {
                self.closes();
                self.configured = usize::try_from(self.dice.roll(2)).unwrap();
                self.opens();
            }
            95..98 => self.begins_part(),
            _ => {}
        }
        self.settled();
    }

    /// Some readings arrive, of one lane or more.
    pub(super) fn appends(&mut self) {
        let mut lanes: Vec<_> = self.stepped().lanes.iter().map(|(lane, _)| row_of(lane)).collect();
        lanes.retain(|_| self.dice.roll(2) == 0);
        let streams: BTreeSet<&str> = lanes.iter().map(|(_, lane)| LANES[*lane].0).collect();
        if !self.stepped().buffer().has_room(streams.into_iter(), 0) {
            return;
        }
        let before = self.ordinal;
        let chunks: Vec<Chunk> = lanes.into_iter().map(|row| self.chunk(row)).collect();
        let fingerprints = (before + 1..=self.ordinal).map(fingerprint).collect();
        let marks = vec![Mark { source: SOURCE, up_to: self.ordinal, fingerprints, repeatable: 0 }];
        self.stepped().buffer().append(Group { chunks, marks, since: now() });
    }

    /// What arrives in a lane goes to its youngest part.
    fn today(&self, (lane, index): Row) -> Row {
        let part = self.parts.last().filter(|_| index == LIVE);
        (part.map_or(lane, |part| part.id), index)
    }

    /// What waits in the lane does not go before what comes now.
    fn begins_part(&mut self) {
        let lane = self.stepped().lanes.iter().map(|(lane, _)| row_of(lane)).find(|(_, lane)| *lane == LIVE);
        let (today, _) = self.today(lane.expect("it is always configured"));
        if let Some(part) = self.stepped().buffer().begin_part(today) {
            self.parts.retain(|before| before.id != part.id);
            self.parts.push(part);
        }
    }

    /// All that have or had something.
    fn rows(&mut self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.stepped().all_lanes().map(row_of).collect();
        let parts: Vec<Row> = self.parts.iter().map(row_of).filter(|part| !rows.contains(part)).collect();
        rows.extend(parts);
        rows
    }

    fn chunk(&mut self, row: Row) -> Chunk {
        let (stream, number, _) = LANES[row.1];
        let today = self.today(row);
        let encoding = self.settings.streams[stream].encoding;
        let run = RunId(self.run);
        let readings = 1 + self.dice.roll(8);
        let next_seq = self.next_seq.entry((stream.to_owned(), number)).or_default();
        let first_seq = *next_seq;
        *next_seq += readings;
        let mut data = Vec::new();
        for seq in first_seq..first_seq + readings {
            let topic = format!("t/{}", self.dice.roll(3));
            let len = if self.dice.roll(10) == 0 { 6000 } else { 400 } * if self.plan.bounds { 1 } else { 4 };
            let payload = "x".repeat(usize::try_from(self.dice.roll(len)).unwrap());
            let envelope = Envelope::new(encoding, "gw", run, &format!("{stream}/{number}"), "broker", &topic);
            let members = Members { seq, arrived: Timestamp(7), unsure: self.unsure, dup: false, previous: None };
            let mut record = Vec::new();
            let reader = PayloadReader { format: PayloadFormat::Text, timestamp: None };
            envelope.encode(&mut record, &members, payload.as_bytes(), &reader);
            put_record(&mut data, 0, HashKeyUse::First, &record);
            self.ordinal += 1;
            let appended = Appended { name: (run, seq), ordinal: self.ordinal, data: record.into() };
            self.event(Event::Appended(today, appended));
        }
        self.stepped().status.received(stream, readings);
        let unsure = self.unsure.then(|| belief(self.run, Trust::Wrong).unsure()).flatten();
        let data = data.into();
        Chunk { lane: row.0, readings, run, first_seq, arrived: Timestamp(7), unsure, notice: false, keys: None, data }
    }

    /// What is first in a lane is sent, and confirmed, in part or not at all, or called invalid.
    pub(super) fn drains(&mut self) {
        let lanes = self.rows();
        let row = lanes[usize::try_from(self.dice.roll(lanes.len() as u64)).unwrap()];
        let (id, _) = row;
        let at_most = self.dice.roll(20_000);
        let taken = self.stepped().answers(async move |buffer| buffer.oldest(id, at_most).await);
        assert!(taken.is_ok() || self.recording.tape().has_failed(), "{taken:?}");
        let Ok(Some(Taken { pieces, .. })) = taken else { return };
        self.settled(); // what is on its way keeps others from giving way
        match self.dice.roll(20) {
            0..3 => self.stepped().buffer().release(id),
            3..7 => self.confirms_some(row, &pieces[0]),
            7..10 if pieces[0].readings > 0 => {
                let readings = items(&pieces[0].data).into_iter().filter_map(Item::reading);
                let name = readings.map(|(name, _)| name).next().expect("it has readings");
                let aside = self.stepped().answers(async move |buffer| buffer.set_aside(id, "invalid".into()).await);
                assert!(matches!(aside, Ok(true)) || self.recording.tape().has_failed(), "{aside:?}");
                if aside.is_ok() {
                    self.event(Event::SetAside(row, name));
                }
            }
            _ => self.confirms(row, &pieces),
        }
    }

    fn confirms(&mut self, row: Row, pieces: &[Piece]) {
        let readings = pieces.iter().map(|piece| piece.readings).sum();
        let bytes = pieces.iter().map(|piece| piece.data.len() as u64).sum();
        let last = pieces.last().expect("what was taken has pieces");
        let up_to = Position { number: last.position.number + 1, ..Position::default() };
        for piece in pieces {
            items(&piece.data).into_iter().for_each(|item| self.event(Event::Confirmed(row, item)));
        }
        self.stepped().buffer().forget(now(), row.0, LANES[row.1].0, &Delivered { readings, bytes, up_to });
    }

    fn confirms_some(&mut self, row: Row, piece: &Piece) {
        let at_most = self.dice.roll(piece.data.len() as u64);
        let run = cut(&piece.data, usize::try_from(at_most).unwrap(), 1).unwrap();
        if run.len == piece.data.len() {
            return self.confirms(row, std::slice::from_ref(piece));
        }
        let confirmed = items(&piece.data.slice(..run.len));
        let readings = confirmed.iter().filter(|item| matches!(item, Item::Reading(..))).count() as u64;
        confirmed.into_iter().for_each(|item| self.event(Event::Confirmed(row, item)));
        let Position { number, offset, readings: before } = piece.position;
        let up_to = Position { number, offset: offset + run.len as u64, readings: before + readings };
        self.stepped().buffer().forget(now(), row.0, LANES[row.1].0, &Delivered { readings, bytes: run.len as u64, up_to });
    }

    fn sets_the_clock(&mut self) {
        self.unsure = !self.unsure;
        let belief = belief(self.run, if self.unsure { Trust::Wrong } else { Trust::Right });
        self.stepped().buffer().clock_is(now(), belief);
    }
}

fn belief(run: u64, trust: Trust) -> Belief {
    Belief { boot: Boot(run), set: Setting(60_000_000), trust }
}

/// What the broker may repeat of the reading.
pub(super) fn fingerprint(ordinal: Ordinal) -> Fingerprint {
    Fingerprint { packet: 1, hash: u32::try_from(ordinal).unwrap() }
}
