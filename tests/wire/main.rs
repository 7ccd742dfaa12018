//! The storage client against answers that are scripted to the byte.
//!
//! The emulator is kinder than the service: it sends an error code with every error, JSON bodies, and complete batch
//! answers. These tests answer as real Azure does, and as a broken network does; the end-to-end tests run over the
//! emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]

mod azure;
mod http_client;
mod identity;
mod ledger;
mod outbox;
mod purge;
mod scripted;
mod server;
mod service;
mod token_cache;
mod transport;

#[path = "../domain/order.rs"]
mod domain;
