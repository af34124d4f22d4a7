//! Where the readings of a stream are, column by column, and why some did not arrive.

use std::collections::BTreeMap;

use serde::{Serialize, ser::SerializeMap};

/// Where the readings of one stream are. All counts are readings, since the agent started; what it found in the buffer counts as
/// received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Taken from a source, or found in the buffer at the start.
    pub received: u64,
    /// Confirmed by the destination.
    pub delivered: u64,
    /// Waiting, in memory or on disk.
    pub buffered: u64,
    /// Given up, by reason.
    pub dropped: Reasons,
    /// Not to be carried, by reason.
    pub rejected: Reasons,
    /// Sent again after an answer was lost: the stream may have them twice, with the same name.
    pub duplicated: u64,
}

impl Ledger {
    /// Whether every reading is in exactly one column.
    pub fn balances(&self) -> bool {
        self.received == self.delivered + self.buffered + self.dropped.total() + self.rejected.total()
    }

    /// Adds another ledger, column by column.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.delivered += other.delivered;
        self.buffered += other.buffered;
        self.duplicated += other.duplicated;
        other.dropped.iter().for_each(|(why, n)| self.dropped.add(why, n));
        other.rejected.iter().for_each(|(why, n)| self.rejected.add(why, n));
    }
}

/// Why a reading did not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The buffer was full, and the oldest gave way.
    DropOldest,
    /// The buffer was full, and what arrived was not kept.
    DropNewest,
    /// The buffer was full, and some of each topic's readings gave way.
    Thin,
    /// It had waited for longer than `max_age`.
    MaxAge,
    /// QoS 0 has no way to hold the sender, and the buffer was full.
    NoRoom,
    /// The bytes on disk are not those that were written.
    Corrupt,
    /// Over 1,000 KiB when encoded.
    TooLarge,
    /// No stream takes it.
    Unrouted,
    /// Its destination calls it invalid, and took others: it is set aside.
    Refused,
}

impl Reason {
    /// As it stands in the status and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Thin => "thin",
            Self::MaxAge => "max_age",
            Self::NoRoom => "no_room",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::Unrouted => "unrouted",
            Self::Refused => "refused",
        }
    }

    /// The reason whose [`Self::name`] is `name`.
    pub fn named(name: &str) -> Option<Self> {
        use Reason::{Corrupt, DropNewest, DropOldest, MaxAge, NoRoom, Thin, TooLarge, Unrouted};
        [DropOldest, DropNewest, Thin, MaxAge, NoRoom, Corrupt, TooLarge, Unrouted].into_iter().find(|why| why.name() == name)
    }
}

/// Counts by reason; reasons that never happened are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<Reason, u64>);

impl Reasons {
    /// Over all reasons.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// In a stable order.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.0.iter().map(|(why, n)| (*why, *n))
    }

    /// How many for this reason.
    pub fn get(&self, why: Reason) -> u64 {
        self.0.get(&why).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, why: Reason, n: u64) {
        *self.0.entry(why).or_default() += n;
    }
}

impl Serialize for Reasons {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (why, n) in self.iter() {
            map.serialize_entry(why.name(), &n)?;
        }
        map.end()
    }
}
