//! How many readings go into a record, and how large it becomes: what the packer does, without the bytes.

use headwater::record::kpl::{self, HashKeyUse};

/// A reading's user record: an envelope in CBOR with a number in it.
pub const READING: usize = 150;
/// And its field in the aggregate.
pub const FIELD: usize = READING + 8;
/// As long as the partition keys of the gateways.
const KEY: &str = "gateway-000000/readings/0";

/// What an aggregate has beside its fields.
fn lead() -> usize {
    kpl::FRAME_LEN + kpl::table_entry_len(KEY)
}

/// Readings in a record of at most `at_most` bytes; at least one, whatever its size.
pub fn readings(at_most: usize) -> u64 {
    (at_most.saturating_sub(lead()) / FIELD).max(1) as u64
}

/// Bytes of a record with so many readings, the partition key included, which the shard counts.
pub fn bytes(readings: u64) -> usize {
    lead() + readings as usize * FIELD + KEY.len()
}

#[test]
fn a_simulated_record_is_as_large_as_the_real_one() {
    for readings in [1, 2, 10, 1000] {
        let mut record = kpl::begin(&[KEY], None, 0);
        for _ in 0..readings {
            kpl::put_record(&mut record, 0, HashKeyUse::None, &[b'x'; READING]);
        }
        kpl::finish(&mut record);
        assert_eq!(bytes(readings), record.len() + KEY.len());
    }
}
