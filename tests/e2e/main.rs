//! The real handler, driven by the local host over real storage (Azurite), looked at from outside: what is stored, what
//! is queued, what the operator reads, and how many requests it cost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "the limits of the handler do not bind its tests")]

mod app;
mod clock;
mod crash_matrix;
mod every_message;
mod exactly_once;
mod hostile;
mod http;
mod outbox;
mod process;
mod promises;
mod samples;
mod scheduled_with_retry;
mod storage_faults;
mod volume;
