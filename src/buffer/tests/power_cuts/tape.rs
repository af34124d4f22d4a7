//! What SQLite did to its files, in order, and what it was told had gone wrong.

use std::{collections::BTreeMap, ffi::c_int, fs, path::Path, sync::Arc};

use rusqlite::ffi;
use tokio::sync::watch;

use crate::reading::Ordinal;

/// One change of a file or of the folder.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// The file `name` is there from now on.
    Create {
        name: String,
        inode: usize,
    },
    Write {
        inode: usize,
        offset: u64,
        data: Arc<[u8]>,
    },
    Truncate {
        inode: usize,
        len: u64,
    },
    /// What was written to the file is durable; with `folder` also which files there are.
    Sync {
        inode: usize,
        folder: bool,
    },
    /// The system could not write it, says so once, and takes it for written from now on.
    SyncFailed {
        inode: usize,
    },
    Delete {
        name: String,
        folder: bool,
    },
    Rename {
        from: String,
        to: String,
        inode: usize,
    },
    /// Which files there are is durable.
    SyncFolder,
}

/// What has an error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Delete,
}

/// Calls of one kind that fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) call: Call,
    /// The first of them, counted from 0 when the fault is set.
    pub(super) first: u64,
    pub(super) times: u64,
    pub(super) code: c_int,
}

/// What the outside had seen at some point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Readings up to this one had their receipt.
    pub(super) safe: Ordinal,
}

/// An operation, and what the outside had seen when it began.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seen: Seen,
    pub(super) op: Op,
}

#[derive(Default)]
pub(super) struct Tape {
    pub(super) entries: Vec<Entry>,
    /// The files that were there when it began.
    pub(super) before: Vec<(String, Arc<[u8]>)>,
    /// Files that are there now, and how many there ever were.
    names: BTreeMap<String, usize>,
    inodes: usize,
    /// By file, its length.
    lens: BTreeMap<usize, u64>,
    receipts: Option<watch::Receiver<Ordinal>>,
    pub(super) fault: Option<Fault>,
    /// Calls of the kind that fails, since the fault was set; and how many failed.
    pub(super) calls: u64,
    pub(super) failed: u64,
    /// Operations that were done when the first of them did.
    pub(super) failed_at: Option<usize>,
    /// Bytes that all files together may have.
    pub(super) quota: Option<u64>,
}

impl Tape {
    /// For a folder that has these files.
    pub(super) fn over(folder: &Path) -> Self {
        let mut tape = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let data: Arc<[u8]> = fs::read(entry.path()).unwrap().into();
            tape.lens.insert(tape.inodes, data.len() as u64);
            tape.names.insert(name.clone(), tape.inodes);
            tape.before.push((name, data));
            tape.inodes += 1;
        }
        tape
    }

    /// The outside sees the buffer through this.
    pub(super) fn watch(&mut self, receipts: watch::Receiver<Ordinal>) {
        self.receipts = Some(receipts);
    }

    /// What the outside sees now.
    pub(super) fn seen(&self) -> Seen {
        Seen { safe: self.receipts.as_ref().map_or(0, |receipts| *receipts.borrow()) }
    }

    /// What the outside had seen when `point` operations were done.
    pub(super) fn seen_at(&self, point: usize) -> Seen {
        self.entries.get(point).map_or_else(|| self.seen(), |entry| entry.seen)
    }

    pub(super) fn add(&mut self, op: Op) {
        match &op {
            Op::Write { inode, offset, data } => {
                let len = self.lens.entry(*inode).or_default();
                *len = (*len).max(offset + data.len() as u64);
            }
            Op::Truncate { inode, len } => {
                self.lens.insert(*inode, *len);
            }
            _ => {}
        }
        self.entries.push(Entry { seen: self.seen(), op });
    }

    /// The file `name` was opened; it may be new.
    pub(super) fn opened(&mut self, name: &str) -> usize {
        if let Some(inode) = self.names.get(name) {
            return *inode;
        }
        let inode = self.inodes;
        self.inodes += 1;
        self.names.insert(name.to_owned(), inode);
        self.add(Op::Create { name: name.to_owned(), inode });
        inode
    }

    /// A file that SQLite has opened, or that was there before, has another name now.
    pub(super) fn renamed(&mut self, from: String, to: String) {
        if let Some(inode) = self.names.remove(&from) {
            self.names.insert(to.clone(), inode);
            self.add(Op::Rename { from, to, inode });
        }
    }

    pub(super) fn deleted(&mut self, name: &str, folder: bool) {
        let Some(inode) = self.names.remove(name) else { return };
        self.lens.remove(&inode);
        self.add(Op::Delete { name: name.to_owned(), folder });
    }

    /// Whether any call has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// What this call has to fail with.
    pub(super) fn fault(&mut self, call: Call) -> Option<c_int> {
        let fault = self.fault.filter(|fault| fault.call == call)?;
        let number = self.calls;
        self.calls += 1;
        let fails = (fault.first..fault.first.saturating_add(fault.times)).contains(&number);
        if fails {
            self.failed += 1;
            self.failed_at.get_or_insert(self.entries.len());
        }
        fails.then_some(fault.code)
    }

    /// Whether there is no room for a file that ends at `end`.
    pub(super) fn over_quota(&self, inode: usize, end: u64) -> Option<c_int> {
        let others: u64 = self.lens.iter().filter(|(other, _)| **other != inode).map(|(_, len)| len).sum();
        let grows = self.lens.get(&inode).is_none_or(|len| end > *len);
        self.quota.filter(|quota| grows && others + end > *quota).map(|_| ffi::SQLITE_FULL)
    }
}
