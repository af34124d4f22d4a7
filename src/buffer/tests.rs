//! The buffer on a real file, opened and closed as an agent does.

mod aside;
mod full;

use std::{fs, path::Path};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    clock::Unsure,
    config::{DrainOrder, WhenFull},
    reading::Timestamp,
    record::RunId,
    status::{Reason, Status},
};

const SOURCE: SourceId = SourceId(0);

mod migration;
mod parts;
pub(super) mod power_cuts;
mod salvage;
mod sectors;
mod time;
mod transactions;

struct Bench {
    dir: TempDir,
    settings: BufferSettings,
    layout: Layout,
    status: Status,
    opened: Option<Opened>,
    seq: u64,
    unsure: Option<Unsure>,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let settings = BufferSettings {
            path: dir.path().join("buffer.db"),
            hold: Duration::ZERO,
            memory: 1 << 20,
            max_size: 8 << 20,
            streams: [("s".to_owned(), StreamRules::default())].into(),
            keep_free: 0,
            device: "gw".into(),
            windows: [("broker".to_owned(), (SOURCE, 20))].into(),
            world: World::default(),
        };
        Self { dir, settings, layout: layout("s"), status: Status::default(), opened: None, seq: 0, unsure: None }.open()
    }

    fn open(mut self) -> Self {
        self.status = Status::default();
        self.seq = 0;
        self.opened = Some(Buffer::open(&self.settings, std::slice::from_ref(&self.layout), self.status.clone()).unwrap());
        self
    }

    async fn close(mut self) -> Self {
        let Opened { buffer, closed, .. } = self.opened.take().unwrap();
        drop(buffer);
        closed.await.unwrap_err();
        self
    }

    fn buffer(&self) -> &Buffer {
        &self.opened.as_ref().unwrap().buffer
    }

    fn lane(&self) -> LaneId {
        self.opened.as_ref().unwrap().lanes[0].0.id
    }

    /// Appends one chunk with one reading, and waits until it is safe.
    async fn holds(&mut self, data: impl Into<Bytes>) {
        let (publish, mut safe) = watch::channel(0);
        self.buffer().publish_receipts(SOURCE, publish);
        self.append(data);
        safe.wait_for(|safe| *safe == self.seq).await.unwrap();
    }

    fn append(&mut self, data: impl Into<Bytes>) {
        let chunk = Chunk { first_seq: self.seq, unsure: self.unsure, data: data.into(), ..chunk(self.lane()) };
        self.seq += 1;
        let fingerprints = vec![Fingerprint { packet: 9, hash: u32::try_from(self.seq).unwrap() }];
        let marks = vec![Mark { source: SOURCE, up_to: self.seq, fingerprints, repeatable: 0 }];
        self.status.received("s", 1);
        self.buffer().append(Group { chunks: vec![chunk], marks, since: Instant::now() });
    }

    /// Takes everything that waits in today's lane, in order.
    async fn drained(&self) -> Vec<Bytes> {
        self.drained_of(self.lane()).await
    }

    async fn drained_of(&self, lane: LaneId) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(taken) = self.buffer().oldest(lane, 1 << 20).await.unwrap() {
            all.extend(self.forgets(lane, taken));
        }
        all
    }

    /// What was taken is confirmed.
    fn forgets(&self, lane: LaneId, taken: Taken) -> impl Iterator<Item = Bytes> {
        let bytes = taken.pieces.iter().map(|piece| piece.data.len() as u64).sum();
        let readings = taken.pieces.iter().map(|piece| piece.readings).sum();
        let up_to = Position { number: taken.pieces.last().unwrap().position.number + 1, ..Position::default() };
        self.buffer().forget(Instant::now(), lane, "s", &Delivered { readings, bytes, up_to });
        taken.pieces.into_iter().filter(|piece| piece.readings > 0).map(|piece| piece.data)
    }

    fn ledger_balances(&self) {
        let ledger = self.status.lock().ledger_total();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!(ledger.buffered, self.buffer().readings("s"));
    }
}

fn layout(stream: &str) -> Layout {
    Layout { stream: stream.into(), number: 0, of: 1, partition_key: "k".into(), hash_key: Some(5), template: None }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::test]
async fn what_is_safe_is_there_after_a_restart_under_its_old_name() {
    let mut bench = Bench::new();
    bench.holds("one").await;
    bench.holds("two").await;

    let bench = bench.close().await.open();

    let opened = bench.opened.as_ref().unwrap();
    assert_eq!(opened.lanes[0].1, Some(Previous { run: RunId(3), seq: 1 }));
    assert_eq!(opened.known["broker"].iter().map(|known| known.hash).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bench.buffer().waiting(bench.lane()), Waiting { readings: 2, bytes: 6, since: None, expected: false });
    assert_eq!(bench.drained().await, ["one", "two"]);
    bench.ledger_balances();
}

#[tokio::test]
async fn a_lane_that_is_asked_for_no_bytes_gives_its_first_chunk_and_forgets_none() {
    let mut bench = Bench::new();
    bench.holds("one").await;
    bench.holds("two").await;
    for _ in 0..2 {
        let taken = bench.buffer().oldest(bench.lane(), 0).await.unwrap().unwrap();
        assert_eq!(taken.pieces.iter().map(|piece| &piece.data[..]).collect::<Vec<_>>(), [b"one"]);
        bench.buffer().release(bench.lane());
        bench = bench.close().await.open(); // from memory, then from the disk
    }
    assert_eq!(bench.drained().await, ["one", "two"]);
}

#[tokio::test]
async fn a_drained_lane_remembers_its_last_name_and_reuses_no_number() {
    let mut bench = Bench::new();
    bench.holds("one").await;
    bench.drained().await;
    bench.holds("two").await;
    bench.drained().await;

    let mut bench = bench.close().await.open();

    assert_eq!(bench.opened.as_ref().unwrap().lanes[0].1, Some(Previous { run: RunId(3), seq: 1 }));
    bench.holds("three").await;
    let taken = bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap();
    assert_eq!(taken.pieces[0].position.number, 2);
}

#[tokio::test]
async fn a_file_that_is_drained_as_it_fills_does_not_grow() {
    let mut bench = Bench::new();
    let mut sizes = Vec::new();
    for _ in 0..6 {
        for _ in 0..40 {
            bench.holds(vec![1; 50_000]).await;
            bench.drained().await;
        }
        sizes.push(size(&bench.settings.path) + size(&bench.dir.path().join("buffer.db-wal")));
    }
    assert!(sizes[5] <= sizes[1], "{sizes:?}");
}

#[tokio::test]
async fn a_full_buffer_drops_the_oldest_and_the_ledger_says_how_many() {
    let mut bench = Bench::new();
    for n in 0..200_u8 {
        bench.holds(vec![n; 100_000]).await;
    }
    let files = size(&bench.settings.path) + size(&bench.dir.path().join("buffer.db-wal"));
    assert!(files <= bench.settings.max_size, "{files}");
    assert!(bench.status.lock().problems["overflow"].remedy.contains("raise max_size"));
    bench.ledger_balances();
    let dropped = bench.status.lock().ledger_total().dropped.get(Reason::DropOldest);

    let bench = bench.close().await.open();

    let kept: Vec<u8> = bench.drained().await.iter().map(|data| data[0]).collect();
    assert!(dropped > 100, "{dropped}");
    assert_eq!(kept, (u8::try_from(dropped).unwrap()..200).collect::<Vec<_>>(), "the youngest stay, without a gap");
    bench.ledger_balances();
}

#[tokio::test]
async fn what_is_on_its_way_is_not_dropped_and_still_counts_after_a_restart() {
    let mut bench = Bench::new();
    bench.holds(vec![0; 100_000]).await;
    bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap();
    for n in 1..200_u8 {
        bench.holds(vec![n; 100_000]).await;
    }
    let waiting = bench.buffer().waiting(bench.lane());

    let bench = bench.close().await.open();

    let again = bench.buffer().waiting(bench.lane());
    assert_eq!((again.readings, again.bytes), (waiting.readings, waiting.bytes));
    let kept = bench.drained().await;
    assert_eq!((kept[0][0], kept.len() as u64), (0, waiting.readings));
    bench.ledger_balances();
}

#[tokio::test]
async fn a_stream_that_blocks_keeps_everything_and_has_no_room() {
    let mut bench = Bench::new().close().await;
    bench.settings.streams = [("s".to_owned(), StreamRules { when_full: WhenFull::Block, ..StreamRules::default() })].into();
    let mut bench = bench.open();
    let mut given = 0_u64;
    while bench.buffer().has_room(["s"].into_iter(), 0) || bench.buffer().is_writing() && given < 100 {
        bench.append(vec![7; 100_000]);
        given += 1;
        bench.buffer().settled().await;
    }
    assert!(given > 50, "{given}");
    bench.ledger_balances();

    assert_eq!(bench.drained().await.len() as u64, given);
    assert!(bench.buffer().has_room(["s"].into_iter(), 0));
    bench.ledger_balances();
}

#[tokio::test]
async fn a_stream_over_its_own_bound_loses_its_own_oldest() {
    let mut bench = Bench::new().close().await;
    bench.settings.streams = [("s".to_owned(), StreamRules { max_size: Some(1_000_000), ..StreamRules::default() })].into();
    let mut bench = bench.open();
    for n in 0..20_u8 {
        bench.holds(vec![n; 100_000]).await;
    }
    bench.ledger_balances();
    let waiting = bench.buffer().waiting(bench.lane());
    assert!((900_000..=1_100_000).contains(&waiting.bytes), "{waiting:?}");
}

#[tokio::test]
async fn a_flipped_bit_costs_its_chunk_and_nothing_else() {
    let mut bench = Bench::new();
    for text in ["before", "damaged-in-the-middle", "behind"] {
        bench.holds(text.repeat(100)).await;
    }
    let bench = bench.close().await;
    let mut file = fs::read(&bench.settings.path).unwrap();
    let at = file.windows(20).position(|bytes| bytes == b"damaged-in-the-middl").unwrap();
    file[at] ^= 1;
    fs::write(&bench.settings.path, file).unwrap();

    let bench = bench.open();

    assert_eq!(bench.drained().await, ["before".repeat(100), "behind".repeat(100)]);
    assert_eq!(bench.status.lock().ledger_total().dropped.get(Reason::Corrupt), 1);
    bench.ledger_balances();
}

#[tokio::test]
async fn a_lane_with_another_layout_is_another_lane_and_the_old_one_is_found() {
    let mut bench = Bench::new();
    bench.holds("old").await;
    let bench = bench.close().await;

    let changed = Layout { of: 2, ..layout("s") };
    let opened = Buffer::open(&bench.settings, &[changed], Status::default()).unwrap();

    assert_eq!(opened.older.iter().map(|lane| &lane.layout).collect::<Vec<_>>(), [&layout("s")]);
    assert_eq!(opened.lanes[0].1, Some(Previous { run: RunId(3), seq: 0 }), "`prev` leads from the old one to the new one");
}

#[tokio::test]
async fn a_second_process_and_a_foreign_file_are_refused() {
    let bench = Bench::new();
    let again = Buffer::open(&bench.settings, &[], Status::default());
    assert!(matches!(again, Err(BufferError::InUse { .. })));

    let bench = bench.close().await;
    let later = rusqlite::Connection::open(&bench.settings.path).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    let before = fs::read(&bench.settings.path).unwrap();
    assert!(matches!(Buffer::open(&bench.settings, &[], Status::default()), Err(BufferError::Foreign { .. })));
    assert_eq!(fs::read(&bench.settings.path).unwrap(), before, "untouched");

    fs::write(&bench.settings.path, [0x55; 5000]).unwrap();
    assert!(Buffer::open(&bench.settings, &[], Status::default()).is_ok(), "what is no database at all was ours");
}

#[tokio::test]
async fn prev_names_the_latest_reading_when_a_layout_comes_back() {
    let mut bench = Bench::new();
    bench.holds("first").await;
    let mut bench = bench.close().await;
    bench.layout = Layout { of: 2, ..layout("s") };
    let mut bench = bench.open();
    bench.holds("second").await;
    bench.holds("third").await;
    let mut bench = bench.close().await;
    bench.layout = layout("s");

    let mut bench = bench.open();

    assert_eq!(bench.opened.as_ref().unwrap().lanes[0].1, Some(Previous { run: RunId(3), seq: 1 }));
    bench.holds("fourth").await;
    let bench = bench.close().await.open();
    assert_eq!(bench.opened.as_ref().unwrap().lanes[0].1, Some(Previous { run: RunId(3), seq: 0 }), "it is the last one again");
}

#[tokio::test]
async fn a_clean_stop_remembers_names_that_were_never_written() {
    let mut bench = Bench::new().close().await;
    bench.settings.hold = Duration::from_hours(1);
    let mut bench = bench.open();
    bench.append("one");
    bench.append("two");
    assert_eq!(bench.drained().await.len(), 2);

    let bench = bench.close().await.open();

    assert_eq!(bench.opened.as_ref().unwrap().lanes[0].1, Some(Previous { run: RunId(3), seq: 1 }));
    assert_eq!(bench.buffer().waiting(bench.lane()), Waiting::default());
}

pub(super) fn chunk(lane: LaneId) -> Chunk {
    Chunk {
        lane,
        readings: 1,
        run: RunId(3),
        first_seq: 0,
        arrived: Timestamp(1),
        unsure: None,
        notice: false,
        keys: None,
        data: "abc".into(),
    }
}

#[tokio::test]
async fn a_smaller_bound_is_reached_in_a_few_transactions_and_the_file_shrinks() {
    let mut bench = Bench::new().close().await;
    bench.settings.max_size = 128 << 20;
    let mut bench = bench.open();
    for n in 0..110_u8 {
        bench.holds(vec![n; 800_000]).await;
    }
    let mut bench = bench.close().await;
    bench.settings.max_size = 16 << 20;
    let mut bench = bench.open();

    bench.holds("another").await;
    bench.holds("and another").await;

    assert!(bench.status.lock().buffer.commit.count < 10);
    bench.ledger_balances();
    let bench = bench.close().await;
    assert!(size(&bench.settings.path) <= 16 << 20, "{}", size(&bench.settings.path));
}
