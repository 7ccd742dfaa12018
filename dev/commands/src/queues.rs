//! The queues, the table and the timer of the app.

/// The queue of orders.
pub(crate) const ORDERS: &str = "orders";
/// The queue of messages that can never be committed.
pub(crate) const QUARANTINE: &str = "orders-quarantine";
/// The queue of messages that failed at every delivery.
pub(crate) const POISON: &str = "orders-poison";
/// The queue of events.
pub(crate) const EVENTS: &str = "order-events";
pub(crate) const QUEUES: [&str; 4] = [ORDERS, QUARANTINE, POISON, EVENTS];
/// The table of records and events.
pub(crate) const TABLE: &str = "idempotency";
/// The function that the timer calls.
pub(crate) const TIMER: &str = "scheduled_with_retry";
