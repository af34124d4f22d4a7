//! What goes into one request: taken out of the buffer and packed, a record a lane, or one a reading.

use super::{
    bisect::Ask,
    outlet::Outlet,
    pack::{Form, Packed, pack},
    plain::{OutOfTurn, Plain, Room, choose},
    sent::{Part, Sent},
    window::Window,
};
use crate::{
    buffer::{Buffer, Lane, LaneId, Layout, Piece, Taken},
    clock::Unsure,
    kinesis::{Record, limits::MAX_RECORDS_PER_REQUEST},
    record::kpl::Malformed,
    status::with_causes,
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
    /// Set when each is to be a record of its own: those that need not be sent.
    pub(super) one_by_one: Option<OutOfTurn>,
}

/// What was taken out of the buffer.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) sent: Vec<Sent>,
    pub(super) records: Vec<Record>,
    /// Lanes whose readings can't be had, by their place in their stream, and why, for people.
    pub(super) unread: Vec<(usize, String)>,
}

/// Takes what is to be sent out of the buffer, and packs it as `outlet` wants it.
pub(super) async fn load(buffer: &Buffer, outlet: &Outlet, lanes: Vec<Wanted>) -> Loaded {
    let (mut loaded, mut size) = (Loaded::default(), 0);
    let count = lanes.len();
    for (nth, wanted) in lanes.into_iter().enumerate() {
        // An equal part of what the lanes before have left.
        let share = (MAX_RECORDS_PER_REQUEST.saturating_sub(loaded.records.len()) / (count - nth)).max(1);
        let id = wanted.lane.id;
        match load_lane(buffer, outlet, &wanted, share).await {
            Ok(Some((own, part))) => {
                let bytes = own.iter().map(Record::size).sum::<usize>();
                size += bytes;
                if !loaded.sent.is_empty() && size > outlet.max_request() {
                    // Readings as large as a record, in many lanes: the others go with the next request.
                    buffer.release(id);
                    continue;
                }
                loaded.sent.push(Sent { index: wanted.index, lane: id, records: own.len(), bytes, asked: wanted.asked, part });
                loaded.records.extend(own);
            }
            Ok(None) => buffer.release(id),
            Err(why) => {
                buffer.release(id);
                loaded.unread.push((wanted.index, why));
            }
        }
    }
    loaded
}

/// The records of one lane, `most` at most. Errors: why they can't be had, for people.
async fn load_lane(buffer: &Buffer, outlet: &Outlet, wanted: &Wanted, most: usize) -> Result<Option<(Vec<Record>, Part)>, String> {
    let &Wanted { lane: Lane { id, ref layout }, at_most, asked, ref one_by_one, .. } = wanted;
    let bytes = one_by_one.as_ref().map_or(at_most as u64, |known| known.and(at_most));
    let Some(taken) = take(buffer, id, bytes).await? else { return Ok(None) };
    let correction = |unsure| buffer.correction(unsure);
    let malformed = |malformed: Malformed| malformed.to_string();
    if let Some(known) = one_by_one {
        let room = Room { records: most, bytes: at_most };
        let Plain { records, sent } = choose(layout, &taken.pieces, known, asked, room, correction).map_err(malformed)?;
        return Ok((!records.is_empty()).then_some((records, Part::OneByOne(sent))));
    }
    let packed = pack_asked(outlet.form(), layout, taken.pieces, at_most, asked, correction).map_err(malformed)?;
    let record = |data| Record { partition_key: layout.partition_key.clone(), explicit_hash_key: layout.hash_key, data };
    Ok(packed.map(|Packed { data, delivered }| (vec![record(data)], Part::Joined(delivered))))
}

/// What waits first in lane `id`, `bytes` of it. A chunk that is no readings is set aside when it is the first; what is before it goes
/// first.
async fn take(buffer: &Buffer, id: LaneId, bytes: u64) -> Result<Option<Taken>, String> {
    loop {
        let Some(mut taken) = buffer.oldest(id, bytes).await.map_err(|error| with_causes(&error))? else { return Ok(None) };
        // What this process wrote itself is not looked at: on a good link nothing else is sent.
        let bad = taken.pieces.iter().position(|piece| taken.from_disk && !piece.is_readings());
        match bad {
            None => return Ok(Some(taken)),
            Some(0) if buffer.set_chunk_aside(id).await.map_err(|error| with_causes(&error))? => {}
            Some(0) => return Err(Malformed.to_string()),
            Some(bad) => {
                taken.pieces.truncate(bad);
                return Ok(Some(taken));
            }
        }
    }
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
