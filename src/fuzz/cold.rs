//! Buffer files as a failing disk leaves them: read at every start, where a panic would come again and again.

use std::collections::BTreeSet;

use super::first;
use crate::{
    buffer::cold::{ColdFile, Found},
    record::Notice,
};

const PAGE: usize = 2048;

/// The first byte says how many pages belong to the file; the rest is its log.
pub fn target(data: &[u8]) {
    let (pages, data) = first(data);
    let (file, log) = data.split_at((usize::from(pages) * PAGE).min(data.len()));
    let mut file = file.to_vec();
    file.resize(file.len().next_multiple_of(PAGE), 0);
    if let Some(cold) = ColdFile::of_bytes(file, (!log.is_empty()).then(|| log.to_vec())) {
        reads(&cold);
    }
}

fn reads(cold: &ColdFile) {
    if let Found::Damaged(what) = cold.found() {
        assert!(!what.is_empty());
    }
    let (_, _) = (cold.lanes(), cold.receipts());
    let (rejected, unread) = cold.rejected();
    assert_eq!((rejected.len() as u64, unread), cold.rejected_readings());
    assert!(rejected.iter().filter(|refused| refused.data.is_none()).count() as u64 <= unread.rows);
    drop(cold.unread());
    drop(cold.settings());

    let mut chunks = cold.chunks();
    let ids: Vec<i64> = chunks
        .by_ref()
        .map(|item| {
            if let Some(chunk) = item.chunk {
                assert_eq!(chunk.readings, item.readings);
                assert!(chunk.data.len() as u64 <= cold.size());
                let _: Option<Notice> = chunk.notice();
            }
            item.id
        })
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each once: {ids:?}");
    for (index, id) in ids.iter().enumerate() {
        let mut rest = cold.chunks();
        rest.skip_to(*id);
        assert_eq!(rest.next().map(|item| item.id), ids.get(index + 1).copied(), "behind {id} of {ids:?}");
    }
}
