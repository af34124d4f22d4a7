//! Fewer reads: where a file is read page after page, the next pages come along with one call.
//!
//! A chunk is a chain of pages, and SQLite walks it twice, to read it and to delete it, with one call a page. Its cache is too small to
//! still have them the second time, and one that were not would be most of what the agent takes.

use std::ops::Range;

/// What one call reads: 16 pages.
pub(super) const AHEAD_BYTES: usize = 32 << 10;
/// Pages of a WAL lie that far apart, by the header of a frame. Source: SQLite file format, section 4.1.
const FRAME_HEADER_BYTES: u64 = 24;

/// What is known of a file beyond what was asked for. It is as the file is, or empty.
#[derive(Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    offset: u64,
    /// Where the last read ended.
    end: u64,
    /// From where it could not be filled: the file ends there, or a sector can't be read, which a worn card takes seconds to say.
    barren: Range<u64>,
}

impl Ahead {
    /// Whether to fill it from `offset`, because a read there follows the last one, so that others will follow it.
    pub(super) fn is_wanted(&self, offset: u64) -> bool {
        !self.barren.contains(&offset) && offset.checked_sub(self.end).is_some_and(|gap| gap <= FRAME_HEADER_BYTES)
    }

    /// The `bytes` at `offset`, if all of them are known.
    pub(super) fn at(&self, offset: u64, bytes: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(from..from.checked_add(bytes)?)
    }

    /// A read ends at `end`.
    pub(super) fn ends(&mut self, end: u64) {
        self.end = end;
    }

    /// Room for what lies at `offset`, to be filled by `read`, which says whether it did.
    pub(super) fn fill(&mut self, offset: u64, read: impl FnOnce(&mut [u8]) -> bool) {
        self.bytes.resize(AHEAD_BYTES, 0);
        self.offset = offset;
        if !read(&mut self.bytes) {
            self.forget();
            self.barren = offset..offset.saturating_add(AHEAD_BYTES as u64);
        }
    }

    /// Forgets all, because the file changes.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.barren = 0..0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(offset: u64) -> Ahead {
        let mut ahead = Ahead::default();
        ahead.fill(offset, |bytes| {
            bytes.iter_mut().zip((0..=u8::MAX).cycle()).for_each(|(byte, value)| *byte = value);
            true
        });
        ahead
    }

    #[test]
    fn it_is_wanted_where_a_page_or_a_frame_follows() {
        let mut ahead = Ahead::default();
        ahead.ends(2048);
        assert!(ahead.is_wanted(2048) && ahead.is_wanted(2048 + 24));
        assert!(!ahead.is_wanted(2047) && !ahead.is_wanted(2048 + 25) && !ahead.is_wanted(4096));
    }

    #[test]
    fn what_could_not_be_read_along_is_not_tried_for_each_page_before_it() {
        let mut ahead = Ahead::default();
        ahead.ends(2048);
        ahead.fill(2048, |_| false);
        ahead.ends(4096);
        assert!(!ahead.is_wanted(4096));
        ahead.ends(0);
        assert!(ahead.is_wanted(0), "elsewhere it may be filled");
        let behind = 2048 + AHEAD_BYTES as u64;
        ahead.ends(behind);
        assert!(ahead.is_wanted(behind));
        ahead.ends(4096);
        ahead.forget();
        assert!(ahead.is_wanted(4096), "the file has changed");
    }

    #[test]
    fn only_what_was_read_is_known() {
        let ahead = filled(1000);
        assert_eq!(ahead.at(1002, 3), Some(&[2, 3, 4][..]));
        assert_eq!(ahead.at(999, 2), None);
        assert_eq!(ahead.at(1000 + AHEAD_BYTES as u64 - 1, 2), None);
        assert_eq!(ahead.at(u64::MAX, 1), None);
        assert_eq!(ahead.at(1000, usize::MAX), None);
    }

    #[test]
    fn nothing_is_known_once_the_file_changes_or_could_not_be_read() {
        let mut ahead = filled(0);
        ahead.forget();
        assert_eq!(ahead.at(0, 1), None);
        ahead.fill(0, |_| false);
        assert_eq!(ahead.at(0, 1), None);
    }
}
