use bytes::Bytes;

use super::*;
use crate::{
    clock::{Boot, Setting},
    random::Random,
    reading::Timestamp,
    record::kpl::{HashKeyUse, put_record},
};

const PLENTY: Room = Room { records: 500, bytes: 1 << 20 };

fn layout() -> Layout {
    Layout { stream: "s".into(), number: 0, of: 2, partition_key: "gw/s/0".into(), hash_key: Some(7), template: None }
}

fn piece(number: u64, texts: &[&str]) -> Piece {
    let mut data = Vec::new();
    texts.iter().for_each(|text| put_record(&mut data, 0, HashKeyUse::First, text.as_bytes()));
    Piece {
        position: Position { number, ..Position::default() },
        readings: texts.len() as u64,
        arrived: Timestamp(0),
        unsure: None,
        notice: false,
        keys: None,
        data: Bytes::from(data),
    }
}

fn texts(plain: &Plain) -> Vec<&str> {
    plain.records.iter().map(|record| std::str::from_utf8(&record.data).unwrap()).collect()
}

/// What of `pieces` lies behind `position`.
fn rest(pieces: &[Piece], position: Position) -> Vec<Piece> {
    let behind = pieces.iter().filter(|piece| piece.position.number >= position.number);
    let cut = |piece: &Piece| {
        let offset = if piece.position.number == position.number {
            position
        } else {
            Position { number: piece.position.number, ..Position::default() }
        };
        Piece {
            position: offset,
            readings: piece.readings - offset.readings,
            notice: piece.notice && offset.offset == 0,
            data: piece.data.slice(usize::try_from(offset.offset).unwrap()..),
            ..piece.clone()
        }
    };
    behind.map(cut).collect()
}

fn all(pieces: &[Piece], known: &OutOfTurn) -> Plain {
    choose(&layout(), pieces, known, Ask::ALL, PLENTY, |_| None).unwrap()
}

#[test]
fn each_reading_is_a_record_with_its_own_key_or_its_lanes_and_the_hash_key_of_the_lane() {
    let mut keyed = piece(1, &[]);
    let mut data = Vec::new();
    put_record(&mut data, 1, HashKeyUse::First, b"keyed");
    (keyed.readings, keyed.keys, keyed.data) = (1, Some(["x".to_owned(), "y".to_owned()].into()), data.into());

    let plain = all(&[piece(0, &["a", ""]), keyed], &OutOfTurn::default());

    let record = |key: &str, text: &str| Record { partition_key: key.into(), explicit_hash_key: Some(7), data: text.into() };
    assert_eq!(plain.records, [record("gw/s/0", "a"), record("gw/s/0", ""), record("y", "keyed")]);
}

#[test]
fn only_what_was_refused_goes_again_with_what_follows_it_and_the_buffer_forgets_what_is_before_the_first_hole() {
    let pieces = [piece(4, &["a", "b", "c"]), piece(5, &["d", "e"])];
    let mut known = OutOfTurn::default();

    let plain = all(&pieces, &known);
    let forgotten = plain.sent.settle(|nth| nth != 1 && nth != 3, &mut known).unwrap();
    assert_eq!((forgotten.readings, forgotten.up_to.number, forgotten.up_to.readings, known.end()), (1, 4, 1, 6));

    let (left, more) = (rest(&pieces, forgotten.up_to), piece(6, &["f"]));
    let plain = all(&[left, vec![more.clone()]].concat(), &known);
    assert_eq!(texts(&plain), ["b", "d", "f"]);
    let forgotten = plain.sent.settle(|nth| nth < 2, &mut known).unwrap();
    assert_eq!((forgotten.readings, forgotten.up_to), (4, Position { number: 6, ..Position::default() }));
    assert_eq!((known.is_empty(), known.end(), known.and(0)), (true, 0, 0));

    assert_eq!(texts(&all(&[more], &known)), ["f"]);
}

#[test]
fn whatever_is_refused_every_reading_is_accepted_once_and_forgotten_when_all_before_it_are() {
    for seed in 0..15 {
        let mut random = Random::new(seed);
        let names: Vec<String> =
            (0..1500).map(|n| format!("{n}{}", "x".repeat(usize::try_from(random.bits() % 900).unwrap()))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pieces: Vec<Piece> = (0..).zip(names.chunks(37)).map(|(number, texts)| piece(number, texts)).collect();
        let total: u64 = pieces.iter().map(|piece| piece.data.len() as u64).sum();
        let (mut known, mut position, mut accepted) = (OutOfTurn::default(), Position::default(), Vec::new());
        let mut forgotten = Delivered { readings: 0, bytes: 0, up_to: position };
        let refuses = random.fraction() * 0.9;
        while forgotten.bytes < total {
            // As much as the buffer gives.
            let (mut bytes, at_most) = (0, known.and(100_000));
            let given: Vec<Piece> = rest(&pieces, position)
                .into_iter()
                .take_while(|piece| {
                    let more = bytes < at_most;
                    bytes += piece.data.len() as u64;
                    more
                })
                .collect();
            let plain = choose(&layout(), &given, &known, Ask::ALL, Room { records: 500, bytes: 100_000 }, |_| None).unwrap();
            assert!((1..=500).contains(&plain.records.len()));
            assert!(known.accepted.len() <= MOST_RECORDS);
            let fates: Vec<bool> = plain.records.iter().map(|_| random.fraction() >= refuses).collect();
            accepted.extend(texts(&plain).iter().zip(&fates).filter(|(_, fate)| **fate).map(|(text, _)| (*text).to_owned()));
            if let Some(delivered) = plain.sent.settle(|nth| fates[nth], &mut known) {
                forgotten.readings += delivered.readings;
                forgotten.bytes += delivered.bytes;
                position = delivered.up_to;
            }
            let waiting = rest(&pieces, position).iter().map(|piece| piece.readings).sum::<u64>();
            assert_eq!(forgotten.readings + waiting, 1500);
            assert_eq!(accepted.len() as u64, forgotten.readings + known.accepted.len() as u64);
        }
        accepted.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(accepted, names, "seed {seed}");
        assert!(known.is_empty());
    }
}

#[test]
fn a_request_has_room_for_so_many_records_and_bytes_and_one_record_goes_whatever_its_size() {
    let pieces = [piece(0, &["a", &"b".repeat(1000), "c"])];
    let chosen = |records, bytes| {
        let room = Room { records, bytes };
        choose(&layout(), &pieces, &OutOfTurn::default(), Ask::ALL, room, |_| None).unwrap().records.len()
    };
    assert_eq!([chosen(1, 1 << 20), chosen(2, 1 << 20), chosen(9, 1 << 20)], [1, 2, 3]);
    assert_eq!([chosen(9, 0), chosen(9, 1000), chosen(9, 1200)], [1, 1, 2]);
}

#[test]
fn a_reading_that_is_refused_again_and_again_holds_up_a_bounded_part_of_its_lane() {
    for text in ["x".to_owned(), "y".repeat(100_000)] {
        let pieces: Vec<Piece> = (0..200).map(|number| piece(number, &[text.as_str(); 10])).collect();
        let (mut known, mut sent) = (OutOfTurn::default(), 0);
        for _ in 0..100 {
            let plain = all(&pieces, &known);
            sent += plain.records.len();
            assert_eq!(plain.sent.settle(|nth| nth != 0, &mut known), None);
        }
        assert!(
            known.accepted.len() < MOST_RECORDS && known.span < MOST_BYTES + 200_000,
            "{} and {}",
            known.accepted.len(),
            known.span
        );
        assert_eq!(sent, known.accepted.len() + 100, "the first again and again, the others once");
    }
}

#[test]
fn a_search_asks_for_readings_that_are_not_accepted() {
    let pieces = [piece(0, &["a", "b", "c", "d", "e"])];
    let mut known = OutOfTurn::default();
    all(&pieces, &known).sent.settle(|nth| nth == 1 || nth == 3, &mut known);
    let asked = |skip, most| {
        let plain = choose(&layout(), &pieces, &known, Ask { skip, most }, PLENTY, |_| None).unwrap();
        texts(&plain).concat()
    };
    assert_eq!([asked(0, 1), asked(0, 2), asked(1, 1), asked(2, 9), asked(3, 1)], ["a", "ac", "c", "e", ""]);
}

#[test]
fn when_the_reading_at_the_hole_is_set_aside_those_behind_it_are_still_known() {
    let pieces = [piece(7, &["a", "bad", "c", "d"]), piece(8, &["e", "f"])];
    let mut known = OutOfTurn::default();
    let sent = all(&pieces, &known).sent;
    let forgotten = sent.settle(|nth| nth != 1 && nth != 3, &mut known).unwrap();
    assert_eq!(forgotten.readings, 1);

    known.set_aside();

    // What the buffer has then.
    let pieces = [piece(7, &["c", "d"]), pieces[1].clone()];
    let plain = all(&pieces, &known);
    assert_eq!(texts(&plain), ["d"]);
    let forgotten = plain.sent.settle(|_| true, &mut known).unwrap();
    assert_eq!((forgotten.readings, forgotten.up_to), (4, Position { number: 9, ..Position::default() }));
    assert_eq!(forgotten.bytes, pieces.iter().map(|piece| piece.data.len() as u64).sum::<u64>());
}

#[test]
fn a_notice_is_a_record_and_no_reading() {
    let mut thinned = piece(3, &["notice", "a", "b"]);
    (thinned.readings, thinned.notice) = (2, true);
    let mut known = OutOfTurn::default();

    let plain = all(&[thinned.clone()], &known);
    assert_eq!((plain.records.len(), plain.sent.readings), (3, 2));
    let forgotten = plain.sent.settle(|nth| nth < 2, &mut known).unwrap();
    assert_eq!((forgotten.readings, forgotten.up_to.readings), (1, 1));

    let plain = all(&rest(&[thinned], forgotten.up_to), &known);
    assert_eq!((texts(&plain), plain.sent.readings), (vec!["b"], 1));
}

#[test]
fn what_a_corrupt_chunk_took_with_it_is_forgotten() {
    let pieces = [piece(0, &["a", "b"]), piece(1, &["c", "d"]), piece(2, &["e"])];
    let mut known = OutOfTurn::default();
    all(&pieces, &known).sent.settle(|nth| nth != 0 && nth != 2, &mut known);
    assert_eq!(known.accepted.len(), 3);

    let left = all(&pieces[1..], &known);
    assert_eq!(texts(&left), ["c"]);
    assert_eq!(left.sent.settle(|_| true, &mut known).unwrap().readings, 3);
    assert!(known.is_empty());
}

#[test]
fn what_the_buffer_did_not_hand_out_is_still_known() {
    let pieces = [piece(0, &["a", "b"]), piece(1, &["c", "d"])];
    let mut known = OutOfTurn::default();
    all(&pieces, &known).sent.settle(|nth| nth == 3, &mut known);

    // The one is on the disk, the other still in memory.
    let forgotten = all(&pieces[..1], &known).sent.settle(|_| true, &mut known).unwrap();
    assert_eq!((forgotten.readings, known.end(), known.and(0)), (2, 2, pieces[1].data.len() as u64));

    assert_eq!(texts(&all(&pieces[1..], &known)), ["c"]);
}

#[test]
fn readings_of_a_wrong_clock_are_corrected() {
    let line = |clk: &str, ts: u64| format!("{{\"v\":1,\"seq\":1,\"ts\":{ts},\"clk\":\"{clk}\",\"val\":1}}\n");
    let early = Piece { unsure: Some(Unsure { boot: Boot(1), set: Setting(0) }), ..piece(0, &[&line("unsure", 5)]) };

    let plain = choose(&layout(), &[early], &OutOfTurn::default(), Ask::ALL, PLENTY, |_| Some(1000)).unwrap();

    assert_eq!(texts(&plain), [line("corrected", 1005)]);
}
