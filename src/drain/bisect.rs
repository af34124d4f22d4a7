//! Which reading of a lane the service calls invalid, and whether it may be set aside: pure.
//!
//! One invalid reading makes the service refuse all that is sent with it, so what was refused is halved until one reading stands alone.
//! But an endpoint with a wrong setting, or a proxy, refuses every reading alike, and then none of them is at fault.
//!
//! Invariant: no record is sent again as it was, but a single reading; and a reading is at fault only when it was refused, then something
//! else of its stream was accepted, and then it was refused again, alone, [`SURE`] times. Until then everything waits.

/// What a lane is to send: `most` readings, behind `skip` others that stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) skip: u64,
    pub(super) most: u64,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on with what [`Search::ask`] says.
    GoOn,
    /// The reading at the head of the lane is at fault.
    AtFault,
    /// Nothing was accepted, so no reading need be at fault: try again after a while.
    Wait,
}

/// How often a reading is refused alone, after something else was accepted, before it is at fault: an endpoint that calls one request in
/// twenty invalid takes one reading in a hundred thousand then, and one that does so always takes three small requests.
const SURE: u32 = 3;
/// How many readings behind the head are tried one by one before the next wait. Each may be the one that is accepted.
const PROBES: u32 = 4;
/// Records beyond this hold all that a request has room for.
const ENOUGH: u64 = 1 << 20;

/// The search for what is at fault in one lane; there is one from the first refusal until all that was refused is accepted or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    /// Records that the stream had accepted when this bisection began.
    began: u64,
    /// The next so many readings were refused together, less what was accepted of them.
    suspects: u64,
    /// Most readings in the next record.
    most: u64,
    /// So many readings at the head were refused one by one.
    alone: u64,
    /// How often the head was refused alone since something else was accepted.
    refusals: u32,
    /// Readings behind the head that may still be tried before the next wait; only directly after the head was refused, because one that
    /// is accepted has overtaken it.
    probes: u32,
}

impl Ask {
    /// As much as there is room for.
    pub(super) const ALL: Self = Self { skip: 0, most: u64::MAX };
}

impl Search {
    /// Begins when the stream has accepted `accepted` records.
    pub(super) fn new(accepted: u64) -> Self {
        Self { began: accepted, suspects: 0, most: u64::MAX, alone: 0, refusals: 0, probes: 0 }
    }

    /// What to send next, when the stream has accepted `accepted` records.
    pub(super) fn ask(&self, accepted: u64) -> Ask {
        match self.alone {
            0 => Ask { skip: 0, most: self.most },
            skip if self.probes > 0 && accepted == self.began => Ask { skip, most: 1 },
            _ => Ask { skip: 0, most: 1 },
        }
    }

    /// A record of `readings` readings, sent as `asked`, was refused as invalid.
    pub(super) fn refused(&mut self, asked: Ask, readings: u64, accepted: u64) -> Verdict {
        let readings = readings.max(1); // a notice alone
        if asked.skip > 0 {
            self.alone = self.alone.max(asked.skip + 1);
            self.probes = self.probes.saturating_sub(1);
            return if self.probes == 0 { Verdict::Wait } else { Verdict::GoOn };
        }
        if self.suspects == 0 && self.alone == 0 {
            self.began = accepted; // another one: what was accepted before says nothing about it
        }
        if readings > 1 {
            (self.suspects, self.most, self.alone, self.refusals) = (readings, readings / 2, 0, 0);
            return Verdict::GoOn;
        }
        self.alone = self.alone.max(1);
        if accepted == self.began {
            self.probes = PROBES;
            return Verdict::GoOn;
        }
        self.refusals += 1;
        if self.refusals >= SURE { Verdict::AtFault } else { Verdict::GoOn }
    }

    /// There is no reading behind the head to try.
    pub(super) fn nothing_behind(&mut self) -> Verdict {
        (self.alone, self.probes) = (1, 0);
        Verdict::Wait
    }

    /// A record of `readings` readings, sent as `asked`, was accepted. Says whether the search is over.
    pub(super) fn accepted(&mut self, asked: Ask, readings: u64) -> bool {
        self.probes = 0;
        if asked.skip > 0 {
            return false;
        }
        let readings = readings.max(1);
        self.refusals = 0;
        self.alone = self.alone.saturating_sub(readings);
        self.suspects = self.suspects.saturating_sub(readings);
        if self.suspects > 0 {
            self.most = (self.suspects / 2).max(1);
            return false;
        }
        self.most = readings.saturating_mul(2);
        // As much as there was, or as there is room for, was accepted.
        self.alone == 0 && (readings < asked.most || readings >= ENOUGH)
    }

    /// The head was set aside.
    pub(super) fn set_aside(&mut self) {
        self.alone = self.alone.saturating_sub(1);
        (self.suspects, self.refusals, self.probes) = (0, 0, 0);
        self.most = 1;
    }

    /// What was refused so far may be tried once more: a while has passed.
    pub(super) fn waited(&mut self) {
        self.probes = 0;
    }
}

#[cfg(test)]
mod tests;
