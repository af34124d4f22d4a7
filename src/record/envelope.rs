//! The map around one reading that names it for ever, in CBOR or JSON; or, with `raw`, no map at all.
//!
//! What is the same for all readings of a topic in a lane is encoded once, when the topic is first seen; per reading only the numbers
//! and the value are written.

use std::{borrow::Cow, fmt};

use super::{
    payload::{self, Unreadable},
    write::{put_base64, put_cbor_bytes, put_cbor_head, put_cbor_integer, put_cbor_text, put_decimal, put_json_text},
};
use crate::{
    config::{Encoding, PayloadFormat},
    reading::Timestamp,
};

/// Version of the table of members.
pub(super) const VERSION: u8 = 1;
/// `v`, `dev`, `run`, `lane`, `src`, `topic`, `seq`, `ts`, and `val` or `raw`: what every reading has.
const MEMBERS: u8 = 9;

/// What is known of the clock that said when a reading arrived; it follows the arrival at once, so that both are found together.
pub(super) const CLOCK: &str = "clk";
/// Its value while the clock is not known to be right.
pub(super) const UNSURE: &str = "unsure";
/// Both in JSON. No text in an envelope has this sequence: there a quote has a backslash before it.
pub(super) const JSON_UNSURE: &[u8] = b",\"clk\":\"unsure\"";

/// A start of the agent, new each time; with a lane and a number it names a reading for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The part of an envelope that is the same for all readings of one topic in one lane.
#[derive(Clone, Debug)]
pub struct Envelope {
    encoding: Encoding,
    constant: Vec<u8>,
}

/// The part of an envelope that is new with every reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// Counts up by one per reading of a lane in a run, from 0.
    pub seq: u64,
    /// When the reading arrived here.
    pub arrived: Timestamp,
    /// Nobody knows whether the clock was right then.
    pub unsure: bool,
    /// The broker sent it again, and we could not tell whether we had it.
    pub dup: bool,
    /// On the first reading of a lane in a run.
    pub previous: Option<Previous>,
}

/// Where a lane stood before this run, as far as the disk knows: what was delivered from memory and never written is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// The run before.
    pub run: RunId,
    /// The last number that it gave in this lane.
    pub seq: u64,
}

/// How to read a source's payloads.
#[derive(Clone, Debug)]
pub struct PayloadReader {
    /// The configured format.
    pub format: PayloadFormat,
    /// JSON pointer to the reading's own time in ms.
    pub timestamp: Option<String>,
}

impl Envelope {
    /// The envelope of readings of `topic` from `source` in `lane` (`STREAM/N`).
    pub fn new(encoding: Encoding, device: &str, run: RunId, lane: &str, source: &str, topic: &str) -> Self {
        let texts = [("dev", device), ("run", &run.to_string()), ("lane", lane), ("src", source), ("topic", topic)];
        let mut constant = Vec::new();
        match encoding {
            Encoding::Cbor => {
                put_cbor_text(&mut constant, "v");
                constant.push(VERSION);
                for (key, text) in texts {
                    put_cbor_text(&mut constant, key);
                    put_cbor_text(&mut constant, text);
                }
                put_cbor_text(&mut constant, "seq");
            }
            Encoding::Json => {
                constant.extend_from_slice(b"{\"v\":1");
                for (key, text) in texts {
                    constant.push(b',');
                    put_json_text(&mut constant, key);
                    constant.push(b':');
                    put_json_text(&mut constant, text);
                }
                constant.extend_from_slice(b",\"seq\":");
            }
            Encoding::Raw => {}
        }
        Self { encoding, constant }
    }

    /// Appends one user record to `out`: a CBOR map, a line of JSON, or with `raw` the payload alone.
    ///
    /// A payload that can't be read as configured stands there as bytes, with the reason, which is also returned.
    pub fn encode(&self, out: &mut Vec<u8>, members: &Members, payload: &[u8], reader: &PayloadReader) -> Option<Unreadable> {
        let own_time = reader.timestamp.as_ref().and_then(|pointer| match self.encoding {
            Encoding::Raw => None,
            _ => payload::own_time(payload, pointer),
        });
        match self.encoding {
            Encoding::Raw => {
                out.extend_from_slice(payload);
                None
            }
            Encoding::Cbor => self.encode_cbor(out, members, own_time, payload, reader.format),
            Encoding::Json => self.encode_json(out, members, own_time, payload, reader.format),
        }
    }

    /// Bytes that it takes in memory.
    pub fn size(&self) -> usize {
        self.constant.len()
    }

    /// Whether a user record may have fewer bytes than its payload.
    pub fn may_shrink(&self, format: PayloadFormat) -> bool {
        match format {
            PayloadFormat::Text | PayloadFormat::Bytes => false,
            PayloadFormat::Cbor => self.encoding == Encoding::Json,
            PayloadFormat::Json => self.encoding != Encoding::Raw,
        }
    }

    fn encode_cbor(
        &self,
        out: &mut Vec<u8>,
        members: &Members,
        own_time: Option<i64>,
        payload: &[u8],
        format: PayloadFormat,
    ) -> Option<Unreadable> {
        let optional = [own_time.is_some(), members.unsure, members.dup, members.previous.is_some()];
        let count = MEMBERS + optional.into_iter().map(u8::from).sum::<u8>();
        let head = out.len();
        put_cbor_head(out, 5, u64::from(count));
        out.extend_from_slice(&self.constant);
        put_cbor_head(out, 0, members.seq);
        put_cbor_text(out, "ts");
        put_cbor_integer(out, own_time.unwrap_or(members.arrived.0));
        if own_time.is_some() {
            put_cbor_text(out, "rx");
            put_cbor_integer(out, members.arrived.0);
        }
        if members.unsure {
            put_cbor_text(out, CLOCK);
            put_cbor_text(out, UNSURE);
        }
        if members.dup {
            put_cbor_text(out, "dup");
            out.push(0xF5);
        }
        if let Some(previous) = &members.previous {
            put_cbor_text(out, "prev");
            put_cbor_head(out, 5, 2);
            put_cbor_text(out, "run");
            put_cbor_text(out, &previous.run.to_string());
            put_cbor_text(out, "seq");
            put_cbor_head(out, 0, previous.seq);
        }
        let value = out.len();
        put_cbor_text(out, "val");
        let unreadable = payload::put_cbor(out, payload, format).err();
        if let Some(why) = &unreadable {
            out.truncate(value);
            out[head] += 1; // `err` comes on top; the head stays one byte, since a map has at most 14 members
            put_cbor_text(out, "err");
            put_cbor_text(out, why);
            put_cbor_text(out, "raw");
            put_cbor_bytes(out, payload);
        }
        unreadable
    }

    fn encode_json(
        &self,
        out: &mut Vec<u8>,
        members: &Members,
        own_time: Option<i64>,
        payload: &[u8],
        format: PayloadFormat,
    ) -> Option<Unreadable> {
        out.extend_from_slice(&self.constant);
        put_decimal(out, members.seq);
        out.extend_from_slice(b",\"ts\":");
        put_decimal(out, own_time.unwrap_or(members.arrived.0));
        if own_time.is_some() {
            out.extend_from_slice(b",\"rx\":");
            put_decimal(out, members.arrived.0);
        }
        if members.unsure {
            out.extend_from_slice(JSON_UNSURE);
        }
        if members.dup {
            out.extend_from_slice(b",\"dup\":true");
        }
        if let Some(previous) = &members.previous {
            out.extend_from_slice(b",\"prev\":{\"run\":");
            put_json_text(out, &previous.run.to_string());
            out.extend_from_slice(b",\"seq\":");
            put_decimal(out, previous.seq);
            out.push(b'}');
        }
        let value = out.len();
        out.extend_from_slice(b",\"val\":");
        let unreadable = payload::put_json(out, payload, format).err();
        if let Some(why) = &unreadable {
            out.truncate(value);
            out.extend_from_slice(b",\"err\":");
            put_json_text(out, why);
            out.extend_from_slice(b",\"raw\":");
            put_base64(out, payload);
        }
        out.extend_from_slice(b"}\n");
        unreadable
    }
}

/// What of a user record that [`Envelope::encode`] wrote tells it from others: its topic and its number. None of a raw one.
pub fn names_of(data: &[u8]) -> Option<(Cow<'_, str>, u64)> {
    #[derive(serde::Deserialize)]
    struct Named<'a> {
        v: u8,
        #[serde(borrow)]
        topic: Cow<'a, str>,
        seq: u64,
    }
    let named: Option<Named> =
        if data.first() == Some(&b'{') { serde_json::from_slice(data).ok() } else { serde_cbor::from_slice(data).ok() };
    named.filter(|named| named.v == VERSION).map(|named| (named.topic, named.seq))
}

#[cfg(test)]
mod tests;
