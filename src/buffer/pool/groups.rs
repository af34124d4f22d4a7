//! The order of arrival: which groups are safe, and what their senders are told then.

use std::collections::VecDeque;

use super::{Held, Mark};

/// Groups that are not safe, and safe ones behind such.
#[derive(Debug, Default)]
pub(super) struct Groups {
    open: VecDeque<OpenGroup>,
    next: u64,
}

#[derive(Debug)]
struct OpenGroup {
    number: u64,
    /// Chunks that are neither confirmed nor written.
    chunks: usize,
    marks: Vec<Mark>,
}

impl Groups {
    /// The number of the next group.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The number of the first group that is not safe, or of the next one.
    pub(super) fn first(&self) -> u64 {
        self.open.front().map_or(self.next, |group| group.number)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn add(&mut self, chunks: usize, marks: Vec<Mark>) {
        self.open.push_back(OpenGroup { number: self.next, chunks, marks });
        self.next += 1;
    }

    /// Lets the last group stand for `marks` as well, or adds one for them if it has a number below `from`.
    pub(super) fn join(&mut self, marks: Vec<Mark>, from: u64) {
        match self.open.back_mut().filter(|last| last.number >= from) {
            Some(last) => last.join(marks),
            None => self.add(0, marks),
        }
    }

    /// What `held` stands for was confirmed or written.
    pub(super) fn close(&mut self, held: &mut Held) {
        let first = self.first();
        for group in std::iter::once(held.group).chain(held.also.drain(..)) {
            let index = group.checked_sub(first).and_then(|index| usize::try_from(index).ok());
            if let Some(group) = index.and_then(|index| self.open.get_mut(index)) {
                group.chunks -= 1;
            }
        }
    }

    /// Takes off the groups that are safe, in order, and gives their marks.
    pub(super) fn take_safe(&mut self) -> impl Iterator<Item = Mark> {
        let safe = self.open.iter().take_while(|group| group.chunks == 0).count();
        self.open.drain(..safe).flat_map(|group| group.marks)
    }

    /// The marks of the groups below `below`.
    pub(super) fn marks(&self, below: u64) -> impl Iterator<Item = &Mark> + Clone {
        self.open.iter().take_while(move |group| group.number < below).flat_map(|group| &group.marks)
    }

    /// What may be repeated of the groups below `below` is on the disk.
    pub(super) fn saved(&mut self, below: u64) {
        let groups = self.open.iter_mut().take_while(|group| group.number < below);
        groups.flat_map(|group| &mut group.marks).for_each(|mark| mark.fingerprints.clear());
    }
}

impl OpenGroup {
    /// It stands for what came behind it as well.
    fn join(&mut self, marks: Vec<Mark>) {
        for later in marks {
            match self.marks.iter_mut().find(|mark| mark.source == later.source) {
                Some(mark) => {
                    mark.up_to = later.up_to;
                    mark.fingerprints.extend(later.fingerprints);
                    mark.repeatable = later.repeatable;
                }
                None => self.marks.push(later),
            }
        }
    }
}
