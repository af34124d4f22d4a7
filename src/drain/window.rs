//! The part of what waits in a lane that a [`Search`](super::bisect::Search) asks for.

use super::bisect::Ask;
use crate::{
    buffer::{Delivered, Piece, Position},
    record::kpl::{self, Malformed},
};

/// Some readings of a lane.
pub(super) struct Window {
    pub(super) pieces: Vec<Piece>,
    /// Where it ends, when that is inside a chunk.
    end: Option<Position>,
}

impl Window {
    /// What of `pieces` was asked for.
    pub(super) fn of(pieces: Vec<Piece>, ask: Ask) -> Result<Self, Malformed> {
        let (mut skip, mut most) = (ask.skip, ask.most);
        let mut window = Self { pieces: Vec::new(), end: None };
        for mut piece in pieces {
            if most == 0 {
                break;
            }
            // A notice, which is no reading, goes with the reading behind it.
            if skip > 0 && skip >= piece.readings {
                skip -= piece.readings;
                continue;
            }
            if piece.readings == 0 && most < u64::MAX && window.pieces.is_empty() {
                window.pieces.push(piece); // alone, because none of the readings behind it is to be taken for it
                break;
            }
            if skip > 0 {
                let readings = std::mem::take(&mut skip);
                let run = kpl::cut(&piece.data, 0, readings + u64::from(piece.notice))?;
                piece.position = after(piece.position, run.len, readings);
                piece.readings -= readings;
                piece.notice = false;
                piece.data = piece.data.slice(run.len..);
            }
            if piece.readings > most {
                let run = kpl::cut(&piece.data, 0, most + u64::from(piece.notice))?;
                window.end = Some(after(piece.position, run.len, most));
                piece.readings = most;
                piece.data.truncate(run.len);
            }
            most -= piece.readings;
            window.pieces.push(piece);
        }
        Ok(window)
    }

    /// What the buffer may forget when `packed` is confirmed, which was made of this window's pieces.
    pub(super) fn delivered(&self, packed: Delivered) -> Delivered {
        let readings: u64 = self.pieces.iter().map(|piece| piece.readings).sum();
        match self.end {
            Some(up_to) if packed.readings == readings => Delivered { up_to, ..packed },
            _ => packed,
        }
    }
}

fn after(Position { number, offset, readings }: Position, bytes: usize, more: u64) -> Position {
    Position { number, offset: offset + bytes as u64, readings: readings + more }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{reading::Timestamp, record::kpl::HashKeyUse};

    /// Two chunks of three readings each, of the first of which one is delivered.
    fn pieces() -> Vec<Piece> {
        let piece = |number, offset, done: u64, data: &[&[u8]]| {
            let mut fields = Vec::new();
            data.iter().for_each(|data| kpl::put_record(&mut fields, 0, HashKeyUse::None, data));
            Piece {
                position: Position { number, offset, readings: done },
                readings: data.len() as u64,
                arrived: Timestamp(0),
                unsure: None,
                notice: false,
                keys: None,
                data: Bytes::from(fields),
            }
        };
        vec![piece(4, 7, 1, &[b"b", b"c"]), piece(5, 0, 0, &[b"d", b"e", b"f"])]
    }

    fn texts(window: &Window) -> String {
        let mut text = String::new();
        for piece in &window.pieces {
            let (mut rest, mut readings) = (&piece.data[..], 0);
            while !rest.is_empty() {
                let record = kpl::first_record(rest).unwrap();
                text += std::str::from_utf8(record.data).unwrap();
                rest = &rest[record.field_len..];
                readings += 1;
            }
            assert_eq!(readings, piece.readings);
        }
        text
    }

    #[test]
    fn a_window_holds_what_was_asked_for_and_no_reading_more() {
        for skip in 0..7 {
            for most in 1..7 {
                let window = Window::of(pieces(), Ask { skip, most }).unwrap();
                let expected: String =
                    "bcdef".chars().skip(usize::try_from(skip).unwrap()).take(usize::try_from(most).unwrap()).collect();
                assert_eq!(texts(&window), expected, "{skip} {most}");
            }
        }
        assert_eq!(texts(&Window::of(pieces(), Ask::ALL).unwrap()), "bcdef");
    }

    #[test]
    fn a_notice_is_no_reading_and_is_never_left_out() {
        let mut thinned = pieces();
        thinned[1].notice = true;
        thinned[1].readings = 2;
        let all = |pieces: &[Piece], ask| {
            let window = Window::of(pieces.to_vec(), ask).unwrap();
            let records = window.pieces.iter().map(|piece| kpl::cut(&piece.data, usize::MAX, 0).unwrap().records).sum::<u64>();
            (window.pieces.iter().map(|piece| piece.readings).sum::<u64>(), records)
        };
        assert_eq!(all(&thinned, Ask { skip: 0, most: 3 }), (3, 4));
        assert_eq!(all(&thinned, Ask { skip: 2, most: 1 }), (1, 2));
        assert_eq!(all(&thinned, Ask { skip: 3, most: 1 }), (1, 1));
        assert_eq!(all(&thinned, Ask::ALL), (4, 5));

        let mut notice = pieces().remove(1);
        (notice.readings, notice.notice) = (0, true);
        let headed = [vec![notice], pieces()].concat();
        assert_eq!(all(&headed, Ask::ALL).0, 5);
        assert_eq!(all(&headed, Ask { skip: 0, most: 1 }), (0, 3), "alone");
        assert_eq!(all(&headed, Ask { skip: 1, most: 1 }), (1, 1));
    }

    #[test]
    fn what_comes_behind_a_window_is_sent_next() {
        let field = kpl::cut(&pieces()[0].data, 0, 1).unwrap().len as u64;
        let whole = |number, readings| Delivered { readings, bytes: 0, up_to: Position { number, ..Position::default() } };

        let one = Window::of(pieces(), Ask { skip: 0, most: 1 }).unwrap();
        assert_eq!(one.delivered(whole(5, 1)).up_to, Position { number: 4, offset: 7 + field, readings: 2 });
        let three = Window::of(pieces(), Ask { skip: 0, most: 3 }).unwrap();
        assert_eq!(three.delivered(whole(6, 3)).up_to, Position { number: 5, offset: field, readings: 1 });
        assert_eq!(three.delivered(whole(5, 2)).up_to, whole(5, 2).up_to, "a record that had no room for all of it");
        let two = Window::of(pieces(), Ask { skip: 0, most: 2 }).unwrap();
        assert_eq!(two.delivered(whole(5, 2)).up_to, whole(5, 2).up_to);
    }
}
