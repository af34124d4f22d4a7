use super::*;
use crate::{buffer::store::Head, config::WhenFull, status::Reason};

const CLOCK: Timestamp = Timestamp(1_800_000_000_000);

/// A chunk of two readings, 100 bytes; the third one of a lane names readings 4 and 5.
pub(super) fn nth(lane: LaneId, number: u64) -> Chunk {
    Chunk { first_seq: 2 * number, ..chunk(lane, 100) }
}

/// What the file says of it.
pub(super) fn head(number: u64) -> Head {
    Head {
        number,
        readings: 2,
        bytes: 100,
        arrived: Timestamp(5),
        earlier: Earlier { readings: 2 * number, bytes: 100 * number },
        run: RunId(7),
        first_seq: 2 * number,
        unsure: None,
        gap: None,
    }
}

pub(super) fn head_of(rewrite: &Rewrite) -> Head {
    Head {
        readings: 0,
        bytes: rewrite.chunk.data.len() as u64,
        earlier: rewrite.earlier,
        first_seq: rewrite.chunk.first_seq,
        gap: Some(rewrite.gap),
        ..head(rewrite.number)
    }
}

/// A lane with so many chunks on the disk, and none in memory.
pub(super) fn on_disk(chunks: u64, rules: StreamRules) -> (Pool, Instant) {
    let (mut pool, now) = (pool(), Instant::now());
    pool.policy.streams = [("s".to_owned(), rules)].into();
    pool.policy.memory = 0;
    pool.clock_is(now, Belief::default());
    (0..chunks).for_each(|n| drop(pool.append(group(now, n + 1, vec![nth(LANE, n)]))));
    commit(&mut pool, now);
    (pool, now)
}

pub(super) fn rule(when_full: WhenFull) -> StreamRules {
    StreamRules { when_full, ..StreamRules::default() }
}

pub(super) fn full(pool: &mut Pool) -> Option<GiveWay> {
    pool.make_room(0, |bytes| bytes)
}

pub(super) fn drop_of(lane: LaneId, from: u64) -> GiveWay {
    GiveWay::Drop { lane, from, why: Reason::DropOldest, bytes: 256 << 10 }
}

pub(super) fn plan(pool: &mut Pool, before: Option<Head>, heads: &[Head], mut n: u64) -> Option<Rewrite> {
    let goes = |_: &Head| {
        let goes = n > 0;
        n = n.saturating_sub(1);
        goes
    };
    pool.plan_drop(Instant::now(), LANE, Reason::DropOldest, before, heads, goes)
}

/// What the record at the head of `rewrite`'s chunk says.
fn notice(rewrite: &Rewrite) -> (u64, u64, u64, String) {
    let record = crate::record::kpl::first_record(&rewrite.chunk.data).unwrap();
    let value: serde_json::Value = serde_cbor::from_slice(record.data).unwrap();
    let number = |key: &str| value[key].as_u64().unwrap();
    (number("from"), number("to"), number("n"), value["why"].as_str().unwrap().to_owned())
}

#[test]
fn the_oldest_give_way_and_one_notice_takes_their_place() {
    let (mut pool, _) = on_disk(4, rule(WhenFull::DropOldest));
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 0)));

    let rewrite = plan(&mut pool, None, &[0, 1, 2, 3].map(head), 2).unwrap();

    assert_eq!((rewrite.from, rewrite.number, rewrite.chunk.readings), (0, 1, 0));
    assert_eq!(notice(&rewrite), (0, 3, 4, "drop_oldest".to_owned()));
    assert_eq!(pool.lane_waiting(LANE).0.readings, 8, "nothing is counted before it is on the disk");
    let dropped = pool.rewritten(&rewrite).unwrap();
    assert_eq!((dropped.readings, dropped.why), (4, Reason::DropOldest));
    let bytes = 200 + rewrite.chunk.data.len() as u64;
    assert_eq!(pool.lane_waiting(LANE).0, Earlier { readings: 4, bytes });
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 2)), "a notice is not dropped");
}

#[test]
fn what_is_dropped_next_joins_the_notice_before_it() {
    let (mut pool, _) = on_disk(4, rule(WhenFull::DropOldest));
    let first = plan(&mut pool, None, &[0, 1, 2].map(head), 1).unwrap();
    pool.rewritten(&first);

    let second = plan(&mut pool, Some(head_of(&first)), &[1, 2, 3].map(head), 1).unwrap();
    pool.rewritten(&second);

    assert_eq!((second.from, second.number), (0, 1));
    assert_eq!(notice(&second), (0, 3, 4, "drop_oldest".to_owned()));
    assert_eq!(second.earlier, Earlier::default());
    assert_eq!(second.gap.bytes, 200 - second.chunk.data.len().cast_signed() as i64);
    assert_eq!(pool.lane_waiting(LANE).0, Earlier { readings: 4, bytes: 200 + second.chunk.data.len() as u64 });
}

#[test]
fn a_notice_names_readings_of_one_run_without_a_gap() {
    let (mut pool, _) = on_disk(4, rule(WhenFull::DropOldest));
    let others = Head { run: RunId(8), ..head(1) };
    let rewrite = plan(&mut pool, None, &[head(0), others, head(2)], 3).unwrap();
    assert_eq!((rewrite.from, rewrite.number), (0, 0));

    let rewrite = plan(&mut pool, None, &[head(1), head(3)], 3).unwrap();
    assert_eq!((rewrite.from, rewrite.number), (1, 1));

    let for_its_age = Head { gap: Some(Gap { why: Reason::MaxAge, ..rewrite.gap }), ..head_of(&rewrite) };
    let rewrite = plan(&mut pool, Some(for_its_age), &[head(2)], 1).unwrap();
    assert_eq!((rewrite.from, rewrite.number), (2, 2));
}

#[test]
fn what_is_on_its_way_or_half_delivered_does_not_give_way() {
    let (mut pool, now) = on_disk(4, rule(WhenFull::DropOldest));
    assert!(matches!(pool.oldest(LANE, 150), Oldest::OnDisk(_)));
    assert_eq!(full(&mut pool), None, "nobody knows yet how far the read goes");
    pool.took(now, LANE, Some((2, Timestamp(5)))); // chunks 0 and 1 are on their way
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 2)));

    let half = Delivered { readings: 1, bytes: 60, up_to: Position { number: 0, offset: 60, readings: 1 } };
    pool.forget(now, LANE, &half);
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 1)));
}

#[test]
fn what_is_pinned_does_not_give_way_whatever_is_sent_and_released_meanwhile() {
    let (mut pool, now) = on_disk(4, rule(WhenFull::DropOldest));
    pool.pin(LANE, 3);
    let _ = pool.oldest(LANE, 50);
    pool.took(now, LANE, Some((1, Timestamp(5))));
    pool.release(LANE);
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 3)));
    pool.forget(now, LANE, &Delivered { readings: 2, bytes: 100, up_to: Position { number: 1, ..Position::default() } });
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 3)));

    pool.pin(LANE, 0);

    assert_eq!(full(&mut pool), Some(drop_of(LANE, 1)));
}

#[test]
fn what_comes_back_may_be_dropped_like_any_other() {
    let (mut pool, now) = on_disk(2, rule(WhenFull::DropOldest));
    let _ = pool.oldest(LANE, 50);
    pool.took(now, LANE, Some((1, Timestamp(5))));
    let rewrite = plan(&mut pool, None, &[head(1)], 1).unwrap();
    pool.rewritten(&rewrite);
    assert_eq!(full(&mut pool), None);

    pool.release(LANE);

    assert_eq!(full(&mut pool), Some(drop_of(LANE, 0)));
    let both = plan(&mut pool, None, &[head(0), head_of(&rewrite)], 9).unwrap();
    assert_eq!((both.from, both.number), (0, 1), "the notice behind it joins");
    assert_eq!(notice(&both), (0, 3, 4, "drop_oldest".to_owned()));
}

#[test]
fn a_copy_in_memory_is_gone_when_its_row_gives_way() {
    let (mut pool, now) = (pool(), Instant::now());
    (0..3).for_each(|n| drop(pool.append(group(now, n + 1, vec![nth(LANE, n)]))));
    commit(&mut pool, now);
    assert_eq!(pool.memory(), 300);

    let rewrite = plan(&mut pool, None, &[0, 1, 2].map(head), 2).unwrap();

    assert_eq!(pool.memory(), 100);
    assert!(matches!(pool.oldest(LANE, PLENTY), Oldest::OnDisk(_)), "whoever sends reads what is there by then");
    pool.rewritten(&rewrite);
}

/// Two streams, "a" in one lane and "b" in the other, with a chunk each on the disk; that of "a" is the older one.
pub(super) fn two(a: StreamRules, b: StreamRules) -> Pool {
    let (mut pool, now) = (pool(), Instant::now());
    pool.policy.streams = [("a".to_owned(), a), ("b".to_owned(), b)].into();
    for (id, stream) in [(LANE, "a"), (OTHER, "b")] {
        pool.lanes.get_mut(&id).unwrap().lane.layout.stream = stream.into();
    }
    pool.append(group(now, 1, vec![nth(LANE, 0), Chunk { arrived: Timestamp(6), ..nth(OTHER, 0) }]));
    commit(&mut pool, now);
    pool
}

#[test]
fn streams_of_a_higher_priority_give_way_last() {
    let high = StreamRules { priority: 1, ..StreamRules::default() };
    assert_eq!(full(&mut two(high, rule(WhenFull::DropOldest))), Some(drop_of(OTHER, 0)));
    assert_eq!(full(&mut two(high, high)), Some(drop_of(LANE, 0)), "among equals the oldest");
    assert_eq!(full(&mut two(high, rule(WhenFull::Block))), Some(drop_of(LANE, 0)), "who blocks drops nothing");
    let newest = |pool: &mut Pool| {
        pool.append(group(Instant::now(), 2, vec![nth(OTHER, 1)]));
        matches!(full(pool), Some(GiveWay::Refused(_)))
    };
    assert!(newest(&mut two(high, rule(WhenFull::DropNewest))));
    assert!(newest(&mut two(StreamRules::default(), rule(WhenFull::DropNewest))), "the flood of one does not push another out");
    assert!(!newest(&mut two(StreamRules::default(), StreamRules { priority: 1, ..rule(WhenFull::DropNewest) })));
}

#[test]
fn at_a_higher_priority_each_rule_waits_until_the_lower_one_has_nothing_left() {
    let high = |when_full| StreamRules { priority: 1, ..rule(when_full) };
    for (low, of_low) in
        [(WhenFull::Thin, GiveWay::Thin { lane: OTHER, from: 0, level: 0 }), (WhenFull::DropOldest, drop_of(OTHER, 0))]
    {
        for above in [WhenFull::Thin, WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Block] {
            let mut pool = two(high(above), rule(low));
            pool.append(group(Instant::now(), 2, vec![nth(LANE, 1)]));
            assert_eq!(full(&mut pool).as_ref(), Some(&of_low), "{low:?} below {above:?}");
        }
    }

    let mut pool = two(high(WhenFull::Thin), rule(WhenFull::DropNewest));
    pool.append(group(Instant::now(), 2, vec![nth(LANE, 1), nth(OTHER, 1)]));
    let Some(GiveWay::Refused(refused)) = full(&mut pool) else { panic!("the newest of the lower one go first") };
    assert!(refused.iter().all(|dropped| dropped.stream == "b"), "{refused:?}");
    commit(&mut pool, Instant::now());
    assert_eq!(full(&mut pool), Some(GiveWay::Thin { lane: LANE, from: 0, level: 0 }));
}

#[test]
fn a_stream_that_blocks_keeps_everything_and_one_beside_it_goes_on_dropping() {
    for priority in [0, 1] {
        let mut pool = two(StreamRules { priority, ..rule(WhenFull::Block) }, rule(WhenFull::DropOldest));
        assert_eq!(full(&mut pool), Some(drop_of(OTHER, 0)));
        let rewrite = pool.plan_drop(Instant::now(), OTHER, Reason::DropOldest, None, &[head(0)], |_| true).unwrap();
        pool.rewritten(&rewrite);

        assert_eq!(full(&mut pool), None, "nothing is left that may be dropped");
        assert_eq!(pool.waiting("a").readings, 2);
    }
}

#[test]
fn a_stream_that_left_the_configuration_gives_way_first_and_without_a_notice() {
    let mut pool = two(StreamRules::default(), StreamRules::default());
    pool.policy.streams.remove("b");
    assert_eq!(full(&mut pool), Some(drop_of(OTHER, 0)));

    let rewrite = pool.plan_drop(Instant::now(), OTHER, Reason::DropOldest, None, &[head(0)], |_| true).unwrap();

    assert_eq!((rewrite.chunk.data.len(), rewrite.gap.notice), (0, false), "nobody knows its encoding any more");
}

#[test]
fn a_stream_over_its_own_bound_gives_way_alone_and_one_that_has_nothing_to_drop_shields_no_other() {
    let bound = StreamRules { max_size: Some(50), ..StreamRules::default() };
    let mut pool = two(StreamRules::default(), bound);
    let of_the_other = Some(GiveWay::Drop { lane: OTHER, from: 0, why: Reason::DropOldest, bytes: 50 });
    assert_eq!(pool.over_quota(), of_the_other);

    let mut pool = two(bound, bound);
    let _ = pool.oldest(LANE, 50);
    assert_eq!(pool.over_quota(), of_the_other);
}

#[test]
fn readings_go_when_they_have_waited_for_longer_than_they_may() {
    let hour = Duration::from_hours(1);
    let (mut pool, now) = on_disk(2, StreamRules { max_age: Some(hour), ..StreamRules::default() });
    let state = pool.lanes.get_mut(&LANE).unwrap();
    state.oldest = Some(CLOCK);
    state.ours_from = 9; // they are of an earlier process
    let later = |millis: i64| Timestamp(CLOCK.0 + millis);
    let up = Duration::ZERO;

    assert_eq!(pool.expired(now, later(3_600_000), up), None);
    assert_eq!(pool.next_expiry(now, later(3_599_000), up), Some(Duration::from_millis(1001)));
    let step = pool.expired(now, later(3_600_001), up);
    assert!(matches!(step, Some(GiveWay::Drop { lane: LANE, from: 0, why: Reason::MaxAge, .. })), "{step:?}");
}

#[test]
fn a_clock_that_jumps_makes_nothing_old() {
    let rules = StreamRules { max_age: Some(Duration::from_hours(1)), ..StreamRules::default() };
    let (mut pool, now) = on_disk(1, rules);
    let up = Duration::from_secs(10);
    let expired = |pool: &mut Pool, arrived: Timestamp, clock: Timestamp, ours: bool| {
        let state = pool.lanes.get_mut(&LANE).unwrap();
        state.oldest = Some(arrived);
        state.ours_from = if ours { 0 } else { 9 };
        pool.expired(now, clock, up).is_some()
    };

    assert!(!expired(&mut pool, CLOCK, Timestamp(0), false), "back to 1970");
    assert!(!expired(&mut pool, Timestamp(60_000), CLOCK, true), "from 1970 to now, in ten seconds");
    assert!(!expired(&mut pool, Timestamp(60_000), CLOCK, false), "a stamp of an unset clock says nothing");
    assert!(!expired(&mut pool, Timestamp(CLOCK.0 - 7_200_000), CLOCK, true), "two hours ahead, in ten seconds");
    assert!(expired(&mut pool, Timestamp(CLOCK.0 - 7_200_000), CLOCK, false));
}

#[test]
fn a_clock_that_nobody_knows_to_be_right_makes_nothing_old() {
    let rules = StreamRules { max_age: Some(Duration::from_hours(1)), ..StreamRules::default() };
    let (mut pool, now) = on_disk(1, rules);
    let state = pool.lanes.get_mut(&LANE).unwrap();
    state.oldest = Some(CLOCK);
    state.ours_from = 9; // it is of an earlier process
    let (months_ahead, up) = (Timestamp(CLOCK.0 + 10_000_000_000), Duration::ZERO);

    for trust in [Trust::Unsure, Trust::Wrong] {
        pool.clock_is(now, Belief { trust, ..Belief::default() });
        assert_eq!((pool.expired(now, months_ahead, up), pool.next_expiry(now, months_ahead, up)), (None, None));
        assert!(!pool.is_too_old(LANE, 0, CLOCK, months_ahead, up));
    }

    pool.clock_is(now, Belief::default());
    assert!(pool.expired(now, months_ahead, up).is_some());
}

#[test]
fn what_is_old_and_cannot_go_is_not_looked_at_all_the_time() {
    let (mut pool, now) = on_disk(1, StreamRules { max_age: Some(HOLD), ..StreamRules::default() });
    let up = Duration::from_hours(1);
    assert!(pool.expired(now, CLOCK, up).is_some());
    // Its head is old, and what arrived last in it is not.
    assert!(pool.plan_drop(now, LANE, Reason::MaxAge, None, &[head(0)], |_| false).is_none());

    assert_eq!(pool.expired(now, CLOCK, up), None);
    assert_eq!(pool.next_expiry(now, CLOCK, up), Some(Duration::from_secs(1)));
    assert!(pool.expired(now + HOLD, CLOCK, up).is_some());
}
