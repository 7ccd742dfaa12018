//! The functions, one file each, what they work with, and the two ways in which one can fail.
//!
//! A failure answers the platform's question: *should this be delivered again?* Yes by default: `?` on an error of the
//! infrastructure means [`Failure::Retry`]. Giving a message up is explicit, and never loses it: [`Failure::Reject`]
//! puts it into quarantine.

pub mod queue_with_idempotency;
pub mod scheduled_with_retry;

use crate::{
    decision::Domain,
    idempotency::{Ledger, ledger},
    quarantine::Rejection,
    storage::{MessageEncoding, Queue},
};

/// The domain, and where its operations are committed and published.
#[derive(Debug)]
pub struct App {
    /// The kind of operation this app is about.
    pub domain: Domain,
    /// The committed operations.
    pub ledger: Ledger,
    /// Queue on which their events are published.
    pub events: Queue,
    /// Encoding of the events on it.
    pub events_encoding: MessageEncoding,
}

/// Why a function did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// Something that may pass: the host delivers again.
    Retry(ledger::Error),
    /// The message itself: it goes into quarantine, and off the queue.
    Reject(Rejection),
}

impl From<ledger::Error> for Failure {
    fn from(cause: ledger::Error) -> Self {
        Self::Retry(cause)
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}
