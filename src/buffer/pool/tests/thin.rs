use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    buffer::{
        pool::thin::{MAX_LEVEL, Pass},
        store::Head,
    },
    config::{Encoding, PayloadFormat, WhenFull},
    record::{
        Envelope, Members, PayloadReader,
        kpl::{HashKeyUse, first_record, put_record},
        names_of,
    },
    status::Reason,
};

/// `n` readings of `topics` in turn, from number `first_seq` on.
fn readings(encoding: Encoding, first_seq: u64, n: u64, topics: u64) -> Chunk {
    let mut data = Vec::new();
    let reader = PayloadReader { format: PayloadFormat::Text, timestamp: None };
    for seq in first_seq..first_seq + n {
        let envelope = Envelope::new(encoding, "gw", RunId(7), "s/0", "broker", &format!("t/{}", seq % topics));
        let mut record = Vec::new();
        let members = Members { seq, arrived: Timestamp(5), unsure: false, dup: false, previous: None };
        envelope.encode(&mut record, &members, seq.to_string().as_bytes(), &reader);
        put_record(&mut data, 0, HashKeyUse::None, &record);
    }
    Chunk { readings: n, first_seq, data: data.into(), ..chunk(LANE, 0) }
}

fn head(number: u64, chunk: &Chunk, gap: Option<Gap>) -> Head {
    Head {
        number,
        readings: chunk.readings,
        bytes: chunk.data.len() as u64,
        arrived: chunk.arrived,
        earlier: Earlier { readings: chunk.first_seq, bytes: 0 },
        run: chunk.run,
        first_seq: chunk.first_seq,
        unsure: chunk.unsure,
        gap,
    }
}

/// Topic and number of each reading in `chunk`, in order.
fn names(chunk: &Chunk) -> Vec<(String, u64)> {
    let mut fields = &chunk.data[..];
    let mut names = Vec::new();
    while let Ok(record) = first_record(fields) {
        names.extend(names_of(record.data).map(|(topic, seq)| (topic.into_owned(), seq)));
        fields = &fields[record.field_len..];
    }
    names
}

/// Checks that of each of `topics` topics one of `step` is in `names`, evenly.
fn even(names: &[(String, u64)], topics: u64, step: u64, n: u64) {
    for topic in 0..topics {
        let seqs: Vec<u64> = names.iter().filter(|(name, _)| *name == format!("t/{topic}")).map(|(_, seq)| *seq).collect();
        assert!(seqs.windows(2).all(|pair| pair[1] - pair[0] == topics * step), "{topic}: {seqs:?}");
        let expected = n / topics / step;
        assert!((expected..=expected + 1).contains(&(seqs.len() as u64)), "{topic}: {seqs:?}");
    }
}

fn thinning() -> Pool {
    let mut pool = pool();
    let rules = StreamRules { when_full: WhenFull::Thin, ..StreamRules::default() };
    pool.policy.streams = [("s".to_owned(), rules)].into();
    pool
}

#[test]
fn every_second_reading_of_each_topic_stays_as_it_was_behind_one_notice() {
    for encoding in [Encoding::Cbor, Encoding::Json] {
        let mut pool = thinning();
        pool.policy.streams.values_mut().for_each(|rules| rules.encoding = encoding);
        let chunk = readings(encoding, 10, 24, 4);

        let rewrite = pool.thin(&mut Phases::default(), 1, None, (head(3, &chunk, None), &chunk)).unwrap().unwrap();

        even(&names(&rewrite.chunk), 4, 2, 24);
        let notice = first_record(&rewrite.chunk.data).unwrap();
        assert_eq!(names_of(notice.data), None, "the notice comes first");
        let mut stayed = &rewrite.chunk.data[notice.field_len..];
        while let Ok(record) = first_record(stayed) {
            let (field, others) = stayed.split_at(record.field_len);
            assert!(chunk.data.windows(field.len()).any(|bytes| bytes == field), "bytes stay as they were");
            stayed = others;
        }
        assert_eq!((rewrite.chunk.readings, rewrite.gap.readings, rewrite.gap.last, rewrite.gap.level), (12, 12, 33, 1));
    }
}

#[test]
fn what_was_thinned_before_is_thinned_on_and_its_notice_renewed() {
    let (pool, chunk) = (thinning(), readings(Encoding::Cbor, 0, 32, 2));
    let mut phases = Phases::default();
    let once = pool.thin(&mut phases, 1, None, (head(0, &chunk, None), &chunk)).unwrap().unwrap();

    let again = pool.thin(&mut phases, 3, None, (head(0, &once.chunk, Some(once.gap)), &once.chunk)).unwrap().unwrap();

    even(&names(&again.chunk), 2, 8, 32);
    assert_eq!((again.gap.readings, again.gap.level, again.chunk.notice), (28, 3, true));
}

#[test]
fn a_topic_with_one_reading_in_each_chunk_is_thinned_too() {
    let (pool, mut phases) = (thinning(), Phases::default());
    let mut left = Vec::new();
    for n in 0..8 {
        let chunk = readings(Encoding::Cbor, n * 100, 100, 100);
        let thinned = pool.thin(&mut phases, 2, None, (head(n, &chunk, None), &chunk)).unwrap().unwrap();
        assert!((10..40).contains(&thinned.chunk.readings), "not all of a chunk stay, or go: {}", thinned.chunk.readings);
        left.extend(names(&thinned.chunk));
    }
    even(&left, 100, 4, 800);
}

#[test]
fn a_chunk_whose_readings_all_stay_was_halved_too() {
    let (pool, mut phases) = (thinning(), Phases::default());
    let thinned = |phases: &mut Phases, number: u64| {
        let chunk = readings(Encoding::Cbor, number, 1, 1);
        pool.thin(phases, 1, None, (head(number, &chunk, None), &chunk)).unwrap().unwrap()
    };
    let (one, other) = (thinned(&mut phases, 0), thinned(&mut phases, 1));
    let (stays, goes) = if one.chunk.readings == 1 { (one, other) } else { (other, one) };

    assert_eq!((stays.gap.readings, stays.gap.level, stays.chunk.notice), (0, 1, false));
    assert_eq!((goes.gap.readings, goes.gap.level, goes.chunk.notice), (1, 1, true));
}

#[test]
fn small_neighbours_are_joined() {
    let (mut pool, mut phases, now) = (thinning(), Phases::default(), Instant::now());
    let chunks = [readings(Encoding::Cbor, 0, 20, 2), readings(Encoding::Cbor, 20, 20, 2)];
    chunks.iter().for_each(|chunk| drop(pool.append(group(now, 1, vec![chunk.clone()]))));
    commit(&mut pool, now);
    let first = pool.thin(&mut phases, 1, None, (head(0, &chunks[0], None), &chunks[0])).unwrap().unwrap();
    pool.rewritten(&first);
    let before = head(0, &first.chunk, Some(first.gap));

    let (joined, next) = pool.plan_thin(LANE, 1, Some(before), &[head(1, &chunks[1], None)]).unwrap();
    let both = pool.thin(&mut phases, 1, Some((joined.unwrap(), &first.chunk)), (next, &chunks[1])).unwrap().unwrap();
    pool.rewritten(&both);

    assert_eq!((both.from, both.number, both.chunk.readings, both.gap.readings), (0, 1, 20, 20));
    assert_eq!((both.chunk.first_seq, both.gap.last), (0, 39));
    assert_eq!(pool.lane_waiting(LANE).0, Earlier { readings: 20, bytes: both.chunk.data.len() as u64 });
}

#[test]
fn keys_of_their_own_stay_with_their_readings() {
    let (mut pool, mut phases) = (thinning(), Phases::default());
    let lane = &mut pool.lanes.get_mut(&LANE).unwrap().lane.layout;
    lane.template = Some("{topic}".into());
    let keyed = |first_seq: u64, keys: [&str; 2]| {
        let mut data = Vec::new();
        (0..8).for_each(|n: u8| put_record(&mut data, u32::from(n % 2), HashKeyUse::None, &[n]));
        Chunk { readings: 8, first_seq, keys: Some(keys.map(String::from).into()), data: data.into(), ..chunk(LANE, 0) }
    };
    let (one, two) = (keyed(0, ["x", "y"]), keyed(8, ["z", "x"]));
    let first = pool.thin(&mut phases, 1, None, (head(0, &one, None), &one)).unwrap().unwrap();
    let before = head(0, &first.chunk, Some(first.gap));

    let both = pool.thin(&mut phases, 1, Some((before, &first.chunk)), (head(1, &two, None), &two)).unwrap().unwrap();

    let keys = both.chunk.keys.clone().unwrap();
    let mut fields = &both.chunk.data[..];
    let mut read = Vec::new();
    while let Ok(record) = first_record(fields) {
        read.push((keys[record.partition_key as usize].as_str(), record.data.to_vec()));
        fields = &fields[record.field_len..];
    }
    assert_eq!(read.remove(0).0, "k", "the notice has the lane's own key");
    // Raw readings have no topic but their key.
    let of = |key: &str| read.iter().filter(|(known, _)| *known == key).map(|(_, data)| data[0]).collect::<Vec<_>>();
    assert_eq!([of("x").len(), of("y").len(), of("z").len()], [4, 2, 2]);
    assert!(of("x")[..2].iter().all(|n| n % 2 == 0) && of("x")[2..].iter().all(|n| n % 2 == 1), "{read:?}");
    assert!(of("y").iter().all(|n| n % 2 == 1) && of("z").iter().all(|n| n % 2 == 0), "{read:?}");
}

#[test]
fn a_pass_goes_from_the_oldest_to_the_newest_and_then_begins_anew() {
    let mut pass = Pass::default();
    assert_eq!(pass.next(0, 3), Some((0, 0)), "the file is asked first");
    let mut pool = thinning();
    pool.surveyed(LANE, 0, 0);
    let pass = &mut pool.lanes.get_mut(&LANE).unwrap().thinned;

    let mut seen = Vec::new();
    while let Some((at, level)) = pass.next(0, 3) {
        seen.push((at, level));
        pass.passed(at, Timestamp(5));
    }

    let passes = (1..=MAX_LEVEL).flat_map(|level| (0..3).map(move |at| (at, level)));
    assert_eq!(seen, passes.collect::<Vec<_>>());
}

#[test]
fn a_chunk_that_was_halved_often_enough_is_passed() {
    let (mut pool, now) = (thinning(), Instant::now());
    (0..3).for_each(|n| drop(pool.append(group(now, n + 1, vec![chunk(LANE, 10)]))));
    commit(&mut pool, now);
    pool.surveyed(LANE, 2, 0);
    let of = |level| Gap { readings: 1, bytes: 0, last: 9, why: Reason::Thin, level, notice: true };
    let heads = [(0, Some(of(2))), (1, Some(of(1))), (2, None)].map(|(number, gap)| head(number, &chunk(LANE, 10), gap));

    let (_, next) = pool.plan_thin(LANE, 2, None, &heads).unwrap();
    assert_eq!(next.number, 1);

    assert!(pool.plan_thin(LANE, 2, None, &heads[..1]).is_none());
    assert!(matches!(pool.make_room(0, |bytes| bytes), Some(GiveWay::Thin { from: 1, level: 2, .. })));
}

#[test]
fn lanes_are_thinned_side_by_side() {
    let (mut pool, now) = (thinning(), Instant::now());
    for n in 0..3 {
        let of = |lane: LaneId, arrived: i64| Chunk { arrived: Timestamp(arrived), ..chunk(lane, 10) };
        pool.append(group(now, 1, vec![of(LANE, 10 * n), of(OTHER, 10 * n + 5)]));
    }
    commit(&mut pool, now);
    [LANE, OTHER].iter().for_each(|lane| pool.surveyed(*lane, 1, 0));

    let mut turns = Vec::new();
    for _ in 0..6 {
        let Some(GiveWay::Thin { lane, from, .. }) = pool.make_room(0, |bytes| bytes) else { panic!("there is more") };
        let arrived = 10 * from.cast_signed() + if lane == LANE { 0 } else { 5 };
        turns.push((lane, from));
        pool.skip(lane, &Head { arrived: Timestamp(arrived), ..head(from, &chunk(lane, 10), None) });
    }

    turns.sort_unstable();
    let each = [LANE, OTHER].into_iter().flat_map(|lane| (0..3).map(move |n| (lane, n)));
    assert_eq!(turns, each.collect::<Vec<_>>(), "one pass over both before the next");
}

#[test]
fn what_is_corrected_later_is_thinned_and_stays_so_and_joins_only_its_like() {
    let (mut pool, mut phases, now) = (thinning(), Phases::default(), Instant::now());
    let unsure = |set: i64| Some(Unsure { boot: Boot(1), set: Setting(set) });
    let chunks =
        [(0, 1), (10, 1), (10, 2)].map(|(first, set)| Chunk { unsure: unsure(set), ..readings(Encoding::Cbor, first, 10, 1) });
    chunks[..2].iter().for_each(|chunk| drop(pool.append(group(now, 1, vec![chunk.clone()]))));
    commit(&mut pool, now);
    // The file knows better by now when they arrived.
    let corrected = |number: u64, chunk: &Chunk, gap| Head { arrived: Timestamp(9_000), ..head(number, chunk, gap) };

    let one = pool.thin(&mut phases, 1, None, (corrected(0, &chunks[0], None), &chunks[0])).unwrap().unwrap();
    assert_eq!((one.chunk.unsure, one.chunk.arrived), (unsure(1), Timestamp(5)), "what the clock said is what is corrected");

    let before = corrected(0, &one.chunk, Some(one.gap));
    let mut joins = |chunk: &Chunk| pool.plan_thin(LANE, 1, Some(before), &[corrected(1, chunk, None)]).unwrap().0.is_some();
    assert!(joins(&chunks[1]));
    assert!(!joins(&chunks[2]));
}

proptest! {
    #[test]
    fn what_was_thinned_is_thinned_on_evenly_and_nothing_of_it_goes_uncounted(
        json: bool, topics in 1..6_u64, sizes in vec(1..40_u64, 1..5), rises in vec(1..4_u8, 1..4),
    ) {
        let encoding = if json { Encoding::Json } else { Encoding::Cbor };
        let mut pool = thinning();
        pool.policy.streams.values_mut().for_each(|rules| rules.encoding = encoding);
        let mut phases = Phases::default();
        let mut first = 0;
        let whole: Vec<Chunk> = sizes.iter().map(|n| {
            first += n;
            readings(encoding, first - n, *n, topics)
        }).collect();
        let mut rows: Vec<(Chunk, Option<Gap>)> = whole.iter().map(|chunk| (chunk.clone(), None)).collect();
        let of_topic = |rows: &[(Chunk, Option<Gap>)], topic: u64| -> Vec<u64> {
            let all = rows.iter().flat_map(|(chunk, _)| names(chunk));
            all.filter(|(name, _)| *name == format!("t/{topic}")).map(|(_, seq)| seq).collect()
        };
        let mut level = 0;
        for rise in rises {
            let before: Vec<Vec<u64>> = (0..topics).map(|topic| of_topic(&rows, topic)).collect();
            level += rise;
            // What nothing is left of is passed.
            for (number, (row, gap)) in (0..).zip(&mut rows).filter(|(_, (row, _))| row.readings > 0) {
                let thinned = pool.thin(&mut phases, level, None, (head(number, row, *gap), row)).unwrap().unwrap();
                (*row, *gap) = (thinned.chunk, Some(thinned.gap));
            }
            for (before, topic) in before.iter().zip(0..) {
                let (now, step) = (of_topic(&rows, topic), 1 << rise);
                let even = (0..step).any(|skipped| before.iter().skip(skipped).step_by(step).eq(&now));
                prop_assert!(even, "of {before:?} stay {now:?}");
            }
            for ((row, gap), whole) in rows.iter().zip(&whole) {
                let Some(gap) = gap else { continue };
                let stays = names(row);
                prop_assert_eq!(stays.len() as u64, row.readings);
                prop_assert_eq!(row.readings + gap.readings, whole.readings);
                prop_assert_eq!(gap.last, whole.first_seq + whole.readings - 1);
                prop_assert_eq!(row.notice, gap.readings > 0);
                if row.notice {
                    let notice = row.notice().unwrap();
                    prop_assert_eq!((notice.from, notice.to, notice.n), (whole.first_seq, gap.last, gap.readings));
                }
            }
        }
    }
}
