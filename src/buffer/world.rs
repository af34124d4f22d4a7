//! What a buffer finds around it: what is under its file, and what time it is. The product has one; a test makes its own.

use std::{ffi::CStr, time::Instant};

/// See the module. Its only value outside of tests is [`World::default`].
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// The VFS that joins writes, by the name under which SQLite knows it.
    pub(super) vfs: &'static CStr,
    /// How SQLite syncs.
    pub(super) synchronous: &'static str,
    /// What time it is.
    pub(super) now: fn() -> Instant,
    /// A fault that a test must find.
    #[cfg(test)]
    pub(super) mutant: Option<Mutant>,
}

/// Faults that tests must find.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A receipt is given before the commit.
    ReceiptsFirst,
    /// A new file is made where it is looked for.
    MadeInPlace,
    /// The numbers of chunks go on from those that are there.
    NumbersRestart,
}

impl Default for World {
    fn default() -> Self {
        Self {
            vfs: super::store::JOINED,
            // With a WAL, NORMAL may forget the last commits when power is cut, and their receipts were already given. FULL would do,
            // but for the rollback journal of the first switch to WAL, whose deletion only EXTRA makes durable.
            synchronous: "EXTRA",
            now: Instant::now,
            #[cfg(test)]
            mutant: None,
        }
    }
}
