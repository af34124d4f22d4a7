//! What `headwater tail` makes of the records of a stream, whoever wrote them.

use super::first;
use crate::cli::tail::printed;

/// The first byte says how long the first record is; each record is one line of JSON.
pub fn target(data: &[u8]) {
    let (length, data) = first(data);
    let (one, other) = data.split_at(usize::from(length).min(data.len()));
    for record in [one, other, data] {
        let line = printed(record);
        assert!(!line.contains(['\n', '\r']), "{line:?}");
        let grammar: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&line);
        assert!(grammar.is_ok() && line.starts_with('{'), "{line:?}");
    }
}
