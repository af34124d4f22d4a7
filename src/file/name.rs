//! What files are called: pure.
//!
//! Invariant: the names of one device sort as their times do, for all times from the year 0 to 9999.

use super::whole;
use crate::{config::Encoding, reading::Timestamp, units::format_utc};

/// A file of ours, by the parts of its name: `DEVICE-TIME-TARGET`, and what its state adds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// When it was begun, to the millisecond; unique in its folder.
    pub(super) time: Timestamp,
    /// See [`super::target`].
    pub(super) target: String,
    pub(super) state: State,
}

/// How far a file has come; in the order in which leftovers of the same file are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It is being compressed; the same is still there as [`State::Open`].
    Packing,
    /// It is being written.
    Open,
    /// It is finished.
    Whole,
    /// It is finished and compressed.
    Packed,
}

/// What each state adds to a name; the longest first, so that the first that fits is the right one.
const ENDS: [(State, &str); 4] =
    [(State::Packing, ".zst.part"), (State::Open, ".part"), (State::Packed, ".zst"), (State::Whole, "")];

/// `20261127T231205.123Z`
const TIME_LEN: usize = 20;

impl Name {
    /// The file's name.
    pub(super) fn file(&self, device: &str) -> String {
        let end = ENDS.iter().find(|(state, _)| *state == self.state).map_or("", |(_, end)| *end);
        format!("{device}-{}-{}{end}", time_text(self.time), self.target)
    }

    /// The parts of a name; none when it is not one that [`Self::file`] makes for `device`.
    pub(super) fn parse(device: &str, file: &str) -> Option<Self> {
        let rest = file.strip_prefix(device)?.strip_prefix('-')?;
        let (time, rest) = rest.split_at_checked(TIME_LEN)?;
        let (state, end) = ENDS.iter().find(|(_, end)| rest.ends_with(end))?;
        let target = rest.strip_prefix('-')?.strip_suffix(end)?;
        let time = read_time(time)?;
        let (_, extension) = target.rsplit_once('.')?;
        whole::encoding(extension)?;
        Some(Self { time, target: target.to_owned(), state: *state })
    }

    /// What it has in common with the same file in other states.
    pub(super) fn id(&self) -> (Timestamp, &str) {
        (self.time, &self.target)
    }

    /// How its records are encoded.
    pub(super) fn encoding(&self) -> Encoding {
        self.target.rsplit_once('.').and_then(|(_, extension)| whole::encoding(extension)).unwrap_or(Encoding::Raw)
    }
}

fn time_text(time: Timestamp) -> String {
    let text = format_utc(time).replace(['-', ':'], "");
    format!("{}.{:03}Z", text.trim_end_matches('Z'), time.0.rem_euclid(1000))
}

/// The time that [`time_text`] writes so.
fn read_time(text: &str) -> Option<Timestamp> {
    let digits = |from: usize, len: usize| -> Option<i64> {
        let digits = text.get(from..from + len).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse().ok()
    };
    let (year, month, day) = (digits(0, 4)?, digits(4, 2)?, digits(6, 2)?);
    let (hour, minute, second, ms) = (digits(9, 2)?, digits(11, 2)?, digits(13, 2)?, digits(16, 3)?);
    // As in `format_utc`, the other way round.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1;
    let time = Timestamp((((days - 719_468) * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms);
    (time_text(time) == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp(1_795_821_125_123);

    fn name(state: State) -> Name {
        Name { time: TIME, target: "read-ings.jsonl".into(), state }
    }

    #[test]
    fn a_name_tells_its_parts_and_how_far_the_file_has_come() {
        for (state, file) in [
            (State::Open, "gw-7-20261127T231205.123Z-read-ings.jsonl.part"),
            (State::Whole, "gw-7-20261127T231205.123Z-read-ings.jsonl"),
            (State::Packed, "gw-7-20261127T231205.123Z-read-ings.jsonl.zst"),
            (State::Packing, "gw-7-20261127T231205.123Z-read-ings.jsonl.zst.part"),
        ] {
            assert_eq!(name(state).file("gw-7"), file);
            assert_eq!(Name::parse("gw-7", file), Some(name(state)));
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for file in [
            "gw-7-20261127T231205.123Z-readings",
            "gw-7-20261127T231205.123Z-readings.txt",
            "gw-7-20261327T231205.123Z-readings.jsonl",
            "gw-7-20261127-231205.123Z-readings.jsonl",
            "gw-7-2026112é231205.123Z-readings.jsonl",
            "gw-70-20261127T231205.123Z-readings.jsonl",
            "gw-7-",
            "notes.jsonl",
        ] {
            assert_eq!(Name::parse("gw-7", file), None, "{file}");
        }
    }

    #[test]
    fn names_sort_as_their_times_do() {
        let mut times: Vec<i64> = (0..2000).map(|n| n * 86_399_999_771 / 7).collect();
        times.extend([0, 1, 999, 1000, 951_782_400_000, 4_107_542_400_000]);
        times.sort_unstable();
        let files: Vec<_> = times.iter().map(|time| Name { time: Timestamp(*time), ..name(State::Whole) }.file("gw")).collect();

        assert!(files.is_sorted());
        let read: Vec<_> = files.iter().map(|file| Name::parse("gw", file).unwrap().time.0).collect();
        assert_eq!(read, times);
    }
}
