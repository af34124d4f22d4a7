//! The write-ahead log of a file that nobody has open: which pages it holds, and whether all of it is there.
//!
//! Each frame's checksum goes on from that of the frame before. SQLite stops at the first that is wrong, without a word, because a power
//! cut leaves such an end too. But a commit begins only when the one before it is on the disk, so a cut costs at most the last commit:
//! where two whole commits stand behind the end, something has changed the log since. What the disk does not give is a wrong frame too, and
//! no power cut leaves one: then a single commit behind it is enough.
//!
//! Source: sqlite.org/fileformat2.html, section 4; sqlite.org/walformat.html.

use std::{collections::HashMap, io};

use super::pages::{PAGE_LEN, Page, ReadAt};

const HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 24;
const FRAME_LEN: usize = FRAME_HEADER_LEN + PAGE_LEN;
const MAGIC: u32 = 0x377F_0682;
const FORMAT: u32 = 3_007_000;

/// What a log holds.
#[derive(Default)]
pub(super) struct Wal {
    file: Option<Box<dyn ReadAt>>,
    /// By page: where its newest copy is, behind the frame's header.
    frames: HashMap<u32, u64>,
    /// Pages of the database after the last commit in it; none without a commit.
    pub(super) pages: Option<u32>,
    /// The file is there.
    pub(super) exists: bool,
    /// And it begins as a log does, or with what a power cut leaves of that.
    pub(super) has_header: bool,
    /// Its bytes.
    pub(super) bytes: u64,
    /// Why it is not as it was written.
    pub(super) damage: Option<&'static str>,
}

/// Two running sums over 32-bit words. Source: sqlite.org/fileformat2.html, section 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Checksum {
    sums: [u32; 2],
    big_endian: bool,
}

impl Checksum {
    fn over(mut self, bytes: &[u8]) -> Self {
        let word = |four: &[u8]| {
            let four = [four[0], four[1], four[2], four[3]];
            if self.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
        };
        for eight in bytes.chunks_exact(8) {
            self.sums[0] = self.sums[0].wrapping_add(word(&eight[..4])).wrapping_add(self.sums[1]);
            self.sums[1] = self.sums[1].wrapping_add(word(&eight[4..])).wrapping_add(self.sums[0]);
        }
        self
    }
}

/// Where the pages of a commit are, and how many the database has after it.
type Commit = (Vec<(u32, u64)>, u32);

/// A frame without its page.
struct Frame {
    page: u32,
    /// Pages of the database, in the last frame of a commit; otherwise 0.
    commit: u32,
    salts: [u32; 2],
    sums: [u32; 2],
}

fn be(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Wal {
    /// Reads all of `file` once. `database` reads a page of the database's own file. Errors: nobody knows how long it is.
    pub(super) fn read(file: Box<dyn ReadAt>, database: impl Fn(u32) -> Option<Page>) -> io::Result<Self> {
        let len = file.bytes()?;
        let mut wal = Self { exists: true, bytes: len, has_header: len >= HEADER_LEN as u64, ..Self::default() };
        let mut header = [0; HEADER_LEN];
        if len < HEADER_LEN as u64 {
            return Ok(wal);
        }
        read(&*file, &mut header, 0);
        let big_endian = be(&header, 0) & 1 == 1;
        let start = Checksum { sums: [0; 2], big_endian }.over(&header[..24]);
        let sound = be(&header, 0) & !1 == MAGIC
            && be(&header, 4) == FORMAT
            && be(&header, 8) as usize == PAGE_LEN
            && start.sums == [be(&header, 24), be(&header, 28)];
        if sound {
            wal.follow(&*file, len, start, [be(&header, 16), be(&header, 20)], database);
        } else {
            wal.without_header(&*file, len, database);
        }
        wal.file = Some(file);
        Ok(wal)
    }

    /// Takes the frames up to the last commit that SQLite would take; behind damage, also those that are whole for themselves.
    fn follow(&mut self, file: &dyn ReadAt, len: u64, start: Checksum, salts: [u32; 2], database: impl Fn(u32) -> Option<Page>) {
        let mut bytes = [0; FRAME_LEN];
        let mut chain = start;
        let (mut broken, mut unread) = (false, false);
        let mut open: Vec<(u32, u64)> = Vec::new();
        let mut behind: Vec<Commit> = Vec::new();
        let mut at = HEADER_LEN as u64;
        while at + FRAME_LEN as u64 <= len {
            let given = read(file, &mut bytes, at);
            let frame = Frame::of(&bytes);
            let sums = chain.over(&bytes[..8]).over(&bytes[FRAME_HEADER_LEN..]).sums;
            let whole = sums == frame.sums && frame.salts == salts && frame.page > 0;
            // What follows is judged by what this frame says of itself, so one bad frame costs itself alone, or the next one too.
            chain.sums = frame.sums;
            broken |= !whole;
            if frame.salts != salts && open.is_empty() && behind.is_empty() {
                // The rest is from before the log began anew; after damage it may still go on.
                if !Self::goes_on(file, len, at + FRAME_LEN as u64, salts) {
                    break;
                }
            }
            unread |= !given;
            if whole {
                open.push((frame.page, at + FRAME_HEADER_LEN as u64));
                if frame.commit > 0 && broken {
                    behind.push((std::mem::take(&mut open), frame.commit));
                } else if frame.commit > 0 {
                    self.frames.extend(open.drain(..));
                    self.pages = Some(frame.commit);
                }
            }
            at += FRAME_LEN as u64;
        }
        if unread && !(behind.is_empty() && open.is_empty()) {
            self.damage = Some("a part of its write-ahead log can't be read");
        } else if behind.len() >= 2 && self.has_more(file, &behind, database) {
            self.damage = Some("its write-ahead log is damaged in the middle");
        } else {
            return;
        }
        for (frames, pages) in behind {
            self.frames.extend(frames);
            self.pages = Some(pages);
        }
        if unread {
            self.frames.extend(open); // what can't be read may be the end of their commit
        }
    }

    /// Whether the commits behind the end say anything that neither the database nor the log before its end does. Where a power cut has
    /// torn the header of a log that began anew, SQLite goes on with the salts that it finds there, so that what is left of the log
    /// before looks like more of it; but all of that is in the database.
    fn has_more(&self, file: &dyn ReadAt, behind: &[Commit], database: impl Fn(u32) -> Option<Page>) -> bool {
        let newest: HashMap<u32, u64> = behind.iter().flat_map(|(frames, _)| frames).copied().collect();
        let pages = behind.last().map_or(0, |(_, pages)| *pages);
        let copy = |at: u64| {
            let mut copy = [0; PAGE_LEN];
            read(file, &mut copy, at).then_some(copy)
        };
        newest.iter().filter(|(page, _)| **page <= pages).any(|(page, at)| {
            let known = database(*page);
            known.is_none() || known != copy(*at) && known != self.frames.get(page).and_then(|at| copy(*at))
        })
    }

    /// Whether a frame with `salts` begins at `at` or later.
    fn goes_on(file: &dyn ReadAt, len: u64, mut at: u64, salts: [u32; 2]) -> bool {
        let mut bytes = [0; FRAME_HEADER_LEN];
        while at + FRAME_LEN as u64 <= len {
            if read(file, &mut bytes, at) && Frame::of(&bytes).salts == salts {
                return true;
            }
            at += FRAME_LEN as u64;
        }
        false
    }

    /// A log whose header is gone. A power cut can tear it while the log begins anew, when the database has all that the log held;
    /// otherwise the frames of its last salts are what there is.
    fn without_header(&mut self, file: &dyn ReadAt, len: u64, database: impl Fn(u32) -> Option<Page>) {
        let mut bytes = [0; FRAME_LEN];
        let mut salts = None;
        let mut before: Option<Checksum> = None;
        let mut open: Vec<(u32, u64)> = Vec::new();
        let mut at = HEADER_LEN as u64;
        while at + FRAME_LEN as u64 <= len {
            if !read(file, &mut bytes, at) {
                before = None;
                at += FRAME_LEN as u64;
                continue;
            }
            let frame = Frame::of(&bytes);
            if frame.page == 0 || salts.is_some_and(|salts| salts != frame.salts) {
                break;
            }
            // Which way the words are read is known from the first frame that fits the one before it.
            let fits = |big_endian| {
                let chain = before.map(|before| Checksum { big_endian, ..before });
                chain.is_some_and(|chain| chain.over(&bytes[..8]).over(&bytes[FRAME_HEADER_LEN..]).sums == frame.sums)
            };
            if before.is_none() || fits(false) || fits(true) {
                open.push((frame.page, at + FRAME_HEADER_LEN as u64));
                if frame.commit > 0 {
                    self.frames.extend(open.drain(..));
                    self.pages = Some(frame.commit);
                }
            }
            salts = Some(frame.salts);
            before = Some(Checksum { sums: frame.sums, big_endian: false });
            at += FRAME_LEN as u64;
        }
        let mut lost = false;
        // What lies behind the database's end was cut off with the last commit.
        for (page, at) in self.frames.iter().filter(|(page, _)| self.pages.is_some_and(|pages| **page <= pages)) {
            let mut copy = [0; PAGE_LEN];
            lost |= !read(file, &mut copy, *at) || database(*page).is_none_or(|page| page != copy);
        }
        if lost {
            self.damage = Some("its write-ahead log has lost its header");
        } else {
            self.frames.clear();
            self.pages = None;
        }
    }

    /// Whether it holds anything that SQLite would take.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Its copy of a page.
    pub(super) fn page(&self, number: u32) -> Option<io::Result<Page>> {
        let (at, file) = (self.frames.get(&number)?, self.file.as_ref()?);
        let mut page = [0; PAGE_LEN];
        Some(file.read_at(&mut page, *at).map(|()| page))
    }

    /// Its pages with a higher number than `last`, in order.
    pub(super) fn behind(&self, last: u32) -> std::vec::IntoIter<u32> {
        let mut pages: Vec<u32> = self.frames.keys().copied().filter(|page| *page > last).collect();
        pages.sort_unstable();
        pages.into_iter()
    }

    /// How many pages are in it.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The highest page in it.
    pub(super) fn highest(&self) -> u32 {
        self.frames.keys().copied().max().unwrap_or_default()
    }
}

/// Reads what is at `at`; zeros, which are no frame, where the disk does not give it. Whether it did.
fn read(file: &dyn ReadAt, bytes: &mut [u8], at: u64) -> bool {
    let given = file.read_at(bytes, at).is_ok();
    if !given {
        bytes.fill(0);
    }
    given
}

impl Frame {
    fn of(bytes: &[u8]) -> Self {
        Self {
            page: be(bytes, 0),
            commit: be(bytes, 4),
            salts: [be(bytes, 8), be(bytes, 12)],
            sums: [be(bytes, 16), be(bytes, 20)],
        }
    }
}
