//! Where one reading ends and the next begins, in a flow of bytes that is cut anywhere.
//!
//! Invariant: what waits here is at most one frame and what was read last, whatever comes in; and a frame that came in one piece
//! goes out without being copied.

use bytes::{Bytes, BytesMut};

use crate::config::FramingConfig;

/// A frame that passed its greatest length. It is skipped up to the next end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlong;

/// Cuts a flow of bytes into frames.
#[derive(Debug)]
pub struct Decoder {
    end: u8,
    /// A CR before the end belongs to it.
    crlf: bool,
    max: usize,
    /// The beginning of a frame; no end in it.
    open: BytesMut,
    /// Not looked at yet.
    fresh: BytesMut,
    /// Inside of a frame that was already refused.
    skipping: bool,
}

impl Decoder {
    /// At the beginning of a frame.
    pub fn new(framing: &FramingConfig) -> Self {
        let (end, crlf, max) = match framing {
            FramingConfig::Lines { max_length } => (b'\n', true, max_length),
            FramingConfig::Delimiter { byte, max_length } => (*byte, false, max_length),
        };
        Self { end, crlf, max: max.as_len(), open: BytesMut::new(), fresh: BytesMut::new(), skipping: false }
    }

    /// Takes what was read. Call [`Self::next_frame`] until it has no more before the next push, or what waits here grows.
    pub fn push(&mut self, bytes: BytesMut) {
        self.fresh.unsplit(bytes);
    }

    /// The next whole frame without its end; empty ones are skipped. `None` until more is pushed.
    pub fn next_frame(&mut self) -> Option<Result<Bytes, Overlong>> {
        while let Some(at) = self.fresh.iter().position(|byte| *byte == self.end) {
            let mut last = self.fresh.split_to(at + 1);
            last.truncate(at);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            // Pieces of one allocation become one again: two reads of a frame are joined without a copy.
            self.open.unsplit(last);
            let mut frame = std::mem::take(&mut self.open);
            if self.crlf && frame.ends_with(b"\r") {
                frame.truncate(frame.len() - 1);
            }
            if !frame.is_empty() {
                return Some(if frame.len() > self.max { Err(Overlong) } else { Ok(frame.freeze()) });
            }
        }
        self.keep_unfinished().err().map(Err)
    }

    /// Forgets the open frame, whose end will never come; whether there was one that was not counted yet.
    pub fn give_up(&mut self) -> bool {
        let lost = !self.open.is_empty() || !self.fresh.is_empty();
        self.open = BytesMut::new();
        self.fresh = BytesMut::new();
        self.skipping = false;
        lost
    }

    /// Bytes that wait for the end of their frame, or have not been looked at.
    #[cfg(any(test, fuzzing))]
    pub fn waiting(&self) -> usize {
        self.open.len() + self.fresh.len()
    }

    fn keep_unfinished(&mut self) -> Result<(), Overlong> {
        let rest = std::mem::take(&mut self.fresh);
        if self.skipping {
            return Ok(());
        }
        if self.open.len() + rest.len() > self.max.saturating_add(usize::from(self.crlf)) {
            self.skipping = true;
            self.open = BytesMut::new();
            return Err(Overlong);
        }
        self.open.unsplit(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteCount;

    fn lines(max: u64) -> Decoder {
        Decoder::new(&FramingConfig::Lines { max_length: ByteCount(max) })
    }

    fn frames(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Result<Bytes, Overlong>> {
        decoder.push(bytes.into());
        std::iter::from_fn(|| decoder.next_frame()).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads like what it is compared with")]
    fn ok(text: &'static str) -> Result<Bytes, Overlong> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_line_ends_in_lf_or_cr_lf_and_empty_lines_are_no_readings() {
        let found = frames(&mut lines(100), b"21.5\r\n\r\n\n22.0\n\rodd\r\r\n");
        assert_eq!(found, [ok("21.5"), ok("22.0"), ok("\rodd\r")]);
    }

    #[test]
    fn frames_are_the_same_wherever_the_flow_is_cut() {
        let flow = b"one\r\ntwo\nmuch too long a line\nthree\r\n\nsixsix\r\nsevens!\nx\n";
        let whole = frames(&mut lines(6), flow);
        assert_eq!(whole, [ok("one"), ok("two"), Err(Overlong), ok("three"), ok("sixsix"), Err(Overlong), ok("x")]);
        for size in 1..flow.len() {
            let mut decoder = lines(6);
            let found: Vec<_> = flow.chunks(size).flat_map(|piece| frames(&mut decoder, piece)).collect();
            assert_eq!(found, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_delimiter_may_be_any_byte_and_nothing_else_is_taken_away() {
        let mut decoder = Decoder::new(&FramingConfig::Delimiter { byte: 3, max_length: ByteCount(100) });
        assert_eq!(frames(&mut decoder, b"a\r\x03\n\x03\x03b"), [ok("a\r"), ok("\n")]);
        assert_eq!(frames(&mut decoder, b"c\x03"), [ok("bc")]);
    }

    #[test]
    fn a_frame_of_one_read_or_of_one_allocation_is_not_copied() {
        let mut read = BytesMut::with_capacity(64);
        read.extend_from_slice(b"first\nsec");
        let start = read.as_ptr() as usize;
        let mut decoder = lines(100);

        decoder.push(read.split());
        let first = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.next_frame(), None);
        read.extend_from_slice(b"ond\n");
        decoder.push(read.split());
        let second = decoder.next_frame().unwrap().unwrap();

        assert_eq!((first.as_ptr() as usize, second.as_ptr() as usize), (start, start + 6));
        assert_eq!(second, "second");
    }

    #[test]
    fn endless_noise_is_one_invalid_frame_and_holds_no_memory() {
        let mut decoder = lines(16);
        let refused: usize = (0..1000).map(|_| frames(&mut decoder, &[0xFF; 64]).len()).sum();
        assert_eq!(refused, 1);
        assert_eq!(decoder.open.len() + decoder.fresh.len(), 0);
        assert_eq!(frames(&mut decoder, b"tail\nback\n"), [ok("back")]);
    }

    #[test]
    fn a_frame_that_was_open_when_the_line_went_is_given_up_once() {
        let mut decoder = lines(100);
        assert_eq!(frames(&mut decoder, b"21.5\n22"), [ok("21.5")]);
        assert!(decoder.give_up());
        assert!(!decoder.give_up());
        assert_eq!(frames(&mut decoder, b"23.0\n"), [ok("23.0")]);
    }
}
