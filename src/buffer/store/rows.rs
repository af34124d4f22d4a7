//! What stands in the rows of a file, and what is made of it.

use std::ops::RangeInclusive;

use bytes::Bytes;
use rusqlite::{Row, types::Type};

use super::{Columns, Earlier, Gap, Seal, checksum, time};
use crate::{
    buffer::{Chunk, LaneId},
    clock::Unsure,
    reading::{Fingerprint, Timestamp},
    record::RunId,
};

/// Chunk numbers of a lane: a billion a day for three years.
const NUMBER_BITS: u32 = 40;
pub(super) const MAX_NUMBER: u64 = (1 << NUMBER_BITS) - 1;

/// No MQTT topic and so no partition key contains it. Source: MQTT 3.1.1, section 1.5.3.
pub(super) const KEY_SEPARATOR: &str = "\0";

/// As [`head_from`] reads them; when a chunk arrived is corrected as far as the file knows.
pub(super) const HEAD: &str = "SELECT c.id, c.readings, length(c.data), c.ts + coalesce((boot.setting - unsure.setting) / 1000, 0),
        c.earlier, c.earlier_bytes, c.run, c.seq, unsure.boot, unsure.setting, g.readings, g.bytes, g.last, g.why, g.level, g.notice,
        c.crc, c.ts
    FROM chunk c LEFT JOIN gap g ON g.id = c.id LEFT JOIN unsure ON unsure.chunk = c.id LEFT JOIN boot ON boot.id = unsure.boot";

/// As [`stored_from`] reads them.
pub(super) const STORED: &str =
    "SELECT c.id, c.readings, c.ts, c.run, c.seq, c.crc, g.notice, c.keys, c.data, unsure.boot, unsure.setting, length(c.data),
        c.earlier, c.earlier_bytes
    FROM chunk c LEFT JOIN gap g ON g.id = c.id LEFT JOIN unsure ON unsure.chunk = c.id";

/// A chunk as it was read back.
#[derive(Debug)]
pub(in crate::buffer) struct Stored {
    pub(in crate::buffer) number: u64,
    pub(in crate::buffer) readings: u64,
    pub(in crate::buffer) bytes: u64,
    /// None where the bytes are not those that were written.
    pub(in crate::buffer) chunk: Option<Chunk>,
}

/// What a lane's rows tell without reading their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Head {
    pub(in crate::buffer) number: u64,
    pub(in crate::buffer) readings: u64,
    pub(in crate::buffer) bytes: u64,
    pub(in crate::buffer) arrived: Timestamp,
    pub(in crate::buffer) earlier: Earlier,
    pub(in crate::buffer) run: RunId,
    pub(in crate::buffer) first_seq: u64,
    pub(in crate::buffer) unsure: Option<Unsure>,
    pub(in crate::buffer) gap: Option<Gap>,
}

/// The rows of a lane.
pub(in crate::buffer) fn row_ids(lane: LaneId) -> RangeInclusive<i64> {
    row_id(lane, 0)..=row_id(lane, MAX_NUMBER)
}

/// The lane of a row.
pub(in crate::buffer) fn lane_of(id: i64) -> LaneId {
    LaneId((id >> NUMBER_BITS).try_into().unwrap_or(u32::MAX))
}

pub(super) fn row_id(lane: LaneId, number: u64) -> i64 {
    i64::from(lane.0) << NUMBER_BITS | (number & MAX_NUMBER).cast_signed()
}

/// The keys of a row.
pub(in crate::buffer) fn keys_from(keys: &str) -> impl Iterator<Item = String> {
    keys.split(KEY_SEPARATOR).map(Into::into)
}

/// Errors: the columns are not those that were written, at the place of the seal.
fn columns_from(
    row: &Row,
    [id, readings, bytes, ts, earlier, earlier_bytes, run, seq, crc]: [usize; 9],
) -> rusqlite::Result<Columns> {
    let columns = Columns {
        id: row.get(id)?,
        readings: row.get(readings)?,
        bytes: row.get(bytes)?,
        arrived: Timestamp(row.get(ts)?),
        earlier: Earlier { readings: row.get(earlier)?, bytes: row.get(earlier_bytes)? },
        run: RunId(row.get::<_, i64>(run)?.cast_unsigned()),
        first_seq: row.get::<_, i64>(seq)?.cast_unsigned(),
    };
    let what = || "a row is not what was written".into();
    let fits = Seal(row.get(crc)?).fits(&columns);
    if fits { Ok(columns) } else { Err(rusqlite::Error::FromSqlConversionFailure(crc, Type::Integer, what())) }
}

pub(super) fn head_from(row: &Row) -> rusqlite::Result<Head> {
    let Columns { id, readings, bytes, earlier, run, first_seq, .. } = columns_from(row, [0, 1, 2, 17, 4, 5, 6, 7, 16])?;
    Ok(Head {
        number: id.cast_unsigned() & MAX_NUMBER,
        readings,
        bytes,
        arrived: Timestamp(row.get(3)?),
        earlier,
        run,
        first_seq,
        unsure: time::unsure_from(row.get(8)?, row.get(9)?),
        gap: Gap::from(row, 10)?,
    })
}

pub(super) fn stored_from(lane: LaneId, row: &Row) -> rusqlite::Result<Stored> {
    let columns = columns_from(row, [0, 1, 11, 2, 12, 13, 3, 4, 5])?;
    let Columns { id, readings, bytes, arrived, run, first_seq, .. } = columns;
    let notice: Option<bool> = row.get(6)?;
    let keys: Option<String> = row.get(7)?;
    let data: Vec<u8> = row.get(8)?;
    let intact = Seal(row.get(5)?).fits_content(checksum(keys.as_deref(), &data));
    Ok(Stored {
        number: id.cast_unsigned() & MAX_NUMBER,
        readings,
        bytes,
        chunk: intact.then_some(Chunk {
            lane,
            readings,
            run,
            first_seq,
            arrived,
            unsure: time::unsure_from(row.get(9)?, row.get(10)?),
            notice: notice.unwrap_or_default(),
            keys: keys.map(|keys| keys_from(&keys).collect()),
            data: Bytes::from(data),
        }),
    })
}

pub(super) fn fingerprints_to(fingerprints: &[Fingerprint]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fingerprints.len() * 6);
    for Fingerprint { packet, hash } in fingerprints {
        bytes.extend_from_slice(&packet.to_be_bytes());
        bytes.extend_from_slice(&hash.to_be_bytes());
    }
    bytes
}

pub(in crate::buffer) fn fingerprints_from(bytes: &[u8]) -> Vec<Fingerprint> {
    let entry = |six: &[u8]| Fingerprint {
        packet: u16::from_be_bytes([six[0], six[1]]),
        hash: u32::from_be_bytes([six[2], six[3], six[4], six[5]]),
    };
    bytes.chunks_exact(6).map(entry).collect()
}
