//! One effect per idempotency key: the protocol, and the only code that writes the table.
//!
//! An operation is *committed* by one entity group transaction that inserts its [`record`]. Inserting fails when the
//! record exists, so of any number of workers, deliveries and repeated requests exactly one wins, and everybody else
//! reads what the winner stored and lets [`verdict`] say what that means. There is no state "in progress", hence no
//! lease, no takeover and no record that is stuck; and there is no upsert and no unconditional write.
//!
//! [`key`], [`record`] and [`verdict`] are pure. [`commit`] and [`ledger`] do the requests, [`publisher`] and [`outbox`]
//! publish what was committed, and [`purge`] deletes what has expired.

// Each imports only from those below it.
pub mod purge;
pub mod publisher;
pub mod outbox;
pub mod commit;
pub mod ledger;
pub mod verdict;
pub mod record;
pub mod key;

pub use commit::Outcome;
pub use key::{Fingerprint, Key};
pub use ledger::Ledger;
pub use publisher::Publisher;
pub use record::Operation;
