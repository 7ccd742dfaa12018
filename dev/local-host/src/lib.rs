//! The local host: drives a custom handler as the Azure Functions host does, over a real storage emulator.
//!
//! It reads the app's own `host.json` and `*/function.json`, starts the handler, receives from its queues, ticks its
//! timers, and judges every answer by the host's rules. It shares no types with the handler: it is written from the
//! host's behaviour, so that a misread contract shows instead of cancelling out.
//!
//! `cargo demo` and `cargo start` run it; the tests drive it by hand.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its test rig")]

// Each imports only from those below it.
mod host;
mod timer;
mod queue_listener;
mod lock;
mod timings;
mod invocation;
mod worker;
mod shutdown;
mod handler_client;
mod call;
mod response;
mod outputs;
mod message_encoding;
mod envelope;
mod failure;
mod json;
pub mod console;
mod dates;
pub mod bindings;

pub use call::Running;
pub use handler_client::Framing;
pub use host::{LocalHost, Options};
pub use invocation::Invocation;
pub use timer::status_blob;
pub use timings::Timings;
