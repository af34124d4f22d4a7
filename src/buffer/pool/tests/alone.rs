use super::{
    overflow::{drop_of, full, head, head_of, nth, on_disk, plan, rule, two},
    *,
};
use crate::{config::WhenFull, status::Reason};

fn commit_and_see(pool: &mut Pool, now: Instant) -> Write {
    let write = write(pool);
    pool.written(now, &write);
    write
}

#[test]
fn where_nothing_on_the_disk_can_go_what_is_in_memory_alone_gives_way_by_each_rule_that_drops() {
    for (when_full, why) in [
        (WhenFull::DropOldest, Some(Reason::DropOldest)),
        (WhenFull::Thin, Some(Reason::Thin)),
        (WhenFull::DropNewest, Some(Reason::DropNewest)),
        (WhenFull::Block, None),
    ] {
        let (mut pool, now) = on_disk(0, rule(when_full));
        pool.append(group(now, 1, vec![nth(LANE, 0)]));

        let gone = match full(&mut pool) {
            Some(GiveWay::Refused(refused)) => refused.iter().map(|dropped| (dropped.why, dropped.readings)).next(),
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(gone, why.map(|why| (why, 2)), "{when_full:?}");
    }
}

#[test]
fn the_oldest_in_memory_go_as_far_as_there_is_no_room_and_are_acknowledged_once_their_notice_is_on_the_disk() {
    let (mut pool, now) = on_disk(0, rule(WhenFull::DropOldest));
    (0..3).for_each(|n| drop(pool.append(group(now, n + 1, vec![nth(LANE, n)]))));

    let Some(GiveWay::Refused(gone)) = pool.make_room(100, |bytes| bytes) else { panic!("there is room for one") };

    assert_eq!(gone[0].readings, 4);
    assert_eq!(pool.lane_waiting(LANE).0.readings, 2);
    let only_the_notice = pool.write(0, |bytes| bytes);
    assert_eq!(numbers(&only_the_notice), [(LANE, 1)], "it needs no room");
    assert_eq!((only_the_notice.rows[0].from, only_the_notice.rows[0].gap.map(|gap| gap.last)), (0, Some(3)));
    assert_eq!(pool.written(now, &only_the_notice), [(SOURCE, 2)], "the third is neither on the disk nor gone");
    assert_eq!(numbers(&commit_and_see(&mut pool, now)), [(LANE, 2)]);
}

#[test]
fn of_several_lanes_what_came_first_goes_first() {
    let (mut pool, now) = on_disk(0, rule(WhenFull::DropOldest));
    (0..2).for_each(|n| drop(pool.append(group(now, 2 * n + 1, vec![nth(OTHER, n)]))));
    (0..2).for_each(|n| drop(pool.append(group(now, 2 * n + 2, vec![nth(LANE, n)]))));

    assert!(matches!(pool.make_room(150, |bytes| bytes), Some(GiveWay::Refused(_))));

    assert_eq!((pool.lane_waiting(OTHER).0.readings, pool.lane_waiting(LANE).0.readings), (0, 2));
}

#[test]
fn the_notice_of_what_was_in_memory_grows_while_nothing_else_is_on_the_disk() {
    for (when_full, why) in [(WhenFull::DropOldest, Reason::DropOldest), (WhenFull::Thin, Reason::Thin)] {
        let (mut pool, now) = on_disk(0, rule(when_full));
        for n in 0..4 {
            pool.append(group(now, n + 1, vec![nth(LANE, n)]));
            assert!(matches!(full(&mut pool), Some(GiveWay::Refused(_))));
            let write = pool.write(0, |bytes| bytes);
            assert_eq!((write.rows.len(), write.rows[0].number, write.rows[0].from), (1, n, n.saturating_sub(1)));
            assert_eq!(write.rows[0].gap.map(|gap| (gap.readings, gap.why)), Some((2 * n + 2, why)));
            assert_eq!(pool.written(now, &write), [(SOURCE, n + 1)]);
        }
        assert_eq!(pool.lane_waiting(LANE).0.readings, 0);
    }
}

#[test]
fn the_notice_that_was_left_on_the_disk_joins_what_goes_of_memory_and_is_sent_with_it_alone() {
    let (mut pool, now) = on_disk(1, rule(WhenFull::DropOldest));
    let rewrite = plan(&mut pool, None, &[head(0)], 1).unwrap();
    pool.rewritten(&rewrite);
    pool.append(group(now, 2, vec![nth(LANE, 1)]));
    assert!(matches!(full(&mut pool), Some(GiveWay::Refused(_))));

    let Oldest::InMemory(taken) = pool.oldest(LANE, PLENTY) else { panic!("the row on the disk is the same, and less") };
    let bytes = taken.pieces.iter().map(|piece| piece.data.len() as u64).sum();
    let up_to = Position { number: taken.pieces.last().unwrap().position.number + 1, ..Position::default() };
    assert_eq!(pool.forget(now, LANE, &Delivered { readings: 0, bytes, up_to }), [(SOURCE, 2)]);

    assert_eq!(pool.lane_waiting(LANE).0, Earlier::default());
    let write = write(&mut pool);
    assert_eq!((write.rows.len(), write.deletes.len()), (0, 1), "and the row goes");
}

#[test]
fn a_notice_on_the_disk_that_memory_has_joined_is_joined_by_nothing_else() {
    let (mut pool, now) = on_disk(2, rule(WhenFull::DropOldest));
    pool.pin(LANE, 1);
    let rewrite = plan(&mut pool, None, &[head(1)], 1).unwrap();
    pool.rewritten(&rewrite);
    pool.append(group(now, 3, vec![nth(LANE, 2)]));
    assert!(matches!(full(&mut pool), Some(GiveWay::Refused(_))));

    pool.pin(LANE, 0);
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 0)));
    let alone = plan(&mut pool, None, &[head(0), head_of(&rewrite)], 9).unwrap();

    assert_eq!((alone.from, alone.number), (0, 0));
    assert_eq!(pool.settled_below(LANE), 1, "nor is it read");
}

#[test]
fn nothing_in_memory_goes_while_something_of_its_lane_is_on_its_way() {
    let (mut pool, now) = on_disk(1, rule(WhenFull::DropOldest));
    pool.append(group(now, 2, vec![nth(LANE, 1)]));
    assert!(matches!(pool.oldest(LANE, 50), Oldest::OnDisk(_)));
    pool.took(now, LANE, Some((1, Timestamp(5))));
    assert_eq!(full(&mut pool), None, "the answer may make room");

    pool.release(LANE);

    assert_eq!(full(&mut pool), Some(drop_of(LANE, 0)), "or let it be dropped");
}

#[test]
fn what_is_in_memory_of_a_lower_priority_goes_before_what_is_on_the_disk_of_a_higher_one() {
    let high = StreamRules { priority: 1, ..rule(WhenFull::DropOldest) };
    let mut pool = two(high, rule(WhenFull::DropOldest));
    let rewrite = pool.plan_drop(Instant::now(), OTHER, Reason::DropOldest, None, &[head(0)], |_| true).unwrap();
    pool.rewritten(&rewrite);
    pool.append(group(Instant::now(), 2, vec![nth(OTHER, 1)]));

    let Some(GiveWay::Refused(gone)) = full(&mut pool) else { panic!("the other has something on the disk") };
    assert_eq!((gone.len(), gone[0].stream.as_str()), (1, "b"));
    assert_eq!(full(&mut pool), Some(drop_of(LANE, 0)));
}

#[test]
fn the_newest_are_acknowledged_once_their_notice_is_on_the_disk() {
    let (mut pool, now) = on_disk(2, rule(WhenFull::DropNewest));
    pool.append(group(now, 3, vec![nth(LANE, 2)]));
    pool.append(group(now, 4, vec![nth(LANE, 3)]));

    let Some(GiveWay::Refused(refused)) = full(&mut pool) else { panic!("they are refused") };

    assert_eq!(refused[0].readings, 4);
    assert_eq!(pool.lane_waiting(LANE).0.readings, 4, "what was there before stays");
    let write = pool.write(0, |bytes| bytes);
    assert_eq!(numbers(&write), [(LANE, 3)], "a notice needs no room");
    assert_eq!((write.rows[0].from, write.rows[0].chunk.first_seq, write.rows[0].gap.map(|gap| gap.last)), (2, 4, Some(7)));
    assert_eq!(pool.written(now, &write), [(SOURCE, 4)]);
    assert_eq!(full(&mut pool), None);
}

#[test]
fn the_notice_of_the_newest_grows_while_the_flood_lasts() {
    let (mut pool, now) = on_disk(1, rule(WhenFull::DropNewest));
    for n in 1..4 {
        pool.append(group(now, n + 1, vec![nth(LANE, n)]));
        assert!(matches!(full(&mut pool), Some(GiveWay::Refused(_))));
        let write = pool.write(0, |bytes| bytes);
        assert_eq!((write.rows.len(), write.rows[0].from), (1, n.saturating_sub(1).max(1)), "it takes the place of the one before");
        assert_eq!(write.rows[0].gap.map(|gap| gap.readings), Some(2 * n));
        pool.written(now, &write);
    }
    // The flood is over, and what comes now is kept.
    pool.append(group(now, 5, vec![nth(LANE, 4)]));
    assert_eq!(numbers(&commit_and_see(&mut pool, now)), [(LANE, 4)]);
    pool.append(group(now, 6, vec![nth(LANE, 5)]));
    full(&mut pool);
    assert_eq!(pool.write(0, |bytes| bytes).rows[0].from, 5, "a reading lies between");
}

#[test]
fn of_the_newest_no_more_is_refused_than_has_no_room() {
    let (mut pool, now) = on_disk(1, rule(WhenFull::DropNewest));
    (1..4).for_each(|n| drop(pool.append(group(now, n + 1, vec![nth(LANE, n)]))));

    let Some(GiveWay::Refused(refused)) = pool.make_room(250, |bytes| bytes) else { panic!("one does not fit") };

    assert_eq!(refused[0].readings, 2);
    assert_eq!(numbers(&pool.write(250, |bytes| bytes)), [(LANE, 1), (LANE, 2), (LANE, 3)]);
}

#[test]
fn what_is_on_its_way_from_memory_is_not_refused() {
    let (mut pool, now) = on_disk(0, rule(WhenFull::DropNewest));
    pool.append(group(now, 1, vec![nth(LANE, 0)]));
    assert!(matches!(pool.oldest(LANE, PLENTY), Oldest::InMemory(_)));

    assert_eq!(full(&mut pool), None);
}

#[test]
fn a_row_that_a_notice_in_memory_has_joined_stays_until_that_is_written() {
    let (mut pool, now) = on_disk(0, rule(WhenFull::DropOldest));
    (0..2).for_each(|n| drop(pool.append(group(now, n + 1, vec![nth(LANE, n)]))));
    assert!(matches!(full(&mut pool), Some(GiveWay::Refused(_))));
    assert_eq!(numbers(&commit_and_see(&mut pool, now)), [(LANE, 1)]);
    pool.append(group(now, 3, vec![nth(LANE, 2)]));
    assert!(matches!(full(&mut pool), Some(GiveWay::Refused(_))));

    assert!(matches!(pool.oldest(LANE, 1), Oldest::OnDisk(_)));
    pool.took(now, LANE, None); // there is that row alone, which is not read any more
    assert!(matches!(pool.oldest(LANE, 1), Oldest::InMemory(_)));

    let write = pool.write(0, |bytes| bytes);
    assert!(write.deletes.iter().all(|delete| delete.up_to < 1), "{:?}", write.deletes);
    assert_eq!((write.rows[0].from, write.rows[0].number), (1, 2));
}
