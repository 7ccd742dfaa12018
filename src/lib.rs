//! An Azure Functions custom handler that lets each order take effect once.
//!
//! # One invocation
//!
//! The Functions host takes a message off the queue `orders` and posts it here. [`app`] opens a span for it and reads
//! the body; [`protocol::invocation`] finds the message text in it; [`functions::queue_with_idempotency`] turns the
//! text into an [`json::Object`] and an [`order::Order`], lets [`order::decide`] compute what accepting it means, and
//! hands that to the [`idempotency::Ledger`], which commits it in one entity group transaction or finds that it was
//! committed before. Then the [`outbox`] publishes the events that were committed with it. The outcome goes back the
//! same way: [`protocol::response`] encodes it, and the host takes the message off the queue, keeps it in quarantine,
//! or delivers it again.
//!
//! To put your own domain in place of ours, change [`order`] and nothing else.
//!
//! # Invariants
//!
//! - [`order`] and everything in [`idempotency`] but the ledger is pure.
//! - Only [`idempotency::ledger`] writes the table. It inserts, and deletes as seen; nothing is ever overwritten.
//! - Only [`outbox`] publishes, and only what is committed.
//! - A 2xx is answered only when the order is committed, proven a duplicate, or kept in quarantine.
//! - Only [`protocol::response`] chooses a status code.
//! - Only [`config`] reads the environment; only [`app`] reads the time of day or draws a seed. Elsewhere both are
//!   arguments. `azure_identity` is the exception: it reads what App Service sets for it, and by which tokens expire.
//! - Only [`storage::connection`] reaches the network; on a developer's machine also `az` or `azd`, asked for a token.
//! - No record of a message is kept in memory: whatever a process knew, another one can find out.
//!
//! What follows from them, and how that was explored, is in `docs/guarantees.md`.

// In the order in which an invocation passes through them; each imports only from those below it.
pub mod app;
pub mod protocol;
pub mod functions;
pub mod outbox;
pub mod order;
pub mod quarantine;
pub mod idempotency;
pub mod json;
pub mod storage;
pub mod retry;
pub mod attempt;

pub mod config;
pub mod logging;
pub mod stop;
