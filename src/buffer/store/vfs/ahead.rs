//! Fewer reads: where a file is read page after page, the next pages come along with one call.
//!
//! A chunk is a chain of pages, and SQLite walks it twice, to read it and to delete it, with one call a page. Its cache is too small to
//! still have them the second time, and one that were not would be most of what the agent takes.

/// What one call reads: 16 pages, or a few more than half of a commit's.
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
}

impl Ahead {
    /// Whether a read at `offset` follows the last one, so that others will follow it.
    pub(super) fn follows(&self, offset: u64) -> bool {
        offset.checked_sub(self.end).is_some_and(|gap| gap <= FRAME_HEADER_BYTES)
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
        }
    }

    /// Forgets all, because the file changes.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
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
    fn a_page_or_a_frame_further_on_follows() {
        let mut ahead = Ahead::default();
        ahead.ends(2048);
        assert!(ahead.follows(2048) && ahead.follows(2048 + 24));
        assert!(!ahead.follows(2047) && !ahead.follows(2048 + 25) && !ahead.follows(4096));
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
