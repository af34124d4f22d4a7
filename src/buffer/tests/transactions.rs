//! One transaction of the file, and the same again.

use super::*;

#[test]
fn the_last_name_of_a_lane_is_found_without_a_clock() {
    let dir = TempDir::new().unwrap();
    let mut store = store::Store::open(&dir.path().join("buffer.db"), 8 << 20, 0).unwrap();
    let lane = store.add_lane(&layout("s")).unwrap();
    let mut insert = |number, run, arrived| {
        let chunk = Chunk { run: RunId(run), arrived: Timestamp(arrived), ..chunk(lane) };
        let insert = store::Insert { number, chunk: &chunk, earlier: store::Earlier::default(), gap: None, from: number };
        store.commit(&store::Transaction { inserts: vec![insert], ..Default::default() }).unwrap();
        let before = store.lanes().unwrap()[0].previous;
        store.remember(&[(lane, number + 3, Previous { run: RunId(run), seq: 9 })], &[]).unwrap();
        (before, store.lanes().unwrap()[0].previous)
    };
    let name = |run, seq| Some(Previous { run: RunId(run), seq });

    assert_eq!(insert(0, 1, 9_000), (name(1, 0), name(1, 9)), "what was never written is younger");
    assert_eq!(insert(3, 2, 5_000), (name(2, 0), name(2, 9)), "the clock was set back, and the run is younger");
    assert_eq!(insert(6, 3, 7_000), (name(3, 0), name(3, 9)));
}

#[test]
fn a_repeated_transaction_counts_what_is_gone_once() {
    let dir = TempDir::new().unwrap();
    let mut store = store::Store::open(&dir.path().join("buffer.db"), 8 << 20, 0).unwrap();
    let lane = store.add_lane(&layout("s")).unwrap();
    let chunk =
        |readings, data: &'static str| Chunk { readings, first_seq: 1, notice: readings == 0, data: data.into(), ..chunk(lane) };
    let earlier = |n| store::Earlier { readings: n, bytes: 3 * n };
    let one = chunk(1, "abc");
    let plain = |n| store::Insert { number: n, chunk: &one, earlier: earlier(n), gap: None, from: n };
    store.commit(&store::Transaction { inserts: (0..4).map(plain).collect(), ..Default::default() }).unwrap();
    let waiting = |store: &store::Store| {
        let stored = &store.lanes().unwrap()[0];
        let (first, last) = stored.ends.unwrap();
        let bytes = (last.earlier.bytes + last.bytes - first.earlier.bytes).cast_signed() - stored.gone.1;
        (last.earlier.readings + last.readings - first.earlier.readings - stored.gone.0, bytes)
    };
    // The second and third become a notice of five bytes.
    let gap = store::Gap { readings: 2, bytes: 1, last: 2, why: Reason::DropOldest, level: 0, notice: true };
    let notice = chunk(0, "notic");
    let insert = || store::Insert { number: 2, chunk: &notice, earlier: earlier(1), gap: Some(gap), from: 1 };
    let rewrite = || store::Transaction { inserts: vec![insert()], ..Default::default() };

    store.commit(&rewrite()).unwrap();
    store.commit(&rewrite()).unwrap();

    assert_eq!(waiting(&store), (2, 11));
    let deletes = [store::Delete { lane, from: 0, up_to: 2 }];
    let delete = || store::Transaction { deletes: &deletes, ..Default::default() };
    store.commit(&delete()).unwrap();
    store.commit(&delete()).unwrap();
    assert_eq!(waiting(&store), (1, 3), "with its row the gap is gone");
}

#[test]
fn a_last_name_that_was_never_written_stays_the_last_when_what_came_before_it_goes() {
    let dir = TempDir::new().unwrap();
    let mut store = store::Store::open(&dir.path().join("buffer.db"), 8 << 20, 0).unwrap();
    let lane = store.add_lane(&layout("s")).unwrap();
    let one = chunk(lane);
    let insert = store::Insert { number: 0, chunk: &one, earlier: store::Earlier::default(), gap: None, from: 0 };
    store.commit(&store::Transaction { inserts: vec![insert], ..Default::default() }).unwrap();
    let last = Previous { run: RunId(3), seq: 38 };
    store.remember(&[(lane, 2, last)], &[]).unwrap();

    store.commit(&store::Transaction { deletes: &[store::Delete { lane, from: 0, up_to: 0 }], ..Default::default() }).unwrap();

    let stored = &store.lanes().unwrap()[0];
    assert_eq!((stored.previous, stored.next), (Some(last), 2));
}
