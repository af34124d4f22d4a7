//! Every kind of damage: what can be read comes back under its name and in order, and the rest is counted.

use super::{cold::beside, *};
use crate::record::kpl::{HashKeyUse, first_record, put_record};

mod again;
mod log;
mod rows;

/// Chunks in the damaged file: enough for a tree of three levels.
pub(super) const CHUNKS: u64 = 600;
const PAGE: usize = 2048;

impl Bench {
    /// A buffer with [`CHUNKS`] readings of 300 bytes and more, closed in order.
    pub(super) async fn filled() -> Self {
        let mut bench = Bench::new();
        let (publish, mut safe) = watch::channel(0);
        bench.buffer().publish_receipts(SOURCE, publish);
        for n in 0..CHUNKS {
            bench.append(text(n));
        }
        safe.wait_for(|safe| *safe == CHUNKS).await.unwrap();
        bench.close().await
    }

    /// The same as a power cut leaves it: most of it is in the log.
    pub(super) async fn killed() -> Self {
        let mut bench = Bench::new().close().await;
        bench.settings.max_size = 256 << 20;
        let mut bench = bench.open();
        bench.holds(text(0)).await;
        // What is in the database before the rest comes.
        let mut bench = bench.close().await.open();
        bench.seq = 1;
        for n in 1..CHUNKS {
            bench.append(text(n));
            if n % 20 == 0 {
                bench.buffer().write();
                bench.is_written().await;
            }
        }
        bench.buffer().write();
        bench.is_written().await;
        let mut killed = Bench::new().close().await;
        for suffix in ["", "-wal"] {
            fs::copy(beside(&bench.settings.path, suffix), beside(&killed.settings.path, suffix)).unwrap();
        }
        killed.settings.max_size = bench.settings.max_size;
        killed
    }

    async fn drained_until_it_ends(&self) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Ok(Some(taken)) = self.buffer().oldest(self.lane(), 1).await {
            all.extend(self.forgets(self.lane(), taken));
        }
        all
    }

    fn damages(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut file = fs::read(&self.settings.path).unwrap();
        damage(&mut file);
        fs::write(&self.settings.path, file).unwrap();
    }

    /// Waits for the end of the salvage, and drains: the numbers of the readings that came.
    async fn salvages(&self) -> Vec<u64> {
        self.salvages_texts().await.iter().map(|data| number(data)).collect()
    }

    /// The same for readings of any kind.
    pub(super) async fn salvages_texts(&self) -> Vec<Bytes> {
        self.salvage_ends().await;
        self.ledger_balances();
        let mut came = Vec::new();
        for lane in self.opened.as_ref().unwrap().older.clone() {
            came.extend(self.drained_of(lane.id).await);
        }
        came.extend(self.drained_of(self.lane()).await);
        came
    }

    async fn salvage_ends(&self) {
        loop {
            let unfinished = self.status.lock().problems.values().any(|problem| problem.what.ends_with("so far"));
            if !unfinished {
                return;
            }
            self.buffer().appended().await;
        }
    }

    fn lost(&self) -> u64 {
        self.status.lock().ledger_total().dropped.get(Reason::Corrupt)
    }

    fn aside(&self) -> Vec<std::path::PathBuf> {
        store::quarantined(&self.settings.path).unwrap()
    }
}

/// A chunk of one reading, as ingest makes it.
fn text(n: u64) -> Vec<u8> {
    text_of(n, 300 + usize::try_from(n % 7).unwrap() * 700)
}

/// The same with a payload of so many bytes.
pub(super) fn text_of(n: u64, bytes: usize) -> Vec<u8> {
    let value = "x".repeat(bytes);
    let reading =
        format!("{{\"v\":1,\"dev\":\"gw\",\"run\":\"0000000000000003\",\"lane\":\"s/0\",\"seq\":{n},\"val\":\"{value}\"}}\n");
    let mut chunk = Vec::new();
    put_record(&mut chunk, 0, HashKeyUse::First, reading.as_bytes());
    chunk
}

pub(super) fn number(chunk: &[u8]) -> u64 {
    let reading: serde_json::Value = serde_json::from_slice(first_record(chunk).unwrap().data).unwrap();
    reading["seq"].as_u64().unwrap()
}

/// Those that a cold file gives, in its order.
pub(super) fn numbers(file: &cold::ColdFile) -> Vec<u64> {
    file.chunks().filter_map(|item| item.chunk).map(|chunk| number(&chunk.data)).collect()
}

#[tokio::test]
async fn a_page_of_zeros_costs_what_was_on_it() {
    let bench = Bench::filled().await;
    let pages = fs::read(&bench.settings.path).unwrap().len() / PAGE;
    for page in [pages / 3, pages / 2, pages - 1] {
        bench.damages(|file| file[page * PAGE..(page + 1) * PAGE].fill(0));
    }
    let aside = store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();
    let before = fs::read(&aside).unwrap();

    let bench = bench.open();
    let came = bench.salvages().await;

    assert!(came.is_sorted_by(|a, b| a < b), "each once, and in order");
    assert!(came.len() as u64 >= CHUNKS - 60, "{} of {CHUNKS}", came.len());
    let lost_inside = (came[0]..=*came.last().unwrap()).count() as u64 - came.len() as u64;
    assert!(bench.lost() >= lost_inside, "{} < {lost_inside}", bench.lost());
    assert_eq!(fs::read(&aside).unwrap(), before, "it is left as it was");
}

#[tokio::test]
async fn every_kind_of_damage_at_the_start_sets_the_file_aside_and_what_can_be_read_comes_back_in_order() {
    type Damage = fn(&mut Vec<u8>);
    let kinds: [(&str, Damage, u64); 7] = [
        ("random bytes over the header", |file| file[..100].fill(0xA7), CHUNKS),
        ("a first page of zeros", |file| file[..PAGE].fill(0), CHUNKS),
        ("another application's mark", |file| file[68..72].fill(0), CHUNKS),
        ("a version that cannot be", |file| file[60..64].fill(0xEE), CHUNKS),
        ("an end that is cut off", |file| file.truncate(file.len() / 2 + 700), CHUNKS / 4),
        ("nothing of a database", |file| file.fill(0x55), 0),
        ("no bytes at all", Vec::clear, 0),
    ];
    let filled = Bench::filled().await;
    let whole = fs::read(&filled.settings.path).unwrap();
    for (kind, damage, least) in kinds {
        let mut bench = Bench::new().close().await;
        let mut file = whole.clone();
        damage(&mut file);
        fs::write(&bench.settings.path, &file).unwrap();

        bench = bench.open();
        let came = bench.salvages().await;

        assert!(came.is_sorted_by(|a, b| a < b), "{kind}: each once, and in order");
        assert!(came.len() as u64 >= least, "{kind}: {} came", came.len());
        let [aside] = &*bench.aside() else { panic!("{kind}: {:?}", bench.aside()) };
        assert_eq!(fs::read(aside).unwrap(), file, "{kind}: it is left as it was");
        bench.ledger_balances();
    }
}

#[tokio::test]
async fn a_list_of_lanes_that_is_gone_is_guessed_from_the_readings() {
    let bench = Bench::filled().await;
    let file = rusqlite::Connection::open(&bench.settings.path).unwrap();
    file.execute_batch("DROP TABLE lane").unwrap();
    drop(file);

    let bench = bench.open();

    assert_eq!(bench.salvages().await.len() as u64, CHUNKS);
}

#[tokio::test]
async fn damage_that_is_found_while_running_ends_the_work_and_the_next_start_salvages() {
    let mut bench = Bench::filled().await;
    let pages = fs::read(&bench.settings.path).unwrap().len() / PAGE;
    bench.damages(|file| file[pages / 2 * PAGE..][..40 * PAGE].fill(0x3C));
    bench = bench.open();
    assert!(bench.aside().is_empty(), "its first pages are in order");

    let first: Vec<u64> = bench.drained_until_it_ends().await.iter().map(|data| number(data)).collect();
    let Opened { buffer, closed, .. } = bench.opened.take().unwrap();
    drop(buffer);
    assert!(matches!(closed.await, Ok(BufferError::Damaged { .. })));
    assert_eq!(bench.aside().len(), 1);

    let bench = bench.open();
    let again = bench.salvages().await;
    assert!(again.is_sorted_by(|a, b| a < b));
    assert!(first.len() + again.len() >= usize::try_from(CHUNKS).unwrap() - 80, "{} and {}", first.len(), again.len());
}

#[tokio::test]
async fn a_salvage_that_is_cut_off_goes_on_and_brings_nothing_twice() {
    let filled = Bench::filled().await;
    let mut bench = Bench::new().close().await;
    fs::copy(&filled.settings.path, &bench.settings.path).unwrap();
    store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();
    bench = bench.open();
    bench.buffer().appended().await; // a part of it is there

    for _ in 0..2 {
        bench = bench.close().await.open();
    }

    assert_eq!(bench.salvages().await, (0..CHUNKS).collect::<Vec<_>>());
    let bench = bench.close().await.open();
    assert_eq!(bench.salvages().await, Vec::<u64>::new(), "what is done is done");
}

#[tokio::test]
async fn what_is_salvaged_goes_before_what_came_since_and_takes_half_of_the_room_at_most() {
    let filled = Bench::filled().await;
    let mut bench = Bench::new().close().await;
    bench.settings.max_size = 5 << 20;
    fs::copy(&filled.settings.path, &bench.settings.path).unwrap();
    store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();
    let mut bench = bench.open();
    bench.holds("today's").await;
    assert!(bench.buffer().waiting(bench.opened.as_ref().unwrap().older[0].id).readings < CHUNKS);
    bench.ledger_balances();
    let lane = bench.opened.as_ref().unwrap().older[0].id;
    let mut came = 0;
    while came < CHUNKS {
        came += bench.drained_of(lane).await.len() as u64;
        bench.holds("more of today's").await;
    }
    assert_eq!((came, bench.lost()), (CHUNKS, 0));
    bench.ledger_balances();
}

#[tokio::test]
async fn what_was_dropped_before_is_not_lost_again_and_its_notice_comes_back() {
    let mut bench = Bench::new();
    for n in 0..150 {
        let reading = format!(
            "{{\"v\":1,\"dev\":\"gw\",\"run\":\"0000000000000003\",\"lane\":\"s/0\",\"seq\":{n},\"val\":\"{}\"}}\n",
            "x".repeat(100_000)
        );
        let mut chunk = Vec::new();
        put_record(&mut chunk, 0, HashKeyUse::First, reading.as_bytes());
        bench.holds(chunk).await;
    }
    let dropped = bench.status.lock().ledger_total().dropped.get(Reason::DropOldest);
    let mut bench = bench.close().await;
    bench.damages(|file| file[..16].fill(0));
    bench.settings.max_size *= 4; // a salvage takes half of it

    let bench = bench.open();
    bench.salvage_ends().await;

    bench.ledger_balances();
    assert_eq!((bench.lost(), bench.status.lock().ledger_total().buffered), (0, 150 - dropped));
    let older = bench.opened.as_ref().unwrap().older[0].id;
    let taken = bench.buffer().oldest(older, 1).await.unwrap().unwrap();
    let notice = crate::record::Notice::decode(first_record(&taken.pieces[0].data).unwrap().data).unwrap();
    assert_eq!((taken.pieces[0].notice, notice.from, notice.to, notice.n), (true, 0, dropped - 1, dropped));
    bench.buffer().release(older);
    let bench = bench.close().await.open();
    bench.ledger_balances();
    assert_eq!(bench.status.lock().ledger_total().received, 150 - dropped);
}

#[tokio::test]
async fn a_page_of_any_other_table_costs_no_reading() {
    let filled = Bench::filled().await;
    let whole = fs::read(&filled.settings.path).unwrap();
    let file = rusqlite::Connection::open(&filled.settings.path).unwrap();
    let mut select = file.prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND name <> 'chunk'").unwrap();
    let tables = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let tables: Vec<(String, usize)> = tables.collect::<Result<_, _>>().unwrap();
    assert!(["lane", "gap", "receipt"].iter().all(|name| tables.iter().any(|(table, _)| table == name)));
    for (table, root) in tables {
        for byte in [0, 0x5A] {
            let mut bench = Bench::new().close().await;
            let mut file = whole.clone();
            file[(root - 1) * PAGE..root * PAGE].fill(byte);
            fs::write(&bench.settings.path, &file).unwrap();

            let mut came = Vec::new();
            for _ in 0..2 {
                bench = bench.open();
                bench.salvage_ends().await;
                for lane in bench.opened.as_ref().unwrap().older.clone() {
                    came.extend(bench.drained_of(lane.id).await.iter().map(|data| number(data)));
                }
                came.extend(bench.drained_until_it_ends().await.iter().map(|data| number(data)));
                let Opened { buffer, closed, .. } = bench.opened.take().unwrap();
                drop(buffer);
                let _damage_may_be_found_at_the_end: Result<BufferError, _> = closed.await;
            }

            came.sort_unstable();
            came.dedup(); // what was sent before the damage was found is sent again, under its name
            assert!(came.into_iter().eq(0..CHUNKS), "{table} {byte}");
        }
    }
}

#[tokio::test]
async fn a_list_of_free_pages_that_is_gone_costs_no_reading() {
    let bench = Bench::filled().await.open();
    let mut sent = Vec::new();
    while sent.len() < 300 {
        let taken = bench.buffer().oldest(bench.lane(), 1).await.unwrap().unwrap();
        sent.extend(bench.forgets(bench.lane(), taken).map(|data| number(&data)));
    }
    let bench = bench.close().await.open().close().await;
    bench.damages(|file| {
        let trunk = u32::from_be_bytes([file[32], file[33], file[34], file[35]]) as usize;
        assert!(trunk > 0, "there are free pages");
        file[(trunk - 1) * PAGE..trunk * PAGE].fill(0xA5);
    });
    let mut bench = bench.open();
    bench.seq = CHUNKS;
    bench.append(text(CHUNKS)); // takes a free page, and finds the damage; nobody has a receipt for it
    let Opened { buffer, closed, .. } = bench.opened.take().unwrap();
    drop(buffer);
    assert!(matches!(closed.await, Ok(BufferError::Damaged { .. })));

    let came = bench.open().salvages().await;

    assert!((300..CHUNKS).all(|n| came.contains(&n)), "{came:?}");
}
