//! Damage that comes again: what was salvaged and sent stays sent, and nothing else is taken for it.

use super::*;

impl Bench {
    /// A buffer beside [`CHUNKS`] readings that were set aside, salvaged, and sent but for the last `left`.
    async fn salvaged_but(left: u64) -> Self {
        let bench = Bench::filled().await;
        store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();
        let bench = bench.open();
        bench.salvage_ends().await;
        let lane = bench.opened.as_ref().unwrap().older[0].id;
        for _ in left..CHUNKS {
            let taken = bench.buffer().oldest(lane, 1).await.unwrap().unwrap();
            assert_eq!(bench.forgets(lane, taken).count(), 1);
        }
        bench.close().await
    }

    /// What comes when nothing can be read of the buffer itself.
    async fn salvages_without_the_buffer(&mut self) -> Vec<u64> {
        self.damages(|file| file.fill(0x55));
        self.status = Status::default();
        self.opened = Some(Buffer::open(&self.settings, std::slice::from_ref(&self.layout), self.status.clone()).unwrap());
        self.salvages().await
    }

    fn problems(&self) -> Vec<String> {
        self.status.lock().problems.values().map(|problem| format!("{}; {}", problem.what, problem.remedy)).collect()
    }
}

#[tokio::test]
async fn what_was_salvaged_and_sent_is_not_sent_again_when_the_buffer_is_damaged_once_more() {
    let mut bench = Bench::salvaged_but(0).await;
    let first = bench.aside().remove(0);
    let before = fs::read(&first).unwrap();

    for times in 2..4 {
        assert_eq!(bench.salvages_without_the_buffer().await, Vec::<u64>::new());

        let sent = |problem: &String| problem.contains("what could be read of it was sent");
        assert_eq!(bench.problems().iter().filter(|problem| sent(problem)).count(), times - 1, "{:?}", bench.problems());
        assert_eq!((bench.aside().len(), bench.lost()), (times, 0));
        bench = bench.close().await;
    }
    assert_eq!(fs::read(first).unwrap(), before, "it is left as it was");
}

#[tokio::test]
async fn what_was_salvaged_and_not_all_sent_comes_again_when_the_buffer_is_lost() {
    let mut bench = Bench::salvaged_but(1).await;

    assert_eq!(bench.salvages_without_the_buffer().await, (0..CHUNKS).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_mark_that_was_left_behind_speaks_for_no_other_file() {
    let mut bench = Bench::salvaged_but(0).await;
    let first = bench.aside().remove(0);
    fs::remove_file(&first).unwrap();
    let filled = Bench::filled().await;
    fs::copy(&filled.settings.path, &bench.settings.path).unwrap();

    let second = store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();
    bench = bench.open();

    assert_ne!(second, first);
    assert_eq!(bench.salvages().await, (0..CHUNKS).collect::<Vec<_>>());
    assert_eq!(bench.aside(), [second], "the mark went");
}

#[tokio::test]
async fn a_log_that_has_lost_its_buffer_follows_no_other_and_both_are_salvaged() {
    let mut bench = Bench::filled().await;
    let earlier = store::quarantine(&bench.settings.path, Timestamp(0)).unwrap(); // closed in order, so it has no log
    let killed = Bench::killed().await;
    fs::copy(beside(&killed.settings.path, "-wal"), beside(&bench.settings.path, "-wal")).unwrap();
    bench.settings.max_size = killed.settings.max_size;

    bench = bench.open();

    let came = bench.salvages().await;
    assert!(came.starts_with(&(0..CHUNKS).collect::<Vec<_>>()), "what was set aside earlier is as it was");
    assert!(came.len() as u64 > CHUNKS + 100, "{}", came.len());
    assert_eq!((bench.aside().len(), beside(&earlier, "-wal").exists()), (2, false));
}

#[tokio::test]
async fn a_file_whose_list_of_lanes_is_lost_while_it_is_salvaged_gives_all_readings() {
    let mut bench = Bench::new().close().await;
    // As a lane with parts: the row that came first in the order of time is not the first in the file.
    fs::remove_file(&bench.settings.path).unwrap();
    let mut file = store::Store::open(&bench.settings.path, 8 << 20, 0).unwrap();
    let younger = file.add_lane(&bench.layout).unwrap();
    let older = file.add_part(&bench.layout, None).unwrap();
    for (lane, first) in [(older, 0), (younger, CHUNKS / 2)] {
        file.is_last(lane).unwrap();
        let mut earlier = store::Earlier::default();
        let chunks = (first..first + CHUNKS / 2).map(|n| Chunk { first_seq: n, data: text(n).into(), ..chunk(lane) });
        let chunks: Vec<Chunk> = chunks.collect();
        let mut inserts = Vec::new();
        for (number, chunk) in (0..).zip(&chunks) {
            inserts.push(store::Insert { number, chunk, earlier, gap: None, from: number });
            earlier = store::Earlier { readings: earlier.readings + 1, bytes: earlier.bytes + chunk.data.len() as u64 };
        }
        file.commit(&store::Transaction { inserts, ..Default::default() }).unwrap();
    }
    drop(file);
    let list: usize = rusqlite::Connection::open(&bench.settings.path)
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'lane'", [], |row| row.get(0))
        .unwrap();
    let aside = store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();
    let whole = bench.settings.max_size;
    bench.settings.max_size = 4_800_000; // one batch fits in half of the room, and the next one waits
    bench = bench.open();
    bench.buffer().appended().await;
    bench = bench.close().await;
    bench.settings.max_size = whole;
    let mut damaged = fs::read(&aside).unwrap();
    damaged[(list - 1) * PAGE..list * PAGE].fill(0);
    fs::write(&aside, damaged).unwrap();

    bench = bench.open();

    assert_eq!(bench.salvages().await, (0..CHUNKS).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_that_was_set_aside_and_can_not_be_read_is_a_problem_in_the_status() {
    let bench = Bench::new().close().await;
    let aside = beside(&bench.settings.path, ".corrupt-1");
    // What nobody can open, root included.
    let socket = std::os::unix::net::UnixListener::bind(&aside).unwrap();

    let bench = bench.open();

    let problems = bench.problems();
    assert!(problems[0].contains(".corrupt-1, which can't be read") && problems[0].contains("next start"), "{problems:?}");
    drop(socket);
}
