//! Which shards to read, in which order.
//!
//! Invariant: a shard is begun only after all its parents were read to their end, so a lane stays in order across a resharding.

use std::collections::BTreeSet;

use crate::kinesis::Shard;

/// The shards of a stream as far as they were read. Forgets those that the stream has forgotten.
#[derive(Debug, Default)]
pub(super) struct Family {
    begun: BTreeSet<String>,
    finished: BTreeSet<String>,
}

impl Family {
    /// Takes the closed shards as read.
    pub(super) fn skip_closed(&mut self, listed: &[Shard]) {
        for shard in listed.iter().filter(|shard| !shard.open) {
            self.begun.insert(shard.id.clone());
            self.finished.insert(shard.id.clone());
        }
    }

    /// The shards to begin now. A parent that is not listed any more has nothing left to be read.
    pub(super) fn begin(&mut self, listed: &[Shard]) -> Vec<Shard> {
        let known: BTreeSet<&str> = listed.iter().map(|shard| &*shard.id).collect();
        self.begun.retain(|id| known.contains(&**id));
        self.finished.retain(|id| known.contains(&**id));
        let over = |parent: &String| !known.contains(&**parent) || self.finished.contains(parent);
        let ready = |shard: &&Shard| !self.begun.contains(&shard.id) && shard.parents.iter().all(over);
        let ready: Vec<Shard> = listed.iter().filter(ready).cloned().collect();
        self.begun.extend(ready.iter().map(|shard| shard.id.clone()));
        ready
    }

    /// `id` is closed and was read to its end.
    pub(super) fn finish(&mut self, id: &str) {
        self.finished.insert(id.to_owned());
    }

    /// Whether a finished shard still waits for its children to be listed: a stream never ends, it only continues elsewhere.
    pub(super) fn awaits_heirs(&self, listed: &[Shard]) -> bool {
        self.finished.iter().any(|id| !listed.iter().any(|shard| shard.parents.contains(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parents: &[&str], open: bool) -> Shard {
        let parents = parents.iter().map(|&parent| parent.to_owned()).collect();
        Shard { id: id.into(), parents, hashes: 0..=u128::MAX, open }
    }

    fn begun(family: &mut Family, listed: &[Shard]) -> Vec<String> {
        family.begin(listed).into_iter().map(|shard| shard.id).collect()
    }

    #[test]
    fn children_are_begun_when_their_parents_were_read_to_the_end() {
        let split = [shard("0", &[], false), shard("1", &[], true), shard("2", &["0"], false), shard("3", &["0"], true)];
        let merged = [&split[..], &[shard("4", &["1", "2"], true)]].concat();
        let mut family = Family::default();
        assert_eq!(begun(&mut family, &split), ["0", "1"]);
        assert_eq!(begun(&mut family, &split), [""; 0]);

        family.finish("0");
        assert_eq!(begun(&mut family, &merged), ["2", "3"]);
        family.finish("2");
        assert_eq!(begun(&mut family, &merged), [""; 0]);
        family.finish("1");
        assert_eq!(begun(&mut family, &merged), ["4"]);
    }

    #[test]
    fn a_reader_of_what_comes_now_skips_what_is_closed() {
        let listed = [shard("0", &[], false), shard("1", &["0"], true)];
        let mut family = Family::default();

        family.skip_closed(&listed);

        assert_eq!(begun(&mut family, &listed), ["1"]);
    }

    #[test]
    fn children_that_are_not_listed_yet_are_waited_for() {
        let before = [shard("0", &[], false)];
        let after = [shard("0", &[], false), shard("1", &["0"], true)];
        let mut family = Family::default();
        begun(&mut family, &before);
        family.finish("0");

        assert!(family.awaits_heirs(&before));
        assert!(!family.awaits_heirs(&after));
        assert_eq!(begun(&mut family, &after), ["1"]);
    }

    #[test]
    fn a_parent_that_the_stream_has_forgotten_is_not_waited_for() {
        let mut family = Family::default();
        assert_eq!(begun(&mut family, &[shard("7", &["3"], true)]), ["7"]);
    }
}
