//! Hours of the day in which nothing is sent.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::reading::Timestamp;

/// From one minute of the day to another, in UTC, every day; over midnight when the first is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    from: i64,
    to: i64,
}

/// Minutes of a day.
const DAY: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;

impl QuietHours {
    /// How long they still last at `time`; none outside of them.
    pub fn left(self, time: Timestamp) -> Option<Duration> {
        let since = |minute: i64| (time.0 - minute * MINUTE_MS).rem_euclid(DAY * MINUTE_MS);
        let (passed, all) = (since(self.from), (self.to - self.from).rem_euclid(DAY) * MINUTE_MS);
        (passed < all).then(|| Duration::from_millis((all - passed).unsigned_abs()))
    }

    /// Whether some minute of the day is in none of `hours`.
    pub fn leave_time(hours: &[Self]) -> bool {
        (0..DAY).any(|minute| hours.iter().all(|hours| hours.left(Timestamp(minute * MINUTE_MS)).is_none()))
    }
}

impl FromStr for QuietHours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} are no hours of the day; write for example \"08:00-18:00\" or \"22:00-06:00\"");
        let (from, to) = text.split_once('-').ok_or_else(refused)?;
        match [minute(from), minute(to)] {
            [Some(from), Some(to)] if from % DAY != to % DAY => Ok(Self { from: from % DAY, to }),
            _ => Err(refused()),
        }
    }
}

/// Of the day: 0 for `00:00`, and 1,440 for `24:00`.
fn minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()));
    let (hours, minutes): (i64, i64) = (number(hours)?, number(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

impl fmt::Display for QuietHours {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let [from, until] = [self.from, self.to].map(|minute| (minute / 60, minute % 60));
        write!(to, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, until.0, until.1)
    }
}

impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for QuietHours {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64, minute: i64) -> Timestamp {
        Timestamp((19_000 * 24 + hour) * 3_600_000 + minute * MINUTE_MS)
    }

    #[test]
    fn hours_of_the_day_last_until_their_end_and_over_midnight() {
        let office: QuietHours = "08:00-18:00".parse().unwrap();
        assert_eq!(office.left(at(7, 59)), None);
        assert_eq!(office.left(at(8, 0)), Some(Duration::from_hours(10)));
        assert_eq!(office.left(at(17, 59)), Some(Duration::from_mins(1)));
        assert_eq!(office.left(at(18, 0)), None);
        let night: QuietHours = "22:30-06:00".parse().unwrap();
        assert_eq!(night.left(at(22, 29)), None);
        assert_eq!(night.left(at(23, 0)), Some(Duration::from_hours(7)));
        assert_eq!(night.left(at(5, 0)), Some(Duration::from_hours(1)));
        assert_eq!(night.left(at(6, 0)), None);
        assert_eq!(night.left(Timestamp(-1)), Some(Duration::from_hours(6) + Duration::from_millis(1)), "before 1970");
        let noon: QuietHours = "12:00-24:00".parse().unwrap();
        assert_eq!((noon.left(at(23, 59)), noon.left(at(0, 0))), (Some(Duration::from_mins(1)), None));
    }

    #[test]
    fn hours_read_back_as_they_were_written_and_nothing_else_is_read() {
        for text in ["08:00-18:00", "22:30-06:00", "00:00-12:00", "12:00-24:00"] {
            assert_eq!(text.parse::<QuietHours>().unwrap().to_string(), text);
        }
        for text in ["8:00-18:00", "08:00", "08:00-25:00", "08:60-09:00", "08:00-08:00", "00:00-24:00", "+8:00-09:00", ""] {
            assert!(text.parse::<QuietHours>().is_err(), "{text}");
        }
    }

    #[test]
    fn hours_that_cover_the_day_leave_no_time() {
        let hours = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<QuietHours>>();
        assert!(QuietHours::leave_time(&hours(&["08:00-18:00", "22:00-06:00"])));
        assert!(!QuietHours::leave_time(&hours(&["06:00-22:00", "21:00-06:00"])));
    }
}
