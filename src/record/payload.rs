//! The payload, read as its source's configuration says and written as a value of the envelope.
//!
//! Invariant: when a payload is not what it should be, nothing has been written, and the caller puts the bytes in as they are. What is
//! written, every reader of the envelope can read: what some of them refuse would take the names of the reading with it.

mod pointer;

use serde::de::{DeserializeSeed, IgnoredAny};

pub(super) use self::pointer::own_time;
use super::{
    AsJson,
    write::{put_base64, put_cbor_bytes, put_cbor_text, put_json_text},
};
use crate::config::PayloadFormat;

/// Deepest nesting that is carried. The usual parsers for both formats take 127 levels, and the envelope is one.
const MAX_DEPTH: usize = 126;

/// Why a payload can't be read as its source's `payload` says; also what stands in the envelope's `err`.
pub type Unreadable = String;

/// Appends the payload to `out` as one CBOR item.
pub(super) fn put_cbor(out: &mut Vec<u8>, payload: &[u8], format: PayloadFormat) -> Result<(), Unreadable> {
    match format {
        PayloadFormat::Bytes => put_cbor_bytes(out, payload),
        PayloadFormat::Text => put_cbor_text(out, text(payload)?),
        PayloadFormat::Cbor => {
            serde_cbor::from_slice::<IgnoredAny>(payload).map_err(|error| error.to_string())?;
            cbor_is_flat_enough(payload)?;
            out.extend_from_slice(payload);
        }
        PayloadFormat::Json => or_nothing(out, |out| transcode_json(payload, out))?,
    }
    Ok(())
}

/// Appends the payload to `out` as one JSON value on one line.
pub(super) fn put_json(out: &mut Vec<u8>, payload: &[u8], format: PayloadFormat) -> Result<(), Unreadable> {
    match format {
        PayloadFormat::Bytes => put_base64(out, payload),
        PayloadFormat::Text => put_json_text(out, text(payload)?),
        PayloadFormat::Json => {
            let json = text(payload)?;
            // Read in full, and not only skipped: a number beyond all doubles or half of a surrogate pair is JSON by its grammar alone.
            transcode_json(payload, std::io::sink())?;
            // The text as it came keeps every digit. A line end in valid JSON is white space: inside a string it is escaped.
            out.extend(json.trim().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        }
        PayloadFormat::Cbor => or_nothing(out, |out| {
            let mut cbor = serde_cbor::Deserializer::from_slice(payload);
            AsJson(out).deserialize(&mut cbor).and_then(|()| cbor.end()).map_err(|error| error.to_string())?;
            cbor_is_flat_enough(payload)
        })?,
    }
    Ok(())
}

fn or_nothing(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
    let before = out.len();
    put(out).inspect_err(|_| out.truncate(before))
}

fn transcode_json(payload: &[u8], out: impl std::io::Write) -> Result<(), Unreadable> {
    json_is_flat_enough(payload)?;
    let mut json = serde_json::Deserializer::from_slice(payload);
    let mut cbor = serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(out));
    serde_transcode::transcode(&mut json, &mut cbor).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())
}

fn text(payload: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(payload).map_err(|error| error.to_string())
}

fn too_deep() -> Unreadable {
    format!("nested deeper than {MAX_DEPTH}")
}

/// Each level opens and closes with a byte, so most payloads are too short to be looked at.
fn json_is_flat_enough(payload: &[u8]) -> Result<(), Unreadable> {
    if payload.len() > MAX_DEPTH && depth(payload) > MAX_DEPTH { Err(too_deep()) } else { Ok(()) }
}

/// The same for a CBOR item that is valid by itself, tags included: whether it still is with one level around it.
fn cbor_is_flat_enough(item: &[u8]) -> Result<(), Unreadable> {
    const LIST_OF_ONE: u8 = 0x81;
    if item.len() > MAX_DEPTH {
        let inside = [&[LIST_OF_ONE], item].concat();
        serde_cbor::from_slice::<IgnoredAny>(&inside).map_err(|_| too_deep())?;
    }
    Ok(())
}

/// Deepest nesting of brackets outside strings.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
