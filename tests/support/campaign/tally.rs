//! The audit at the end: what was done to the installations, and what became of every reading.
//!
//! Invariant: `lost` is what the sensors sent and no stream has, less what the agent itself says it dropped, and less what was destroyed on
//! the disk; each repeated reading is in
//! the column of whoever repeated it, or in `unexplained`.

use std::{collections::BTreeMap, fmt};

/// Counts of one campaign, or of many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By kind, how often.
    pub faults: BTreeMap<String, u64>,
    /// What the sensors sent, once for each stream that takes it.
    pub sent: u64,
    /// Of it, what is in the streams; each reading once.
    pub delivered: u64,
    /// Came again under its name: a put that was repeated.
    pub same_name: u64,
    /// Came again, and says so: the broker repeated what a cut took our knowledge of.
    pub marked: u64,
    /// Came again under another name: sent twice by its sensor, or by a broker that was cut off and had forgotten.
    pub not_ours: u64,
    /// By rule, what notices say was left out.
    pub dropped: BTreeMap<String, u64>,
    /// Destroyed with the bytes on the disk that held them.
    pub destroyed: u64,
    /// Gone.
    pub lost: u64,
    /// Whatever else must not be.
    pub unexplained: Vec<String>,
}

impl Tally {
    /// `kind` was injected `times`.
    pub fn inject(&mut self, kind: &str, times: u64) {
        *self.faults.entry(kind.to_owned()).or_default() += times;
    }

    /// How often `kind` was injected.
    pub fn injected(&self, kind: &str) -> u64 {
        self.faults.get(kind).copied().unwrap_or_default()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        other.faults.iter().for_each(|(kind, times)| self.inject(kind, *times));
        let Self { sent, delivered, same_name, marked, not_ours, dropped, destroyed, lost, .. } = other;
        self.sent += sent;
        self.delivered += delivered;
        self.same_name += same_name;
        self.marked += marked;
        self.not_ours += not_ours;
        dropped.iter().for_each(|(rule, n)| *self.dropped.entry(rule.clone()).or_default() += n);
        self.destroyed += destroyed;
        self.lost += lost;
        self.unexplained.extend(other.unexplained.iter().cloned());
    }

    /// Nothing was lost, and everything is explained.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.unexplained.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut line = |what: &str, count: u64| writeln!(f, "  {what:<58} {count:>12}");
        line("faults injected", self.faults.values().sum())?;
        self.faults.iter().try_for_each(|(kind, times)| line(&format!("  {kind}"), *times))?;
        line("readings sent, once for each stream that takes them", self.sent)?;
        line("  delivered", self.delivered)?;
        line("  dropped by rule, and a notice in the stream says so", self.dropped.values().sum())?;
        self.dropped.iter().try_for_each(|(rule, n)| line(&format!("    {rule}"), *n))?;
        line("  destroyed with the bytes on the disk that held them", self.destroyed)?;
        line("  LOST", self.lost)?;
        line("duplicates", self.same_name + self.marked + self.not_ours)?;
        line("  of ours, with the name of the first copy", self.same_name)?;
        line("  of the broker's, marked `dup`", self.marked)?;
        line("  of the sensors', or of a broker that had forgotten", self.not_ours)?;
        line("UNEXPLAINED", self.unexplained.len() as u64)?;
        self.unexplained.iter().try_for_each(|what| writeln!(f, "    {what}"))
    }
}
