//! Bytes from a serial line.

use bytes::{Bytes, BytesMut};

use super::{first, pieces};
use crate::{
    config::FramingConfig,
    sources::serial::framing::{Decoder, Overlong},
    units::ByteCount,
};

/// The first byte says the framing, the second the greatest length, the third how many of the next ones say where the rest is cut.
pub fn target(data: &[u8]) {
    let (framing, data) = first(data);
    let (max_length, data) = first(data);
    let (cuts, data) = first(data);
    let (cuts, data) = data.split_at(usize::from(cuts % 8).min(data.len()));
    let most = usize::from(max_length).max(1);
    let max_length = ByteCount(most as u64);
    let (framing, end, crlf) = match framing % 2 {
        0 => (FramingConfig::Lines { max_length }, b'\n', true),
        _ => (FramingConfig::Delimiter { byte: 3, max_length }, 3, false),
    };

    let expected = all_at_once(data, end, crlf, most);
    let mut decoder = Decoder::new(&framing);
    let mut found = Vec::new();
    for piece in pieces(data, cuts) {
        decoder.push(BytesMut::from(piece));
        while let Some(frame) = decoder.next_frame() {
            assert!(frame.as_ref().is_ok_and(|frame| (1..=most).contains(&frame.len())) || frame.is_err());
            found.push(frame);
        }
        assert!(decoder.waiting() <= most + 1, "{} bytes wait for the end of a frame of at most {most}", decoder.waiting());
    }
    assert_eq!(found, expected, "{framing:?} cut by {cuts:?}");
    let open = data.rsplit(|byte| *byte == end).next().is_some_and(|open| !open.is_empty());
    assert!(!decoder.give_up() || open, "what was open can only be the end of the flow");
}

/// The frames of `data`, the slow and obvious way.
fn all_at_once(data: &[u8], end: u8, crlf: bool, most: usize) -> Vec<Result<Bytes, Overlong>> {
    let mut parts: Vec<_> = data.split(|byte| *byte == end).collect();
    let open = parts.pop().unwrap_or_default();
    let whole = parts.into_iter().map(|part| if crlf { part.strip_suffix(b"\r").unwrap_or(part) } else { part });
    let frames = whole.filter(|frame| !frame.is_empty());
    let mut all: Vec<_> =
        frames.map(|frame| if frame.len() > most { Err(Overlong) } else { Ok(Bytes::copy_from_slice(frame)) }).collect();
    if open.len() > most + usize::from(crlf) {
        all.push(Err(Overlong));
    }
    all
}
