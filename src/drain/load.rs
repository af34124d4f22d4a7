//! What goes into one request: taken out of the buffer and packed, a record a lane.

use tracing::warn;

use super::{
    Sent,
    bisect::Ask,
    destination::Outlet,
    pack::{Form, Packed, pack},
    part_of,
    window::Window,
};
use crate::{
    buffer::{Buffer, Lane, Layout, Piece},
    clock::{self, Unsure},
    kinesis::Record,
    record::kpl::Malformed,
    status::{Status, with_causes},
};

/// What a request is to have of one lane.
pub(super) struct Wanted {
    /// The lane's place in its stream.
    pub(super) index: usize,
    pub(super) lane: Lane,
    /// Bytes.
    pub(super) at_most: usize,
    /// Readings.
    pub(super) asked: Ask,
}

/// Takes what is to be sent out of the buffer, and packs it as `outlet` wants it.
pub(super) async fn load(buffer: &Buffer, status: &Status, outlet: &Outlet, lanes: Vec<Wanted>) -> (Vec<Sent>, Vec<Record>) {
    let (mut sent, mut records, mut size) = (Vec::new(), Vec::new(), 0);
    for Wanted { index, lane: Lane { id, layout }, at_most, asked } in lanes {
        let packed = match buffer.oldest(id, at_most as u64).await {
            Ok(Some(taken)) => {
                let correction = |unsure| buffer.correction(unsure);
                pack_asked(outlet.form(), &layout, taken.pieces, at_most, asked, correction)
                    .map_err(|malformed| malformed.to_string())
            }
            Ok(None) => Ok(None),
            Err(error) => Err(with_causes(&error)),
        };
        match packed {
            Ok(Some(packed)) => {
                let Layout { partition_key, hash_key, .. } = layout;
                size += packed.data.len() + partition_key.len();
                if !sent.is_empty() && size > outlet.max_request() {
                    // Readings as large as a record, in many lanes: the others go with the next request.
                    buffer.release(id);
                    continue;
                }
                sent.push(Sent { index, lane: id, bytes: packed.data.len(), asked, delivered: packed.delivered });
                records.push(Record { partition_key, explicit_hash_key: hash_key, data: packed.data });
            }
            Ok(None) => buffer.release(id),
            Err(what) => {
                buffer.release(id);
                let part = part_of(&layout.stream);
                if status.problem(&part, clock::now(), what.clone(), "check the disk; the readings stay in the buffer") {
                    warn!(stream = layout.stream, "{what}; the readings stay in the buffer");
                }
            }
        }
    }
    (sent, records)
}

fn pack_asked(
    form: Form,
    layout: &Layout,
    pieces: Vec<Piece>,
    at_most: usize,
    asked: Ask,
    correction: impl Fn(Unsure) -> Option<i64>,
) -> Result<Option<Packed>, Malformed> {
    let window = Window::of(pieces, asked)?;
    let packed = pack(form, layout, &window.pieces, at_most, correction)?;
    Ok(packed.map(|packed| Packed { delivered: window.delivered(packed.delivered), ..packed }))
}
