//! Corrects when a reading arrived, once it is known how wrong the clock was.
//!
//! Invariant: nothing else of it changes, its name and its own time least of all; and what is not an envelope of ours with a time that is
//! unsure stays as it is.

use super::{
    envelope::{CLOCK, JSON_UNSURE, UNSURE},
    write::{put_cbor_integer, put_cbor_text, put_decimal},
};

/// Its value once the clock was set and the arrival is corrected.
const CORRECTED: &str = "corrected";
const JSON_CORRECTED: &[u8] = b",\"clk\":\"corrected\"";

/// By how much a user record grows at most: the longer word, and 20 digits where there was one.
pub const MAX_GROWTH: usize = 3 + 19;

/// Writes user record `record` to `out`, with its arrival moved by `add` milliseconds if that is unsure.
pub fn correct(out: &mut Vec<u8>, record: &[u8], add: i64) {
    let json = record.first() == Some(&b'{');
    match if json { find_in_json(record) } else { find_in_cbor(record) } {
        None => out.extend_from_slice(record),
        Some(Found { arrival, from, to }) => {
            let corrected = arrival.saturating_add(add);
            out.extend_from_slice(&record[..from]);
            if json {
                put_decimal(out, corrected);
                out.extend_from_slice(JSON_CORRECTED);
            } else {
                put_cbor_integer(out, corrected);
                put_cbor_text(out, CLOCK);
                put_cbor_text(out, CORRECTED);
            }
            out.extend_from_slice(&record[to..]);
        }
    }
}

/// The arrival, and where it and the mark behind it stand.
struct Found {
    arrival: i64,
    from: usize,
    to: usize,
}

/// The mark follows the arrival, and before it there are only our own members.
fn find_in_json(record: &[u8]) -> Option<Found> {
    let mark = record.windows(JSON_UNSURE.len()).position(|window| window == JSON_UNSURE)?;
    let from = record[..mark].iter().rposition(|byte| !byte.is_ascii_digit() && *byte != b'-')? + 1;
    let arrival = std::str::from_utf8(&record[from..mark]).ok()?.parse().ok()?;
    Some(Found { arrival, from, to: mark + JSON_UNSURE.len() })
}

/// All members up to the mark are texts and integers.
fn find_in_cbor(record: &[u8]) -> Option<Found> {
    let mut rest = record;
    let Item::Map = take_item(&mut rest)? else { return None };
    let mut last = None;
    loop {
        let Item::Text(key) = take_item(&mut rest)? else { return None };
        let from = record.len() - rest.len();
        match (take_item(&mut rest)?, last) {
            (Item::Text(value), Some((arrival, from))) if (key, value) == (CLOCK.as_bytes(), UNSURE.as_bytes()) => {
                return Some(Found { arrival, from, to: record.len() - rest.len() });
            }
            (Item::Integer(value), _) => last = Some((value, from)),
            (Item::Text(_), _) => last = None,
            (Item::Map, _) => return None,
        }
    }
}

enum Item<'a> {
    Map,
    Integer(i64),
    Text(&'a [u8]),
}

/// The items that an envelope begins with. Source: RFC 8949, section 3.
fn take_item<'a>(bytes: &mut &'a [u8]) -> Option<Item<'a>> {
    let (first, mut rest) = bytes.split_first()?;
    let argument = match first & 0x1F {
        small @ 0..=23 => u64::from(small),
        sized @ 24..=27 => {
            let (argument, after) = rest.split_at_checked(1 << (sized - 24))?;
            rest = after;
            argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        }
        _ => return None,
    };
    let item = match first >> 5 {
        0 => Item::Integer(i64::try_from(argument).ok()?),
        1 => Item::Integer(!i64::try_from(argument).ok()?), // n stands for -1 - n, which is the bitwise complement
        3 => {
            let (text, after) = rest.split_at_checked(usize::try_from(argument).ok()?)?;
            rest = after;
            Item::Text(text)
        }
        5 => Item::Map,
        _ => return None,
    };
    *bytes = rest;
    Some(item)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_cbor::Value;

    use super::*;
    use crate::{
        config::{Encoding, PayloadFormat},
        reading::Timestamp,
        record::{Envelope, Members, PayloadReader, Previous, RunId},
    };

    /// Both a name that hides what is looked for, and values on both sides of every width of a number.
    const TOPIC: &str = "cclkfunsure,\"clk\":\"unsure\"";
    const TIMES: [i64; 9] = [0, 23, 24, 255, 65_536, 4_294_967_295, 120_000, -5, 1_795_219_200_000];

    fn encoded(encoding: Encoding, arrived: i64, unsure: bool, payload: &[u8]) -> Vec<u8> {
        let envelope = Envelope::new(encoding, "gw", RunId(1), "s/0", "broker", TOPIC);
        let previous = Some(Previous { run: RunId(2), seq: 9 });
        let members = Members { seq: 300, arrived: Timestamp(arrived), unsure, dup: true, previous };
        let reader = PayloadReader { format: PayloadFormat::Json, timestamp: Some("/ts".into()) };
        let mut out = Vec::new();
        envelope.encode(&mut out, &members, payload, &reader);
        out
    }

    fn corrected(record: &[u8], add: i64) -> Vec<u8> {
        let mut out = Vec::new();
        correct(&mut out, record, add);
        out
    }

    /// As an independent reader sees it.
    fn read(record: &[u8]) -> BTreeMap<String, Value> {
        if record[0] == b'{' { serde_json::from_slice(record).unwrap() } else { serde_cbor::from_slice(record).unwrap() }
    }

    #[test]
    fn the_arrival_is_corrected_and_nothing_else_changes() {
        for encoding in [Encoding::Cbor, Encoding::Json] {
            for payload in [&b"21.5"[..], b"{\"clk\":\"unsure\"}", b"no JSON", b"{\"ts\":7,\"clk\":\"unsure\"}"] {
                for (arrived, add) in TIMES.into_iter().flat_map(|time| TIMES.map(|add| (time, add))) {
                    let before = encoded(encoding, arrived, true, payload);
                    let after = corrected(&before, add);

                    let mut expected = read(&before);
                    assert_eq!(expected["clk"], Value::Text("unsure".into()));
                    let arrival = if expected.contains_key("rx") { "rx" } else { "ts" };
                    assert_eq!(expected[arrival], Value::Integer(arrived.into()));
                    expected.insert(arrival.into(), Value::Integer((arrived + add).into()));
                    expected.insert("clk".into(), Value::Text("corrected".into()));
                    assert_eq!(read(&after), expected);
                    assert!(after.len() <= before.len() + MAX_GROWTH);
                }
            }
        }
    }

    #[test]
    fn what_has_no_unsure_time_stays_as_it_is() {
        for encoding in [Encoding::Cbor, Encoding::Json, Encoding::Raw] {
            let sure = encoded(encoding, 5, false, b"21.5");
            assert_eq!(corrected(&sure, 7), sure, "{encoding:?}");
            let unsure = encoded(encoding, 5, true, b"21.5");
            let once = corrected(&unsure, 7);
            assert_eq!(corrected(&once, 7), once, "{encoding:?}: corrected twice");
            for end in 0..unsure.len() {
                corrected(&unsure[..end], 7);
            }
        }
    }
}
