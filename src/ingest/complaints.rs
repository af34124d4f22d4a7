//! What a person should know of a source's readings: that most of them are not what `payload` says, or that nobody takes some.
//!
//! Invariant: said once when it begins and once when it ends, however many readings there are; and no text grows with what a device
//! sends.

use tracing::{info, warn};

use crate::{config::PayloadFormat, reading::Timestamp, record::Unreadable, status::Status};

/// Of a source that begins with unreadable readings, so many must be before it is told: one slip is none of anybody's business.
const LEAST: u32 = 3;
/// Characters of a topic that are shown: one may have 65,535 bytes.
const SHOWN: usize = 100;

/// What was said of one source.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    legibility: Legibility,
    unrouted: bool,
}

impl Complaints {
    /// Notes whether a reading of `topic` could be read.
    pub(super) fn legible(
        &mut self,
        unreadable: Option<Unreadable>,
        (source, format): (&str, PayloadFormat),
        (topic, now): (&str, Timestamp),
        status: &Status,
    ) {
        let part = || format!("source {source}, payload");
        match (self.legibility.note(unreadable.is_none()), unreadable) {
            (Some(Turn::Worse), Some(why)) => {
                let (topic, format) = (shown(topic), format.name());
                let what = format!("most readings of source {source} can't be read as {format}, the last of topic {topic}: {why}");
                let remedy = "check the source's `payload` against what its devices send; these readings go on with `err` and \
                              their bytes";
                if status.problem(&part(), now, what.clone(), remedy) {
                    warn!(source, "{what}; {remedy}");
                }
            }
            (Some(Turn::Better), _) if status.solved(&part()) => info!(source, "most readings can be read again"),
            _ => {}
        }
    }

    /// No stream takes a reading of `topic`. Only the first is told: routes stay as they are until the agent starts again.
    pub(super) fn unrouted(&mut self, source: &str, (topic, now): (&str, Timestamp), status: &Status) {
        if std::mem::replace(&mut self.unrouted, true) {
            return;
        }
        let what = format!("source {source} has readings that no stream takes, the first of topic {}", shown(topic));
        let remedy = "add the topic to a stream's `from`, or take it out of the source's `topics`; `unrouted` counts them";
        if status.problem(&format!("source {source}, routes"), now, what.clone(), remedy) {
            warn!(source, "{what}; {remedy}");
        }
    }
}

fn shown(topic: &str) -> String {
    let beginning: String = topic.chars().take(SHOWN).collect();
    let more = if beginning.len() < topic.len() { "…" } else { "" };
    format!("{beginning:?}{more}")
}

/// Which of the last 64 readings could be read.
#[derive(Clone, Copy, Debug, Default)]
struct Legibility {
    /// A one for each that could not, the last one lowest.
    unreadable: u64,
    /// How many there were, at most 64.
    seen: u32,
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Most can't be read.
    Worse,
    /// Less than a quarter can't be read: far enough from "most" that it does not turn with every reading.
    Better,
}

impl Legibility {
    fn note(&mut self, readable: bool) -> Option<Turn> {
        self.unreadable = self.unreadable << 1 | u64::from(!readable);
        self.seen = (self.seen + 1).min(u64::BITS);
        let unreadable = self.unreadable.count_ones();
        let worse = unreadable >= LEAST && 2 * unreadable > self.seen;
        let better = 4 * unreadable < self.seen;
        let turn = match self.told {
            false if worse => Turn::Worse,
            true if better => Turn::Better,
            _ => return None,
        };
        self.told = turn == Turn::Worse;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(readable: impl IntoIterator<Item = bool>) -> Vec<(usize, Turn)> {
        let mut legibility = Legibility::default();
        (1..).zip(readable).filter_map(|(nth, readable)| Some((nth, legibility.note(readable)?))).collect()
    }

    #[test]
    fn a_source_whose_first_readings_all_fail_is_told_at_the_third() {
        assert_eq!(turns([false; 1000]), [(3, Turn::Worse)]);
    }

    #[test]
    fn one_slip_in_a_while_is_not_told() {
        assert_eq!(turns((0..1000).map(|nth| nth % 5 != 0)), []);
        assert_eq!(turns([false, false, true, true]), []);
    }

    #[test]
    fn a_turn_for_the_better_needs_more_than_one_good_reading() {
        let readable = std::iter::repeat_n(false, 64).chain(std::iter::repeat_n(true, 64));
        assert_eq!(turns(readable), [(3, Turn::Worse), (64 + 49, Turn::Better)]);
        // Every second one: neither most nor few.
        assert_eq!(turns((0..1000).map(|nth| nth % 2 == 0)), []);
    }

    #[test]
    fn a_topic_of_any_length_and_bytes_is_shown_on_one_short_line() {
        let status = Status::default();
        let topic = "ä\n".repeat(30_000);
        Complaints::default().unrouted("broker", (&topic, Timestamp(1)), &status);
        let what = status.lock().problems["source broker, routes"].what.clone();
        assert!(what.len() < 500 && !what.contains('\n') && what.contains("ä\\n"), "{what}");
    }
}
