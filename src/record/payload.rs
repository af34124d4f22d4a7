//! The payload, read as its source's configuration says and written as a value of the envelope.
//!
//! Invariant: when a payload is not what it should be, nothing has been written, and the caller puts the bytes in as they are.

use std::io::Write;

use serde_cbor::Value;

use super::write::{put_base64, put_cbor_bytes, put_cbor_text, put_json_text};
use crate::config::PayloadFormat;

/// Deepest nesting that is carried; it is also what the parsers on both sides allow.
const MAX_DEPTH: usize = 128;

/// Why a payload can't be read; goes into the envelope's `err`.
pub(super) type Unreadable = String;

/// Appends the payload to `out` as one CBOR item.
pub(super) fn put_cbor(out: &mut Vec<u8>, payload: &[u8], format: PayloadFormat) -> Result<(), Unreadable> {
    match format {
        PayloadFormat::Bytes => put_cbor_bytes(out, payload),
        PayloadFormat::Text => put_cbor_text(out, text(payload)?),
        PayloadFormat::Cbor => {
            serde_cbor::from_slice::<serde::de::IgnoredAny>(payload).map_err(|error| error.to_string())?;
            out.extend_from_slice(payload);
        }
        PayloadFormat::Json => {
            let before = out.len();
            let mut json = serde_json::Deserializer::from_slice(payload);
            let mut cbor = serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(&mut *out));
            let read = serde_transcode::transcode(&mut json, &mut cbor).map_err(|error| error.to_string());
            if let Err(error) = read.and_then(|()| json.end().map_err(|error| error.to_string())) {
                out.truncate(before);
                return Err(error);
            }
        }
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
            serde_json::from_str::<serde::de::IgnoredAny>(json).map_err(|error| error.to_string())?;
            if depth(payload) > MAX_DEPTH {
                return Err(format!("nested deeper than {MAX_DEPTH}"));
            }
            // The text as it came keeps every digit. A line end in valid JSON is white space: inside a string it is escaped.
            out.extend(json.trim().bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        }
        PayloadFormat::Cbor => {
            let value: Value = serde_cbor::from_slice(payload).map_err(|error| error.to_string())?;
            let before = out.len();
            if let Err(error) = put_cbor_value_as_json(out, &value) {
                out.truncate(before);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The reading's own time in ms: the number that JSON pointer `pointer` leads to.
pub(super) fn own_time(payload: &[u8], pointer: &str) -> Option<i64> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let time = value.pointer(pointer)?;
    #[expect(clippy::cast_possible_truncation, reason = "a float that is no time saturates, and is as wrong as it was")]
    time.as_i64().or_else(|| time.as_f64().map(|ms| ms as i64))
}

fn text(payload: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(payload).map_err(|error| error.to_string())
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

/// CBOR has more kinds of values than JSON: bytes become base64, what is no finite number becomes null, tags are left out.
fn put_cbor_value_as_json(out: &mut Vec<u8>, value: &Value) -> Result<(), Unreadable> {
    match value {
        Value::Bytes(bytes) => put_base64(out, bytes),
        Value::Text(text) => put_json_text(out, text),
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Integer(number) => write!(out, "{number}").map_err(|error| error.to_string())?,
        Value::Float(number) => serde_json::to_writer(out, number).map_err(|error| error.to_string())?,
        Value::Tag(_, inner) => put_cbor_value_as_json(out, inner)?,
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                out.push(if i == 0 { b'[' } else { b',' });
                put_cbor_value_as_json(out, item)?;
            }
            out.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        }
        Value::Map(members) => {
            for (i, (key, item)) in members.iter().enumerate() {
                let Value::Text(key) = key else {
                    return Err("JSON has no map keys other than text".into());
                };
                out.push(if i == 0 { b'{' } else { b',' });
                put_json_text(out, key);
                out.push(b':');
                put_cbor_value_as_json(out, item)?;
            }
            out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
        _ => out.extend_from_slice(b"null"), // null, undefined, and kinds to come
    }
    Ok(())
}
