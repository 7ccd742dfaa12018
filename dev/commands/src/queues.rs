//! The queues of the app.

/// Where orders come from.
pub(crate) const ORDERS: &str = "orders";
/// Where those go that cannot be committed, whatever happens.
pub(crate) const QUARANTINE: &str = "orders-quarantine";
/// Where those go that keep failing.
pub(crate) const POISON: &str = "orders-poison";
/// Where the others are announced.
pub(crate) const EVENTS: &str = "order-events";
pub(crate) const QUEUES: [&str; 4] = [ORDERS, QUARANTINE, POISON, EVENTS];
