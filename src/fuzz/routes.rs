//! Topics and the filters that take them.

use crate::ingest::route::topic_matches;

/// A filter and a topic, with a 0 between them.
pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (filter, topic) = text.split_once('\0').unwrap_or((&text, ""));
    let _ = topic_matches(filter, topic);
    if crate::config::check::is_topic_filter(filter) && !topic.contains(['+', '#']) {
        assert_eq!(topic_matches(filter, topic), naive(filter, topic), "{filter:?} {topic:?}");
    }
}

/// MQTT 3.1.1, section 4.7, word by word.
fn naive(filter: &str, topic: &str) -> bool {
    let (wanted, levels): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    let brokers_own = topic.starts_with('$') && filter.starts_with(['+', '#']);
    !brokers_own && levels_match(&wanted, &levels)
}

fn levels_match(wanted: &[&str], levels: &[&str]) -> bool {
    match (wanted, levels) {
        (["#"], _) | ([], []) => true,
        (["+", wanted @ ..], [_, levels @ ..]) => levels_match(wanted, levels),
        ([this, wanted @ ..], [that, levels @ ..]) => this == that && levels_match(wanted, levels),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::tests::cases;

    proptest! {
        #![proptest_config(cases(1_000))]

        #[test]
        fn a_filter_takes_what_the_obvious_matcher_takes(
            filter in "(\\$s|[ab+]?)(/[ab+]?){0,4}(/#)?|#",
            topic in "\\$?[ab]?(/[ab]?){0,4}",
        ) {
            prop_assert_eq!(topic_matches(&filter, &topic), naive(&filter, &topic), "{} {}", filter, topic);
        }
    }
}
