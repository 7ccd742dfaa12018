//! An Azure Functions custom handler that lets each order take effect once.
//!
//! # One invocation
//!
//! The Functions host takes a message off the queue `orders` and posts it here. [`app`] opens a span for it and reads
//! the body; [`protocol::invocation`] finds the text of the message in it; [`functions::queue_with_idempotency`] reads
//! the text as a [`message::Message`], and lets the [`decision::Domain`] decide what accepting it means. The
//! [`idempotency::Ledger`] commits that in one entity group transaction, or finds that it was committed before. A message
//! that no delivery can make acceptable goes into [`quarantine`]. While the storage is away, an [`outage`], the invocation
//! waits, and puts the message back on its queue in the end. [`protocol::response`] encodes the outcome, and the host takes
//! the message off the queue, or delivers it again. Behind the answer, the [`idempotency::Publisher`] publishes the events
//! that were committed.
//!
//! The domain is a value that `main` hands in. To put your own in place of ours, change `src/order.rs` and nothing else,
//! or depend on this library and call [`start::run`].
//!
//! # Invariants
//!
//! - The domain is pure, and so are key, record and verdict in [`idempotency`].
//! - Only the [`idempotency::Ledger`], in [`idempotency::commit`] and [`idempotency::ledger`], writes the table. It inserts,
//!   and deletes as seen; nothing is ever overwritten.
//! - Only [`idempotency::outbox`] publishes, and only what is committed. [`idempotency::publisher`] says when.
//! - A 2xx is answered only when the order is committed or proven a duplicate, or the message is kept in quarantine or was
//!   put back on its queue.
//! - Only [`protocol::response`] chooses a status code.
//! - Only [`config`] reads the environment. `azure_identity` is the exception: it reads what App Service sets for it.
//! - Only [`attempt::time_of_day`] reads the clock: for [`app`], once in an invocation, and for the age of access tokens.
//!   Only [`app`] draws a seed. Elsewhere both are arguments.
//! - Only [`storage::http_client`] reaches the network; on a developer's machine also `az` or `azd`, asked for a token.
//! - No record of a message is kept in memory, but for the events that are on their way: whatever a process knew, another
//!   one can find out. Only [`crash_note`] writes
//!   to the disk.
//!
//! `docs/how-it-works.md` says what follows from them, `docs/verification.md` how that was explored.

// In reading order; each imports only from those below it.
pub mod start;
pub mod app;
pub mod protocol;
pub mod functions;
pub mod cloud_event;
pub mod decision;
pub mod message;
pub mod crash_note;
pub mod trace_context;
pub mod quarantine;
pub mod idempotency;
pub mod outage;
pub mod json;
pub mod config;
pub mod connection;
pub mod storage;
pub mod backoff;
pub mod attempt;
pub mod logging;
pub mod stop;
