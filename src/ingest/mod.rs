//! Stage 2 of 5: the only door into the buffer.

pub mod intake;

use crate::status::{Reason, Status, UNROUTED};

/// Knows which streams take a topic.
#[derive(Clone)]
pub struct Router {
    status: Status,
}
impl Router {
    pub fn new(status: Status) -> Self {
        Self { status }
    }
    fn give_up(&self, _topic: &str, why: Reason) {
        self.status.dropped_at_the_door(UNROUTED, why, 1);
    }
}
