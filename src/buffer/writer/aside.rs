//! Setting a reading aside: what the pool decides, in the file, and who hears of it.

use tracing::error;

use super::{AsideRequest, Work, Writer};
use crate::{
    buffer::{
        BufferError, LaneId,
        pool::{Cut, NO_READINGS, Whole},
        store::{Aside, Insert, SetAside},
    },
    clock,
    status::Reason,
};

/// The part of the status for what is set aside: it stays until someone has looked at it.
const PART: &str = "set aside";
const REMEDY: &str =
    "`headwater buffer export --rejected PATH` writes them with the reason; correct their sensor, and remove them from the buffer";

impl Writer {
    pub(super) fn set_aside(&mut self, request: AsideRequest) {
        let AsideRequest { lane, reason, reply } = request;
        let result = self.try_set_aside(lane, reason.as_deref());
        self.tried(lane, Work::Aside, &result);
        if let Err(error) = &result {
            self.shared.lock().pool.release(lane);
            self.complain(error);
        }
        // Nobody waits any more when the drain was told to stop meanwhile; the reading is safe where it is.
        let _ = reply.send(result);
    }

    fn try_set_aside(&mut self, lane: LaneId, reason: Option<&str>) -> Result<bool, BufferError> {
        let Some((mut position, held)) = self.shared.lock().pool.head(lane) else { return Ok(false) };
        let mut whole = held;
        if whole.is_none()
            && let Some(row) = self.store.heads(lane, position.number, 0, 1)?.pop()
        {
            position = position.within(row.number);
            let chunk = self.store.chunk(lane, row.number)?.and_then(|stored| stored.chunk);
            whole = chunk.map(|chunk| Whole { chunk, earlier: row.earlier, gap: row.gap });
        }
        let Some(whole) = whole else {
            self.shared.lock().pool.release(lane);
            return Ok(false); // the next read finds that it can't be read, and says so
        };
        let malformed = |source| BufferError::Malformed { path: self.store.path().to_owned(), source };
        let cut = match reason {
            Some(reason) => Cut::new(&whole, position, reason).map_err(|error| malformed(error.into()))?,
            None if !self.store.has_readings_but(lane, position.number)? => {
                self.shared.lock().pool.release(lane);
                return Ok(false);
            }
            None => Cut::all(&whole, position, self.shared.lock().pool.lane_waiting(lane).0),
        };
        let (from, begins) = {
            let inner = self.shared.lock();
            (inner.pool.deleted_below(lane), inner.pool.begun([lane]))
        };
        let rest = cut.rest.as_ref().map(|(chunk, earlier)| Insert {
            number: cut.number,
            chunk,
            earlier: *earlier,
            gap: cut.gap,
            from: cut.number,
        });
        let aside = Aside {
            lane,
            number: cut.number,
            from,
            rest,
            begins: &begins,
            reading: &cut.reading,
            last_seq: cut.last_seq,
            at: clock::now(),
        };
        let gone = self.store.put_aside(&aside)?;

        let mut inner = self.shared.lock();
        let receipts = inner.pool.set_aside((self.now)(), lane, &cut);
        let (stream, number) = inner.pool.lane(lane).map_or_else(Default::default, |lane| (lane.stream.clone(), lane.number));
        let why = if reason.is_some() { Reason::Refused } else { Reason::Corrupt };
        self.shared.status.set_aside(&stream, why, cut.readings);
        self.shared.settle(inner, &receipts);
        self.keeps_up();
        self.report();
        self.shared.status.lock().buffer.set_aside_gone += gone;
        let (lane, seq) = (format!("{stream}/{number}"), cut.reading.seq);
        match reason {
            Some(reason) => {
                let topic = cut.reading.topic.as_deref().unwrap_or("of an unknown topic");
                error!(topic, lane, seq, "a reading is set aside: {reason}; {REMEDY}");
            }
            None => {
                error!(lane, seq, readings = cut.readings, "a chunk of the buffer is set aside: {NO_READINGS}; {REMEDY}");
            }
        }
        self.tell_of_set_aside();
        Ok(true)
    }

    /// Says how many readings are set aside, for as long as there are any.
    pub(super) fn tell_of_set_aside(&self) {
        let SetAside { readings, .. } = self.store.set_aside();
        if readings == 0 {
            return;
        }
        let gone = self.shared.status.lock().buffer.set_aside_gone;
        let gone = if gone > 0 { format!(", and {gone} older ones had to make room for them") } else { String::new() };
        let what = format!("{readings} readings are set aside, because nobody takes them as they are{gone}");
        self.shared.status.problem(PART, clock::now(), what, REMEDY);
    }
}
