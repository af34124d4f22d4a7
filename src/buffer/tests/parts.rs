//! Lanes in parts (`live-first`), lanes whose layout changes and comes back, and the order of all of them on the file.

use super::*;

impl Bench {
    async fn live_first(self) -> Self {
        let mut bench = self.close().await;
        bench.order_is(DrainOrder::LiveFirst);
        let bench = bench.open();
        bench.has_a_spare_part().await;
        bench
    }

    fn order_is(&mut self, drain_order: DrainOrder) {
        self.settings.streams.get_mut("s").unwrap().drain_order = drain_order;
    }

    /// Waits until another part may begin.
    async fn has_a_spare_part(&self) {
        while self.buffer().lock().pool.needs_part().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Begins another part of the lane whose youngest is `today`.
    async fn begins_part(&self, today: LaneId) -> LaneId {
        self.has_a_spare_part().await;
        self.buffer().begin_part(today).unwrap().id
    }

    /// Dies with the power; what was written stays.
    async fn power_cut(mut self) -> Self {
        let file = |name: &str| self.dir.path().join(name);
        fs::copy(file("buffer.db"), file("saved.db")).unwrap();
        fs::copy(file("buffer.db-wal"), file("saved.db-wal")).unwrap();
        let Opened { buffer, closed, .. } = self.opened.take().unwrap();
        drop(buffer);
        closed.await.unwrap_err();
        fs::rename(file("saved.db"), file("buffer.db")).unwrap();
        fs::rename(file("saved.db-wal"), file("buffer.db-wal")).unwrap();
        self
    }

    /// Everything that waits, part by part in the order in which they drain.
    async fn everything(&self) -> Vec<Vec<Bytes>> {
        let mut parts = Vec::new();
        for lane in self.opened.as_ref().unwrap().older.iter().map(|lane| lane.id).chain([self.lane()]) {
            parts.push(self.drained_of(lane).await);
        }
        parts
    }

    fn previous(&self) -> Option<u64> {
        self.opened.as_ref().unwrap().lanes[0].1.map(|previous| previous.seq)
    }
}

#[tokio::test]
async fn what_arrives_after_a_part_began_does_not_wait_for_what_was_there() {
    let mut bench = Bench::new().live_first().await;
    bench.holds("old").await;
    bench.holds("older than the part").await;

    let part = bench.begins_part(bench.lane()).await;
    bench.holds("live").await;

    assert_eq!(bench.drained_of(part).await, ["live"]);
    bench.ledger_balances();
    assert_eq!(bench.drained().await, ["old", "older than the part"]);
    bench.ledger_balances();
}

#[tokio::test]
async fn parts_are_found_in_their_order_after_a_power_cut_and_what_was_delivered_between_them_is_no_hole() {
    let mut bench = Bench::new().live_first().await;
    bench.holds("one").await;
    let second = bench.begins_part(bench.lane()).await;
    for text in ["delivered", "two", "three"] {
        bench.holds(text).await;
    }
    let taken = bench.buffer().oldest(second, 1).await.unwrap().unwrap();
    bench.forgets(second, taken).for_each(drop);
    let third = bench.begins_part(second).await;
    bench.holds("four").await;
    assert_ne!(second, third);

    let bench = bench.power_cut().await.open();

    assert_eq!(bench.buffer().readings("s"), 4);
    assert_eq!(bench.previous(), Some(4), "the last name of the lane is that of its youngest part");
    bench.ledger_balances();
    assert_eq!(bench.everything().await, [vec!["one"], vec!["two", "three"], vec!["four"]]);
    bench.ledger_balances();
}

#[tokio::test]
async fn an_empty_part_is_used_again_and_is_the_youngest_from_then_on() {
    let mut bench = Bench::new().live_first().await;
    let first = bench.lane();
    bench.holds("one").await;
    let second = bench.begins_part(first).await;
    bench.holds("two").await;
    assert_eq!(bench.drained().await, ["one"]);
    let again = bench.begins_part(second).await;
    bench.holds("three").await;
    let _spare = bench.has_a_spare_part().await;
    assert_eq!(again, first, "no third row is made while this one is empty");

    let bench = bench.power_cut().await.open();

    assert_eq!(bench.previous(), Some(2));
    assert_eq!(bench.everything().await, [vec!["two"], vec!["three"]]);
    bench.ledger_balances();
}

#[tokio::test]
async fn a_part_that_was_delivered_from_memory_alone_is_remembered_by_a_clean_stop() {
    let mut bench = Bench::new().live_first().await;
    bench.holds("one").await;
    let mut bench = {
        let mut bench = bench.close().await;
        bench.settings.hold = Duration::from_hours(1);
        bench.open()
    };
    let part = bench.begins_part(bench.lane()).await;
    bench.seq = 5;
    bench.append("live");
    assert_eq!(bench.drained_of(part).await, ["live"]);

    let bench = bench.close().await.open();

    assert_eq!(bench.previous(), Some(5));
    assert_eq!(bench.everything().await, [vec!["one"], vec![]]);
}

#[tokio::test]
async fn both_orders_find_what_the_other_left() {
    let mut bench = Bench::new();
    bench.holds("one").await;
    let mut bench = bench.live_first().await;
    bench.holds("two").await;
    bench.begins_part(bench.lane()).await;
    bench.holds("three").await;

    let mut bench = bench.close().await;
    bench.order_is(DrainOrder::OldestFirst);
    let mut bench = bench.open();
    bench.holds("four").await;

    assert_eq!(bench.buffer().begin_part(bench.lane()), None);
    assert_eq!(bench.everything().await, [vec!["one", "two"], vec!["three", "four"]]);
    bench.ledger_balances();
}

#[tokio::test]
async fn a_lane_has_a_bounded_number_of_parts() {
    let mut bench = Bench::new().live_first().await;
    let (mut today, mut parts) = (bench.lane(), 1);
    for _ in 0..100 {
        bench.holds("x").await;
        bench.has_a_spare_part().await;
        let Some(part) = bench.buffer().begin_part(today) else { break };
        (today, parts) = (part.id, parts + 1);
    }
    assert_eq!(parts, 64);
    bench.holds("goes on").await;
    assert_eq!(bench.buffer().waiting(today).readings, 2);
    bench.ledger_balances();
}

#[tokio::test]
async fn what_gives_way_is_of_the_oldest_part_and_what_is_live_stays() {
    let mut bench = Bench::new().live_first().await;
    let mut today = bench.lane();
    for n in 0..100_u8 {
        bench.holds(vec![n; 100_000]).await;
        if n == 79 {
            today = bench.begins_part(today).await;
        }
    }
    bench.ledger_balances();
    let dropped = bench.status.lock().ledger_total().dropped.get(Reason::DropOldest);
    assert!((10..80).contains(&dropped), "{dropped}");
    assert_eq!(bench.buffer().waiting(today).readings, 20, "the youngest part has all of its own");

    let bench = bench.power_cut().await.open();

    bench.ledger_balances();
    let kept: Vec<u8> = bench.everything().await.concat().iter().map(|data| data[0]).collect();
    assert_eq!(kept, (u8::try_from(dropped).unwrap()..100).collect::<Vec<_>>());
    bench.ledger_balances();
}

#[tokio::test]
async fn parts_are_thinned_one_after_the_other_and_what_is_left_is_counted_after_a_power_cut() {
    let mut bench = Bench::new().close().await;
    bench.settings.streams.get_mut("s").unwrap().when_full = WhenFull::Thin;
    let mut bench = bench.open().live_first().await;
    let mut today = bench.lane();
    for n in 0..400_u64 {
        bench.appends(&[&"x".repeat(10_000), &"y".repeat(10_000)]);
        bench.is_written().await;
        if n % 50 == 49 && n < 200 {
            today = bench.begins_part(today).await;
        }
    }
    bench.ledger_balances();
    let dropped = bench.status.lock().ledger_total().dropped.get(Reason::Thin);
    assert!(dropped > 200, "{dropped}");

    let bench = bench.power_cut().await.open();

    assert_eq!(bench.buffer().readings("s"), 800 - dropped);
    bench.everything().await;
    assert_eq!(bench.buffer().readings("s"), 0);
    bench.ledger_balances();
}

#[tokio::test]
async fn what_stays_where_a_live_reading_was_set_aside_is_of_the_youngest_part() {
    let mut bench = Bench::new().live_first().await;
    bench.holds("one").await;
    let mut bench = bench.close().await;
    bench.settings.hold = Duration::from_hours(1);
    let mut bench = bench.open();
    bench.seq = 1;
    let part = bench.begins_part(bench.lane()).await;
    bench.appends(&["bad", "good"]);
    bench.buffer().oldest(part, 100).await.unwrap().unwrap();

    assert!(bench.buffer().set_aside(part, "too hot".into()).await.unwrap());

    bench.ledger_balances();
    let bench = bench.power_cut().await.open();
    assert_eq!((bench.previous(), bench.buffer().readings("s")), (Some(2), 2));
    assert_eq!(bench.everything().await.len(), 2);
}

#[tokio::test]
async fn a_layout_that_comes_back_while_its_old_readings_wait_does_not_let_new_ones_pass_those_between() {
    let mut bench = Bench::new();
    bench.holds("four lanes").await;
    let mut bench = bench.close().await;
    bench.layout = Layout { of: 2, ..layout("s") };
    let mut bench = bench.open();
    bench.holds("two lanes").await;
    let mut bench = bench.close().await;
    bench.layout = layout("s");

    let mut bench = bench.open();
    bench.holds("four lanes again").await;

    assert_eq!(bench.everything().await, [["four lanes"], ["two lanes"], ["four lanes again"]]);
    for of in [2, 1, 2, 1] {
        bench = bench.close().await;
        bench.layout.of = of;
        bench = bench.open();
        bench.holds("goes at once").await;
        bench.drained().await;
    }
    let bench = bench.close().await;
    let file = rusqlite::Connection::open(&bench.settings.path).unwrap();
    let rows: u64 = file.query_row("SELECT count(*) FROM lane", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3, "rows that are empty are used again");
}

#[tokio::test]
async fn parts_of_a_damaged_file_are_salvaged_in_the_order_in_which_they_began() {
    let mut bench = Bench::new().live_first().await;
    let first = bench.lane();
    bench.holds("one").await;
    let second = bench.begins_part(first).await;
    bench.holds("two").await;
    assert_eq!(bench.drained().await, ["one"]);
    assert_eq!(bench.begins_part(second).await, first, "so its row comes first in the file");
    bench.holds("three").await;
    let bench = bench.power_cut().await;
    for suffix in ["", "-wal"] {
        let file = cold::beside(&bench.settings.path, suffix);
        fs::rename(file, bench.dir.path().join(format!("buffer.db.corrupt-1{suffix}"))).unwrap();
    }

    let bench = bench.open();

    assert_eq!(bench.salvages_texts().await, ["two", "three"]);
}

#[tokio::test]
async fn files_that_were_set_aside_one_after_the_other_are_salvaged_in_their_order() {
    let mut folders = Vec::new();
    for (time, texts) in [(0, ["one", "two"]), (1000, ["three", "four"])] {
        let mut bench = Bench::new();
        bench.holds(texts[0]).await;
        let mut bench = bench.close().await;
        bench.layout.of = 2;
        let mut bench = bench.open();
        bench.holds(texts[1]).await;
        let bench = bench.close().await;
        let aside = store::quarantine(&bench.settings.path, Timestamp(time)).unwrap();
        folders.push((bench, aside));
    }
    let (_younger, aside) = folders.pop().unwrap();
    let (bench, _) = folders.pop().unwrap();
    fs::copy(&aside, bench.dir.path().join(aside.file_name().unwrap())).unwrap();

    let bench = bench.open();

    assert_eq!(bench.salvages_texts().await, ["one", "two", "three", "four"]);
}
