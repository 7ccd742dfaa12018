//! A storage account for tests and commands: the emulator, a client, and a proxy that makes it fail.
//!
//! [`Azurite`] is the storage emulator, [`Account`] a client that is written from the REST reference, [`FaultProxy`] a
//! proxy in front of one service whose answers can be held, lost or replaced. [`emulated`] is a table and a queue service
//! without a network. [`Producer`] writes messages.

#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its test rig")]

// Each imports only from those below it.
pub mod azurite;
pub mod emulated;
mod proxy;
mod account;
mod kind;
mod ports;
mod producer;

pub use account::{
    Account, EMULATOR_ACCOUNT, EMULATOR_KEY, Service, StorageError,
    queues::{Received, from_base64},
    tables::Row,
};
pub use azurite::Azurite;
pub use kind::Kind;
pub use ports::free_port;
pub use producer::Producer;
pub use proxy::{Fault, FaultProxy, Gate, Request};
