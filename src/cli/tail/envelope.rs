//! Reads a user record back: its names, and its text as JSON.
//!
//! Invariant: a record is printed as it was written, members in their order; only bytes change, to base64.

use serde::{Deserialize, de::DeserializeSeed};

use crate::record::AsJson;

/// What names a reading, or what a gateway says it dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::cli) struct Names {
    pub(in crate::cli) dev: String,
    pub(in crate::cli) run: String,
    pub(in crate::cli) lane: String,
    /// Only readings have it.
    pub(in crate::cli) seq: Option<u64>,
    /// Its own time, or when it arrived.
    pub(in crate::cli) ts: Option<i64>,
    /// When it arrived, where `ts` is its own time.
    pub(in crate::cli) rx: Option<i64>,
    /// On the first reading of a lane in a run.
    pub(in crate::cli) prev: Option<Previous>,
    /// Only a notice has it, and the two below: the first that was dropped.
    pub(in crate::cli) from: Option<u64>,
    /// The last that was dropped.
    pub(in crate::cli) to: Option<u64>,
    /// How many were dropped.
    #[serde(rename = "n")]
    pub(in crate::cli) dropped: Option<u64>,
}

/// The run before, and the last number that it is known to have given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::cli) struct Previous {
    pub(in crate::cli) run: String,
    pub(in crate::cli) seq: u64,
}

impl Names {
    /// The numbers that the record accounts for, both included.
    pub(in crate::cli) fn span(&self) -> Option<(u64, u64)> {
        match (self.seq, self.from, self.to) {
            (Some(seq), ..) => Some((seq, seq)),
            (None, Some(from), Some(to)) if from <= to => Some((from, to)),
            _ => None,
        }
    }

    /// When it arrived, in ms; only readings say it.
    pub(in crate::cli) fn arrived(&self) -> Option<i64> {
        self.rx.or(self.ts)
    }

    /// The lane's number, as in `readings/0`.
    pub(in crate::cli) fn lane_number(&self) -> Option<u16> {
        lane_number(&self.lane)
    }
}

/// The number at the end of a lane's name or of its partition key.
pub(in crate::cli) fn lane_number(name: &str) -> Option<u16> {
    name.rsplit_once('/')?.1.parse().ok()
}

/// The names and the JSON of a reading or a notice; none for anything else.
pub(in crate::cli) fn decode(data: &[u8]) -> Option<(Names, String)> {
    // A JSON object begins with a brace, which in CBOR would begin a text: the two can't be confused.
    if data.first() == Some(&b'{') {
        let names: Names = serde_json::from_slice(data).ok()?;
        // Line ends in JSON stand between its parts only, and one record is one line.
        let line = std::str::from_utf8(data).ok()?.trim_end().replace(['\n', '\r'], " ");
        return names.span().map(|_| (names, line));
    }
    let names: Names = serde_cbor::from_slice(data).ok()?;
    names.span()?;
    let mut line = Vec::with_capacity(2 * data.len());
    let written = AsJson(&mut line).deserialize(&mut serde_cbor::Deserializer::from_slice(data));
    let line = written.ok().and_then(|()| String::from_utf8(line).ok()).unwrap_or_else(|| unprintable(&names, data));
    Some((names, line))
}

/// The JSON of a reading whose value JSON has no way to say, such as a map with maps for keys.
fn unprintable(names: &Names, data: &[u8]) -> String {
    let Names { dev, run, lane, seq, .. } = names;
    let data = base64_simd::STANDARD.encode_to_string(data);
    serde_json::json!({ "dev": dev, "run": run, "lane": lane, "seq": seq, "data": data }).to_string()
}

/// The JSON of a record that has no names.
pub(in crate::cli) fn anonymous(partition_key: &str, data: &[u8]) -> String {
    let data = base64_simd::STANDARD.encode_to_string(data);
    serde_json::json!({ "key": partition_key, "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Encoding, PayloadFormat},
        reading::Timestamp,
        record::{Envelope, Members, PayloadReader, Previous as Before, RunId},
    };

    fn written(encoding: Encoding, format: PayloadFormat, payload: &[u8]) -> Vec<u8> {
        let envelope = Envelope::new(encoding, "gw-7", RunId(0xAB), "readings/3", "broker", "plant/1/temp");
        let previous = Some(Before { run: RunId(0xAA), seq: 41 });
        let members = Members { seq: 300, arrived: Timestamp(1_700_000_000_000), unsure: false, dup: false, previous };
        let mut out = Vec::new();
        envelope.encode(&mut out, &members, payload, &PayloadReader { format, timestamp: None });
        out
    }

    #[test]
    fn a_reading_is_printed_with_its_members_in_their_order() {
        let cbor = written(Encoding::Cbor, PayloadFormat::Json, br#"{"t":21.5,"ok":[true,null,-3,"warm"]}"#);
        let json = written(Encoding::Json, PayloadFormat::Json, br#"{"t":21.5,"ok":[true,null,-3,"warm"]}"#);

        let (names, line) = decode(&cbor).unwrap();

        assert_eq!((&*names.dev, &*names.run, &*names.lane), ("gw-7", "00000000000000ab", "readings/3"));
        assert_eq!((names.seq, names.lane_number()), (Some(300), Some(3)));
        assert_eq!(names.prev, Some(Previous { run: "00000000000000aa".into(), seq: 41 }));
        assert_eq!(
            line,
            r#"{"v":1,"dev":"gw-7","run":"00000000000000ab","lane":"readings/3","src":"broker","topic":"plant/1/temp","seq":300,"ts":1700000000000,"prev":{"run":"00000000000000aa","seq":41},"val":{"t":21.5,"ok":[true,null,-3,"warm"]}}"#
        );
        assert_eq!(decode(&json).unwrap(), (names, line));
    }

    #[test]
    fn bytes_are_printed_as_base64() {
        let (_, line) = decode(&written(Encoding::Cbor, PayloadFormat::Bytes, &[0, 255, 7])).unwrap();
        assert!(line.ends_with(r#""val":"AP8H"}"#), "{line}");
    }

    #[test]
    fn what_json_cannot_say_is_printed_as_near_as_it_can() {
        // {1: NaN, h'00': -2^63 - 1}
        let (_, line) = decode(&[&b"\xa5\x63dev\x61d\x63run\x61r\x64lane\x61l\x63seq\x00\x63val\xa2\x01\xf9\x7e\x00\x41\x00\x3b\x80\0\0\0\0\0\0\0"[..]].concat()).unwrap();
        assert_eq!(line, r#"{"dev":"d","run":"r","lane":"l","seq":0,"val":{"1":null,"AA==":-9223372036854775809}}"#);
    }

    #[test]
    fn a_reading_that_json_cannot_say_keeps_its_names() {
        let keys_that_are_maps = [[0xA1; 60].as_slice(), &[0xA0], &[0; 60]].concat();
        let (names, line) = decode(&written(Encoding::Cbor, PayloadFormat::Cbor, &keys_that_are_maps)).unwrap();
        assert_eq!(names.seq, Some(300));
        assert!(
            line.starts_with(r#"{"data":"#)
                && line.ends_with(r#""dev":"gw-7","lane":"readings/3","run":"00000000000000ab","seq":300}"#)
        );
    }

    #[test]
    fn what_is_neither_a_reading_nor_a_notice_has_no_names() {
        for data in [&b"21.5"[..], b"", b"{\"dev\":\"gw\"}", b"{broken", b"\xa0", b"\xff", br#"{"dev":"d","run":"r","lane":"l"}"#] {
            assert_eq!(decode(data), None, "{data:?}");
        }
        let notice = br#"{"v":1,"dev":"d","run":"r","lane":"l/0","kind":"dropped","from":3,"to":9,"n":7,"why":"drop_oldest"}"#;
        assert_eq!(decode(notice).unwrap().0.span(), Some((3, 9)));
        assert_eq!(anonymous("gw/raw/0", b"21.5"), r#"{"data":"MjEuNQ==","key":"gw/raw/0"}"#);
    }
}
