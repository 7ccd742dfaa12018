//! An Azure Functions custom handler that lets each order take effect once.
//!
//! # One invocation
//!
//! The Functions host takes a message off the queue `orders` and posts it here. [`app`] opens a span for it and reads
//! the body; [`protocol::invocation`] finds the text of the message in it; [`functions::queue_with_idempotency`] reads
//! the text as a [`message::Message`], and lets the [`decision::Domain`] decide what accepting it means. The
//! [`idempotency::Ledger`] commits that in one entity group transaction, or finds that it was committed before, and the
//! [`idempotency::outbox`] publishes the events that were committed with it. The outcome goes back the same way:
//! [`protocol::response`] encodes it, and the host takes the message off the queue, keeps it in quarantine, or delivers
//! it again.
//!
//! The domain is a value that `main` hands in. To put your own in place of ours, change `src/order.rs` and nothing else,
//! or depend on this library and call [`start::run`].
//!
//! # Invariants
//!
//! - The domain is pure, and so are key, record and verdict in [`idempotency`].
//! - Only [`idempotency::ledger`] writes the table. It inserts, and deletes as seen; nothing is ever overwritten.
//! - Only [`idempotency::outbox`] publishes, and only what is committed.
//! - A 2xx is answered only when the order is committed, proven a duplicate, or kept in quarantine.
//! - Only [`protocol::response`] chooses a status code.
//! - Only [`config`] reads the environment. `azure_identity` is the exception: it reads what App Service sets for it.
//! - Only [`attempt::time_of_day`] reads the clock: for [`app`], once in an invocation, and for the age of access tokens.
//!   Only [`app`] draws a seed. Elsewhere both are arguments.
//! - Only [`storage::http_client`] reaches the network; on a developer's machine also `az` or `azd`, asked for a token.
//! - No record of a message is kept in memory: whatever a process knew, another one can find out.
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
