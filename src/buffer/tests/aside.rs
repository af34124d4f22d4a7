//! Readings that are set aside, on a real file.

use super::*;
use crate::record::kpl;

/// Several readings as one chunk of KPL fields.
fn fields(readings: &[&str]) -> Bytes {
    let mut data = Vec::new();
    for reading in readings {
        kpl::put_record(&mut data, 0, kpl::HashKeyUse::None, reading.as_bytes());
    }
    data.into()
}

/// The texts of all readings that wait, in order, without forgetting any.
async fn texts(bench: &Bench) -> Vec<String> {
    let mut texts = Vec::new();
    for data in bench.drained().await {
        let mut rest = &data[..];
        while !rest.is_empty() {
            let record = kpl::first_record(rest).unwrap();
            texts.push(String::from_utf8(record.data.to_vec()).unwrap());
            rest = &rest[record.field_len..];
        }
    }
    texts
}

/// Seq, reason and data of every row of `rejected`, read by another connection.
fn rejected(bench: &Bench) -> Vec<(u64, String, String)> {
    let connection = rusqlite::Connection::open(&bench.settings.path).unwrap();
    let mut rows = connection.prepare("SELECT seq, reason, CAST(data AS TEXT) FROM rejected ORDER BY id").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

impl Bench {
    /// One chunk of several readings, in memory.
    pub(super) fn appends(&mut self, readings: &[&str]) {
        let n = readings.len() as u64;
        let chunk = Chunk {
            lane: self.lane(),
            readings: n,
            run: RunId(3),
            first_seq: self.seq,
            arrived: Timestamp(1),
            unsure: None,
            notice: false,
            keys: None,
            data: fields(readings),
        };
        self.seq += n;
        self.status.received("s", n);
        let marks = vec![Mark { source: SOURCE, up_to: self.seq, fingerprints: Vec::new(), repeatable: 0 }];
        self.buffer().append(Group { chunks: vec![chunk], marks, since: Instant::now() });
    }

    /// What a power cut would leave of it, opened.
    fn after_a_power_cut(&self) -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["buffer.db", "buffer.db-wal"] {
            fs::copy(self.dir.path().join(name), dir.path().join(name)).unwrap();
        }
        let settings = BufferSettings { path: dir.path().join("buffer.db"), ..self.settings.clone() };
        Self { dir, settings, layout: self.layout.clone(), status: Status::default(), opened: None, seq: 0, unsure: None }.open()
    }

    /// Confirms the first `readings` of the lane, all of the first chunk.
    async fn confirms(&self, readings: u64) {
        let taken = self.buffer().oldest(self.lane(), 1).await.unwrap().unwrap();
        let piece = &taken.pieces[0];
        let bytes = kpl::cut(&piece.data, 0, readings).unwrap().len as u64;
        let Position { number, offset, readings: before } = piece.position;
        let up_to = if piece.readings == readings {
            Position { number: number + 1, ..Position::default() }
        } else {
            Position { number, offset: offset + bytes, readings: before + readings }
        };
        self.buffer().forget(Instant::now(), self.lane(), "s", &Delivered { readings, bytes, up_to });
    }

    /// Waits until everything that was appended is on the disk.
    pub(super) async fn is_written(&self) {
        let (publish, mut safe) = watch::channel(0);
        self.buffer().publish_receipts(SOURCE, publish);
        // The watermark rises with the next commit only, which may have been before we asked.
        while self.buffer().lock().pool.unwritten_readings() > 0 {
            tokio::select! {
                changed = safe.changed() => changed.unwrap(),
                () = self.buffer().settled() => {}
            }
        }
    }

    async fn sets_the_head_aside(&self) {
        self.buffer().oldest(self.lane(), 1).await.unwrap().unwrap();
        assert!(self.buffer().set_aside(self.lane(), "HTTP 400 ValidationException: so it is".into()).await.unwrap());
    }
}

/// Where a chunk lies when one of its readings is set aside.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lies {
    InMemory,
    InBoth,
    OnDisk,
}

#[tokio::test]
async fn a_reading_that_is_set_aside_is_gone_from_its_chunk_and_kept_for_a_person_across_a_restart() {
    for lies in [Lies::InMemory, Lies::InBoth, Lies::OnDisk] {
        let mut bench = Bench::new().close().await;
        bench.settings.hold = if lies == Lies::InMemory { Duration::from_hours(1) } else { Duration::ZERO };
        let mut bench = bench.open();
        bench.appends(&["a", "b", "bad", "c"]);
        bench.appends(&["d"]);
        if lies != Lies::InMemory {
            bench.is_written().await;
        }
        if lies == Lies::OnDisk {
            bench = bench.close().await.open();
        }
        bench.confirms(2).await;

        bench.sets_the_head_aside().await;
        bench.ledger_balances();
        assert_eq!(bench.status.lock().ledger_total().rejected.get(Reason::Refused), 1, "{lies:?}");

        let bench = bench.close().await;
        assert_eq!(rejected(&bench), [(2, "HTTP 400 ValidationException: so it is".to_owned(), "bad".to_owned())], "{lies:?}");
        let bench = bench.open();
        assert_eq!(bench.status.lock().ledger_total().received, 2, "{lies:?}: nothing that was delivered before it is sent again");
        assert_eq!(bench.status.lock().buffer.set_aside, 1);
        assert!(bench.status.lock().problems["set aside"].what.starts_with("1 readings"));
        assert_eq!(texts(&bench).await, ["c", "d"], "{lies:?}");
        bench.ledger_balances();
    }
}

#[tokio::test]
async fn chunks_that_were_delivered_before_a_reading_that_is_set_aside_go_with_it() {
    let mut bench = Bench::new();
    bench.appends(&["a"]);
    bench.appends(&["b", "bad", "c"]);
    bench.is_written().await;
    bench.confirms(1).await;
    bench.confirms(1).await;

    bench.sets_the_head_aside().await;

    let cut = bench.after_a_power_cut();
    cut.ledger_balances();
    assert_eq!(cut.status.lock().ledger_total().received, 1);
    assert_eq!(texts(&cut).await, ["c"]);
    cut.ledger_balances();
}

#[tokio::test]
async fn a_reading_that_is_set_aside_and_was_the_last_of_its_lane_leaves_its_name_behind() {
    let mut bench = Bench::new();
    bench.appends(&["bad"]);
    bench.is_written().await;

    bench.sets_the_head_aside().await;

    bench.ledger_balances();
    assert!(bench.buffer().oldest(bench.lane(), 1).await.unwrap().is_none());
    let mut bench = bench.close().await.open();
    assert_eq!(bench.opened.as_ref().unwrap().lanes[0].1, Some(Previous { run: RunId(3), seq: 0 }));
    bench.appends(&["next"]);
    assert_eq!(texts(&bench).await, ["next"]);
    assert_eq!(bench.status.lock().buffer.set_aside, 1);
}

#[tokio::test]
async fn a_reading_in_memory_that_is_set_aside_is_safe_with_the_rest_of_its_chunk() {
    let mut bench = Bench::new().close().await;
    bench.settings.hold = Duration::from_hours(1);
    let mut bench = bench.open();
    let (publish, mut safe) = watch::channel(0);
    bench.buffer().publish_receipts(SOURCE, publish);
    bench.appends(&["bad", "good"]);
    assert_eq!(*safe.borrow_and_update(), 0);

    bench.sets_the_head_aside().await;

    assert_eq!(*safe.borrow_and_update(), 2, "both are on the disk, one of them aside");
    assert_eq!(texts(&bench).await, ["good"]);
}

#[tokio::test]
async fn a_reading_that_is_set_aside_from_memory_leaves_its_name_behind_through_a_power_cut() {
    let mut bench = Bench::new().close().await;
    bench.settings.hold = Duration::from_hours(1);
    let mut bench = bench.open();
    bench.appends(&["sent"]);
    bench.appends(&["bad"]);
    bench.confirms(1).await;

    bench.sets_the_head_aside().await;

    let cut = bench.after_a_power_cut();
    assert_eq!(cut.opened.as_ref().unwrap().lanes[0].1, Some(Previous { run: RunId(3), seq: 1 }));
}

#[tokio::test]
async fn of_what_is_set_aside_the_oldest_make_room_and_are_counted() {
    let mut bench = Bench::new();
    let long = "x".repeat(300_000);
    for n in 0..6 {
        bench.appends(&[&format!("{n}{long}"), "good"]);
        bench.sets_the_head_aside().await;
        bench.confirms(1).await;
    }

    bench.ledger_balances();
    let buffer = bench.status.lock().buffer.clone();
    assert_eq!((buffer.set_aside, buffer.set_aside_gone), (3, 3));
    assert!(buffer.set_aside_bytes <= 1 << 20);
    let bench = bench.close().await;
    assert!(rejected(&bench).iter().map(|(seq, ..)| *seq).eq([6, 8, 10]));
}

#[tokio::test]
async fn nothing_is_set_aside_when_nothing_is_on_its_way() {
    let mut bench = Bench::new();
    bench.appends(&["a"]);
    assert!(!bench.buffer().set_aside(bench.lane(), "why".into()).await.unwrap());
    assert_eq!(texts(&bench).await, ["a"]);
    bench.ledger_balances();
}

#[test]
fn the_notice_in_front_of_a_reading_that_is_set_aside_stays() {
    let gap = store::Gap { readings: 6, bytes: 90, last: 9, why: Reason::Thin, level: 1, notice: true };
    let of = |readings, notice, texts: &[&str]| Chunk {
        lane: LaneId(1),
        readings,
        run: RunId(3),
        first_seq: 0,
        arrived: Timestamp(1),
        unsure: None,
        notice,
        keys: None,
        data: fields(texts),
    };
    let chunk = of(3, true, &["notice", "bad", "b", "c"]);
    let earlier = store::Earlier { readings: 100, bytes: 1000 };
    let cut = |chunk: &Chunk, position: Position| {
        pool::Cut::new(&pool::Whole { chunk: chunk.clone(), earlier, gap: Some(gap) }, position, "so it is")
    };
    let field = fields(&["bad"]).len() as u64;

    let first = cut(&chunk, Position::default()).unwrap();
    let (rest, before) = first.rest.unwrap();
    assert_eq!((first.reading.data, first.readings, first.gap), ("bad".into(), 1, Some(gap)));
    assert_eq!((rest.data, rest.readings, rest.notice), (fields(&["notice", "b", "c"]), 2, true));
    assert_eq!(before, store::Earlier { readings: 101, bytes: 1000 + field });

    // Where it is delivered already, what it says is counted as gone before what is left.
    let offset = (fields(&["notice", "a"]).len()) as u64;
    let chunk = of(3, true, &["notice", "a", "bad", "c"]);
    let second = cut(&chunk, Position { number: 0, offset, readings: 1 }).unwrap();
    let (rest, before) = second.rest.unwrap();
    assert_eq!((rest.data, rest.readings, rest.notice), (fields(&["c"]), 1, false));
    assert_eq!(before, store::Earlier { readings: 108, bytes: 1000 + offset + field + 90 });
    assert_eq!(second.gap.map(|gap| (gap.readings, gap.last)), Some((0, 9)));

    let alone = cut(&of(0, true, &["notice"]), Position::default()).unwrap();
    assert_eq!((alone.readings, alone.rest.is_none()), (0, true), "it is no reading");
}

#[tokio::test]
async fn an_invalid_reading_behind_others_that_gave_way_is_set_aside_too() {
    let mut bench = Bench::new().close().await;
    let rules = StreamRules { when_full: WhenFull::Thin, max_size: Some(200_000), ..StreamRules::default() };
    bench.settings.streams = [("s".to_owned(), rules)].into();
    let mut bench = bench.open();
    for n in 0..60 {
        bench.holds(fields(&[&format!("{n} {}", "x".repeat(10_000))])).await;
    }
    let first = bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap().pieces.remove(0);
    assert!(first.position.number > 0, "the first rows are gone");

    assert!(bench.buffer().set_aside(bench.lane(), "too odd".into()).await.unwrap());

    bench.ledger_balances();
    let bench = bench.close().await;
    assert_eq!(rejected(&bench).len(), 1);
    let bench = bench.open();
    bench.drained().await;
    bench.ledger_balances();
}

/// Whether it can be taken apart is asked of whoever sends it; the buffer asks that of another one.
#[tokio::test]
async fn a_chunk_that_is_no_readings_is_set_aside_as_a_whole_when_another_one_is_and_waits_until_then() {
    let mut bench = Bench::new();
    bench.holds("noise").await;
    let taken = async |bench: &Bench| bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap().pieces.remove(0).data;
    assert_eq!(taken(&bench).await, "noise");
    assert!(!bench.buffer().set_chunk_aside(bench.lane()).await.unwrap(), "it may be us");
    assert_eq!(taken(&bench).await, "noise");
    bench.buffer().release(bench.lane());

    let reading = fields(&["a reading"]);
    bench.holds(reading.clone()).await;
    assert_eq!(taken(&bench).await, "noise");
    assert!(bench.buffer().set_chunk_aside(bench.lane()).await.unwrap());
    bench.ledger_balances();

    let bench = bench.close().await.open();
    assert_eq!(bench.drained().await, [reading]);
    bench.ledger_balances();
    let bench = bench.close().await;
    assert_eq!(rejected(&bench), [(0, "the bytes are what was written, and no readings".to_owned(), "noise".to_owned())]);
}

/// Readings in the file of the next tests: enough for a tree of two levels.
const REFUSED: u64 = 200;

/// A closed file with [`REFUSED`] readings that were refused, and the page where the tree of those begins.
async fn with_refused() -> (Bench, u64) {
    let bench = Bench::new().close().await;
    let connection = rusqlite::Connection::open(&bench.settings.path).unwrap();
    for seq in 0..REFUSED {
        let data = format!("refused reading {seq:03} {}", "x".repeat(300)).into_bytes();
        let row = (seq.cast_signed(), store::checksum(None, &data), data);
        let sql = "INSERT INTO rejected (lane, run, seq, ts, at, reason, crc, data) VALUES (1, 7, ?, 1, 2, 'too odd', ?, ?)";
        connection.execute(sql, row).unwrap();
    }
    let root = connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'rejected'", [], |row| row.get(0)).unwrap();
    connection.close().unwrap();
    (bench, root)
}

/// Fills page `number` of the file with noise.
fn spoil(bench: &Bench, number: u64) {
    let mut file = fs::read(&bench.settings.path).unwrap();
    let at = usize::try_from(number - 1).unwrap() * 2048;
    file[at..at + 2048].fill(0xA7);
    fs::write(&bench.settings.path, file).unwrap();
}

#[tokio::test]
async fn a_damaged_page_of_what_was_refused_costs_what_is_on_it_and_is_told() {
    let (bench, root) = with_refused().await;
    let file = fs::read(&bench.settings.path).unwrap();
    let at = file.windows(19).position(|bytes| bytes == b"refused reading 100").unwrap() as u64;
    let cold = || cold::ColdFile::open(&bench.settings.path).unwrap();
    assert_eq!(cold().rejected_readings(), (REFUSED, cold::Unread::default()));
    assert!(cold().unread().is_empty(), "all is in order");

    spoil(&bench, at / 2048 + 1);
    let (rejected, unread) = cold().rejected();
    assert_eq!(unread, cold::Unread { pages: 1, rows: 0 });
    assert!((REFUSED - 6..REFUSED).contains(&(rejected.len() as u64)), "{}", rejected.len());
    assert_eq!(cold().unread(), [("rejected".to_owned(), unread)]);
    let found = rejected.len() as u64;

    // Where the tree begins nothing is lost but the way.
    spoil(&bench, root);
    let (rejected, unread) = cold().rejected();
    assert_eq!((rejected.len() as u64, unread), (found, cold::Unread { pages: 1, rows: 0 }));
    assert!(rejected.is_sorted_by(|one, next| one.seq < next.seq), "each once, and in order");
    assert!(rejected.iter().all(|refused| refused.data.is_some()));
}

#[tokio::test]
async fn a_file_with_refused_readings_that_can_not_be_read_is_never_called_one_that_may_be_deleted() {
    let (mut bench, root) = with_refused().await;
    let says = |bench: &Bench| bench.status.lock().problems.values().map(|problem| problem.remedy.clone()).collect::<Vec<_>>();
    spoil(&bench, root);
    // Which makes a file that has to be set aside.
    let mut file = fs::read(&bench.settings.path).unwrap();
    file[..100].fill(0xA7);
    fs::write(&bench.settings.path, file).unwrap();

    bench = bench.open();
    bench.salvages_texts().await;

    let remedies = says(&bench);
    assert!(remedies.iter().any(|remedy| remedy.contains("there may be refused readings in")), "{remedies:?}");
    assert!(!remedies.iter().any(|remedy| remedy.contains("may be deleted")), "{remedies:?}");
}
