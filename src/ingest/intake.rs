//! A source's end of the door: hand over batches, learn how far they are safe.

use tokio::sync::{mpsc, watch};

use super::Router;
use crate::{
    reading::{Ordinal, Reading},
    status::Reason,
};

/// Most readings in one batch, and most payload bytes after which a source closes one: what waits between a source and ingest is
/// at most [`QUEUED_BATCHES`] of these.
pub const BATCH_READINGS: usize = 512;
/// See [`BATCH_READINGS`]; the reading that passes it is still in the batch.
pub const BATCH_BYTES: usize = 64 << 10;
/// Batches that may wait for ingest: one that it works on, one to follow.
pub(super) const QUEUED_BATCHES: usize = 1;

/// Ingest has ended: the agent stops, or a stage failed. What was offered last is not safe.
#[derive(Debug, thiserror::Error)]
#[error("ingest takes no more readings")]
pub struct IntakeClosed;

/// The way of one source into the agent. Readings are numbered by the order in which they are offered; the receipt is a number too.
pub struct Intake {
    pub(super) queue: mpsc::Sender<Vec<Reading>>,
    pub(super) safe: watch::Receiver<Ordinal>,
    pub(super) repeatable: watch::Sender<usize>,
    pub(super) router: Router,
}

impl Intake {
    /// Waits until a batch can be handed over. While the buffer is full and may not drop, that is until the cloud made room.
    ///
    /// Nothing is taken before [`Slot::offer`], so a caller may stop waiting at any time.
    pub async fn ready(&self) -> Result<Slot<'_>, IntakeClosed> {
        self.queue.reserve().await.map(|room| Slot(room, &self.repeatable)).map_err(|_| IntakeClosed)
    }

    /// Waits until more than `known` readings are safe, and says how many: all up to that one are confirmed by their destinations or
    /// fsynced, in every stream they go to. A source must not acknowledge a later one to the field.
    pub async fn safe_beyond(&self, known: Ordinal) -> Result<Ordinal, IntakeClosed> {
        // A clone, so that a source can wait for room and for safety at once.
        self.safe.clone().wait_for(|safe| *safe > known).await.map(|safe| *safe).map_err(|_| IntakeClosed)
    }

    /// How many readings are safe now.
    pub fn safe_up_to(&self) -> Ordinal {
        *self.safe.borrow()
    }

    /// Counts a reading that the source had to give up, in every stream that would have taken it.
    pub fn give_up(&self, topic: &str, why: Reason) {
        self.router.give_up(topic, why);
    }
}

/// Room for one batch.
pub struct Slot<'a>(mpsc::Permit<'a, Vec<Reading>>, &'a watch::Sender<usize>);

impl Slot<'_> {
    /// The sender may repeat so many publishes, the batch that is offered next included: what is kept of them for the next run.
    pub fn may_be_repeated(&self, publishes: usize) {
        self.1.send_replace(publishes);
    }

    /// Hands over `batch`, in the order of arrival.
    pub fn offer(self, batch: Vec<Reading>) {
        self.0.send(batch);
    }
}

/// Ingest's end of an [`Intake`].
pub struct Door {
    /// Batches in the order of their arrival.
    pub queue: mpsc::Receiver<Vec<Reading>>,
    /// Where the receipt is published.
    pub safe: watch::Sender<Ordinal>,
    /// How many publishes the sender may repeat, the last batch included.
    pub repeatable: watch::Receiver<usize>,
}

/// Both ends of one source's way into the agent.
pub fn door(router: Router) -> (Intake, Door) {
    let (offered, queue) = mpsc::channel(QUEUED_BATCHES);
    let (publish, safe) = watch::channel(0);
    let (tell, repeatable) = watch::channel(0);
    (Intake { queue: offered, safe, repeatable: tell, router }, Door { queue, safe: publish, repeatable })
}
