//! The functions, one file each, what they work with, and why one fails.
//!
//! A failed invocation makes the host deliver again, and the host counts the deliveries of a message. So an invocation does
//! not fail for what is no fault of its message: it puts the message back on the queue. Giving a message up is explicit, and
//! never loses it: a [`Rejection`](crate::quarantine::Rejection) puts it into quarantine.

pub mod queue_with_idempotency;
pub mod scheduled_with_retry;

use crate::{
    config::AppConfig,
    crash_note::CrashNote,
    decision::Domain,
    idempotency::{Ledger, Publisher, ledger, outbox::Events, publisher::OPERATIONS_AT_ONCE},
    quarantine::Quarantine,
    storage::{self, Account, MessageEncoding, Queue, Table},
};
use azure_core::HttpClient;
use std::{sync::Arc, time::Duration};

/// The domain, and where its operations are committed, published, kept and put back.
#[derive(Debug)]
pub struct App {
    /// The kind of operation this app is about.
    pub domain: Domain,
    /// The committed operations.
    pub ledger: Ledger,
    /// Queue on which their events are published.
    pub events: Events,
    /// Events of operations that were answered, on their way there.
    pub publisher: Publisher,
    /// Queue on which rejected messages are kept.
    pub quarantine: Quarantine,
    /// Queue from which the messages come.
    pub orders: Queue,
    /// Encoding of the messages on it.
    pub orders_encoding: MessageEncoding,
    /// Queue to which the host moves what it has delivered too often.
    pub poison: Queue,
    /// Note of the message that is being decided.
    pub crash_note: CrashNote,
    /// Pause after which the host repeats a tick that has failed, if it is always the same.
    pub retry_delay: Option<Duration>,
}

impl App {
    /// Makes the app for `domain` in `account`, which is reached through `client`. Nothing is connected yet, and nothing
    /// noted.
    #[must_use]
    pub fn new(domain: Domain, account: &Account, client: &Arc<dyn HttpClient>, config: &AppConfig) -> Self {
        let AppConfig { trigger, retention, .. } = config;
        let queue = |name: &str| Queue::new(account, name, client.clone());
        let table = Table::new(account, &config.table, client.clone());
        Self {
            domain,
            ledger: Ledger::new(table, *retention, account.endpoints.are_of_the_emulator()),
            events: Events::new(queue(&config.events_queue), config.events_encoding),
            publisher: Publisher::new(OPERATIONS_AT_ONCE),
            quarantine: Quarantine::new(queue(&trigger.quarantine_queue())),
            orders: queue(&trigger.queue),
            orders_encoding: trigger.encoding,
            poison: queue(&trigger.poison_queue()),
            crash_note: CrashNote::default(),
            retry_delay: config.retry_delay,
        }
    }
}

/// Why an invocation has failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger could not do it, or cannot know.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The message can neither be served nor put back.
    #[error("{cause}; and the message cannot be put back: {put}")]
    Stuck {
        /// Why it cannot be served.
        cause: ledger::Error,
        /// Why it cannot be put back.
        put: storage::Error,
    },
}
