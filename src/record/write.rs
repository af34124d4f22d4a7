//! The pieces that envelopes and values are written with.

use std::{fmt::Display, io::Write};

/// Appends the head of a CBOR item (RFC 8949, section 3): major type and argument in its shortest form.
pub(super) fn put_cbor_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xFF => out.extend_from_slice(&[major | 0x18, bytes[7]]),
        0x100..=0xFFFF => {
            out.push(major | 0x19);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(major | 0x1A);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 0x1B);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends an integer.
pub(super) fn put_cbor_integer(out: &mut Vec<u8>, value: i64) {
    // A negative n stands as -1 - n, which is the bitwise complement.
    put_cbor_head(out, u8::from(value < 0), if value < 0 { !value.cast_unsigned() } else { value.cast_unsigned() });
}

/// Appends a byte string.
pub(super) fn put_cbor_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_cbor_head(out, 2, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a text string.
pub(super) fn put_cbor_text(out: &mut Vec<u8>, text: &str) {
    put_cbor_head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a JSON string.
pub(super) fn put_json_text(out: &mut Vec<u8>, text: &str) {
    // A `Vec` takes all that it is given, and a text has no key that could be wrong.
    serde_json::to_writer(out, text).expect("writing text to memory cannot fail");
}

/// Appends a number as JSON writes it.
pub(super) fn put_decimal(out: &mut Vec<u8>, value: impl Display) {
    // A `Vec` takes all that it is given.
    write!(out, "{value}").expect("writing a number to memory cannot fail");
}

/// Appends `bytes` as a JSON string in base64 (RFC 4648, section 4).
pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64_simd::STANDARD.encode_append(bytes, out);
    out.push(b'"');
}
