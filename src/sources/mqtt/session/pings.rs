//! PINGREQs and what they tell: that the broker is there, and that it has had our acknowledgements.
//!
//! Invariant: silence is held against the broker only when we have listened through all of it.

use std::time::{Duration, Instant};

use crate::reading::Ordinal;

/// A PINGREQ goes with acknowledgements at most this often: often enough for sensors that send every second, and nothing beside a
/// stream of thousands.
const FENCE_EVERY: Duration = Duration::from_secs(1);

/// The PINGREQs of one connection.
#[derive(Debug, Default)]
pub struct Pings {
    unanswered: u32,
    last: Option<Instant>,
    /// What the answer to the oldest unanswered one will settle.
    fence: Option<Ordinal>,
    /// One was sent at the last tick, and we have listened since.
    listened: bool,
}

impl Pings {
    /// Whether one may go with acknowledgements.
    pub fn may_fence(&self, now: Instant) -> bool {
        self.unanswered == 0 && self.last.is_none_or(|last| now.saturating_duration_since(last) >= FENCE_EVERY)
    }

    /// One was sent, whose answer will settle `fence`.
    pub fn asked(&mut self, now: Instant, fence: Option<Ordinal>) {
        if self.unanswered == 0 {
            self.fence = fence;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.last = Some(now);
    }

    /// The oldest was answered; says what that settles.
    pub fn answered(&mut self) -> Option<Ordinal> {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.fence.take()
    }

    /// Incoming bytes are left alone for a while.
    pub fn not_listening(&mut self) {
        self.listened = false;
    }

    /// Half of the keep-alive time has passed. `true` when the broker should have said something in it: it was asked at the last
    /// tick, we listened, and not a byte came.
    pub fn tick(&mut self, heard: bool, listening: bool) -> bool {
        let silent = self.listened && listening && !heard;
        self.listened = listening;
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_says_nothing_for_half_of_the_keep_alive_time_is_gone() {
        let mut pings = Pings::default();
        assert!(!pings.tick(false, true), "it was not asked before");
        assert!(!pings.tick(true, true));
        assert!(pings.tick(false, true));
    }

    #[test]
    fn a_broker_is_not_blamed_for_what_we_did_not_listen_to() {
        let mut pings = Pings::default();
        pings.tick(true, true);
        pings.not_listening();
        assert!(!pings.tick(false, false));
        assert!(!pings.tick(false, true));
        assert!(pings.tick(false, true));
    }

    #[test]
    fn an_answer_settles_what_was_acknowledged_before_its_question() {
        let mut pings = Pings::default();
        let now = Instant::now();
        pings.asked(now, Some(7));
        assert!(!pings.may_fence(now + FENCE_EVERY), "one is on its way");
        pings.asked(now, Some(9));
        assert_eq!(pings.answered(), Some(7));
        assert_eq!(pings.answered(), None);
        assert!(!pings.may_fence(now));
        assert!(pings.may_fence(now + FENCE_EVERY));
    }
}
