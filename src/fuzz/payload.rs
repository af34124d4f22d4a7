//! Payloads, on their way into an envelope.

use serde_cbor::Value as Cbor;
use serde_json::Value as Json;

use super::first;
use crate::{
    cli::tail::names_of,
    config::{Encoding, PayloadFormat},
    reading::Timestamp,
    record::{Envelope, Members, PayloadReader, RunId, Unreadable},
};

const FORMATS: [PayloadFormat; 4] = [PayloadFormat::Json, PayloadFormat::Cbor, PayloadFormat::Text, PayloadFormat::Bytes];
const ARRIVED: i64 = 1_700_000_000_123;

/// The first byte says the number of bytes of the pointer that follows, then comes the payload.
pub fn target(data: &[u8]) {
    let (pointer, payload) = first(data);
    let (pointer, payload) = payload.split_at(usize::from(pointer % 16).min(payload.len()));
    let pointer = format!("/{}", String::from_utf8_lossy(pointer));
    for format in FORMATS {
        let (cbor, in_cbor) = as_cbor(payload, format, None);
        let (json, in_json) = as_json(payload, format, None);
        check(&cbor, &json, payload, format, (&in_cbor, &in_json));
    }
    own_time(payload, &pointer);
    let (raw, unreadable) = record(Encoding::Raw, payload, PayloadFormat::Json, None);
    assert!(raw == payload && unreadable.is_none());
}

fn record(encoding: Encoding, payload: &[u8], format: PayloadFormat, timestamp: Option<&str>) -> (Vec<u8>, Option<Unreadable>) {
    let envelope = Envelope::new(encoding, "gw-1", RunId(0xAB), "readings/0", "broker", "plant/1/temp");
    let members = Members { seq: 7, arrived: Timestamp(ARRIVED), unsure: false, dup: false, previous: None };
    let mut out = Vec::new();
    let unreadable = envelope.encode(&mut out, &members, payload, &PayloadReader { format, timestamp: timestamp.map(Into::into) });
    if encoding != Encoding::Raw {
        assert_eq!(names_of(&out), Some(("readings/0".into(), Some(7))), "tail reads it too");
    }
    (out, unreadable)
}

fn as_cbor(payload: &[u8], format: PayloadFormat, timestamp: Option<&str>) -> (Cbor, Option<Unreadable>) {
    let (record, unreadable) = record(Encoding::Cbor, payload, format, timestamp);
    (serde_cbor::from_slice(&record).unwrap_or_else(|error| panic!("{format:?}: {error}")), unreadable)
}

fn as_json(payload: &[u8], format: PayloadFormat, timestamp: Option<&str>) -> (Json, Option<Unreadable>) {
    let (line, unreadable) = record(Encoding::Json, payload, format, timestamp);
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
    (serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{format:?}: {error}")), unreadable)
}

fn member<'a>(map: &'a Cbor, name: &str) -> Option<&'a Cbor> {
    let Cbor::Map(members) = map else { panic!("{map:?} is no map") };
    members.get(&Cbor::Text(name.into()))
}

fn check(
    cbor: &Cbor,
    json: &Json,
    payload: &[u8],
    format: PayloadFormat,
    (in_cbor, in_json): (&Option<Unreadable>, &Option<Unreadable>),
) {
    let base64 = || Json::String(base64_simd::STANDARD.encode_to_string(payload));
    match in_cbor {
        Some(why) => {
            assert_eq!(member(cbor, "err"), Some(&Cbor::Text(why.clone())));
            assert_eq!((member(cbor, "raw"), member(cbor, "val")), (Some(&Cbor::Bytes(payload.into())), None));
        }
        None => assert!(member(cbor, "err").is_none() && member(cbor, "raw").is_none()),
    }
    match in_json {
        Some(why) => {
            assert_eq!((&json["err"], &json["raw"], json.get("val")), (&Json::String(why.clone()), &base64(), None));
        }
        None => assert!(json.get("err").is_none() && json.get("raw").is_none()),
    }
    let text = std::str::from_utf8(payload);
    match format {
        PayloadFormat::Bytes => {
            assert_eq!((member(cbor, "val"), &json["val"]), (Some(&Cbor::Bytes(payload.into())), &base64()));
        }
        PayloadFormat::Text => {
            assert_eq!((in_cbor.is_none(), in_json.is_none()), (text.is_ok(), text.is_ok()));
            if let Ok(text) = text {
                assert_eq!((member(cbor, "val"), json["val"].as_str()), (Some(&Cbor::Text(text.into())), Some(text)));
            }
        }
        PayloadFormat::Json => {
            assert_eq!(in_cbor.is_some(), in_json.is_some(), "{in_cbor:?} but {in_json:?}");
            if in_cbor.is_none() {
                let value: Json = serde_json::from_slice(payload).expect("it was read before");
                assert_eq!(json["val"], value);
                assert_eq!(serde_json::to_value(member(cbor, "val")).expect("it came from JSON"), value);
            }
        }
        // What CBOR has and JSON has not is the map keys that are no scalars.
        PayloadFormat::Cbor => assert!(in_json.is_some() || in_cbor.is_none(), "{in_cbor:?} but {in_json:?}"),
    }
}

fn own_time(payload: &[u8], pointer: &str) {
    let (json, unreadable) = as_json(payload, PayloadFormat::Json, Some(pointer));
    let (cbor, _) = as_cbor(payload, PayloadFormat::Json, Some(pointer));
    let value = unreadable.is_none().then(|| serde_json::from_slice::<Json>(payload).expect("it was read before"));
    #[expect(clippy::cast_possible_truncation, reason = "as wrong as it was")]
    let as_ms = |number: &Json| number.as_i64().or_else(|| number.as_f64().map(|ms| ms as i64));
    let own = value.as_ref().and_then(|value| value.pointer(pointer)).and_then(as_ms);
    let arrived = || Json::from(ARRIVED);
    assert_eq!(json["ts"], own.map_or_else(arrived, Json::from), "{pointer}");
    assert_eq!(json.get("rx"), own.map(|_| arrived()).as_ref());
    assert_eq!(member(&cbor, "ts"), Some(&Cbor::Integer(own.unwrap_or(ARRIVED).into())));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::tests::cases;

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            ".*".prop_map(Json::from),
        ];
        leaf.prop_recursive(6, 48, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Json::Array),
                prop::collection::btree_map(".{0,6}", inner, 0..8).prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    fn cbor() -> impl Strategy<Value = Cbor> {
        let leaf = prop_oneof![
            Just(Cbor::Null),
            any::<bool>().prop_map(Cbor::Bool),
            (-1 - i128::from(u64::MAX)..=i128::from(u64::MAX)).prop_map(Cbor::Integer),
            any::<f64>().prop_map(Cbor::Float),
            any::<Vec<u8>>().prop_map(Cbor::Bytes),
            ".*".prop_map(Cbor::Text),
        ];
        leaf.prop_recursive(6, 48, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Cbor::Array),
                prop::collection::btree_map(inner.clone(), inner, 0..8).prop_map(Cbor::Map),
            ]
        })
    }

    /// As JSON has it: no tree but text, so that it shares nothing with what it is compared with.
    fn as_text(value: &Cbor) -> Option<String> {
        let list = |items: Option<Vec<String>>, [open, close]: [char; 2]| Some(format!("{open}{}{close}", items?.join(",")));
        let text = |text: &str| Json::from(text).to_string();
        match value {
            Cbor::Null => Some("null".into()),
            Cbor::Bool(flag) => Some(flag.to_string()),
            Cbor::Integer(number) => Some(number.to_string()),
            Cbor::Float(number) => Some(Json::from(*number).to_string()),
            Cbor::Bytes(bytes) => Some(text(&base64_simd::STANDARD.encode_to_string(bytes))),
            Cbor::Text(value) => Some(text(value)),
            Cbor::Array(items) => list(items.iter().map(as_text).collect(), ['[', ']']),
            Cbor::Map(members) => {
                let member = |(key, value): (&Cbor, &Cbor)| {
                    let key = match key {
                        Cbor::Text(_) | Cbor::Bytes(_) => as_text(key)?,
                        Cbor::Array(_) | Cbor::Map(_) => return None,
                        scalar => text(&as_text(scalar)?),
                    };
                    Some(format!("{key}:{}", as_text(value)?))
                };
                list(members.iter().map(member).collect(), ['{', '}'])
            }
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(cases(128))]

        #[test]
        fn a_json_payload_is_the_same_value_at_the_other_end(value in json()) {
            let payload = value.to_string().into_bytes();
            let (read, unreadable) = as_json(&payload, PayloadFormat::Json, None);
            prop_assert_eq!(unreadable, None);
            prop_assert_eq!(read["val"].to_string(), serde_json::from_slice::<Json>(&payload).unwrap().to_string());
            target(&[&[0][..], &payload].concat());
        }

        #[test]
        fn a_cbor_payload_is_the_same_bytes_in_cbor_and_its_nearest_text_in_json(value in cbor()) {
            let payload = serde_cbor::to_vec(&value).unwrap();
            let (line, unreadable) = record(Encoding::Json, &payload, PayloadFormat::Cbor, None);
            let line = String::from_utf8(line).unwrap();
            match as_text(&value) {
                Some(text) => prop_assert!(line.ends_with(&format!(",\"val\":{text}}}\n")), "{line} has not {text}"),
                None => prop_assert!(unreadable.is_some_and(|why| why.contains("map key"))),
            }
            let (bytes, unreadable) = record(Encoding::Cbor, &payload, PayloadFormat::Cbor, None);
            prop_assert_eq!(unreadable, None);
            prop_assert!(bytes.ends_with(&payload));
        }
    }

    #[test]
    fn nesting_is_carried_as_deep_as_every_reader_takes_it_and_no_deeper() {
        let json = |levels| [vec![b'['; levels], vec![b']'; levels]].concat();
        let cbor = |levels: usize| [vec![0x81; levels - 1], vec![0x80]].concat();
        let tagged = |levels| [vec![0xC1; levels], vec![0x00]].concat();
        for (format, deepest, deeper) in [
            (PayloadFormat::Json, json(126), json(127)),
            (PayloadFormat::Cbor, cbor(126), cbor(127)),
            (PayloadFormat::Cbor, tagged(126), tagged(127)),
        ] {
            for (payload, readable) in [(deepest, true), (deeper, false)] {
                assert_eq!(as_cbor(&payload, format, None).1.is_none(), readable, "{format:?}, {} bytes", payload.len());
                assert_eq!(as_json(&payload, format, None).1.is_none(), readable, "{format:?}, {} bytes", payload.len());
            }
        }
    }

    #[test]
    fn json_that_is_valid_by_its_grammar_alone_travels_as_bytes() {
        for payload in [&br#""\ud800""#[..], b"1e400", b"[-1e999]", br#"{"\udc00":1}"#] {
            assert!(as_cbor(payload, PayloadFormat::Json, None).1.is_some());
            assert!(as_json(payload, PayloadFormat::Json, None).1.is_some());
        }
    }

    #[test]
    fn maps_as_map_keys_do_not_grow_without_a_bound() {
        // {{{…: 0}: 0}: 0}, a hundred levels: each would double the backslashes of the one inside.
        let payload = [vec![0xA1; 100], vec![0xA0], vec![0x00; 100]].concat();
        let (json, unreadable) = as_json(&payload, PayloadFormat::Cbor, None);
        assert!(unreadable.is_some_and(|why| why.contains("a map key that is no list and no map")));
        assert!(json.get("val").is_none());
    }
}
