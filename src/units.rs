//! Sizes, rates and durations as people write them: `"64 MiB"`, `"512 KiB/s"`, `"250ms"`.
//!
//! A setting says its unit, so a bare number is refused: nobody should have to guess whether 30 are seconds.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

use crate::reading::Timestamp;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

const BYTE_UNITS: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("kB", 1000), ("B", 1)];

impl ByteCount {
    /// `n` times 1,024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1,024 KiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` times 1,024 MiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The same as a length in memory; more than the address space counts as all of it.
    #[expect(clippy::cast_possible_truncation, reason = "it was compared; `try_from` is not for constants")]
    pub const fn as_len(self) -> usize {
        if self.0 > usize::MAX as u64 { usize::MAX } else { self.0 as usize }
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not a size; write for example \"64 MiB\", \"512 KiB\" or \"100 B\"");
        let (number, unit) = split_unit(text).ok_or_else(refused)?;
        let (_, bytes) = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
        number.parse::<u64>().ok().and_then(|n| n.checked_mul(*bytes)).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (name, bytes) =
            BYTE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)).unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / bytes)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text { read: str::parse, wanted: r#"a size such as "64 MiB""# })
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(pub u64);

impl FromStr for ByteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.trim().strip_suffix("/s").and_then(|size| size.parse::<ByteCount>().ok());
        size.map(|size| Self(size.0))
            .ok_or_else(|| format!("{text:?} is not a rate; write for example \"512 KiB/s\" or \"1 MiB/s\""))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/s", ByteCount(self.0))
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Text { read: str::parse, wanted: r#"a rate such as "512 KiB/s""# })
    }
}

impl Serialize for ByteRate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `"250ms"`, `"1s"`, `"5min"`, `"12h"`, `"30d"`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration; write for example \"250ms\", \"10s\", \"5min\", \"12h\" or \"30d\"");
    let (number, unit) = split_unit(text).ok_or_else(refused)?;
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*millis)).map(Duration::from_millis).ok_or_else(refused)
}

/// The shortest text that [`parse_duration`] reads back as `span`, to the millisecond.
pub fn format_duration(span: Duration) -> String {
    let total = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (name, millis) =
        TIME_UNITS.iter().find(|(_, millis)| total >= *millis && total.is_multiple_of(*millis)).unwrap_or(&("s", 1_000));
    format!("{}{name}", total / millis)
}

/// A moment as people and file names take it, to the second: `2026-11-21T05:30:00Z`.
pub fn format_utc(Timestamp(ms): Timestamp) -> String {
    let (days, seconds) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1000);
    // Years begin in March here, so that a leap day is a year's last. Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn split_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| (&text[..digits], text[digits..].trim_start()))
}

/// Says what it wants when it is given a bare number, because "a string" would not tell anybody that the unit is missing.
struct Text<T> {
    read: fn(&str) -> Result<T, String>,
    wanted: &'static str,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.wanted)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

/// For `#[serde(with = "units::duration")]`.
pub mod duration {
    use super::{Deserializer, Duration, Serializer, Text, format_duration, parse_duration};

    /// Reads a text such as `"250ms"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_str(Text { read: parse_duration, wanted: r#"a duration such as "10s""# })
    }

    /// Writes it as it is read.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*span))
    }
}

/// The same for a setting that may be left out.
pub mod optional_duration {
    use super::{Deserializer, Duration, Serializer, duration};

    /// Reads a text such as `"30d"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(from).map(Some)
    }

    /// Writes it as it is read.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => duration::serialize(span, to),
            None => to.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_its_date_and_time() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_868_799_000, "2000-02-29T23:59:59Z"),
            (1_795_239_000_000, "2026-11-21T05:30:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(format_utc(Timestamp(ms)), text);
        }
    }

    #[test]
    fn a_size_or_a_duration_reads_back_as_it_was_written() {
        for text in ["64 MiB", "2 GiB", "1000 KiB", "7 B", "0 B"] {
            assert_eq!(text.parse::<ByteCount>().unwrap().to_string(), text);
            let rate = format!("{text}/s");
            assert_eq!(rate.parse::<ByteRate>().unwrap().to_string(), rate);
        }
        for text in ["250ms", "1s", "90s", "5min", "12h", "30d", "0s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        assert!("64".parse::<ByteCount>().is_err());
        assert!("1 MiB".parse::<ByteRate>().is_err() && "100/s".parse::<ByteRate>().is_err());
        assert!(parse_duration("30").is_err());
        assert!("99999999999999 GiB".parse::<ByteCount>().is_err());
    }
}
