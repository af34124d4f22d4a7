//! What tells a row of the table of chunks that is as it was written from one that is not.
//!
//! SQLite does not notice a flipped bit in a row. A wrong number of readings would make the ledger wrong for good, and nobody would see
//! it; so the columns have a checksum of their own, which can be looked at without reading the data.

use super::Earlier;
use crate::{reading::Timestamp, record::RunId};

/// The columns of a row, without its keys and its data.
#[derive(Clone, Copy, Debug)]
pub(in crate::buffer) struct Columns {
    pub(in crate::buffer) id: i64,
    pub(in crate::buffer) readings: u64,
    pub(in crate::buffer) earlier: Earlier,
    pub(in crate::buffer) arrived: Timestamp,
    pub(in crate::buffer) run: RunId,
    pub(in crate::buffer) first_seq: u64,
    /// Bytes of its data.
    pub(in crate::buffer) bytes: u64,
}

/// The column `crc`: in its lower half the CRC32C of keys and data, in its upper one that of the lower half and the columns. The upper
/// one is zero in rows that were written before schema version 6, and such a row is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Seal(pub(in crate::buffer) i64);

impl Seal {
    pub(in crate::buffer) fn of(columns: &Columns, content: u32) -> Self {
        Self((u64::from(columns.sum(content)) << 32 | u64::from(content)).cast_signed())
    }

    /// Whether the columns are those that were written.
    pub(in crate::buffer) fn fits(self, columns: &Columns) -> bool {
        let [sum, content] = self.halves();
        sum == 0 || sum == columns.sum(content)
    }

    /// Whether it says anything of the columns.
    pub(in crate::buffer) fn covers_columns(self) -> bool {
        self.halves()[0] != 0
    }

    /// Whether keys and data, whose checksum is `content`, are those that were written.
    pub(in crate::buffer) fn fits_content(self, content: u32) -> bool {
        self.halves()[1] == content
    }

    fn halves(self) -> [u32; 2] {
        #[expect(clippy::cast_possible_truncation, reason = "a half of it is what is wanted")]
        [32, 0].map(|shift| (self.0.cast_unsigned() >> shift) as u32)
    }
}

impl Columns {
    fn sum(&self, content: u32) -> u32 {
        let Self { id, readings, earlier, arrived, run, first_seq, bytes } = self;
        let columns = [
            id.cast_unsigned(),
            *readings,
            earlier.readings,
            earlier.bytes,
            arrived.0.cast_unsigned(),
            run.0,
            *first_seq,
            *bytes,
            content.into(),
        ];
        columns.iter().fold(0, |sum, column| crc32c::crc32c_append(sum, &column.to_be_bytes()))
    }
}

/// Of keys and data.
pub(in crate::buffer) fn checksum(keys: Option<&str>, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(keys.unwrap_or_default().as_bytes()), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        id: 5 << 40 | 7,
        readings: 3,
        earlier: Earlier { readings: 9, bytes: 900 },
        arrived: Timestamp(1_795_219_200_000),
        run: RunId(0xFEDC_BA98_7654_3210),
        first_seq: 12,
        bytes: 300,
    };

    #[test]
    fn a_flipped_bit_of_any_column_and_of_the_seal_itself_is_seen() {
        let content = checksum(Some("key"), b"data");
        let seal = Seal::of(&COLUMNS, content);
        assert!(seal.fits(&COLUMNS) && seal.fits_content(content));
        assert!(seal.covers_columns() && seal.halves()[1] == content);

        for bit in 0..64 {
            let flip = |column: u64| column ^ 1 << bit;
            let flipped = [
                Columns { id: COLUMNS.id ^ 1 << bit, ..COLUMNS },
                Columns { readings: flip(3), ..COLUMNS },
                Columns { earlier: Earlier { readings: flip(9), bytes: 900 }, ..COLUMNS },
                Columns { earlier: Earlier { readings: 9, bytes: flip(900) }, ..COLUMNS },
                Columns { arrived: Timestamp(COLUMNS.arrived.0 ^ 1 << bit), ..COLUMNS },
                Columns { run: RunId(flip(COLUMNS.run.0)), ..COLUMNS },
                Columns { first_seq: flip(12), ..COLUMNS },
                Columns { bytes: flip(300), ..COLUMNS },
            ];
            assert!(flipped.iter().all(|columns| !seal.fits(columns)), "bit {bit}");
            assert!(!Seal(seal.0 ^ 1 << bit).fits(&COLUMNS), "bit {bit}");
        }
    }

    #[test]
    fn a_row_of_an_earlier_version_is_believed_but_for_its_data() {
        let content = checksum(None, b"data");
        let seal = Seal(i64::from(content));
        assert!(seal.fits(&Columns { readings: 99, ..COLUMNS }) && seal.fits_content(content) && !seal.fits_content(content ^ 1));
    }
}
