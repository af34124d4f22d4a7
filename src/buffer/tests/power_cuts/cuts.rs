//! What a power cut can leave of a record.
//!
//! What was synced is there. Of what was not, each write may be there or not, in any combination, as caches keep no order; or sectors of
//! it, or its beginning. A file may be shorter than what was written to it. That a file was made or deleted is forgotten as easily.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{Dice, tape::Op};

const SECTOR: usize = 512;
const DATABASE: &str = "buffer.db";
const LOG: &str = "buffer.db-wal";

/// What makes a file's being there, or gone, durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folders {
    /// Only a sync of the folder. SQLite's own VFS does one with the first sync of a new journal, and of a new log.
    Strict,
    /// For a new file its own sync, as with ext4; for a deleted one only a sync that was asked for with the deletion.
    OwnSync,
}

/// What of that which was not synced is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Nothing,
    Everything,
    SomeWrites,
    SomeSectors,
    /// Everything, but the last write was under way.
    TornEnd,
    /// Everything, but the log is shorter.
    ShortLog,
    /// Nothing of the database, everything else.
    AllButDatabase,
    /// Nothing of the log, everything else.
    AllButLog,
}

impl Mode {
    pub(super) const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Everything,
        Self::SomeWrites,
        Self::SomeSectors,
        Self::TornEnd,
        Self::ShortLog,
        Self::AllButDatabase,
        Self::AllButLog,
    ];
}

/// The storage under a record, at one point of it.
pub(super) struct Storage {
    folders: Folders,
    files: Vec<File>,
    /// What is certainly in the folder.
    folder: BTreeMap<String, usize>,
    /// What has become of it since.
    moves: Vec<Move>,
    ops: u64,
}

/// By name, what is there now: a file, or none. All of it or nothing.
type Move = Vec<(String, Option<usize>)>;

#[derive(Default)]
struct File {
    /// Its content is this function of what was kept, so equal keys are equal contents.
    key: u64,
    durable: Vec<u8>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    op: u64,
    change: Change,
}

enum Change {
    Write { offset: usize, data: Arc<[u8]> },
    Truncate(usize),
}

/// One thing that a cut can leave.
pub(super) struct Cut<'a> {
    files: Vec<(String, &'a File, Kept)>,
}

/// Of bytes: the first, and the one behind the last.
type Part = (usize, usize);

#[derive(Default, Hash)]
struct Kept {
    /// By change: which bytes of it.
    parts: Vec<Vec<Part>>,
    len: Option<usize>,
}

impl Storage {
    pub(super) fn new(folders: Folders, before: &[(String, Arc<[u8]>)]) -> Self {
        let file = |(inode, (_, data)): (usize, &(String, Arc<[u8]>))| File {
            key: hash(&(u64::MAX, inode)),
            durable: data.to_vec(),
            waiting: Vec::new(),
        };
        Self {
            folders,
            files: before.iter().enumerate().map(file).collect(),
            folder: before.iter().enumerate().map(|(inode, (name, _))| (name.clone(), inode)).collect(),
            moves: Vec::new(),
            ops: 0,
        }
    }

    /// `op` was done.
    pub(super) fn does(&mut self, op: &Op) {
        self.ops += 1;
        match op {
            Op::Create { name, inode } => {
                self.moves.push(vec![(name.clone(), Some(*inode))]);
                self.files.resize_with(self.files.len().max(inode + 1), File::default);
                self.files[*inode].key = hash(&(u64::MAX, inode));
            }
            Op::Write { inode, offset, data } => {
                let change = Change::Write { offset: usize::try_from(*offset).unwrap(), data: data.clone() };
                self.files[*inode].waiting.push(Waiting { op: self.ops, change });
            }
            Op::Truncate { inode, len } => {
                let change = Change::Truncate(usize::try_from(*len).unwrap());
                self.files[*inode].waiting.push(Waiting { op: self.ops, change });
            }
            Op::Sync { inode, folder } => {
                self.files[*inode].synced();
                match self.folders {
                    Folders::Strict if *folder => self.folder_synced(|_| true),
                    Folders::Strict => {}
                    Folders::OwnSync => self.folder_synced(|change| change.iter().any(|(_, file)| *file == Some(*inode))),
                }
            }
            Op::SyncFailed { inode } => self.files[*inode].waiting.clear(),
            Op::Rename { from, to, inode } => self.moves.push(vec![(from.clone(), None), (to.clone(), Some(*inode))]),
            Op::SyncFolder => self.folder_synced(|_| true),
            Op::Delete { name, folder } => {
                self.moves.push(vec![(name.clone(), None)]);
                if *folder {
                    self.folder_synced(|_| true);
                }
            }
        }
    }

    fn folder_synced(&mut self, which: impl Fn(&Move) -> bool) {
        let mut waiting: Vec<Move> = Vec::new();
        for change in std::mem::take(&mut self.moves) {
            if which(&change) {
                // What had become of a name before is not seen any more.
                waiting.iter_mut().for_each(|before| before.retain(|(name, _)| change.iter().all(|(again, _)| again != name)));
                put(&mut self.folder, vec![change]);
            } else {
                waiting.push(change);
            }
        }
        self.moves = waiting;
    }

    /// What a cut now can leave.
    pub(super) fn cut(&self, mode: Mode, dice: &mut Dice) -> Cut<'_> {
        let mut folder = self.folder.clone();
        let stays = |_: &&Move| match mode {
            Mode::Nothing => false,
            Mode::SomeWrites | Mode::SomeSectors => dice.roll(2) == 0,
            _ => true,
        };
        let moves = self.moves.iter().filter(stays).cloned().collect();
        put(&mut folder, moves);
        let last = self.files.iter().filter_map(|file| file.waiting.last()).map(|waiting| waiting.op).max();
        let files = folder.into_iter().map(|(name, inode)| {
            let file = &self.files[inode];
            let kept = file.kept(mode, &name, last, dice);
            (name, file, kept)
        });
        Cut { files: files.collect() }
    }
}

fn put(folder: &mut BTreeMap<String, usize>, moves: Vec<Move>) {
    for (name, file) in moves.into_iter().flatten() {
        match file {
            Some(inode) => folder.insert(name, inode),
            None => folder.remove(&name),
        };
    }
}

impl Change {
    fn len(&self) -> usize {
        match self {
            Self::Write { data, .. } => data.len(),
            Self::Truncate(_) => 1,
        }
    }

    fn apply(&self, parts: &[Part], file: &mut Vec<u8>) {
        match self {
            Self::Truncate(len) if !parts.is_empty() => file.resize(*len, 0),
            Self::Truncate(_) => {}
            Self::Write { offset, data } => {
                for (from, to) in parts {
                    file.resize(file.len().max(offset + to), 0);
                    file[offset + from..offset + to].copy_from_slice(&data[*from..*to]);
                }
            }
        }
    }
}

impl File {
    fn synced(&mut self) {
        for Waiting { op, change } in self.waiting.drain(..) {
            let all = [(0, change.len())];
            change.apply(&all, &mut self.durable);
            self.key = hash(&(self.key, op, &all[..]));
        }
    }

    fn kept(&self, mode: Mode, name: &str, last: Option<u64>, dice: &mut Dice) -> Kept {
        let part = |waiting: &Waiting| {
            let (len, offset) = match &waiting.change {
                Change::Write { offset, data } => (data.len(), *offset),
                Change::Truncate(_) => (1, 0),
            };
            let all = vec![(0, len)];
            let keeps = match mode {
                Mode::Nothing => false,
                Mode::SomeWrites => dice.roll(2) == 0,
                Mode::AllButDatabase => name != DATABASE,
                Mode::AllButLog => name != LOG,
                Mode::TornEnd if Some(waiting.op) == last => {
                    let end = usize::try_from(dice.roll(len as u64)).unwrap();
                    return if end == 0 { Vec::new() } else { vec![(0, end)] };
                }
                Mode::SomeSectors => return sectors(offset, len, dice),
                _ => true,
            };
            if keeps { all } else { Vec::new() }
        };
        let parts = self.waiting.iter().map(part).collect();
        let mut kept = Kept { parts, len: None };
        if mode == Mode::ShortLog && name == LOG {
            let longest = self.content(&kept).len();
            let cut = longest.saturating_sub(self.durable.len());
            kept.len = (cut > 0).then(|| self.durable.len() + usize::try_from(dice.roll(cut as u64)).unwrap());
        }
        kept
    }

    fn content(&self, kept: &Kept) -> Vec<u8> {
        let mut content = self.durable.clone();
        self.waiting.iter().zip(&kept.parts).for_each(|(waiting, parts)| waiting.change.apply(parts, &mut content));
        content.truncate(kept.len.unwrap_or(usize::MAX));
        content
    }

    fn key(&self, kept: &Kept) -> u64 {
        let parts = self.waiting.iter().zip(&kept.parts).filter(|(_, parts)| !parts.is_empty());
        hash(&(parts.fold(self.key, |key, (waiting, parts)| hash(&(key, waiting.op, &parts[..]))), kept.len))
    }
}

/// Some of the sectors of what was written to `offset`, those that follow each other joined.
fn sectors(offset: usize, len: usize, dice: &mut Dice) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = 0;
    while at < len {
        let end = len.min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
        if dice.roll(2) == 0 {
            match parts.last_mut().filter(|(_, to)| *to == at) {
                Some((_, to)) => *to = end,
                None => parts.push((at, end)),
            }
        }
        at = end;
    }
    parts
}

impl Cut<'_> {
    /// Equal for equal contents.
    pub(super) fn key(&self) -> u64 {
        let keys: Vec<_> = self.files.iter().map(|(name, file, kept)| (name, file.key(kept))).collect();
        hash(&keys)
    }

    /// The files' names.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|(name, ..)| name.clone()).collect()
    }

    /// The files by name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.files.iter().map(|(name, file, kept)| (name.as_str(), file.content(kept)))
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
