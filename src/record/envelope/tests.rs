use std::collections::BTreeMap;

use serde_cbor::Value as Cbor;
use serde_json::{Value as Json, json};

use super::*;

const MEMBERS_OF_A_LATER_READING: Members =
    Members { seq: 7, arrived: Timestamp(1_700_000_000_123), unsure: false, dup: false, previous: None };

fn reader(format: PayloadFormat) -> PayloadReader {
    PayloadReader { format, timestamp: None }
}

fn encode(encoding: Encoding, members: &Members, payload: &[u8], reader: &PayloadReader) -> Vec<u8> {
    let envelope = Envelope::new(encoding, "gw-1", RunId(0xAB), "readings/0", "broker", "plant/1/temp");
    let mut out = Vec::new();
    envelope.encode(&mut out, members, payload, reader);
    out
}

fn cbor(members: &Members, payload: &[u8], reader: &PayloadReader) -> BTreeMap<String, Cbor> {
    serde_cbor::from_slice(&encode(Encoding::Cbor, members, payload, reader)).unwrap()
}

fn json(members: &Members, payload: &[u8], reader: &PayloadReader) -> Json {
    let line = encode(Encoding::Json, members, payload, reader);
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
    serde_json::from_slice(&line).unwrap()
}

#[test]
fn a_reading_has_the_members_of_the_table_in_both_encodings() {
    let expected = json!({"v": 1, "dev": "gw-1", "run": "00000000000000ab", "lane": "readings/0", "src": "broker",
        "topic": "plant/1/temp", "seq": 7, "ts": 1_700_000_000_123_i64, "val": {"t": 21.5, "ok": true}});
    let payload = b"{\"t\": 21.5,\n \"ok\": true}";

    assert_eq!(json(&MEMBERS_OF_A_LATER_READING, payload, &reader(PayloadFormat::Json)), expected);
    let map = cbor(&MEMBERS_OF_A_LATER_READING, payload, &reader(PayloadFormat::Json));
    assert_eq!(serde_json::to_value(map).unwrap(), expected);
}

#[test]
fn its_own_time_takes_the_place_of_the_arrival_which_moves_to_rx() {
    let reader = PayloadReader { format: PayloadFormat::Json, timestamp: Some("/at/ms".into()) };

    let map = json(&MEMBERS_OF_A_LATER_READING, b"{\"at\":{\"ms\":-5}}", &reader);
    assert_eq!((&map["ts"], &map["rx"]), (&json!(-5), &json!(1_700_000_000_123_i64)));
    let map = cbor(&MEMBERS_OF_A_LATER_READING, b"{\"at\":{\"ms\":-5}}", &reader);
    assert_eq!((&map["ts"], &map["rx"]), (&Cbor::Integer(-5), &Cbor::Integer(1_700_000_000_123)));

    let map = json(&MEMBERS_OF_A_LATER_READING, b"{}", &reader);
    assert_eq!((&map["ts"], map.get("rx")), (&json!(1_700_000_000_123_i64), None));
}

#[test]
fn the_first_reading_of_a_run_says_where_the_lane_stood_and_a_doubtful_one_that_it_is() {
    let first = Members { seq: 0, dup: true, previous: Some(Previous { run: RunId(1), seq: 99 }), ..MEMBERS_OF_A_LATER_READING };

    let map = json(&first, b"1", &reader(PayloadFormat::Json));
    assert_eq!((&map["prev"], &map["dup"]), (&json!({"run": "0000000000000001", "seq": 99}), &json!(true)));
    let map = cbor(&first, b"1", &reader(PayloadFormat::Json));
    assert_eq!(serde_json::to_value(&map["prev"]).unwrap(), json!({"run": "0000000000000001", "seq": 99}));
}

#[test]
fn bytes_stay_bytes_in_cbor_and_become_base64_in_json() {
    assert_eq!(cbor(&MEMBERS_OF_A_LATER_READING, &[0, 255], &reader(PayloadFormat::Bytes))["val"], Cbor::Bytes(vec![0, 255]));
    assert_eq!(json(&MEMBERS_OF_A_LATER_READING, &[0, 255], &reader(PayloadFormat::Bytes))["val"], json!("AP8="));
    let payload = serde_cbor::to_vec(&Cbor::Array(vec![Cbor::Bytes(vec![0, 255]), Cbor::Float(f64::NAN)])).unwrap();
    assert_eq!(json(&MEMBERS_OF_A_LATER_READING, &payload, &reader(PayloadFormat::Cbor))["val"], json!(["AP8=", null]));
}

#[test]
fn a_payload_that_is_not_what_it_should_be_travels_as_bytes_with_the_reason() {
    let deep = [vec![b'['; 200], vec![b']'; 200]].concat();
    let wrong: [(PayloadFormat, &[u8]); 7] = [
        (PayloadFormat::Json, b"{\"t\": 21.5"),
        (PayloadFormat::Json, b"1 2"),
        (PayloadFormat::Json, b""),
        (PayloadFormat::Json, b"\"\xFF\""),
        (PayloadFormat::Json, &deep),
        (PayloadFormat::Text, b"\xC3\x28"),
        (PayloadFormat::Cbor, b"\x82\x01"),
    ];
    for (format, payload) in wrong {
        let map = cbor(&MEMBERS_OF_A_LATER_READING, payload, &reader(format));
        assert_eq!(map["raw"], Cbor::Bytes(payload.to_vec()), "{format:?} {payload:?}");
        assert!(matches!(&map["err"], Cbor::Text(why) if !why.is_empty()));
        assert!(!map.contains_key("val"));

        let map = json(&MEMBERS_OF_A_LATER_READING, payload, &reader(format));
        assert_eq!(map["raw"], json!(base64_simd::STANDARD.encode_to_string(payload)), "{format:?} {payload:?}");
        assert!(map["err"].is_string() && map.get("val").is_none());
    }
}

#[test]
fn every_digit_of_a_number_is_kept_in_json() {
    let payload = b"[0.30000000000000004441, 123456789012345678901234567890]";
    let line = encode(Encoding::Json, &MEMBERS_OF_A_LATER_READING, payload, &reader(PayloadFormat::Json));
    assert!(String::from_utf8(line).unwrap().contains(std::str::from_utf8(payload).unwrap()));
}

#[test]
fn raw_is_the_payload_and_nothing_else() {
    assert_eq!(encode(Encoding::Raw, &MEMBERS_OF_A_LATER_READING, b"{]", &reader(PayloadFormat::Json)), b"{]");
}
