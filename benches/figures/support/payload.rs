//! A reading of 113 bytes that knows its number and when it was published, at places where they are found without parsing.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a payload.
pub const BYTES: usize = 113;
/// Sensors, each with a topic of its own.
pub const SENSORS: u64 = 100;

const FORM: &[u8; BYTES] =
    br#"{"n":1000000000,"t":1000000000000000,"site":"plant-7","line":"assembly-04","kind":"temp","unit":"C","value":21.5}"#;
/// A JSON number has no leading zeros, so the number of a reading is written on top of this.
const FIRST: u64 = 1_000_000_000;
const NUMBER: std::ops::Range<usize> = 5..15;
const TIME: std::ops::Range<usize> = 20..36;

/// Microseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The payload of reading `number`, published at `time`.
pub fn of(number: u64, time: u64) -> [u8; BYTES] {
    let mut payload = *FORM;
    put(&mut payload[NUMBER], FIRST + number);
    put(&mut payload[TIME], time);
    payload
}

/// Number and time of publishing of a payload.
pub fn read(payload: &[u8]) -> Option<(u64, u64)> {
    let field = |place| std::str::from_utf8(payload.get(place)?).ok()?.parse::<u64>().ok();
    Some((field(NUMBER)?.checked_sub(FIRST)?, field(TIME)?))
}

/// The topic of reading `number`.
pub fn topic(number: u64) -> String {
    format!("plant/line-04/s{:03}/temp", number % SENSORS)
}

fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}
