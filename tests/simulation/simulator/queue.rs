//! The messages of the queue, as the host sees them.

use super::domain::Message;
use std::time::Duration;

/// `visibilityTimeout` of `host.json`: after it a failed message is received again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The time for which the host hides a message; it renews that during the invocation.
pub(crate) const HIDDEN: Duration = Duration::from_secs(10 * 60);

/// A message on the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct QueueMessage {
    pub(crate) message: Message,
    /// The time from which on it can be received.
    pub(crate) visible_at: Duration,
    pub(crate) dequeue_count: u32,
    /// Another one for each time that the message is received: only the last one deletes it.
    pub(crate) pop_receipt: u32,
    pub(crate) location: Location,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Location {
    Queue,
    PoisonQueue,
    Deleted,
}

impl QueueMessage {
    pub(crate) const fn new(message: Message) -> Self {
        Self { message, visible_at: Duration::ZERO, dequeue_count: 0, pop_receipt: 0, location: Location::Queue }
    }

    /// Returns what the future depends on: of a deleted message, not its time.
    pub(crate) fn state(&self) -> Self {
        let visible_at = if self.location == Location::Deleted { Duration::ZERO } else { self.visible_at };
        Self { visible_at, ..self.clone() }
    }
}
