//! The local host: drives a custom handler as the Azure Functions host does, over a real Azurite.
//!
//! It reads the app's own `host.json` and `*/function.json`, starts the handler, receives from its queues, ticks its
//! timers, and judges every answer by the host's rules. It shares no types with the handler: it is written from the
//! host's behaviour, so that a misread contract shows instead of cancelling out.
//!
//! `cargo demo`, `cargo start` and `cargo send` are its commands; the tests use it as a library.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its test rig")]

mod admin;
pub mod azurite;
pub mod bindings;
pub mod console;
mod dates;
mod envelope;
mod failure;
mod handler_client;
mod host;
mod invocation;
mod json;
mod lock;
mod message_encoding;
mod outputs;
mod pace;
pub mod package;
pub mod ports;
pub mod proxy;
mod queue_listener;
mod response;
pub mod storage;
pub mod timer;
mod worker;

pub use azurite::Azurite;
pub use handler_client::Framing;
pub use host::{LocalHost, Options};
pub use invocation::Invocation;
pub use pace::Pace;
pub use proxy::{Fault, FaultProxy};
pub use storage::Account;
pub use worker::ExitZero;
