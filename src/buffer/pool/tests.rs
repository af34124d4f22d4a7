mod alone;
mod overflow;
mod thin;

use bytes::Bytes;

use super::*;
use crate::{
    buffer::{Layout, StreamRules},
    record::RunId,
};

const LANE: LaneId = LaneId(1);
const OTHER: LaneId = LaneId(2);
const SOURCE: SourceId = SourceId(0);
const HOLD: Duration = Duration::from_secs(1);
const PLENTY: u64 = 1 << 30;

fn pool() -> Pool {
    let streams = [("s".to_owned(), StreamRules::default())].into();
    let mut pool = Pool::new(Policy { hold: HOLD, memory: 10_000, device: "gw".into(), streams });
    for id in [LANE, OTHER] {
        let layout = Layout { stream: "s".into(), number: 0, of: 1, partition_key: "k".into(), hash_key: None, template: None };
        pool.add_lane(StoredLane::new(Lane { id, layout }));
    }
    pool.add_source(SOURCE, 3, Vec::new());
    pool
}

fn chunk(lane: LaneId, bytes: usize) -> Chunk {
    Chunk {
        lane,
        readings: 2,
        run: RunId(7),
        first_seq: 0,
        arrived: Timestamp(5),
        unsure: None,
        notice: false,
        keys: None,
        data: Bytes::from(vec![0; bytes]),
    }
}

fn group(since: Instant, up_to: Ordinal, chunks: Vec<Chunk>) -> Group {
    let fingerprints = vec![Fingerprint { packet: u16::try_from(up_to).unwrap(), hash: 0 }];
    Group { chunks, marks: vec![Mark { source: SOURCE, up_to, fingerprints, repeatable: 0 }], since }
}

fn delivered(number: u64, bytes: u64) -> Delivered {
    Delivered { readings: 2, bytes, up_to: Position { number: number + 1, ..Position::default() } }
}

fn write(pool: &mut Pool) -> Write {
    pool.write(PLENTY, |bytes| bytes)
}

fn commit(pool: &mut Pool, now: Instant) -> Receipts {
    let write = write(pool);
    pool.written(now, &write)
}

fn numbers(write: &Write) -> Vec<(LaneId, u64)> {
    write.rows.iter().map(|row| (row.chunk.lane, row.number)).collect()
}

#[test]
fn what_is_confirmed_within_hold_is_never_written() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    assert_eq!(pool.due(), Some(now + HOLD));

    let receipts = pool.forget(now, LANE, &delivered(0, 100));

    assert_eq!(receipts, [(SOURCE, 1)]);
    assert_eq!((pool.due(), pool.memory()), (None, 0));
    assert!(write(&mut pool).is_empty());
}

#[test]
fn readings_that_no_stream_takes_are_no_more_to_remember_while_the_disk_can_not_be_written() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    assert!(!write(&mut pool).is_empty());
    for up_to in 2..100 {
        assert_eq!(pool.append(group(now, up_to, vec![])), [], "they are safe with what is before them");
    }
    assert_eq!(pool.groups.len(), 2, "what is being written stays as it is");

    pool.failed(now);
    (100..200).for_each(|up_to| drop(pool.append(group(now, up_to, vec![]))));
    assert_eq!(pool.groups.len(), 2);

    let again = write(&mut pool);
    let kept: Vec<u16> = again.receipts[0].fingerprints.iter().map(|publish| publish.packet).collect();
    assert_eq!(kept, [197, 198, 199], "the window of what their sender may repeat");
    assert_eq!(pool.written(now, &again), [(SOURCE, 199)]);
}

#[test]
fn what_has_waited_for_hold_is_written_with_everything_behind_it() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    pool.append(group(now + HOLD / 2, 2, vec![chunk(LANE, 100), chunk(OTHER, 100)]));

    let write = write(&mut pool);

    assert_eq!(numbers(&write), [(LANE, 0), (LANE, 1), (OTHER, 0)]);
    assert!(pool.is_writing());
    assert_eq!(pool.written(now, &write), [(SOURCE, 2)]);
    assert!(!pool.is_writing());
    assert_eq!(pool.due(), None);
}

#[test]
fn half_of_the_memory_and_a_request_do_not_wait_for_hold() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 4_999)]));
    assert_eq!(pool.due(), Some(now + HOLD));
    pool.append(group(now, 2, vec![chunk(LANE, 1)]));
    assert_eq!(pool.due(), Some(now));

    let mut pool = self::pool();
    pool.append(group(now, 1, vec![chunk(LANE, 1)]));
    pool.ask();
    assert_eq!(pool.due(), Some(now));
}

#[test]
fn a_receipt_never_runs_ahead_of_an_earlier_reading() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    pool.append(group(now, 2, vec![chunk(OTHER, 100)]));

    assert_eq!(pool.forget(now, OTHER, &delivered(0, 100)), []);
    assert_eq!(pool.forget(now, LANE, &delivered(0, 100)), [(SOURCE, 2)]);
}

#[test]
fn a_reading_that_goes_to_two_lanes_is_safe_when_both_have_it() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100), chunk(OTHER, 100)]));

    assert_eq!(pool.forget(now, LANE, &delivered(0, 100)), []);
    assert_eq!(commit(&mut pool, now), [(SOURCE, 1)]);
}

#[test]
fn a_chunk_that_was_confirmed_while_it_was_written_is_deleted_afterwards() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    let first = write(&mut pool);
    pool.forget(now, LANE, &delivered(0, 100));

    pool.written(now, &first);

    assert_eq!(pool.due(), Some(now + Duration::from_secs(1)));
    let deletes = write(&mut pool).deletes;
    assert_eq!(deletes.iter().map(|delete| (delete.from, delete.up_to)).collect::<Vec<_>>(), [(0, 0)]);
}

#[test]
fn a_failed_commit_is_repeated_with_the_same_numbers() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    let first = write(&mut pool);
    let expected = numbers(&first);

    pool.failed(now);

    assert!(pool.due().is_some_and(|due| due > now));
    pool.append(group(now, 2, vec![chunk(LANE, 100)]));
    assert_eq!(numbers(&write(&mut pool))[..1], expected);
}

#[test]
fn what_was_delivered_of_a_chunk_is_not_sent_again() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    let half = Delivered { readings: 1, bytes: 60, up_to: Position { number: 0, offset: 60, readings: 1 } };

    assert_eq!(pool.forget(now, LANE, &half), [], "half of a chunk is not safe");

    let Oldest::InMemory(taken) = pool.oldest(LANE, PLENTY) else { panic!("it is in memory") };
    assert_eq!((taken.pieces[0].data.len(), taken.pieces[0].readings), (40, 1));
    assert_eq!(taken.pieces[0].position, half.up_to);
    assert_eq!(pool.lane_waiting(LANE).0, Earlier { readings: 1, bytes: 40 });
}

#[test]
fn written_chunks_leave_memory_when_they_take_more_than_a_quarter_of_it() {
    let (mut pool, now) = (pool(), Instant::now());
    (1..=3).for_each(|n| drop(pool.append(group(now, n, vec![chunk(LANE, 2_000)]))));
    commit(&mut pool, now);

    assert_eq!(pool.memory(), 2_000);
    assert!(matches!(pool.oldest(LANE, PLENTY), Oldest::OnDisk(Position { number: 0, .. })));
}

#[test]
fn a_full_memory_has_no_room_and_a_written_one_has() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 9_999)]));
    assert!(pool.has_room(["s"].into_iter(), 0));
    assert!(!pool.has_room(["s"].into_iter(), 1));
    commit(&mut pool, now);
    assert!(pool.has_room(["s"].into_iter(), 1));
}

#[test]
fn a_commit_keeps_the_fingerprints_of_what_is_safe_with_it_as_many_as_the_window_has() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 10)]));
    pool.forget(now, LANE, &delivered(0, 10));
    (2..=5).for_each(|n| drop(pool.append(group(now, n, vec![chunk(LANE, 10)]))));

    let receipts = write(&mut pool).receipts;

    let packets: Vec<u16> = receipts[0].fingerprints.iter().map(|fingerprint| fingerprint.packet).collect();
    assert_eq!(packets, [3, 4, 5]);
}

#[test]
fn a_transaction_holds_whole_groups_and_no_more_than_there_is_room_for() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100), chunk(OTHER, 100)]));
    pool.append(group(now, 2, vec![chunk(LANE, 100)]));

    let some = pool.write(250, |bytes| bytes);

    assert_eq!(numbers(&some), [(LANE, 0), (OTHER, 0)]);
    assert_eq!(some.receipts[0].fingerprints.len(), 1, "the second group's fingerprints are not in it");
    assert_eq!(pool.written(now, &some), [(SOURCE, 1)]);
    assert!(pool.write(0, |bytes| bytes).is_empty());
    assert_eq!(pool.due(), None, "without room nothing is due until something is deleted");
    pool.forget(now, LANE, &delivered(0, 100));
    assert_eq!(pool.due(), Some(now));
}

#[test]
fn a_full_buffer_looks_again_when_what_was_on_its_way_waits_again() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.append(group(now, 1, vec![chunk(LANE, 100)]));
    commit(&mut pool, now);
    pool.oldest(LANE, PLENTY);
    pool.append(group(now, 2, vec![chunk(LANE, 100)]));
    assert!(pool.make_room(0, |bytes| bytes).is_none() && pool.write(0, |bytes| bytes).is_empty());
    assert_eq!(pool.due(), None);

    pool.release(LANE);

    assert_eq!(pool.due(), Some(now + HOLD));
    assert!(pool.make_room(0, |bytes| bytes).is_some());
}

#[test]
fn keys_take_memory_too() {
    let (mut pool, now) = (pool(), Instant::now());
    let keys = Some(std::iter::repeat_n("k".repeat(100), 50).collect());
    pool.append(group(now, 1, vec![Chunk { keys, ..chunk(LANE, 100) }]));
    assert!(pool.memory() > 5_000);
    assert_eq!(pool.due(), Some(now), "half of the memory is used");
}
